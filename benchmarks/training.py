# SPDX-License-Identifier: Apache-2.0
"""A training step against PyTorch: the same 192 M weights here and in diffusers' OmniGen transformer (peft).

    pip install -e .[bench] && python benchmarks/training.py [--mode lora full] [--dtype float32]

256 x 256, two sources, the same batch of latents on both sides (both would encode with the same VAE).
Each side is a process of its own, as for whoever trains with it; they take turns. First losses must agree.
Processor time is that of all cores over their number; it says more where other programs run.
With --demo: the step of the small demo model, beside a plain implementation of it.
"""

import argparse
import functools
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from ditfuse_jax.cli import environment  # noqa: E402

if "DITFUSE_FLAGS" not in os.environ:  # as train.py; not in the processes whose flags are compared
    environment.for_training()

import dataclasses  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402
from medium import CONFIG, SIDE, build, to_diffusers  # noqa: E402

from ditfuse_jax.checkpoints.flat import fill, flatten  # noqa: E402
from ditfuse_jax.config import PATCH, LoraConfig, TransformerConfig  # noqa: E402
from ditfuse_jax.models.mask import attention_mask  # noqa: E402
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify  # noqa: E402
from ditfuse_jax.ops.speed import product_speed  # noqa: E402
from ditfuse_jax.ops.tuning import Tuning  # noqa: E402
from ditfuse_jax.prompt import Prompt  # noqa: E402
from ditfuse_jax.training import flops, losses  # noqa: E402
from ditfuse_jax.training.config import OptimConfig  # noqa: E402
from ditfuse_jax.training.optimizer import optimizer  # noqa: E402

TEXT, RANK, RATE = 96, 64, 1e-4
WARM_UP = 1  # steps of each side that are not counted
# Counted steps of a turn. One before them is not: a process that waits loses its freed memory to the system,
# and gets it back slowly, which does not happen to one that trains.
TURN = 3
DEMO_STEPS = ("plain", "ours", "draws")


class Inputs(NamedTuple):
    prompt: Prompt
    sources: np.ndarray  # float32 [B, 2, h, w, C]
    x_1: np.ndarray  # float32 [B, h, w, C]
    x_0: np.ndarray
    t: np.ndarray  # float32 [B]


def make_inputs(rows: int, cells: int, channels: int) -> Inputs:
    """Full rows: TEXT words, two source images of cells x cells latents, no padding."""
    rng, count = np.random.default_rng(0), cells**2 // 4
    length = TEXT + 2 * count
    visible = np.tile(np.arange(1, length + 1, dtype=np.int32), (rows, 1))
    slots = np.tile(np.array([[40, 40 + count], [50 + count, 50 + 2 * count]], np.int32), (rows, 1, 1))
    for start, stop in slots[0]:
        visible[:, start:stop] = stop
    positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    ids = rng.integers(3, 1000, (rows, length)).astype(np.int32)
    prompt = Prompt(ids, positions, visible, np.zeros(rows, np.int32), slots)
    shape = (rows, cells, cells, channels)
    normal = [rng.standard_normal((rows, 2, *shape[1:])), *(rng.standard_normal(shape) for _ in range(2))]
    return Inputs(
        prompt, *(x.astype(np.float32) for x in normal), rng.uniform(0.1, 0.9, rows).astype(np.float32)
    )


class Here:
    """The step of ditfuse_jax.training without the VAE, tuned as on one device of this machine."""

    def __init__(
        self, cfg: TransformerConfig, base: dict, inputs: Inputs, dtype: str, tuning: Tuning | None = None
    ):
        self.cfg, self.inputs = dataclasses.replace(cfg, dtype=dtype), inputs
        tuning = tuning or Tuning.choose(jax.default_backend(), 1)
        own = flatten(nnx.eval_shape(lambda: Transformer(self.cfg, rngs=nnx.Rngs(0))))
        if cfg.lora:
            frozen_dtype = jnp.dtype(dtype)
            self.frozen = {name: jnp.asarray(x, frozen_dtype) for name, x in base.items()}
            trained = {name: leaf for name, leaf in own.items() if "lora" in name}
            keys = jax.random.split(jax.random.key(0), len(trained))
            self.params = {
                name: jax.random.normal(key, leaf.shape) / RANK * name.endswith("lora_a")
                for key, (name, leaf) in zip(keys, trained.items(), strict=True)
            }
        else:
            self.frozen, self.params = {}, {name: jnp.array(x) for name, x in base.items()}
        self.tx = optimizer(OptimConfig(learning_rate=RATE), 1000)
        self.opt_state = jax.jit(self.tx.init)(self.params)
        self.step = jax.jit(
            functools.partial(_step, cfg=self.cfg, tx=self.tx, tuning=tuning), donate_argnums=(0, 1)
        )

    def __call__(self) -> float:
        self.params, self.opt_state, loss = self.step(self.params, self.opt_state, self.frozen, self.inputs)
        return float(loss)


