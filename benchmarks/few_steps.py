# SPDX-License-Identifier: Apache-2.0
"""What a given number of evaluations buys: one step against many, and samplers that need no training.

    python benchmarks/few_steps.py [--checkpoint DIR] [--data DIR] [--limit 8] [--guided 4]

On M3 copies of held-out photographs at 256 px, all from the same noise, decoded (fidelity 0): mean PSNR in dB
against the photograph, and against the picture that the same noise gives in 50 plain steps. An evaluation is
one branch of one step; the bar that a sampler has to beat is the plain one with as many evaluations or fewer.

  AB2           Adams-Bashforth of second order for uneven steps, the first one being Euler's
  grid s        times t / (t + s (1 - t)): below 1 the first steps are the long ones, above 1 the last
  guided a..b   text and image guidance, three branches, in steps that begin within [a, b); one branch else
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import demo_cases
import jax.numpy as jnp
import numpy as np
from demo_items import mean_psnr, table

from ditfuse_jax import image
from ditfuse_jax.data import sources
from ditfuse_jax.inference import passes, sampler
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from ditfuse_jax.inference.noise import starts
from ditfuse_jax.inference.scene import read
from ditfuse_jax.models.flow import Guidance, branches, times
from ditfuse_jax.models.omnigen import cut
from ditfuse_jax.prompt import render
from ditfuse_jax.task import request

PLAIN, GUIDED = Guidance(1.0, 1.0), Guidance(2.0, 1.6)
MANY = 50
EVALUATIONS = (2, 3, 4, 6, 8)
GRIDS = (0.33, 0.5, 2.0, 3.0)
INTERVALS = ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0))
Velocity = Callable[[np.ndarray, float, Guidance], np.ndarray]  # tokens, t, scales


class Row(NamedTuple):
    name: str
    evaluations: int
    latents: np.ndarray  # tokens [B, P, 4 C]


def velocity(model: DiTFuse, encoded: Sequence[passes.Sources], prompt: str) -> Velocity:
    """The model on pairs of one size, the condition being cached for each set of branches."""
    rows = [sampler.Row(render(prompt), each.latents) for each in encoded]

    @functools.cache
    def prepared(guidance: Guidance):
        layout = sampler.layout(rows, branches(guidance), model.tokenizer)
        return layout, sampler.prefix(model.transformer, layout)

    def run(x: np.ndarray, t: float, guidance: Guidance) -> np.ndarray:
        layout, cache = prepared(guidance)
        step = sampler.programs(model.transformer.tuning).step
        fixed = layout.prompt, layout.place, layout.num_target, layout.rope_length
        span = np.array([t, t + 1], np.float32)  # a step of length 1 adds the velocity
        network = model.transformer
        moved = step(network.graph, network.params, cache, jnp.array(x), span, *fixed, guidance=guidance)
        return np.asarray(moved) - x

    return run


def euler(run: Velocity, x: np.ndarray, grid: np.ndarray, scales: Callable[[float], Guidance]) -> np.ndarray:
    for t, following in zip(grid, grid[1:], strict=False):
        x = x + (following - t) * run(x, float(t), scales(t))
    return x


def adams_bashforth(run: Velocity, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    before, last = None, None
    for t, following in zip(grid, grid[1:], strict=False):
        v, step = run(x, float(t), PLAIN), following - t
        slope = 0 if before is None else (v - before) / last
        x, before, last = x + step * v + step**2 / 2 * slope, v, step
    return x


def shifted(steps: int, s: float) -> np.ndarray:
    t = times(steps)
    return t / (t + s * (1 - t))


def within(low: float, high: float, t: float) -> Guidance:
    return GUIDED if low <= t < high else PLAIN


def one_branch(run: Velocity, noise: np.ndarray) -> list[Row]:
    always = functools.partial(within, 2.0, 2.0)
    found = [Row("plain", n, euler(run, noise, times(n), always)) for n in (1, *EVALUATIONS, 12, MANY)]
    found += [Row("AB2", n, adams_bashforth(run, noise, times(n))) for n in EVALUATIONS]
    for s in GRIDS:
        found += [Row(f"grid {s:g}", n, euler(run, noise, shifted(n, s), always)) for n in EVALUATIONS]
    return found


def guided(run: Velocity, noise: np.ndarray) -> list[Row]:
    """Three branches in all steps, and in some of eight."""
    always = functools.partial(within, 0.0, 2.0)
    found = [Row("guided", 3 * n, euler(run, noise, times(n), always)) for n in (1, 2, 4, 8, MANY)]
    for low, high in INTERVALS:
        spent = sum(3 if low <= t < high else 1 for t in times(8)[:-1])
        scales = functools.partial(within, low, high)
        found.append(Row(f"guided {low:g}..{high:g}", spent, euler(run, noise, times(8), scales)))
    return found


def measure(model: DiTFuse, cases: Sequence[demo_cases.Case], sample: Callable) -> None:
    """Prints a table; the row of MANY steps is what the others are held against."""
    encoded = [
        passes.encode(model.networks, read((case.first, case.second)), max_side=demo_cases.SIDE)
        for case in cases
    ]
    shapes = [each.latents.shape[1:] for each in encoded]
    (noise,) = starts(shapes, range(len(cases)), [None] * len(cases), count=1)
    start = np.concatenate([cut(each[None]) for each in noise])
    rows = sample(velocity(model, encoded, request(task="fuse")), start)
    pictures = [decoded(model, row.latents, shapes[0]) for row in rows]
    best = next(made for row, made in zip(rows, pictures, strict=True) if row.evaluations % MANY == 0)
    truth = [case.target for case in cases]
    lines = [
        [row.name, row.evaluations, mean_psnr(made, truth), "" if made is best else mean_psnr(made, best)]
        for row, made in zip(rows, pictures, strict=True)
    ]
    table(["sampler", "evaluations", "against the photograph", f"against its {MANY} steps"], lines)


def decoded(model: DiTFuse, tokens: np.ndarray, shape: tuple[int, int, int]) -> list[np.ndarray]:
    latents = np.concatenate([sampler.unpatchify(row[None], shape[0], shape[1]) for row in tokens])
    return [image.to_image(np.clip(pixels, -1, 1)) for pixels in passes.decode(model.networks, latents)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=DEMO, help="default: the one that ships")
    parser.add_argument("--data", help="data root (default: $DITFUSE_DATA, else ../shared/data)")
    parser.add_argument("--limit", type=int, default=8, help="photographs, evenly over the list")
    parser.add_argument("--guided", type=int, default=4, help="of these with three branches")
    args = parser.parse_args()
    model = DiTFuse.load(args.checkpoint)
    cases = demo_cases.simulated(sources.data_root(args.data), "m3", limit=args.limit).cases
    for title, sample, count in (
        ("one branch", one_branch, args.limit),
        ("guidance 2.0, 1.6", guided, args.guided),
    ):
        begun = time.process_time()
        print(f"\n## {model.checkpoint_id}, {title}, {count} photographs\n", flush=True)
        measure(model, cases[:count], sample)
        print(f"\n({time.process_time() - begun:.0f} s of processor time)", flush=True)


if __name__ == "__main__":
    main()
