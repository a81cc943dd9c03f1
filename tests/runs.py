# SPDX-License-Identifier: Apache-2.0
"""Tiny training runs: settings, batches of noise, and smooth random photographs for whole processes."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import jax
import numpy as np
from PIL import Image

from conftest import FLAGS, GIVEN, PATIENCE, PROGRAMS, SIMPLE
from ditfuse_jax.checkpoints.folder import VAE_FILE, VAE_FORMAT, write_vae_config
from ditfuse_jax.checkpoints.safetensors import save_tensors
from ditfuse_jax.config import LoraConfig, TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.data.loader import Batch
from ditfuse_jax.prompt import Prompt
from ditfuse_jax.training.config import OptimConfig, TrainConfig
from ditfuse_jax.training.sharding import make_mesh, parse_mesh, shardings
from ditfuse_jax.training.trainable import Frozen, shapes

PROJECT = Path(__file__).parents[1]
ROWS, TEXT, SIDE = 8, 6, 32


def config(*, lora=False, stage="model", optim=None, **changes) -> TrainConfig:
    adapter = LoraConfig(rank=4, alpha=8.0) if lora else None
    model = {"num_layers": 2, "lora": adapter} | changes.pop("model", {})
    settings = {
        "name": "test",
        "stage": stage,
        "model": TransformerConfig.tiny(**model),
        "vae": VAEConfig.tiny(scaling_factor=1.0),
        "mixture": MixtureConfig(sources=(SourceConfig(name="m3", path="photos", names=None),)),
        "steps": 10,
        "batch_size": ROWS,
        "optim": OptimConfig(**({"learning_rate": 3e-3} | (optim or {}))),
    }
    return TrainConfig(**(settings | changes))


def varied(most: tuple[int, int], *, least: tuple[int, int]) -> MixtureConfig:
    """M3 where each row has its own size."""
    bucket = Bucket(height=most[0], width=most[1], least_height=least[0], least_width=least[1])
    return dataclasses.replace(config().mixture, buckets=(bucket,))


def batch(
    seed: int = 0,
    *,
    dropped: tuple[int, ...] = (),
    shape: tuple[int, int] = (SIDE, SIDE),
    inside: tuple[int, int] | None = None,
) -> Batch:
    """ROWS rows of TEXT words and two sources of `shape`; rows in `dropped` have no sources.

    Given `inside`, arrays and prompts are padded as if the images could have that size; the padding is noise.
    """
    rng = np.random.default_rng(seed)
    patches, room = (sides[0] * sides[1] // 256 for sides in (shape, inside or shape))
    length, left = TEXT + 2 * room, 2 * (room - patches)
    first, second = left + 2, left + 4 + patches
    visible = np.tile(np.arange(1, length + 1, dtype=np.int32), (ROWS, 1))
    visible[:, :left] = left + 1
    slots = np.zeros((ROWS, 2, 2), np.int32)
    for row in range(ROWS):
        if row not in dropped:
            slots[row] = [[first, first + patches], [second, second + patches]]
            for start, stop in slots[row]:
                visible[row, start:stop] = stop
    words = rng.integers(3, 500, (ROWS, TEXT + 2 * patches)).astype(np.int32)
    prompt = Prompt(
        np.pad(words, ((0, 0), (left, 0))),
        np.tile(np.maximum(np.arange(length, dtype=np.int32) - left, 0), (ROWS, 1)),
        visible,
        np.full(ROWS, left, np.int32),
        slots,
    )
    images = rng.integers(0, 256, (ROWS, 3, *shape, 3)).astype(np.uint8)
    arrays = np.random.default_rng(seed + 1).integers(0, 256, (ROWS, 3, *(inside or shape), 3), np.uint8)
    arrays[:, :, : shape[0], : shape[1]] = images
    return Batch(
        prompt,
        arrays[:, :2],
        arrays[:, 2],
        (np.arange(ROWS) % 3).astype(np.int32),
        np.arange(ROWS) + 100 * seed,
        np.tile(np.array(shape, np.int32), (ROWS, 1)),
    )


def weights(config: TrainConfig, mesh=None) -> tuple[dict, Frozen]:
    """Random parameters as after some training, so that no layer or adapter is zero and blocks gradients."""
    mesh = mesh or make_mesh(parse_mesh(""))
    trained, frozen = shapes(config)
    return put(trained, mesh), Frozen(put(frozen.model, mesh), put(frozen.vae, mesh))


def put(shapes: dict, mesh) -> dict:
    places = shardings(shapes, mesh)
    return {name: jax.device_put(some(name, leaf), places[name]) for name, leaf in shapes.items()}


def some(name: str, leaf) -> np.ndarray:
    """Outputs of a layer as large as its inputs; scales of norms about one, biases near zero."""
    values = np.random.default_rng(crc32(name.encode())).standard_normal(leaf.shape)
    if leaf.shape[1:] == () or name.startswith("layers") and leaf.ndim == 2:
        values = 0.1 * values + name.endswith("scale")
    elif name.startswith("embed"):
        values *= 0.5
    else:
        values /= np.sqrt(np.prod(leaf.shape[name.startswith("layers") : -1]))
    return values.astype(leaf.dtype)


def write_photos(root: Path, count: int = 12) -> Path:
    """A data root with smooth random photographs and both lists."""
    folder = root / "photos"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        coarse.resize((96, 80), Image.Resampling.BICUBIC).save(folder / f"p{number}.png")
    (folder / "train.txt").write_text("".join(f"p{n}\n" for n in range(count - 4)))
    (folder / "val.txt").write_text("".join(f"p{n}\n" for n in range(count - 4, count)))
    return root


RUN = """# SPDX-License-Identifier: Apache-2.0
from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig
config = TrainConfig(
    name="tiny", model=TransformerConfig.tiny(num_layers=1), vae=VAEConfig.tiny(scaling_factor=1.0),
    mixture=MixtureConfig(sources=(SourceConfig(name="m3", path="photos"),), text_dropout=0.2,
                          condition_dropout=0.2, buckets=(Bucket(height=32, width=32),), max_text_tokens=224),
    steps=24, batch_size=4, optim=OptimConfig(learning_rate=1e-3, ema_decay=0.9), log_every=1, save_every=2,
    tokenizer="TOKENIZER", init_vae="AUTOENCODER",
)
"""


def write_run(folder: Path, tokenizer: Path) -> Path:
    path, autoencoder = folder / "tiny.py", write_autoencoder(folder / "autoencoder")
    path.write_text(RUN.replace("TOKENIZER", str(tokenizer)).replace("AUTOENCODER", str(autoencoder)))
    return path


def write_autoencoder(folder: Path) -> Path:
    """Random weights in a file: a run that makes its own compiles longer for them than for its step."""
    folder.mkdir()
    settings = config()
    values = {name: some(name, leaf) for name, leaf in shapes(settings)[1].vae.items()}
    save_tensors(folder / VAE_FILE, values, {"format": VAE_FORMAT})
    write_vae_config(folder, settings.vae, {})
    return folder


def environment() -> dict:
    """CPU, and compiled programs shared with the other processes of the tests."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join([*FLAGS, GIVEN]),
        "JAX_COMPILATION_CACHE_DIR": PROGRAMS,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",
    }


def quick_environment(*, devices: int) -> dict:
    """The same with the simple emitters of conftest.py, whose programs for several devices are not kept."""
    found = environment() | {"XLA_FLAGS": " ".join([*FLAGS, SIMPLE, GIVEN])}
    if devices > 1:
        del found["JAX_COMPILATION_CACHE_DIR"]
    return found


def command(*arguments) -> list[str]:
    return [sys.executable, str(PROJECT / "train.py"), *map(str, arguments)]


def launch(*arguments, **options) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    several = not {"--mesh", "--coordinator"}.isdisjoint(arguments)
    settings = quick_environment(devices=2 if several else 1)
    return subprocess.Popen(command(*arguments), env=settings, **(pipes | options))


def train(*arguments, timeout: float = PATIENCE) -> tuple[int, str]:
    """Exit code and all output of train.py."""
    process = launch(*arguments)
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output