def _step(params, opt_state, frozen, inputs: Inputs, *, cfg, tx, tuning):
    def objective(params):
        shapes = nnx.eval_shape(lambda: Transformer(cfg, tuning=tuning, rngs=nnx.Rngs(0)))
        model = fill(shapes, params | frozen)
        rows, count, *shape = inputs.sources.shape
        cut = patchify(inputs.sources.reshape(rows * count, *shape))
        sources = Patches(*(x.reshape(rows, -1, x.shape[-1]) for x in cut))
        drawn = losses.Draw(inputs.t, inputs.x_0)
        grid = jnp.tile(jnp.array(inputs.x_1.shape[1:3]) // PATCH, (rows, 1))
        found = losses.Condition(sources, inputs.x_1, grid)
        return losses.velocity_loss(model, inputs.prompt, found, drawn).mean()

    loss, grads = jax.value_and_grad(objective)(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


class PyTorch:
    """OmniGen's training step on diffusers' transformer: mean square error of the velocity, clipping,
    AdamW.
    """

    def __init__(self, cfg: TransformerConfig, state, inputs: Inputs, dtype: str, lora: bool):
        import torch
        from diffusers import OmniGenTransformer2DModel

        self.torch, self.inputs = torch, inputs
        factors = {"short_factor": list(CONFIG.short_factor), "long_factor": list(CONFIG.long_factor)}
        self.model = OmniGenTransformer2DModel(
            hidden_size=cfg.width,
            intermediate_size=cfg.mlp_width,
            num_layers=cfg.num_layers,
            num_attention_heads=cfg.num_heads,
            num_key_value_heads=cfg.num_kv_heads,
            vocab_size=cfg.vocab_size,
            rope_scaling=factors,
        )
        table = {"patch_embedding.pos_embed": self.model.patch_embedding.pos_embed}
        self.model.load_state_dict(to_diffusers(state) | table, strict=True)
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


def side(name: str, mode: str, dtype: str, rows: int) -> "Here | PyTorch":
    state = build()
    lora = LoraConfig(rank=RANK, alpha=float(RANK)) if mode == "lora" else None
    cfg, inputs = dataclasses.replace(CONFIG, lora=lora), make_inputs(rows, SIDE, CONFIG.latent_channels)
    if name == "torch":
        return PyTorch(cfg, state, inputs, dtype, mode == "lora")
    base = {".".join(map(str, path)): np.asarray(x[...]) for path, x in nnx.to_flat_state(state)}
    return Here(cfg, base, inputs, dtype)


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    processor: float  # on all cores, over their number


def serve(name: str, mode: str, dtype: str, rows: int) -> None:
    """A step for each line of standard input; prints its loss and seconds, and at the end the peak memory.

    Memory is what the weights and the steps add to a process that has imported everything.
    """
    if name == "torch":
        import diffusers  # noqa: F401
        import peft  # noqa: F401
    before = resident("VmRSS")
    step = side(name, mode, dtype, rows)
    for _ in sys.stdin:
        start = Spent(time.perf_counter(), time.process_time() / os.cpu_count())
        loss = step()
        print(
            loss,
            time.perf_counter() - start.wall,
            time.process_time() / os.cpu_count() - start.processor,
            flush=True,
        )
    print(resident("VmHWM") - before)


def resident(which: str) -> float:
    """GB of this process. (getrusage's maximum starts at the size of the process that started it.)"""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) * 1024 / 1e9


class Process:
    """One side, which makes a step when told to."""

    def __init__(self, name: str, mode: str, dtype: str, rows: int):
        options = ["--serve", name, "--mode", mode, "--dtype", dtype, "--rows", str(rows)]
        command = [sys.executable, __file__, *options]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self) -> tuple[float, Spent]:
        """Its loss and what it took."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        loss, *spent = map(float, self.child.stdout.readline().split())
        return loss, Spent(*spent)

    def end(self) -> float:
        """GB of memory at its peak."""
        return float(self.child.communicate()[0])


def compare(mode: str, dtype: str, rows: int, rounds: int) -> None:
    """Both sides in turns."""
    both = {name: Process(name, mode, dtype, rows) for name in ("torch", "here")}
    first = {name: process.step()[0] for name, process in both.items()}
    error = abs(first["here"] / first["torch"] - 1)
    if error > (1e-4 if dtype == "float32" else 2e-2):
        raise SystemExit(f"losses {first} differ by {error:.1e}: the two sides do not compute the same")
    for _ in range(WARM_UP):
        for process in both.values():
            process.step()
    seconds = {name: [] for name in both}
    for _ in range(rounds):
        for name, process in both.items():
            process.step()
            seconds[name] += [process.step()[1] for _ in range(TURN)]
    middle = {
        name: Spent(*map(statistics.median, zip(*values, strict=True))) for name, values in seconds.items()
    }
    memory = {name: process.end() for name, process in both.items()}
    lora = LoraConfig(rank=RANK, alpha=float(RANK)) if mode == "lora" else None
    count = SIDE**2 // 4
    work = rows * flops.transformer_row(dataclasses.replace(CONFIG, lora=lora), TEXT + 2 * count, 1 + count)
    peak = product_speed(dtype)
    print(f"{mode} {dtype}, batch {rows}, {rounds} turns of {TURN}: first losses differ by {error:.1e}")
    for name, median in middle.items():
        least, most = (end(seconds[name]).wall for end in (min, max))
        line = f"  {name:6} {median.wall:7.3f} s/step ({least:.3f} to {most:.3f})"
        rate = f"{rows / median.wall:6.3f} samples/s  MFU {work / median.wall / peak:.0%}"
        print(f"{line}, {median.processor:.3f} of processor time  {rate}  peak {memory[name]:.2f} GB")
    ratios = (theirs / ours for theirs, ours in zip(middle["torch"], middle["here"], strict=True))
    print("  ratio  {:.2f}, of processor time {:.2f}".format(*ratios), flush=True)


def demo_side(kind: str, **changes) -> Here:
    """The demo model's step at 128 px, without the VAE.

    kind: plain (default XLA flags, plain attention, no other tuning), ours (16 rows), draws
    (configs/demo.py), lora (the same with an adapter).
    changes: of the tuning that `Tuning.choose` gives for one device of this machine.
    """
    from ditfuse_jax.training.config import load

    config = load(Path(__file__).parents[1] / "configs" / "demo.py")
    rows, draws = (config.batch_size, config.draws) if kind in ("draws", "lora") else (16, 1)
    tuning = Tuning.choose(jax.default_backend(), 1)
    tuning = Tuning(attention="plain") if kind == "plain" else dataclasses.replace(tuning, **changes)
    inputs = make_inputs(rows, 16, config.model.latent_channels)
    if draws > 1:
        rng, shape = np.random.default_rng(1), inputs.x_0.shape
        noise = rng.standard_normal((rows, draws, *shape[1:])).astype(np.float32)
        inputs = inputs._replace(x_0=noise, t=rng.uniform(0.1, 0.9, (rows, draws)).astype(np.float32))
    graph = Transformer(config.model, rngs=nnx.Rngs(0))
    base = {name: np.asarray(leaf[...]) for name, leaf in flatten(graph).items()}
    adapter = LoraConfig(rank=RANK, alpha=float(RANK)) if kind == "lora" else None
    cfg = dataclasses.replace(config.model, lora=adapter)
    return Here(cfg, base, inputs, cfg.dtype, tuning)


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
