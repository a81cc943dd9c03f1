# SPDX-License-Identifier: Apache-2.0
"""Whether a checkpoint folder is whole and computes: its files, then one forward pass of each network."""

import time
from pathlib import Path

import jax
import numpy as np

import ditfuse_jax
from ditfuse_jax import image, places
from ditfuse_jax.checkpoints import folder as weights
from ditfuse_jax.checkpoints.flat import parameter_shapes
from ditfuse_jax.checkpoints.safetensors import read_header
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.models import outline
from ditfuse_jax.prompt import check_vocabulary, load_tokenizer

from .jobs import Problems
from .report import totals

SIDE = 128  # pixels of the pair that is fused


def verify(folder: Path, lora: Path | None = None) -> list[str]:
    """A report to paste; raises ValueError with all misfits of names, shapes and numbers at once."""
    start = time.perf_counter()
    config, provenance = weights.read_folder(folder)
    problems = Problems()
    networks = (
        (weights.MODEL_FILE, outline.transformer(config.model)),
        (weights.VAE_FILE, outline.vae(config.vae)),
    )
    for name, net in networks:
        problems.of(lambda name=name, net=net: weights.check_file(folder / name, parameter_shapes(net)))
    problems.of(lambda: check_vocabulary(load_tokenizer(folder), config.model.vocab_size))
    problems.check()
    device = jax.devices()[0]
    lines = [
        f"machine     ditfuse-jax {ditfuse_jax.__version__}, jax {jax.__version__}, {device.device_kind}",
        f"source      {provenance.get('source')}, {provenance.get('when') or provenance.get('converted')}",
        *(f"sha256      {digest[:16]} {name}" for name, digest in (provenance.get("sha256") or {}).items()),
        *(f"{name.split('.')[0]:<11} {content(folder / name)}" for name, _ in networks),
        "names       as config.json says, with its shapes; no NaN, no infinity; the tokenizer fits",
        *one_pass(DiTFuse.load(folder, lora=lora)),
    ]
    return [*lines, f"verified    in {time.perf_counter() - start:.0f} s"]


def content(path: Path) -> str:
    return totals({name: entry.spec for name, entry in read_header(path).items()})


def one_pass(model: DiTFuse) -> list[str]:
    """One Euler step on a part of the example pair, with all guidance branches, and the autoencoder alone."""
    files = sorted((places.folder("examples") / "ivif").glob("image?.png"))
    pair = [np.ascontiguousarray(image.read(file)[:SIDE, :SIDE]) for file in files]
    start = time.perf_counter()
    fused = model.fuse(pair, task="ivif", steps=1, noises=1, fidelity=0.0, tiles="off")
    took = time.perf_counter() - start
    encoded = model.encode(pair)
    error = model.decode(encoded.latents[0], encoded.geometry) - image.to_pixels(pair[0])
    loss = -10 * np.log10(np.square(error / 2).mean())
    return [
        f"one step    {took:.1f} s with compiling, in {model.config.model.dtype}",
        f"latents     of mean {fused.latents.mean():+.4f}, spread {fused.latents.std():.4f}; "
        f"the picture's mean is {fused.image.mean():.1f}",
        f"autoencoder gives the visible example back at {loss:.1f} dB",
    ]
