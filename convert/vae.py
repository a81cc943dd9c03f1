# SPDX-License-Identifier: Apache-2.0
"""Rules of the autoencoder: diffusers, diffusers before 0.18 (old attention names), original single file."""

import re

from ditfuse_jax.config import VAEConfig

from .engine import Rule, Transform, conv, keep, linear, pointwise

SINGLE_FILE = "first_stage_model."  # prefix of the autoencoder inside a whole Stable Diffusion checkpoint


def vae_rules(cfg: VAEConfig) -> tuple[Rule, ...]:
    """All rules of an autoencoder of settings `cfg`, one literal key each; today's diffusers names first."""
    original = tuple(_original(cfg))
    single = tuple(rule._replace(source=re.escape(SINGLE_FILE) + rule.source) for rule in original)
    return _distinct((*_diffusers(cfg), *original, *single, *DROPPED))


DROPPED = (
    # A whole Stable Diffusion checkpoint: the UNet, its averages and the text encoders are other networks.
    Rule(r"(?:model|conditioner|cond_stage_model|model_ema|denoiser)\..*", None),
    # Discriminator and perceptual network of the autoencoder's training.
    Rule(r"(?:first_stage_model\.)?loss\..*", None),
    # The noise schedule of the UNet's training: tables, not weights.
    Rule(r"(?:betas|sqrt_.*|alphas_.*|log_.*|posterior_.*)", None),
)


def _distinct(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Names that diffusers and the original share (conv_in, quant_conv, ...) once, the first time."""
    return tuple({rule.source: rule for rule in reversed(rules)}.values())[::-1]


def _both(source: str, target: str, transform: Transform):
    """Rules of a layer's weight (`transform`ed) and bias."""
    yield Rule(re.escape(f"{source}.weight"), f"{target}.kernel", transform)
    yield Rule(re.escape(f"{source}.bias"), f"{target}.bias")


def _norm(source: str, target: str):
    yield Rule(re.escape(f"{source}.weight"), f"{target}.scale", keep)
    yield Rule(re.escape(f"{source}.bias"), f"{target}.bias")


def _resnet(source: str, target: str, shortcut: str):
    for index in "12":
        yield from _norm(f"{source}.norm{index}", f"{target}.norm{index}")
        yield from _both(f"{source}.conv{index}", f"{target}.conv{index}", conv)
    yield from _both(f"{source}.{shortcut}", f"{target}.shortcut", conv)


def _ends(norm: str):
    """What lies outside the blocks; `norm` is the name of the last norm."""
    yield from _both("quant_conv", "quant", conv)
    yield from _both("post_quant_conv", "post_quant", conv)
    for half in ("encoder", "decoder"):
        yield from _both(f"{half}.conv_in", f"{half}.conv_in", conv)
        yield from _norm(f"{half}.{norm}", f"{half}.norm_out")
        yield from _both(f"{half}.conv_out", f"{half}.conv_out", conv)


def _blocks(cfg: VAEConfig):
    """(half, kind, level, number of resnets, whether the side changes after it) of every block, as used."""
    levels = len(cfg.block_out_channels)
    for half, kind, extra in (("encoder", "down", 0), ("decoder", "up", 1)):
        for level in range(levels):
            yield half, kind, level, cfg.layers_per_block + extra, level < levels - 1


def _diffusers(cfg: VAEConfig):
    yield from _ends("conv_norm_out")
    for half, kind, level, count, resized in _blocks(cfg):
        source, target = f"{half}.{kind}_blocks.{level}", f"{half}.{kind}.{level}"
        for index in range(count):
            yield from _resnet(f"{source}.resnets.{index}", f"{target}.resnets.{index}", "conv_shortcut")
        if resized:
            yield from _both(f"{source}.{kind}samplers.0.conv", f"{target}.{kind}sample", conv)
    for half in ("encoder", "decoder"):
        source, target = f"{half}.mid_block", f"{half}.mid"
        for index in range(2):
            yield from _resnet(f"{source}.resnets.{index}", f"{target}.resnets.{index}", "conv_shortcut")
        attention = f"{source}.attentions.0"
        yield from _norm(f"{attention}.group_norm", f"{target}.attn.norm")
        for new, old, name in OLD_NAMES:
            yield from _both(f"{attention}.{new}", f"{target}.attn.{name}", linear)
            yield from _both(f"{attention}.{old}", f"{target}.attn.{name}", linear)


OLD_NAMES = (
    ("to_q", "query", "q"),
    ("to_k", "key", "k"),
    ("to_v", "value", "v"),
    ("to_out.0", "proj_attn", "out"),
)


def _original(cfg: VAEConfig):
    """The layout of CompVis and Stability files; decoder levels count from full resolution, against ours."""
    yield from _ends("norm_out")
    for half, kind, level, count, resized in _blocks(cfg):
        place = level if kind == "down" else len(cfg.block_out_channels) - 1 - level
        source, target = f"{half}.{kind}.{place}", f"{half}.{kind}.{level}"
        for index in range(count):
            yield from _resnet(f"{source}.block.{index}", f"{target}.resnets.{index}", "nin_shortcut")
        if resized:
            yield from _both(f"{source}.{kind}sample.conv", f"{target}.{kind}sample", conv)
    for half in ("encoder", "decoder"):
        source, target = f"{half}.mid", f"{half}.mid"
        for index in range(2):
            yield from _resnet(f"{source}.block_{index + 1}", f"{target}.resnets.{index}", "nin_shortcut")
        yield from _norm(f"{source}.attn_1.norm", f"{target}.attn.norm")
        for theirs, ours in (("q", "q"), ("k", "k"), ("v", "v"), ("proj_out", "out")):
            yield from _both(f"{source}.attn_1.{theirs}", f"{target}.attn.{ours}", pointwise)
