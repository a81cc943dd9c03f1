# SPDX-License-Identifier: Apache-2.0
"""What a training step sends between devices, read from its compiled program.

    python benchmarks/collectives.py --mesh fsdp=8 [--lora] [--dtype bfloat16]

A small transformer (4 layers) on virtual CPU devices; bytes are given per step and beside the bytes of the
weights, so that they can be carried over to a larger model of the same kind.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

import jax  # noqa: E402

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "s64": 8, "f64": 8}


def computations(program: str) -> dict[str, list[str]]:
    """{name: lines} of an HLO module's text."""
    found, name = {}, None
    for line in program.splitlines():
        if start := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = start[1]
            found[name] = []
        elif name:
            found[name].append(line)
    return found


def calls(line: str) -> list[tuple[str, int]]:
    """The computations that a line runs, and how often."""
    times = 1
    if " while(" in line:
        count = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        if not count:
            raise SystemExit(f"a loop without a known number of turns: {line.strip()[:200]}")
        times = int(count[1])
    names = re.findall(r"(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)", line)
    return [(name, times) for name in names]


def sent(program: str) -> Counter:
    """Bytes of the results of all collectives of one run, by (kind, type)."""
    parts = computations(program)
    entry = re.search(r"^ENTRY %?([\w.\-]+)", program, re.MULTILINE)[1]
    total = Counter()

    def walk(name: str, times: int) -> None:
        for line in parts[name]:
            kind = re.search(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(", line)
            if kind:
                for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", kind[1]):
                    size = WIDTHS[dtype]
                    for side in shape.split(","):
                        size *= int(side or 1)
                    total[kind[2], dtype] += times * size
                continue
            for inner, turns in calls(line):
                if inner in parts:
                    walk(inner, times * turns)

    walk(entry, 1)
    return total


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mesh", default="8", help="as train.py")
    parser.add_argument("--lora", action="store_true", help="train an adapter instead of all weights")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()

    import numpy as np

    import runs  # the tiny runs of the tests
    from ditfuse_jax.training import step as training
    from ditfuse_jax.training.sharding import make_mesh, parse_mesh, put_batch
    from ditfuse_jax.training.start import devices_needed

    jax.config.update("jax_num_cpu_devices", devices_needed(args.mesh))
    mesh = make_mesh(parse_mesh(args.mesh))
    config = runs.config(lora=args.lora, model={"num_layers": args.layers, "dtype": args.dtype})
    config = dataclasses.replace(config, frozen_dtype=args.dtype)
    params, frozen = runs.weights(config, mesh)
    state = training.new_state(params, config, mesh)
    batch = put_batch(runs.batch(), runs.ROWS, mesh)
    stop = put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, mesh)
    program = training.step_program(training.PORTABLE).lower(state, frozen, batch, stop, config=config)
    program = program.compile().as_text()
    layers = {n: x for n, x in (params | frozen.model).items() if re.fullmatch(r"layers\..*kernel", n)}
    print(
        json.dumps(
            {
                "mesh": args.mesh,
                "block kernels": sum(x.size for x in layers.values()),
                "all weights": sum(x.size for x in (params | frozen.model).values()),
                "trained": sum(x.size for x in params.values()),
            }
        )
    )
    for (kind, dtype), size in sent(program).most_common():
        print(f"{kind:20} {dtype:5} {size:12,} bytes")


if __name__ == "__main__":
    main()
