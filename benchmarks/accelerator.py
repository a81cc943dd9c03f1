# SPDX-License-Identifier: Apache-2.0
"""What this machine does with the model: parity, sampler, LoRA step and loader, printed as one JSON object.

    python benchmarks/accelerator.py                       # tiny on a CPU, else OmniGen-v1's shapes at 512 px
    python benchmarks/accelerator.py --size medium --side 256 --only sampler

Weights are random, pictures those of examples/: nothing is downloaded. A stage that fails says why in its
place, and the exit code is 1. MFU is model FLOPs a second over the dense peak of the device's data sheet
(on a CPU: over the speed of a square product, measured); null where the device is not in the table.
"""

import argparse
import dataclasses
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT / "benchmarks"), str(PROJECT)]

from ditfuse_jax.cli import environment  # noqa: E402

environment.for_fusing()

import jax  # noqa: E402
import jaxlib  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402
from medium import CONFIG as MEDIUM  # noqa: E402

import ditfuse_jax  # noqa: E402
from ditfuse_jax.checkpoints.flat import parameter_shapes  # noqa: E402
from ditfuse_jax.cli.train import on_examples  # noqa: E402
from ditfuse_jax.config import DEMO, LoraConfig, TransformerConfig, VAEConfig  # noqa: E402
from ditfuse_jax.data import mixture  # noqa: E402
from ditfuse_jax.data.config import Bucket  # noqa: E402
from ditfuse_jax.data.loader import make_loader  # noqa: E402
from ditfuse_jax.evaluation.runtime import processor  # noqa: E402
from ditfuse_jax.inference import cost, sampler  # noqa: E402
from ditfuse_jax.inference.network import Network  # noqa: E402
from ditfuse_jax.models import outline  # noqa: E402
from ditfuse_jax.models.flow import Guidance, branches  # noqa: E402
from ditfuse_jax.models.omnigen import Transformer  # noqa: E402
from ditfuse_jax.ops.tuning import Tuning  # noqa: E402
from ditfuse_jax.prompt import load_tokenizer, render  # noqa: E402
from ditfuse_jax.training import flops, initial, sharding, step  # noqa: E402
from ditfuse_jax.training.config import TrainConfig, load  # noqa: E402

GUIDANCE = Guidance(2.0, 1.6)  # three branches
PARITY_STEPS, WARM_UP = 2, 2


class Size(NamedTuple):
    model: TransformerConfig
    vae: VAEConfig
    side: int  # pixels
    dtype: str


SIZES = {
    "tiny": Size(TransformerConfig.tiny(vocab_size=1280), VAEConfig.tiny(scaling_factor=1.0), 64, "float32"),
    "medium": Size(MEDIUM, VAEConfig.tiny(scaling_factor=1.0), 256, "bfloat16"),
    "omnigen": Size(TransformerConfig.omnigen_v1(remat="block"), VAEConfig.sdxl(), 512, "bfloat16"),
}


def weights(cfg: TransformerConfig, device: jax.Device) -> nnx.State:
    """Random ones in the compute dtype, made on the device; none is zero, in the last layer neither."""

    def make():
        params = nnx.split(Transformer(cfg, rngs=nnx.Rngs(0)))[1]
        keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
        noisy = jax.tree.map(lambda x: x + 0.02 * jax.random.normal(next(keys), x.shape), params)
        return jax.tree.map(lambda x: x.astype(cfg.dtype), noisy)

    quick = {"xla_backend_optimization_level": 0} if device.platform == "cpu" else None
    with jax.default_device(device):
        return jax.jit(make, compiler_options=quick)()


def network(cfg: TransformerConfig, params: nnx.State, tuning: Tuning) -> Network:
    return Network(nnx.split(outline.transformer(cfg, tuning=tuning))[0], params, tuning)


def rows(size: Size) -> tuple[sampler.Layout, list[np.ndarray]]:
    """The three branches of one random pair, and its noise."""
    rng, cells = np.random.default_rng(0), size.side // size.vae.factor
    shape = (cells, cells, size.model.latent_channels)
    row = sampler.Row(render("Fuse both images."), rng.standard_normal((2, *shape)).astype(np.float32))
    layout = sampler.layout([row], branches(GUIDANCE), load_tokenizer(DEMO))
    return layout, [rng.standard_normal(shape).astype(np.float32)]


