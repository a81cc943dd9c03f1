# SPDX-License-Identifier: Apache-2.0
"""What a fusion will cost, known before it starts: sizes, tokens, parameters and memory."""

from typing import NamedTuple

from ditfuse_jax.config import CheckpointConfig, SamplingConfig, TransformerConfig, VAEConfig
from ditfuse_jax.image import Geometry
from ditfuse_jax.inference import cost
from ditfuse_jax.inference import settings as options
from ditfuse_jax.inference.sampler import Layout
from ditfuse_jax.inference.tiles import Tiling
from ditfuse_jax.models.padded_vae import padded_side
from ditfuse_jax.models.vae import QUERY_CHUNK
from ditfuse_jax.prompt import NUM_SOURCES

ITEM_SIZE = {"float32": 4, "bfloat16": 2}
RUNTIME_BYTES = 440_000_000  # Python, JAX, the tokenizer, compiling and its programs (measured, tiny model)
BATCH_BYTES = 400_000_000  # of working memory for a batch of tiles
MOST_TILES = 8  # in a batch: beyond, a device gains nothing
# Bytes a pixel, by bits: sources, result, copies in passing (benchmarks/picture_memory.py)
PIXEL_BYTES = {8: 24, 16: 34}
KEPT_BYTES = 20  # more, where unrounded pixels and both maps are kept, float32
MAP_BYTES = 36  # more, where result and round trips are in memory at full size


