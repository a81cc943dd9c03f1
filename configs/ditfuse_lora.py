# SPDX-License-Identifier: Apache-2.0
"""The paper's training (III-B1, IV-A): LoRA on OmniGen-v1, at 256 px. Start with `--set init=FOLDER`.

8 x A100 in the paper; here `--mesh 8`, or `--mesh data=2,fsdp=4` where the base does not fit one device.
"""

from ditfuse_jax.config import LoraConfig, TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig

EPOCHS = 2  # paper IV-A
BATCH = 64  # paper IV-A: global batch size

PHOTOS = {"path": "photos"}
LABELLED = {"path": "seg", "format": "labelled"}
SOURCES = {  # paper III-B: 316,392 samples an epoch, 13,692 of them fusion. The split of both is assumed:
    "m3": (PHOTOS, 118_287),  # M3 and segmentation once over COCO train2017, named by the official script
    "seg": (LABELLED | {"edit": "seg"}, 118_287),
    "control": (LABELLED | {"edit": "control"}, 66_126),  # the rest
    "ivif": ({"path": "ivif/*", "format": "pairs", "fuse": "ivif"}, 4_564),  # fusion in equal thirds
    "focus": (PHOTOS | {"fuse": "focus"}, 4_564),
    "exposure": (PHOTOS | {"fuse": "exposure"}, 4_564),
}

mixture = MixtureConfig(  # rgb targets, tags always, condition dropout 0.01: paper III-B, IV-A
    sources=tuple(SourceConfig(name=name, count=n, **files) for name, (files, n) in SOURCES.items()),
    order="shuffled",
    # Not in the paper; the default of the official prepare_image_for_model. The checkpoint will propose it.
    buckets=(Bucket(height=256, width=256),),
    max_text_tokens=256,  # ours: the longest prompt of the library with the Phi-3 tokenizer fits
)
config = TrainConfig(
    name="ditfuse_lora",
    model=TransformerConfig.omnigen_v1(  # paper III-A; shapes and RoPE factors are read from init
        lora=LoraConfig(
            rank=64,  # paper IV-A
            alpha=64.0,  # not in the paper; official train.py: alpha = rank
        ),  # targets: all linear layers, paper III-A (official train.py: qkv_proj and o_proj)
        remat="block",  # ours: fits 1024 px
    ),
    vae=VAEConfig.sdxl(),
    needs_init=True,  # paper III-A: OmniGen-v1; an adapter on random weights learns nothing of use
    mixture=mixture,
    steps=mixture.steps(EPOCHS, BATCH),  # an epoch: 316,392 samples, paper III-B1
    batch_size=BATCH,
    frozen_dtype="bfloat16",  # official train.py: the frozen base in bf16
    optim=OptimConfig(
        learning_rate=1e-4,  # lost from the paper's text; official train.py default
        schedule="constant",  # not in the paper; official train.py default
        warmup_steps=0,  # official train.py: its "constant" schedule ignores --lr_warmup_steps
        weight_decay=0.0,  # not in the paper; official train.py
        clip_norm=1.0,  # not in the paper; official train.py default
        accumulation=1,  # paper IV-A: single-step accumulation
    ),
    log_every=10,
    save_every=500,
    validate_every=500,
)
