# SPDX-License-Identifier: Apache-2.0
"""A training step against PyTorch: the same 192 M weights here and in diffusers' OmniGen transformer (peft).

    pip install -e .[bench] && python benchmarks/training.py [--mode lora full] [--dtype float32]

256 x 256, two sources, the same batch of latents on both sides (both would encode with the same VAE).
Each side is a process of its own, as for whoever trains with it; they take turns. First losses must agree.
Processor time is that of all cores over their number; it says more where other programs run.
With --demo: the step of the small demo model, beside a plain implementation of it.
"""

import argparse
import dataclasses
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import nnx
from medium import CONFIG, SIDE, build, diffusers_model
from training_step import RANK, RATE, TEXT, Here, Inputs, demo_side, make_inputs  # sets XLA's flags

from ditfuse_jax.config import LoraConfig
from ditfuse_jax.models.mask import attention_mask
from ditfuse_jax.ops.speed import product_speed
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.training import flops

WARM_UP = 1  # steps of each side that are not counted
# Counted steps of a turn. One before them is not: a process that waits loses its freed memory to the system,
# and gets it back slowly, which does not happen to one that trains.
TURN = 3
DEMO_STEPS = ("plain", "ours", "draws")


class PyTorch:
    """OmniGen's training step on diffusers' transformer: error of the velocity, clipping, AdamW."""

    def __init__(self, state, inputs: Inputs, dtype: str, lora: bool):
        import torch

        self.torch, self.inputs = torch, inputs
        self.model = diffusers_model(state)
        if lora:
            from peft import LoraConfig as Peft
            from peft import inject_adapter_in_model

            self.model.to(getattr(torch, dtype)).requires_grad_(False)
            names = ["to_q", "to_k", "to_v", "to_out.0", "gate_up_proj", "down_proj"]
            settings = Peft(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=names)
            self.model = inject_adapter_in_model(settings, self.model)
        self.dtype = getattr(torch, dtype)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=RATE, weight_decay=0.0)
        self.arguments = self.prepare()

    def prepare(self) -> dict:
        torch, inputs = self.torch, self.inputs
        count = inputs.x_1.shape[1] ** 2 // 4
        prefix = inputs.prompt.token_ids.shape[1]
        rows = len(inputs.t)
        suffix = np.full((rows, 1 + count), prefix + 1 + count, np.int32)
        suffix[:, 0] = prefix + 1
        visible = np.concatenate([inputs.prompt.visible_until, suffix], axis=1)
        mask = np.array(attention_mask(visible, inputs.prompt.num_padding, visible.shape[1]))
        latents = torch.from_numpy(inputs.sources.transpose(0, 1, 4, 2, 3).copy()).to(self.dtype)
        positions = np.tile(np.arange(prefix + 1 + count), (rows, 1))
        return {
            "input_ids": torch.from_numpy(inputs.prompt.token_ids).long(),
            "input_img_latents": [image[None] for row in latents for image in row],
            "input_image_sizes": {b: slots.tolist() for b, slots in enumerate(inputs.prompt.slots)},
            "attention_mask": torch.from_numpy(mask).float(),
            "position_ids": torch.from_numpy(positions).long(),
            "return_dict": False,
        }

    def __call__(self) -> float:
        torch = self.torch
        x_1, x_0 = (
            torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in (self.inputs.x_1, self.inputs.x_0)
        )
        t = torch.from_numpy(self.inputs.t)
        x_t = t[:, None, None, None] * x_1 + (1 - t[:, None, None, None]) * x_0
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            velocity = self.model(hidden_states=x_t.to(self.dtype), timestep=t, **self.arguments)[0]
        loss = (velocity.float() - (x_1 - x_0)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        return float(loss.detach())


def side(name: str, mode: str, dtype: str, rows: int, tuning: Tuning | None = None) -> "Here | PyTorch":
    """tuning: of our side, default: as on one device of this machine."""
    state = build()
    lora = LoraConfig(rank=RANK, alpha=float(RANK)) if mode == "lora" else None
    cfg, inputs = dataclasses.replace(CONFIG, lora=lora), make_inputs(rows, SIDE, CONFIG.latent_channels)
    if name == "torch":
        return PyTorch(state, inputs, dtype, mode == "lora")
    base = {".".join(map(str, path)): np.asarray(x[...]) for path, x in nnx.to_flat_state(state)}
    return Here(cfg, base, inputs, dtype, tuning)


def serve(name: str, mode: str, dtype: str, rows: int) -> None:
    """A step for each line of standard input; prints its loss, its seconds and those of the processor, and at
    the end the peak memory.

    Memory is what the weights and the steps add to a process that has imported everything.
    """
    if name == "torch":
        import diffusers  # noqa: F401
        import peft  # noqa: F401
    before = resident("VmRSS")
    step = side(name, mode, dtype, rows)
    for _ in sys.stdin:
        start, spent = time.perf_counter(), time.process_time()
        loss = step()
        print(loss, time.perf_counter() - start, time.process_time() - spent, flush=True)
    print(resident("VmHWM") - before)


def resident(which: str) -> float:
    """GB of this process. (getrusage's maximum starts at the size of the process that started it.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) * 1024 / 1e9


class Step(NamedTuple):
    loss: float
    seconds: float
    processor: float  # seconds of all cores


class Process:
    """One side, which makes a step when told to."""

    def __init__(self, name: str, mode: str, dtype: str, rows: int, *, flags: str | None = None):
        """flags: for XLA; default: those of train.py."""
        options = ["--serve", name, "--mode", mode, "--dtype", dtype, "--rows", str(rows)]
        command = [sys.executable, __file__, *options]
        given = {} if flags is None else {"XLA_FLAGS": flags, "DITFUSE_FLAGS": "as given"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.child = subprocess.Popen(command, env=os.environ | given, **pipes)

    def step(self) -> Step:
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        return Step(*map(float, self.child.stdout.readline().split()))

    def end(self) -> float:
        """GB of memory at its peak."""
        return float(self.child.communicate()[0])


def compare(mode: str, dtype: str, rows: int, rounds: int) -> None:
    """Both sides in turns."""
    both = {name: Process(name, mode, dtype, rows) for name in ("torch", "here")}
    first = {name: process.step().loss for name, process in both.items()}
    error = abs(first["here"] / first["torch"] - 1)
    if error > (1e-4 if dtype == "float32" else 2e-2):
        raise SystemExit(f"losses {first} differ by {error:.1e}: the two sides do not compute the same")
    for _ in range(WARM_UP):
        for process in both.values():
            process.step()
    taken = {name: [] for name in both}
    for _ in range(rounds):
        for name, process in both.items():
            process.step()
            taken[name] += [process.step()[1:] for _ in range(TURN)]
    middle = {name: list(map(statistics.median, zip(*values, strict=True))) for name, values in taken.items()}
    memory = {name: process.end() for name, process in both.items()}
    lora = LoraConfig(rank=RANK, alpha=float(RANK)) if mode == "lora" else None
    count = SIDE**2 // 4
    work = rows * flops.transformer_row(dataclasses.replace(CONFIG, lora=lora), TEXT + 2 * count, 1 + count)
    peak = product_speed(dtype)
    print(f"{mode} {dtype}, batch {rows}, {rounds} turns of {TURN}: first losses differ by {error:.1e}")
    for name, (median, processor) in middle.items():
        wall = [one[0] for one in taken[name]]
        line = f"  {name:6} {median:7.3f} s/step ({min(wall):.3f} to {max(wall):.3f}), "
        line += f"{processor:.3f} of all cores"
        rate = f"{rows / median:6.3f} samples/s  MFU {work / median / peak:.0%}"
        print(f"{line}  {rate}  peak {memory[name]:.2f} GB")
    ratios = (theirs / ours for theirs, ours in zip(middle["torch"], middle["here"], strict=True))
    print("  ratio  {:.2f}, of processor time {:.2f}".format(*ratios), flush=True)


def demo_step(kind: str, rounds: int) -> None:
    """Prints the best time and the FLOPs of `demo_side(kind)`."""
    step = demo_side(kind)
    rows, draws = len(step.inputs.t), step.inputs.t.shape[1] if step.inputs.t.ndim > 1 else 1
    times = []
    for _ in range(1 + rounds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    prefix = step.inputs.prompt.token_ids.shape[1]
    work = rows * flops.transformer_row(step.cfg, prefix, 65, draws)
    print(rows, draws, prefix + 65, min(times[1:]), work, product_speed(step.cfg.dtype))


def demo(rounds: int) -> None:
    """The demo model's step in processes of their own, in turns: their XLA flags differ."""
    best = {}
    for _ in range(2):
        for kind in DEMO_STEPS:
            flags = "" if kind == "plain" else os.environ["XLA_FLAGS"]
            command = [sys.executable, __file__, "--demo-step", kind, "--rounds", str(rounds)]
            environment = os.environ | {"XLA_FLAGS": flags, "DITFUSE_FLAGS": "as given"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found = [float(word) for word in done.stdout.split()[-6:]]
            best[kind] = min(best.get(kind, found), found, key=lambda values: values[3])
    for kind, (rows, draws, tokens, seconds, work, peak) in best.items():
        line = f"demo, {kind:5}: {rows:.0f} rows x {draws:.0f} draws, {tokens:.0f} tokens, {seconds:.3f} s"
        print(f"{line}, {work / seconds / 1e9:.0f} GFLOP/s, {work / seconds / peak:.0%} of {peak / 1e9:.0f}")
    plain = best["plain"]
    for kind in ("ours", "draws"):
        rows, draws, _, seconds, work, _ = best[kind]
        per_second = work / seconds / (plain[4] / plain[3])
        losses = rows * draws / seconds / (plain[0] * plain[1] / plain[3])
        print(f"{kind} against plain: FLOP/s {per_second:.2f}x, noised samples a second {losses:.2f}x")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", nargs="+", default=["lora", "full"], choices=["lora", "full"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--demo-step", choices=DEMO_STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=["torch", "here"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.demo:
        demo(args.rounds)
    elif args.demo_step:
        demo_step(args.demo_step, args.rounds)
    elif args.serve:
        serve(args.serve, args.mode[0], args.dtype, args.rows)
    else:
        for mode in args.mode:
            compare(mode, args.dtype, args.rows, args.rounds)


if __name__ == "__main__":
    main()
