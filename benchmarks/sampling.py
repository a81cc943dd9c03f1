# SPDX-License-Identifier: Apache-2.0
"""Sampling speed against PyTorch: the same 192 M weights here and in diffusers' OmniGen transformer, called
as its pipeline calls it (every branch, the whole sequence, every step). 256 x 256, two sources,
three branches.

    pip install -e .[bench] && python benchmarks/sampling.py

Both sides start from the same noise and must give the same latents in float32; then they take turns.
PyTorch does the same work in each step, so its time for 50 steps is 50 times a step, unless --full is given.
The clock is the wall's, or with --processor this process's time on all cores over their number, which says
more where other programs run.
"""

import argparse
import dataclasses
import os
import re
import statistics
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from flax import nnx
from medium import CONFIG, SIDE, build, diffusers_model

sys.path.insert(0, str(Path(__file__).parents[1]))

from ditfuse_jax.config import TransformerConfig  # noqa: E402
from ditfuse_jax.inference import sampler  # noqa: E402
from ditfuse_jax.models import flow, outline  # noqa: E402
from ditfuse_jax.models.mask import attention_mask  # noqa: E402
from ditfuse_jax.ops.tuning import Tuning  # noqa: E402
from ditfuse_jax.prompt import Prompt, collate, encode, render  # noqa: E402

GUIDANCE = flow.Guidance(2.0, 1.6)
NAMES = flow.branches(GUIDANCE)
INSTRUCTION = (
    "Generate a fused image that preserves the thermal information of the infrared image "
    "and the texture details"
)


def clock() -> float:
    """Seconds."""
    busy = "--processor" in sys.argv
    return time.process_time() / os.cpu_count() if busy else time.perf_counter()


class Time(NamedTuple):
    prefix: float  # seconds before the first step
    step: float


def words(text: str) -> SimpleNamespace:
    """Stands in for a tokenizer: one id per word or sign, about as many as Phi-3's."""
    ids = [3 + zlib.crc32(word.encode()) % 32000 for word in re.findall(r"\w+|[^\w\s]", text)]
    return SimpleNamespace(input_ids=ids)


class PyTorch:
    """The denoising loop of diffusers' OmniGenPipeline on inputs that are prepared once."""

    def __init__(self, params: nnx.State, dtype: torch.dtype, prompt: Prompt, sources: np.ndarray):
        self.model = diffusers_model(params).to(dtype).eval()
        self.dtype = dtype
        self.inputs = self.prepare(prompt, sources)

    def prepare(self, prompt: Prompt, sources: np.ndarray) -> dict:
        """What the pipeline's processor gives: ids, dense mask, positions, places of the source latents."""
        num_target = SIDE * SIDE // 4
        prefix = prompt.token_ids.shape[1]
        suffix = np.full((len(NAMES), 1 + num_target), prefix + 1 + num_target, np.int32)
        suffix[:, 0] = prefix + 1
        visible = np.concatenate([prompt.visible_until, suffix], axis=1)
        mask = np.array(attention_mask(visible, prompt.num_padding, visible.shape[1]))
        own = (prefix - prompt.num_padding)[:, None] + np.arange(1 + num_target)[None]
        latents = torch.from_numpy(sources.transpose(0, 3, 1, 2).copy())
        sizes = {b: slots.tolist() for b, slots in enumerate(prompt.slots) if slots.any()}
        return {
            "input_ids": torch.from_numpy(prompt.token_ids).long(),
            "input_img_latents": [latents[i : i + 1] for _ in sizes for i in range(len(latents))],
            "input_image_sizes": sizes,
            "attention_mask": torch.from_numpy(mask).float(),
            "position_ids": torch.from_numpy(np.concatenate([prompt.positions, own], axis=1)).long(),
            "return_dict": False,
        }

    @torch.no_grad()
    def sample(self, noise: np.ndarray, steps: int) -> tuple[np.ndarray, Time]:
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0, invert_sigmas=True)
        scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:steps])
        latents = torch.from_numpy(noise.transpose(2, 0, 1)[None].copy())
        seconds = []
        for t in scheduler.timesteps:
            start = clock()
            rows = torch.cat([latents] * len(NAMES)).to(self.dtype)
            velocity = self.model(hidden_states=rows, timestep=t.expand(len(NAMES)), **self.inputs)[0]
            cond, uncond, img_cond = torch.split(velocity, 1)
            velocity = uncond + GUIDANCE.image * (img_cond - uncond) + GUIDANCE.text * (cond - img_cond)
            latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
            seconds.append(clock() - start)
        return latents[0].float().numpy().transpose(1, 2, 0), Time(0.0, statistics.median(seconds))


class Here:
    def __init__(self, params: nnx.State, dtype: str, row: sampler.Row, guidance: flow.Guidance = GUIDANCE):
        tuning = Tuning.choose(jax.default_backend(), 1)
        model = outline.transformer(_with_dtype(dtype), tuning=tuning)
        params = jax.tree.map(lambda a: a.astype(dtype), params)
        self.network = sampler.Network(nnx.split(model)[0], params, tuning)
        self.guidance, self.rows = guidance, sampler.layout([row], flow.branches(guidance), words)

    def sample(self, noise: np.ndarray, steps: int) -> tuple[np.ndarray, Time]:
        start = clock()
        cache = jax.block_until_ready(sampler.prefix(self.network, self.rows))
        prefixed = clock()
        how = {"guidance": self.guidance, "steps": steps}
        latents = sampler.sample(self.network, cache, self.rows, [[noise]], **how)[0]
        return latents, Time(prefixed - start, (clock() - prefixed) / steps)


def _with_dtype(dtype: str) -> TransformerConfig:
    return dataclasses.replace(CONFIG, dtype=dtype)


