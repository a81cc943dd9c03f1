# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a process that writes pictures, converts weights or trains; what has its name must be whole."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.training.resume import Checkpoints

PROJECT = Path(__file__).resolve().parents[1]
PATIENCE = 1800  # seconds until a process counts as hanging; a busy machine takes long to compile a step
PICTURES = """
import numpy as np, sys
from ditfuse_jax import image
picture = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
print("ready", flush=True)
for number in range(10**6):
    image.write(sys.argv[1] + f"/{number % 3}.png", picture, metadata={}, overwrite=True)
"""
CONVERT = """
import sys
from convert.__main__ import main
print("ready", flush=True)
for number in range(10**6):
    assert main(["omnigen", sys.argv[2], sys.argv[1] + "/made", "--overwrite"]) == 0
"""
RUN = """
from ditfuse_jax.config import TransformerConfig, VAEConfig
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.training.config import TrainConfig
photos = SourceConfig(name="m3", path="*", names=None)
config = TrainConfig(
    name="tiny", model=TransformerConfig.tiny(num_layers=1, vocab_size=4096), vae=VAEConfig.tiny(),
    mixture=MixtureConfig(sources=(photos,), buckets=(Bucket(height=32, width=32),)),
    steps=100_000, batch_size=2, log_every=1, save_every=2,
)
"""
KINDS = ("pictures", "convert", "train")


def command(kind: str, folder: Path, published: Path) -> list[str]:
    if kind == "pictures":
        return [sys.executable, "-c", PICTURES, str(folder)]
    if kind == "convert":
        return [sys.executable, "-c", CONVERT, str(folder), str(published)]
    (folder / "tiny.py").write_text(RUN)
    place = ["--workdir", str(folder / "run"), "--data", str(PROJECT / "examples")]
    return [sys.executable, "train.py", "--config", str(folder / "tiny.py"), *place]


def kill(rng: np.random.Generator, kind: str, folder: Path, published: Path) -> str | None:
    """Starts, kills at a random moment, looks; returns what is wrong, or None."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    shared = {  # compiled programs, by all that is killed
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    ours = {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu"}
    environment = shared | os.environ | ours
    process = subprocess.Popen(command(kind, folder, published), cwd=PROJECT, env=environment, **pipes)
    start, ready = time.monotonic(), "step 3/" if kind == "train" else "ready"
    seen = []
    while line := process.stdout.readline():
        seen.append(line)
        if line.startswith(ready) or time.monotonic() - start > PATIENCE:
            break
    time.sleep(rng.random() * (0.5 if kind == "pictures" else 3.0))
    early = process.poll()
    process.kill()
    process.communicate()
    if early is not None or not seen or not seen[-1].startswith(ready):
        what = "it was not ready" if early is None else "it ended by itself"
        return f"{kind}: {what} after {time.monotonic() - start:.0f} s: {''.join(seen)[-500:]}"
    return partial(kind, folder)


def partial(kind: str, folder: Path) -> str | None:
    """What under its own name is not whole."""
    try:
        if kind == "pictures":
            for file in folder.glob("*.png"):
                image.read(file)
        elif kind == "convert" and (folder / "made").exists():
            DiTFuse.load(folder / "made")
        elif kind == "train":
            checkpoints = Checkpoints(folder / "run", keep=1, read_only=True)
            wrong = [
                f"step {step}: {reason}"
                for step in checkpoints.steps()
                if (reason := checkpoints.damage(step))
            ]
            checkpoints.close()
            return f"train: {wrong}" if wrong else None  # no step at all: killed before the first was whole
    except ValueError as error:
        return f"{kind}: {error}"
    return None
