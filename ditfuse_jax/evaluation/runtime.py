# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of a checkpoint, measured, beside what they depend on (paper Table V)."""

import argparse
import os
import platform
import re
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ditfuse_jax import __version__
from ditfuse_jax.evaluation.flags import sampling
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.models.flow import Guidance, branches


class Runtime(NamedTuple):
    checkpoint: str
    parameters: int
    first: float  # seconds of the first sample, compiling included
    seconds: float  # of a later one: the median
    slowest: float
    samples: int
    memory: int  # bytes at the peak
    memory_of: str
    facts: dict[str, str]


def measure(model: DiTFuse, args: argparse.Namespace, height: int, width: int, prompt: str) -> Runtime:
    """Fuses noise pictures of one size, one at a time. args: flags of `sampling`, --seed and --samples."""
    settings = model.settings(**sampling(args))
    plan = model.plan(height, width, prompt, **sampling(args))
    pair = np.random.default_rng(args.seed).integers(0, 256, (2, height, width, 3), np.uint8)
    spent = []
    for _ in range(1 + args.samples):
        start = time.perf_counter()
        model.fuse(pair, prompt, seed=args.seed, **sampling(args))
        spent.append(time.perf_counter() - start)
    memory, memory_of = peak_memory()
    device = jax.devices()[0]
    fused = "{1} x {0}".format(*plan.geometry.fused)
    how = f"in {len(plan.tiling.corners)} tiles of {fused}" if plan.tiling else f"fused at {fused}"
    kind = f"{jax.device_count()} x {device.platform} ({device.device_kind})"
    facts = {
        "code": f"ditfuse-jax {__version__}",
        "device": f"{kind}, jax {jax.__version__}",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "size": f"{width} x {height}, {how}",
        "steps": str(settings.steps),
        "branches": ", ".join(branches(Guidance(settings.guidance, settings.image_guidance))),
        "noises": str(settings.noises),
        "fidelity": str(settings.fidelity),
        "precision": model.config.model.dtype,
    }
    first, *later = spent
    middle = statistics.median(later)
    return Runtime(
        model.checkpoint_id,
        plan.num_params,
        first,
        middle,
        max(later),
        len(later),
        memory,
        memory_of,
        facts,
    )


def processor() -> str:
    """The name of the host's, as far as the system tells it."""
    names = Path("/proc/cpuinfo")
    found = re.search(r"model name\s+: (.*)", names.read_text()) if names.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def peak_memory() -> tuple[int, str]:
    """Bytes at the peak: of the device where it says so, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "the device"
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "the process"


def markdown(found: Runtime) -> str:
    lines = [f"- {name}: {value}" for name, value in found.facts.items()]
    lines += [
        "",
        f"| checkpoint | parameters (M) | s a sample (median of {found.samples}) | slowest | first | "
        f"peak memory of {found.memory_of} (GB) |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| {found.checkpoint} | {found.parameters / 1e6:.2f} | {found.seconds:.2f} | {found.slowest:.2f} | "
        f"{found.first:.2f} | {found.memory / 1e9:.2f} |",
    ]
    return "\n".join(lines) + "\n"