def parity() -> dict:
    """Latents of a tiny model after two steps, against plain attention in float32 on this machine's CPU."""
    size = SIZES["tiny"]
    layout, noise = rows(size)

    cpu, here = jax.devices("cpu")[0], jax.devices()[0]
    params = weights(size.model, cpu)

    def latents(device, tuning, dtype="float32"):
        cfg = dataclasses.replace(size.model, dtype=dtype)
        with jax.default_device(device):
            own = jax.device_put(jax.tree.map(lambda x: x.astype(dtype), params), device)
            net = network(cfg, own, tuning)
            cache = sampler.prefix(net, layout)
            made = sampler.sample(net, cache, layout, [noise], guidance=GUIDANCE, steps=PARITY_STEPS)
        return made[0] - noise[0]

    tuning = Tuning.choose(jax.default_backend(), 1)
    exact = latents(cpu, Tuning(attention="plain"))

    def error(made):
        return float(np.linalg.norm(made - exact) / np.linalg.norm(exact))

    found = {dtype: error(latents(here, tuning, dtype)) for dtype in ("float32", "bfloat16")}
    return {"relative_l2_error": found, "passed": found["float32"] < 1e-4 and found["bfloat16"] < 5e-2}


def seconds(run: Callable[[], object], times: int) -> float:
    """The median of some runs after a warm-up; each waits for its result."""
    taken = []
    for _ in range(WARM_UP + times):
        start = time.perf_counter()
        jax.block_until_ready(run())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[WARM_UP:])


def share(work: float, took: float, dtype: str) -> float | None:
    """MFU of one device."""
    peak = flops.peak(dtype) / (jax.device_count() if jax.default_backend() != "cpu" else 1)
    return work / took / peak if peak else None


def sample(size: Size, times: int) -> dict:
    """One pair, three branches: the prefix, and a step."""
    cfg = size.model
    layout, noise = rows(size)
    net = network(cfg, weights(cfg, jax.devices()[0]), Tuning.choose(jax.default_backend(), 1))
    first = time.perf_counter()
    cache = jax.block_until_ready(sampler.prefix(net, layout))
    compiled = time.perf_counter() - first
    prefix = seconds(lambda: sampler.prefix(net, layout), times)
    took = seconds(lambda: sampler.sample(net, cache, layout, [noise], guidance=GUIDANCE, steps=1)[0], times)
    counts = [
        (layout.prompt.token_ids.shape[1] - int(padding), 1 + int(new))
        for padding, new in zip(layout.prompt.num_padding, layout.num_target, strict=True)
    ]
    whole, start = (sum(cost.transformer_flops(cfg, *each, passes=n) for each in counts) for n in (1, 0))
    return {
        "tokens": {name: each for name, each in zip(branches(GUIDANCE), counts, strict=True)},
        "first_prefix_s": compiled,
        "prefix_s": prefix,
        "prefix_mfu": share(start, prefix, cfg.dtype),
        "step_s": took,
        "step_mfu": share(whole - start, took, cfg.dtype),
        "picture_of_50_steps_s": prefix + 50 * took,
    }


def training(size: Size, batch_size: int) -> TrainConfig:
    """The paper's LoRA on M3 of the pictures in examples/."""
    config = on_examples(load(PROJECT / "configs" / "smoke.py"))
    lora = LoraConfig(rank=min(64, size.model.width), alpha=64.0)
    buckets = (Bucket(height=size.side, width=size.side),)
    return dataclasses.replace(
        config,
        name="accelerator",
        model=dataclasses.replace(size.model, lora=lora),
        vae=size.vae,
        mixture=dataclasses.replace(config.mixture, buckets=buckets),
        batch_size=batch_size,
        frozen_dtype=size.dtype,
    )


def stream(config: TrainConfig):
    examples = mixture.resolve(config.mixture, PROJECT / "examples")
    return make_loader(examples, load_tokenizer(DEMO), batch_size=config.batch_size, workers=config.workers)