def peaks() -> dict[str, float]:
    """FLOP/s of a large product with float32 results, the better of JAX and PyTorch."""
    size, found = 2048, {}
    for name in ("float32", "bfloat16"):
        a, b = jnp.ones((size, size), name), torch.ones((size, size), dtype=getattr(torch, name))
        ours = jax.jit(lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32))
        runs = [_best(lambda a=a, f=ours: f(a).block_until_ready()), _best(lambda b=b: b @ b)]
        found[name] = 2 * size**3 / min(runs)
    return found


def _best(run) -> float:
    run()
    times = []
    for _ in range(5):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def flops(num_new: int, num_seen: int) -> float:
    """Of one pass of all branches over num_new tokens that attend to num_seen."""
    linear = 2 * (4 * CONFIG.width**2 + 3 * CONFIG.width * CONFIG.mlp_width) * num_new
    return len(NAMES) * CONFIG.num_layers * (linear + 4 * num_new * num_seen * CONFIG.width)


class Turn(NamedTuple):
    """Seconds per step, the prefix pass shared out over all steps where there is one."""

    torch: float
    here_10: float
    here_50: float
    here_step: float  # without the prefix pass
    here_one: float  # seconds of the whole picture of a one-step checkpoint: one branch, one step


def take_turns(
    torch_side: PyTorch, here: Here, once: Here, noise: np.ndarray, rounds: int, torch_steps: int
) -> Turn:
    """Both sides alternate; medians over the rounds. once: the same with one branch."""
    once.sample(noise, 1)  # compiles
    turns = []
    for _ in range(rounds):
        theirs = torch_side.sample(noise, torch_steps)[1]
        ten, fifty = (here.sample(noise, steps)[1] for steps in (10, 50))
        turns.append(
            Turn(
                theirs.step,
                ten.prefix / 10 + ten.step,
                fifty.prefix / 50 + fifty.step,
                fifty.step,
                sum(once.sample(noise, 1)[1]),
            )
        )
    print("  turns               " + " ".join(str(tuple(round(t, 3) for t in turn)) for turn in turns))
    return Turn(*(statistics.median(column) for column in zip(*turns, strict=True)))


def check_same(torch_side: PyTorch, here: Here, noise: np.ndarray, dtype: str) -> None:
    """Two steps on both sides, which also warms them up."""
    theirs, ours = torch_side.sample(noise, 2)[0], here.sample(noise, 2)[0]
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - noise)
    print(f"{dtype}: both sides differ by {error:.1e} of the change they make (relative L2)", flush=True)
    if error > (1e-4 if dtype == "float32" else 5e-2):
        raise SystemExit("the two sides do not compute the same; nothing is measured")


def report(turn: Turn, peak: float, num_prefix: int, num_new: int) -> None:
    everything = num_new + num_prefix
    theirs = flops(everything, everything) / turn.torch / peak
    ours = flops(num_new, everything) / turn.here_step / peak
    print(
        f"  seconds per step    PyTorch {turn.torch:.3f}, here {turn.here_10:.3f} (10 steps), "
        f"{turn.here_50:.3f} (50)\n"
        f"  times faster        {turn.torch / turn.here_10:.2f} (10 steps), "
        f"{turn.torch / turn.here_50:.2f} (50)\n"
        f"  one step, 1 branch  {turn.here_one:.3f} s a picture, {50 * turn.torch / turn.here_one:.0f} times "
        f"faster than PyTorch's 50 steps\n"
        f"  share of peak       PyTorch {theirs:.0%}, here {ours:.0%} (a step without the prefix)",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns that each side takes; medians are printed"
    )
    parser.add_argument("--torch-steps", type=int, default=2, help="steps of PyTorch in a turn")
    parser.add_argument("--processor", action="store_true", help="processor time, see above")
    parser.add_argument("--full", action="store_true", help="PyTorch takes 50 steps too")
    flags = parser.parse_args()
    rng = np.random.default_rng(0)
    sources = rng.normal(size=(2, SIDE, SIDE, 4)).astype(np.float32)
    noise = rng.normal(size=(SIDE, SIDE, 4)).astype(np.float32)
    row = sampler.Row(render(INSTRUCTION), sources)
    texts = [sampler.branch_text(row.text, name) for name in NAMES]
    prompt = collate([encode(text, (SIDE * SIDE // 4,) * 2, words) for text in texts])
    params = build()
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    num_new, num_prefix = 1 + SIDE * SIDE // 4, prompt.token_ids.shape[1]
    print(
        f"{count / 1e6:.1f} M parameters, prefix {num_prefix} + {num_new} new tokens, {len(NAMES)} branches"
    )
    peak = peaks()
    print("peak GFLOP/s: " + ", ".join(f"{name} {value / 1e9:.0f}" for name, value in peak.items()))
    medians = []
    for dtype in flags.dtypes:
        torch_side = PyTorch(params, getattr(torch, dtype), prompt, sources)
        here, once = Here(params, dtype, row), Here(params, dtype, row, flow.Guidance(1.0, 1.0))
        check_same(torch_side, here, noise, dtype)
        steps = 50 if flags.full else flags.torch_steps
        medians.append(take_turns(torch_side, here, once, noise, flags.rounds, steps))
        report(medians[-1], peak[dtype], num_prefix, num_new)
    best = Turn(*map(min, zip(*medians, strict=True)))
    print(
        f"each side in its better dtype: {best.torch / best.here_10:.2f} times faster at 10 steps, "
        f"{best.torch / best.here_50:.2f} times at 50, "
        f"{50 * best.torch / best.here_one:.0f} times in one step of one branch"
    )


if __name__ == "__main__":
    main()
