# SPDX-License-Identifier: Apache-2.0
"""The small transformer of the demo checkpoint, on the frozen autoencoder of `--set init_vae=FOLDER`.

The numbers are choices of ours; docs/demo_choices.md has the short runs behind them and what was not tried.
configs/demo_large.py is the end of it, where the learning rate falls.
"""

import dataclasses

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.mixture import Bucket, MixtureConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig

# Every row has a size of its own: with few shapes the model copied by distance in the row, not by place.
BUCKETS = (  # height, width, least height, least width, weight
    (160, 160, 96, 96, 8),
    (160, 256, 96, 176, 2),
    (256, 160, 176, 96, 2),
    (256, 256, 176, 176, 1),  # a batch costs three times as much as a small one
)
MORE = (  # name, the source it is like, its pair
    ("control_focus", "control_m3", "focus"),
    ("control_exposure", "control_m3", "exposure"),
    ("seg_focus", "seg", "focus"),
    ("seg_exposure", "seg", "exposure"),
)
SHARES = {  # what is changed or marked is fused from damaged copies too, so M3 is half of all
    "m3": 0.20,
    "ivif": 0.10,
    "focus": 0.08,
    "exposure": 0.12,
    "control_ivif": 0.07,
    "control_m3": 0.03,
    "control_focus": 0.03,
    "control_exposure": 0.04,
    "control_object": 0.07,
    "seg": 0.14,
    "seg_focus": 0.03,
    "seg_exposure": 0.03,
    "compound": 0.06,
}


def with_more(sources):
    """The demo's sources and those of MORE, with the shares above."""
    named = {source.name: source for source in sources}
    named |= {name: dataclasses.replace(named[like], name=name, fuse=fuse) for name, like, fuse in MORE}
    return tuple(dataclasses.replace(named[name], weight=share) for name, share in SHARES.items())


mixture = MixtureConfig.demo(
    buckets=tuple(
        Bucket(height=h, width=w, least_height=low_h, least_width=low_w, weight=share)
        for h, w, low_h, low_w, share in BUCKETS
    ),
    ivif_target="detail",
    scene_stops=(0.0, 6.0),  # beyond the photo's own 2 to 5; real brackets: 5.5, 7.2, 9.4 at 10, 50, 90 %
    swap_share=0.5,  # so that the order of the sources does not matter
    generic_share=0.3,  # an infrared-visible pair given without a task is fused as one
    nonsense_share=0.1,
    area_power=0.5,  # few of the small things can be marked in patches of 16 pixels
    max_text_tokens=80,  # the longest of the library has 70
    length_multiple=16,
    untagged_share=0.5,  # words alone have to do
    condition_dropout=0.03,
    text_dropout=0.03,
    seed=2,
)
config = TrainConfig(
    name="demo",
    model=TransformerConfig(
        vocab_size=1280,  # of the demo tokenizer
        width=256,  # a token carries two patches of 128 numbers: what is there and what is asked for
        mlp_width=640,
        num_layers=6,
        num_heads=4,
        num_kv_heads=4,
        latent_channels=32,
    ),
    vae=VAEConfig(latent_channels=32),  # replaced by the one of init_vae
    mixture=dataclasses.replace(mixture, sources=with_more(mixture.sources)),
    steps=2100,
    batch_size=8,
    zero_time=0.5,  # one step from pure noise has to do: docs/demo_choices.md
    draws=4,  # the condition is three quarters of the tokens: four noises cost less than twice one
    optim=OptimConfig(kind="muon", learning_rate=2e-3, warmup_steps=50, beta2=0.99, ema_decay=0.998),
    log_every=20,
    save_every=100,
    validate_every=700,
    validation_batches=8,
)