def load_batches(size: Size, batch_size: int, times: int) -> dict:
    """Rows a second that the pipeline makes on one core, with nothing else to do."""
    config = training(size, batch_size)
    with stream(config) as loader:
        next(loader)
        start = time.perf_counter()
        for _ in range(times):
            next(loader)
        return {"rows_per_s": batch_size * times / (time.perf_counter() - start)}


def train(size: Size, batch_size: int, times: int) -> dict:
    """The whole LoRA step of train.py, the frozen autoencoder with it; MFU counts the transformer alone."""
    config, mesh = training(size, batch_size), sharding.make_mesh(sharding.parse_mesh(""))
    tuning = Tuning.choose(jax.default_backend(), 1)
    params, frozen = initial.random_params(config, *step.shapes(config), mesh)
    state = step.new_state(params, config, mesh)
    with stream(config) as loader:
        rows = next(loader)
    batch = sharding.put_batch(rows, batch_size, mesh)
    stop = sharding.put_batch(np.zeros(batch_size, bool), batch_size, mesh)
    losses = []

    def once():
        nonlocal state
        state, metrics = step.train_step(state, frozen, batch, stop, config=config, tuning=tuning)
        losses.append(metrics.loss)
        return metrics

    took = seconds(once, times)
    work = batch_size * flops.row_flops(config, rows)
    return {
        "batch": batch_size,
        "step_s": took,
        "rows_per_s": batch_size / took,
        "mfu": share(work, took, config.model.dtype),
        "losses": [float(losses[0]), float(losses[-1])],
        "passed": bool(np.isfinite(losses).all()),
    }


def memory() -> dict:
    """Peaks so far, in GB: of the device where it says so, and of this process."""
    stats = jax.devices()[0].memory_stats() or {}
    found = {"device_gb": stats["peak_bytes_in_use"] / 1e9} if "peak_bytes_in_use" in stats else {}
    status = Path("/proc/self/status")
    if status.is_file():
        found["process_gb"] = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e9
    return found


def machine() -> dict:
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "count": jax.device_count(),
        "processor": processor(),
        "versions": {
            "ditfuse_jax": ditfuse_jax.__version__,
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
        },
    }


def measure(name: str, size: Size, *, only: list[str], batch_size: int, times: int) -> dict:
    """All that is printed; a stage that fails leaves its reason."""
    stages = {
        "parity": parity,
        "sampler": lambda: sample(size, times),
        "training": lambda: train(size, batch_size, times),
        "loader": lambda: load_batches(size, batch_size, times),
    }
    count = sum(x.size for x in parameter_shapes(outline.transformer(size.model)).values())
    settings = {"size": name, "parameters": count, "side": size.side, "dtype": size.dtype}
    found = {
        "device": machine(),
        "settings": settings | {"tuning": dataclasses.asdict(Tuning.choose(jax.default_backend(), 1))},
    }
    for stage in only:
        try:
            found[stage] = stages[stage]() | {"memory": memory()}
        except (ValueError, RuntimeError, NotImplementedError) as error:  # such as: out of device memory
            found[stage] = {"failed": str(error).splitlines()[0], "passed": False}
    found["passed"] = all(found[stage].get("passed", True) for stage in only)
    return found


STAGES = ("parity", "sampler", "training", "loader")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = "tiny" if jax.default_backend() == "cpu" else "omnigen"
    parser.add_argument("--size", choices=SIZES, default=default)
    parser.add_argument("--side", type=int, help="pixels; default: 64, 256, 512 of the three sizes")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: float32 for tiny")
    parser.add_argument("--batch", type=int, default=1, help="rows of a training step")
    parser.add_argument("--times", type=int, default=5, help="timed runs of each stage; medians are printed")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    flags = parser.parse_args(arguments)
    size = SIZES[flags.size]
    dtype = flags.dtype or size.dtype
    size = size._replace(
        side=flags.side or size.side, dtype=dtype, model=dataclasses.replace(size.model, dtype=dtype)
    )
    found = measure(flags.size, size, only=flags.only, batch_size=flags.batch, times=flags.times)
    print(json.dumps(found, indent=1))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
