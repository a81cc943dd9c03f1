# SPDX-License-Identifier: Apache-2.0
"""What each choice of `Tuning.choose` brings on this machine, each beside the same program without it.

    python benchmarks/tuning.py [--rounds 5] [--only split max_scores]

All on one device, forward and backward, the two of a pair in turns in one process. Printed are the medians of
wall-clock and of processor time, without over with: over 1 is a gain. The program is attention alone, in the
shapes of the training step of configs/demo.py at 128 px. For `hoists` it is the LoRA step of the 192 M model
in bfloat16, and the memory of that model's prefix; for `flags` the LoRA step in float32, in two processes,
with the XLA flags of train.py and without.
"""

import argparse
import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable

import forward
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ditfuse_jax.models.omnigen import Transformer
from ditfuse_jax.ops.attention import attention
from ditfuse_jax.ops.tuning import PORTABLE, Tuning
from training import Process, side

ROWS, PREFIX, SUFFIX, HEADS, HEAD_DIM = 16, 208, 65, 4, 64  # configs/demo.py at 128 px, one draw a row


def here() -> Tuning:
    return Tuning.choose(jax.default_backend(), 1)


def attention_pair(name: str) -> tuple[Callable, Callable]:
    """Attention alone, forward and backward: with `split` or `max_scores`, and without."""
    shape = (ROWS, PREFIX + SUFFIX, HEADS, HEAD_DIM)
    q, k, v = jax.random.normal(jax.random.key(0), (3, *shape))
    late = jnp.arange(shape[1]) >= PREFIX
    mask = jnp.broadcast_to(late[:, None] | ~late[None, :], (ROWS, shape[1], shape[1]))

    def run(split: int, tuning: Tuning) -> Callable:
        def total(*qkv):
            return attention(*qkv, mask, split=split, tuning=tuning).sum()

        return functools.partial(jax.jit(jax.grad(total, argnums=(0, 1, 2))), q, k, v)

    if name == "split":
        return run(PREFIX, here()), run(0, here())
    return run(PREFIX, here()), run(PREFIX, dataclasses.replace(here(), max_scores=PORTABLE.max_scores))


def seconds(run: Callable) -> tuple[float, float]:
    """Wall-clock and processor time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(run())
    return time.perf_counter() - wall, time.process_time() - cpu


def compare_flags(rounds: int) -> None:
    """XLA's flags of train.py, which `cli/environment.py` has set here already."""
    pair = [Process("here", "lora", "float32", 1, flags=flags) for flags in (os.environ["XLA_FLAGS"], "")]
    for process in pair:
        process.step()
    steps = [[process.step() for process in pair] for _ in range(rounds)]
    tell("flags", *np.array([[step[1:] for step in both] for both in steps]).transpose(1, 2, 0))
    for process in pair:
        process.end()


def compare(name: str, pair: tuple[Callable, Callable], rounds: int) -> None:
    for run in pair:
        seconds(run)
    tell(name, *np.array([[seconds(run) for run in pair] for _ in range(rounds)]).transpose(1, 2, 0))


def tell(name: str, with_: np.ndarray, without: np.ndarray) -> None:
    """Prints medians; with_, without: [2, rounds], wall-clock and processor time."""
    wall, cpu = (statistics.median(b) / statistics.median(a) for a, b in zip(with_, without, strict=True))
    print(
        f"{name:16} {statistics.median(with_[0]):8.4f} s   wall {wall:5.2f}x  processor {cpu:5.2f}x",
        flush=True,
    )


def hoisting_pair() -> tuple[Callable, Callable]:
    """The LoRA step of the 192 M model in bfloat16 without hoisting, and with."""
    both = here(), dataclasses.replace(here(), hoists=PORTABLE.hoists)
    return tuple(side("here", "lora", "bfloat16", 1, tuning) for tuning in both)


def memory_of_hoisting() -> None:
    """Bytes above the weights that the prefix of three branches needs, with bfloat16 weights."""
    cfg, found = forward.model_config("bfloat16"), []
    build = functools.partial(Transformer, cfg, tuning=forward.here(), param_dtype=jnp.bfloat16)
    graph, state = nnx.split(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0))))
    prompt, sources, _, shape = forward.inputs(forward.BRANCHES)

    def prefix(state):
        return nnx.merge(graph, state).prefix(prompt, sources, rope_length=shape["rope_length"])

    for tuning in (forward.here(), dataclasses.replace(forward.here(), hoists=PORTABLE.hoists)):
        program = jax.jit(prefix, **tuning.jit_options()).lower(state).compile()
        found.append(program.memory_analysis().temp_size_in_bytes / 2**20)
    print(f"{'hoists':16} {found[0]:8.0f} MiB above the weights, {found[1]:.0f} MiB without", flush=True)


def main() -> None:
    names = ("split", "max_scores", "hoists", "flags")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {here()}")
    for name in args.only:
        if name == "hoists":
            compare(name, hoisting_pair(), args.rounds)
            memory_of_hoisting()
        elif name == "flags":
            compare_flags(args.rounds)
        else:
            compare(name, attention_pair(name), args.rounds)


if __name__ == "__main__":
    main()