class Plan(NamedTuple):
    geometry: Geometry
    tiling: Tiling | None  # None: in one piece
    batch: int  # pictures or tiles that go through the model at once
    trained: bool  # the padded size is one of the few that the checkpoint was trained at
    settings: SamplingConfig
    tokens: dict[str, tuple[int, int]]  # branch -> prefix, new ones in each step; padding not counted
    num_params: int  # of both networks
    memory: int  # bytes at the peak, roughly
    seconds: float  # roughly, without compiling
    decisions: int = 1  # of a stack: one fewer than pictures
    bits: tuple[int, int] = (8, 8)  # of the first picture, of the result
    overview: bool = False  # beside the tiles, one pass over the whole picture, see overview.py
    fusions: int = 1  # of the same pictures; 2 where a mask needs the plain one too

    @property
    def calls(self) -> int:
        """Steps that are ticked off, of all batches of tiles; fewer where tiles are copied."""
        count = len(self.tiling.corners) if self.tiling else 1
        batches = -(-count // self.batch) + self.overview
        return self.fusions * self.decisions * self.settings.steps * batches


def plan(
    config: CheckpointConfig,
    rows: Layout,
    names: tuple[str, ...],
    *,
    geometry: Geometry,
    tiling: Tiling | None,
    overview: bool,
    settings: SamplingConfig,
    sizes: tuple[int, int],
    max_scores: int,
    bits: int,
    maps: bool,
    overlaps: bool,
    batch: int,
) -> Plan:
    """The plan of one fusion.

    Args:
      rows: of one image, a row per branch in `names`.
      overview: whether the whole picture goes through the model too, scaled down.
      sizes: (number, bytes) of all parameters.
      max_scores: attention scores in memory at once, see `Tuning`.
      bits, maps: of sources and result, as in `DiTFuse.fuse`.
      overlaps: what is sampled is decoded and written while as much is read and sampled.
      batch: pictures that go through the transformer together, where there are no tiles.
    """
    prefix = rows.prompt.token_ids.shape[1] - rows.prompt.num_padding
    tokens = {name: (int(prefix[i]), 1 + int(rows.num_target[i])) for i, name in enumerate(names)}
    batch = tiles_at_once(config, tiling, names) if tiling else batch
    images, at_once = (1, batch) if tiling else (batch, 1)  # the autoencoder takes whole pictures one by one
    num_rows, num_prefix = rows.prompt.token_ids.shape
    shape = (batch * num_rows, num_prefix, 1 + rows.place.shape[1])
    tokens_need = token_bytes(config.model, *shape) + score_bytes(config.model, *shape, max_scores)
    pixels_need = at_once * pixel_bytes(config.vae, *geometry.padded)
    working = tokens_need + pixels_need if overlaps else max(tokens_need, pixels_need)
    each = PIXEL_BYTES[bits] + (KEPT_BYTES if maps else 0) + (0 if tiling else MAP_BYTES)
    pictures = (2 if overlaps else 1) * images * geometry.native[0] * geometry.native[1]
    memory = RUNTIME_BYTES + sizes[1] + working + pictures * each
    trained = bool(config.shapes.exact)
    count = len(tiling.corners) + overview if tiling else 1
    time = _seconds(config, tokens, geometry, count, settings)
    return Plan(geometry, tiling, batch, trained, settings, tokens, sizes[0], memory, time, overview=overview)


def _seconds(config, tokens, geometry, count, settings) -> float:
    """Of `count` tiles, none copied, or of the picture in one piece."""
    passes = settings.steps * settings.noises
    rows = [cost.transformer_flops(config.model, *each, passes=passes) for each in tokens.values()]
    rebuilds = settings.fidelity > 0
    images = {"encoded": NUM_SOURCES, "decoded": 1 + NUM_SOURCES * rebuilds}
    return cost.seconds(
        transformer=count * sum(rows),
        autoencoder=count * cost.autoencoder_flops(config.vae, *geometry.padded, **images),
        rebuilt_pixels=geometry.native[0] * geometry.native[1] * rebuilds,
        dtype=config.model.dtype,
    )


def tiles_at_once(config: CheckpointConfig, tiling: Tiling, names: tuple[str, ...]) -> int:
    """How many tiles go through the model in one batch: as many as fit into BATCH_BYTES, see `batch_size`.

    At most a fifth of the work is wasted on filling up.
    """
    height, width = tiling.tile
    patches = height * width // config.patch_side**2
    words = 128  # about those of a prompt
    tokens = token_bytes(config.model, len(names), 2 * patches + words, 1 + patches)
    room = BATCH_BYTES // max(tokens, pixel_bytes(config.vae, height, width))
    fits = next(size for size in halves(MOST_TILES) if size <= max(1, room))
    return batch_size(len(tiling.corners), fits, waste=1 / 5)


def halves(most: int) -> list[int]:
    """Sizes of batches: `most`, half of it, a quarter ... 1; few, so that pictures share programs."""
    return [most >> i for i in range(most.bit_length())]


def batch_size(count: int, most: int, *, waste: float) -> int:
    """The largest of `halves` that fills up the last batch of `count` with at most so much of them again."""
    return next(size for size in halves(most) if -count % size <= waste * count)


def token_bytes(cfg: TransformerConfig, num_rows: int, num_prefix: int, num_new: int) -> int:
    """Prefix cache and the activations of one layer, of the prefix pass or of a step."""
    cache = (
        2 * cfg.num_layers * num_rows * num_prefix * cfg.num_kv_heads * cfg.head_dim * ITEM_SIZE[cfg.dtype]
    )
    longest = max(num_prefix, num_new)
    return cache + 4 * num_rows * longest * (4 * cfg.width + 3 * cfg.mlp_width)


def score_bytes(cfg: TransformerConfig, num_rows: int, num_prefix: int, num_new: int, max_scores: int) -> int:
    """Attention scores and weights at once."""
    longest = max(num_prefix, num_new)
    return 2 * 4 * min(max_scores, num_rows * cfg.num_heads * longest * (num_prefix + num_new))


def pixel_bytes(cfg: VAEConfig, height: int, width: int) -> int:
    """Full-resolution maps of the VAE while both sources are encoded; float32, about four alive at once."""
    cells = padded_side(height // cfg.factor) * padded_side(width // cfg.factor)
    maps = 4 * 2 * cells * cfg.factor**2 * cfg.block_out_channels[0] * 4
    middle = 2 * 4 * min(cells, QUERY_CHUNK) * cells
    return maps + 2 * middle


def describe(plan: Plan, *, verbose: bool = False) -> str:
    """The lines that infer.py prints before it runs; with `verbose` those for people who know the network."""
    native, fused, padded = (f"{width} x {height}" for height, width in plan.geometry)
    if plan.tiling:
        size = f"{native}, in {len(plan.tiling.corners)} tiles of {fused}, {plan.batch} at a time"
        size += ", and once as a whole" if plan.overview else ""
    else:
        size = native if fused == native else f"{native}, fused at {fused}"
        size += "" if padded == fused else f", padded to {padded}"
        size += ", a shape this checkpoint was trained at" if plan.trained else ""
        size += "" if fused == native else ", and brought back"
        size += f", {plan.batch} pictures at a time" if plan.batch > 1 else ""
    size += "" if plan.bits == (8, 8) else ", {} bits in, {} bits out".format(*plan.bits)
    size += f", {plan.decisions} times for {plan.decisions + 1} pictures" if plan.decisions > 1 else ""
    size += ", twice: a mask needs the plain fusion too" if plan.fusions > 1 else ""
    chosen = ", ".join(f"{name} {value}" for name, value in options.as_text(plan.settings).items())
    tokens = ", ".join(f"{name} {prefix} + {new}" for name, (prefix, new) in plan.tokens.items())
    network = f"tokens      {tokens} per step\nparameters  {plan.num_params / 1e6:,.1f} M\n"
    return (
        f"size        {size}\n"
        f"{network if verbose else ''}"
        f"memory      about {plan.memory / 1e9:.1f} GB\n"
        f"time        about {duration(plan.fusions * plan.decisions * plan.seconds)}, compiling aside\n"
        f"sampling    {chosen}"
    )


def duration(seconds: float) -> str:
    """In words: `0.4 s`, `50 s`, `12 min`, `3.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
