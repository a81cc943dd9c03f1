# SPDX-License-Identifier: Apache-2.0
"""Where the time of a training step goes, without the VAE.

    python benchmarks/step_profile.py [--steps 3]                  # configs/demo.py at 128 px
    python benchmarks/step_profile.py --mode lora --dtype bfloat16  # 192 M weights, as benchmarks/training.py

From XLA's own profile: each moment goes in equal parts to what runs in it, by the parts that the code names.
"""

import argparse
import collections
import re
import tempfile
import time
from pathlib import Path

import jax
import training_step

import training

# What XLA calls an operation -> what it is; the first that fits.
GROUPS = (
    ("attention", r"attention"),
    ("products of linear layers", r"ti,io->to|io,ti->ot"),
    ("their gradients of inputs", r"->ti|->it"),
    ("their gradients of kernels", r"->io|->oi"),
    ("other products", r"dot_general|->"),
    ("rest of the model, forward and backward", r"jvp"),
    ("optimizer and inputs", r"\S"),
    ("what XLA added, without a name in our code", r""),
)
NESTED = ("ThunkExecutor", "while", "call", "conditional", "Slinky", "Threadpool", "end:")


def intervals(folder: Path) -> list[tuple[str, float, float]]:
    """(operation, start, end) in seconds, of operations that contain no others."""
    data = jax.profiler.ProfileData.from_file(str(next(folder.rglob("*.xplane.pb"))))
    lines = [line for plane in data.planes for line in plane.lines if "XLA" in line.name]
    events = [event for line in lines for event in line.events if not event.name.startswith(NESTED)]
    return [(e.name, e.start_ns / 1e9, (e.start_ns + e.duration_ns) / 1e9) for e in events]


def operation_names(hlo: str) -> dict[str, str]:
    """The path in our code of each operation of a compiled program; of a fusion without one, those in it."""
    names, inside, bare, computation = {}, collections.defaultdict(str), {}, ""
    for line in hlo.splitlines():
        if line.startswith(("%", "ENTRY")):
            computation = line.split()[0].lstrip("%")
        elif found := re.match(r"\s+(?:ROOT )?%(\S+) = ", line):
            path = re.search(r'op_name="([^"]*)"', line)
            names[found[1]] = path[1] if path else ""
            inside[computation] += " " + names[found[1]]
            if called := re.search(r"calls=%([\w.\-]+)", line):
                bare[found[1]] = called[1]
    return {name: path or inside[bare.get(name, "")] for name, path in names.items()}


def shares(events, names: dict[str, str]) -> dict[str, float]:
    """Seconds of each group."""
    edges = sorted(
        [(start, 1, name) for name, start, _ in events] + [(end, -1, name) for name, _, end in events]
    )
    spent, running, last = collections.Counter(), collections.Counter(), edges[0][0]
    for now, change, name in edges:
        live = [other for other, count in running.items() if count > 0]
        for other in live:
            spent[group(names.get(other, ""))] += (now - last) / len(live)
        if not live:
            spent["between operations"] += now - last
        running[name] += change
        last = now
    return spent


def group(path: str) -> str:
    return next(name for name, pattern in GROUPS if re.search(pattern, path))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--mode", choices=("lora", "full"), help="of the model of 192 M weights")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="likewise")
    parser.add_argument("--operations", type=int, default=0, help="also the slowest ones, so many")
    args = parser.parse_args()
    step = training.side("here", args.mode, args.dtype, 1) if args.mode else training_step.demo_side("draws")
    hlo = step.step.lower(step.params, step.opt_state, step.frozen, step.inputs).compile().as_text()
    step()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with jax.profiler.trace(folder):
            for _ in range(args.steps):
                step()
        whole = (time.perf_counter() - start) / args.steps
        events, names = intervals(Path(folder)), operation_names(hlo)
    spent = shares(events, names)
    print(f"{whole:.3f} s a step under the profiler")
    for name, seconds in spent.most_common():
        print(f"  {seconds / args.steps:6.3f} s  {seconds / sum(spent.values()):4.0%}  {name}")
    alone = collections.Counter()
    for name, start, end in events:
        alone[name] += (end - start) / args.steps
    for name, seconds in alone.most_common(args.operations):
        print(f"  {seconds:6.3f} s  {name}  {names.get(name, '')}")


if __name__ == "__main__":
    main()
