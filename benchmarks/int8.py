# SPDX-License-Identifier: Apache-2.0
"""int8 weights against the bfloat16 ones that they were made of: file, memory, seconds of an evaluation.

    python benchmarks/int8.py [--layers 2] [--side 256] [--rounds 3]

Random weights in the width of OmniGen-v1 with a few of its 32 layers, three branches, two sources. Each side
is a process of its own, in turns; printed are the medians of wall-clock and of processor time, of one
evaluation (all branches, one Euler step, the condition being cached) without compiling.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT / "benchmarks"), str(PROJECT)]

import jax  # noqa: E402
import numpy as np  # noqa: E402
from accelerator import GUIDANCE, Size, rows, weights  # noqa: E402
from flax import nnx  # noqa: E402

from convert.quantize import quantize, weight_errors  # noqa: E402
from ditfuse_jax.checkpoints import folder as checkpoints  # noqa: E402
from ditfuse_jax.checkpoints.flat import path_name  # noqa: E402
from ditfuse_jax.config import DEMO, CheckpointConfig, TransformerConfig, VAEConfig  # noqa: E402
from ditfuse_jax.inference import sampler  # noqa: E402
from ditfuse_jax.inference.fuse import DiTFuse  # noqa: E402
from ditfuse_jax.models.vae import VAE  # noqa: E402

VAE_CONFIG = VAEConfig.tiny(scaling_factor=1.0)


def build(folder: Path, layers: int) -> None:
    """A checkpoint folder of random weights in bfloat16."""
    cfg = TransformerConfig.omnigen_v1(num_layers=layers, vocab_size=1280)  # the demo's tokenizer
    flat = {path_name(path): x[...] for path, x in nnx.to_flat_state(weights(cfg, jax.devices()[0]))}
    vae = nnx.to_flat_state(nnx.state(VAE(VAE_CONFIG, rngs=nnx.Rngs(0))))
    checkpoints.save_folder(
        folder,
        CheckpointConfig(model=cfg, vae=VAE_CONFIG),
        model=flat,
        vae={path_name(path): x[...] for path, x in vae},
        tokenizer=DEMO,
        provenance={"source": "random"},
    )


def evaluate(folder: Path, side: int, times: int) -> None:
    """In a process of its own: prints seconds and memory as JSON."""
    model = DiTFuse.load(folder)
    layout, noise = rows(Size(model.config.model, VAE_CONFIG, side, "bfloat16"))
    cache = sampler.prefix(model.transformer, layout)
    took = []
    for _ in range(1 + times):
        start = time.perf_counter(), time.process_time()
        sampler.sample(model.transformer, cache, layout, [noise], guidance=GUIDANCE, steps=1)
        took.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    status = Path("/proc/self/status").read_text()
    memory = {
        key: int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1e6 for key in ("RssAnon", "RssFile", "VmHWM")
    }
    print(json.dumps({"took": took[1:], "memory": memory}))


def child(folder: Path, side: int, times: int) -> dict:
    command = [
        sys.executable,
        __file__,
        "--evaluate",
        str(folder),
        "--side",
        str(side),
        "--rounds",
        str(times),
    ]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--rounds", type=int, default=3, help="turns, and evaluations of each")
    parser.add_argument("--evaluate", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.evaluate:
        evaluate(flags.evaluate, flags.side, flags.rounds)
        return
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place) / name for name in ("bfloat16", "int8")}
        build(folders["bfloat16"], flags.layers)
        quantize(folders["bfloat16"], folders["int8"])
        error = max(weight_errors(folders["bfloat16"], folders["int8"]))
        print(f"{flags.layers} layers of OmniGen-v1's width, {flags.side} px; weights off by {error:.2%}")
        found = {name: [] for name in folders}
        for _ in range(flags.rounds):
            for name, folder in folders.items():
                found[name].append(child(folder, flags.side, flags.rounds))
        for name, runs in found.items():
            wall, cpu = np.median([one for run in runs for one in run["took"]], axis=0)
            file = (folders[name] / checkpoints.MODEL_FILE).stat().st_size / 1e9
            memory = {key: statistics.median(run["memory"][key] for run in runs) for key in runs[0]["memory"]}
            told = ", ".join(f"{key} {value:.2f}" for key, value in memory.items())
            print(f"{name:9} file {file:.2f} GB; {told} GB; {wall:.2f} s, {cpu:.2f} s of processor time")


if __name__ == "__main__":
    main()
