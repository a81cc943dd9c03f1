# SPDX-License-Identifier: Apache-2.0
"""The small transformer of the demo checkpoint, on the frozen autoencoder of `--set init_vae=FOLDER`.

The numbers are choices of ours; docs/demo_choices.md has the short runs behind them and what was not tried.
configs/demo_large.py is the end of it, where the learning rate falls.
"""

from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig

# Every row has a size of its own: with few shapes the model copied by distance in the row, not by place.
BUCKETS = (  # height, width, least height, least width, weight
    (160, 160, 96, 96, 8),
    (160, 256, 96, 176, 2),
    (256, 160, 176, 96, 2),
    (256, 256, 176, 176, 1),  # a batch costs three times as much as a small one
)
PHOTOS = {"path": "photos"}
LABELLED = {"path": "seg", "format": "labelled"}
INFRARED = {"path": "ivif/*", "format": "pairs", "fuse": "ivif"}
SOURCES = {  # what is changed or marked is fused from damaged copies too, so M3 is half of all
    "m3": (PHOTOS, 0.20),
    "ivif": (INFRARED, 0.10),
    "focus": (PHOTOS | {"fuse": "focus"}, 0.08),
    "exposure": (PHOTOS | {"fuse": "exposure"}, 0.12),
    "control_ivif": (INFRARED | {"edit": "control"}, 0.07),
    "control_m3": (PHOTOS | {"edit": "control"}, 0.03),
    "control_focus": (PHOTOS | {"edit": "control", "fuse": "focus"}, 0.03),
    "control_exposure": (PHOTOS | {"edit": "control", "fuse": "exposure"}, 0.04),
    "control_object": (LABELLED | {"edit": "control"}, 0.07),
    "seg": (LABELLED | {"edit": "seg"}, 0.14),
    "seg_focus": (LABELLED | {"edit": "seg", "fuse": "focus"}, 0.03),
    "seg_exposure": (LABELLED | {"edit": "seg", "fuse": "exposure"}, 0.03),
    "compound": (LABELLED | {"edit": "compound"}, 0.06),
}

mixture = MixtureConfig(
    sources=tuple(SourceConfig(name=name, weight=w, **files) for name, (files, w) in SOURCES.items()),
    buckets=tuple(
        Bucket(height=h, width=w, least_height=low_h, least_width=low_w, weight=share)
        for h, w, low_h, low_w, share in BUCKETS
    ),
    ivif_target="detail",
    scene_stops=(0.0, 6.0),  # beyond the photo's own 2 to 5; real brackets: 5.5, 7.2, 9.4 at 10, 50, 90 %
    object_share=0.75,  # whole images have sources of their own
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
    mixture=mixture,
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
