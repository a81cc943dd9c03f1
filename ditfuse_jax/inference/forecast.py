# SPDX-License-Identifier: Apache-2.0
"""Before a fusion runs: whether a checkpoint can do what is asked, and what it will cost."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from ditfuse_jax import image
from ditfuse_jax.checkpoints.folder import read_config
from ditfuse_jax.config import DEMO, CheckpointConfig, SamplingConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import overview, sampler, settings, shapes
from ditfuse_jax.inference import plan as costs
from ditfuse_jax.inference.passes import Networks
from ditfuse_jax.inference.plan import Plan
from ditfuse_jax.models.flow import Guidance, branches
from ditfuse_jax.prompt import NUM_SOURCES, kind_of, render


def check(folder, pictures: Sequence[Path], **options) -> SamplingConfig:
    """The options over the settings of a checkpoint folder; ValueError for options and pictures it cannot do.

    Reads its config.json and the pictures' headers alone, so that a long loading does not end in an error.
    """
    config = read_config(Path(folder or DEMO))
    chosen = settings.choose(config, options)
    for picture in pictures:
        size = image.read_size(picture)
        if shapes.choose_tiles(*size, config.shapes, chosen) is None:
            shapes.choose(*size, config.shapes, max_side=chosen.max_side)
    return chosen


def row_length(config: CheckpointConfig, size: tuple[int, int], chosen: SamplingConfig) -> int | None:
    """Patches, padding counted, of a picture of `size` (height, width) in one piece; None: it is tiled."""
    if shapes.choose_tiles(*size, config.shapes, chosen):
        return None
    height, width = shapes.choose(*size, config.shapes, max_side=chosen.max_side).padded
    return sampler.padded_count(height * width // config.patch_side**2)


def plan(
    networks: Networks,
    size: tuple[int, int],
    prompt: str,
    chosen: SamplingConfig,
    *,
    bits: int,
    maps: bool,
    overlaps: bool,
    batch: int,
) -> Plan:
    """The plan of a pair of `size` (height, width), see `DiTFuse.plan`."""
    config, transformer = networks.config, networks.transformer
    names = branches(Guidance(chosen.guidance, chosen.image_guidance))
    tiling = shapes.choose_tiles(*size, config.shapes, chosen)
    geometry = (
        Geometry(size, tiling.tile, tiling.tile)
        if tiling
        else shapes.choose(*size, config.shapes, max_side=chosen.max_side)
    )
    cells = (side // config.vae.factor for side in geometry.padded)
    empty = np.zeros((NUM_SOURCES, *cells, config.vae.latent_channels), np.float32)
    rows = sampler.layout([sampler.Row(render(prompt), empty)], names, networks.tokenizer)
    leaves = jax.tree.leaves((transformer.params, networks.vae.params))
    return costs.plan(
        config,
        rows,
        names,
        geometry=geometry,
        tiling=tiling,
        overview=overview.wanted(kind_of(render(prompt)), tiling),
        settings=chosen,
        sizes=(sum(leaf.size for leaf in leaves), sum(leaf.nbytes for leaf in leaves)),
        max_scores=transformer.tuning.max_scores,
        bits=bits,
        maps=maps,
        overlaps=overlaps,
        batch=batch,
    )
