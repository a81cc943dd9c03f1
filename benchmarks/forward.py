# SPDX-License-Identifier: Apache-2.0
"""Speed of the core against the matmul peak of the same machine, in the same run with the same shapes.

    python benchmarks/forward.py [--dtype float32 bfloat16] [--repeats 5]

The 192 M model (width 1024, 12 layers, 16 heads, MLP 2816), a 256 x 256 target and two 256 x 256 sources:
`prefix()`, one three-branch `velocity()`, and one AdamW training step. GFLOP/s count matrix products only
(linear layers and attention); the peak is the same linear layers alone. Repeats alternate between the peak
and the model, and medians are printed.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ditfuse_jax.config import TransformerConfig
from ditfuse_jax.models import flow
from ditfuse_jax.models.omnigen import Patches, Transformer, patchify, row_length
from ditfuse_jax.ops.attention import attention
from ditfuse_jax.ops.products import matmul
from ditfuse_jax.ops.tuning import Tuning
from ditfuse_jax.prompt import Prompt

TEXT, SIDE, BRANCHES = 120, 32, 3  # text tokens; latent side of 256 px; guidance branches


def model_config(dtype: str) -> TransformerConfig:
    sizes = {"width": 1024, "mlp_width": 2816, "num_layers": 12, "num_heads": 16, "num_kv_heads": 16}
    return TransformerConfig(vocab_size=32064, dtype=dtype, **sizes)


def inputs(rows: int):
    """A prompt of TEXT words and two source slots, the sources, a target, and its settings."""
    patches = (SIDE // 2) ** 2
    length = TEXT + 2 * patches
    visible = np.arange(1, length + 1, dtype=np.int32)
    slots = np.array([[20, 20 + patches], [30 + patches, 30 + 2 * patches]], np.int32)
    for start, stop in slots:
        visible[start:stop] = stop
    tile = functools.partial(np.tile, reps=(rows, 1))
    positions = np.arange(length, dtype=np.int32)
    prompt = Prompt(
        tile(positions % 1000),
        tile(positions),
        tile(visible),
        np.zeros(rows, np.int32),
        np.tile(slots, (rows, 1, 1)),
    )
    latents = jax.random.normal(jax.random.key(0), (3, rows, SIDE, SIDE, 4))
    first, second, target = (patchify(image) for image in latents)
    sources = Patches(*(jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))
    num_target = np.full(rows, patches, np.int32)
    shape = {"num_target": num_target, "rope_length": row_length(prompt, num_target)}
    return prompt, sources, target, shape


def linear_flops(cfg: TransformerConfig, rows: int) -> float:
    """Multiply-adds times two of all blocks' linear layers on `rows` tokens."""
    return 2.0 * rows * cfg.num_layers * (4 * cfg.width**2 + 3 * cfg.width * cfg.mlp_width)


def attention_flops(cfg: TransformerConfig, batch: int, queries: int, keys: int) -> float:
    return 4.0 * batch * queries * keys * cfg.width * cfg.num_layers


def peak_run(cfg: TransformerConfig, rows: int, dtype: str):
    """Nothing but the four products of a block, num_layers times, on `rows` tokens, one after the other."""
    shapes = [
        (cfg.width, 3 * cfg.width),
        (cfg.width, cfg.width),
        (cfg.width, 2 * cfg.mlp_width),
        (cfg.mlp_width, cfg.width),
    ]
    kernels = [jnp.full(shape, 1e-3, dtype) for shape in shapes]

    def chain(x, kernels):
        def block(_, x):
            for kernel in kernels:
                x = matmul(x[:, : kernel.shape[0]], kernel, dtype)
            return x.astype(dtype)

        return jax.lax.fori_loop(0, cfg.num_layers, block, x)

    x = jnp.ones((rows, cfg.width), dtype)
    program, _ = compiled(chain, x, kernels)
    return lambda: program(x, kernels)


def attention_run(cfg: TransformerConfig, batch: int, queries: int, keys: int):
    """All layers' attention alone, each on the output of the one before."""
    shape = (cfg.num_heads, cfg.head_dim)
    q = jnp.ones((batch, queries, *shape), cfg.dtype)
    k = v = jnp.ones((batch, keys, *shape), cfg.dtype)
    mask = jnp.ones((batch, queries, keys), bool)

    def chain(q, k, v, mask):
        def layer(_, q):
            return attention(q, k, v, mask, tuning=here()).astype(q.dtype)

        return jax.lax.fori_loop(0, cfg.num_layers, layer, q)

    program, _ = compiled(chain, q, k, v, mask)
    return lambda: program(q, k, v, mask)


def seconds(run) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def compare(name: str, run, attend, peak, flops: float, peak_flops: float, repeats: int, temp: int) -> None:
    """Alternates the runs and prints medians: time, GFLOP/s, share of peak, attention's share of the time."""
    for warm in (run, attend, peak):
        seconds(warm)
    rounds = [(seconds(run), seconds(attend), seconds(peak)) for _ in range(repeats)]
    spent, attending, peaking = (statistics.median(column) for column in zip(*rounds, strict=True))
    share = statistics.median((flops / a) / (peak_flops / c) for a, _, c in rounds)
    print(
        f"{name:<30} {spent:6.3f} s  {flops / spent / 1e9:5.0f} GFLOP/s  "
        f"peak {peak_flops / peaking / 1e9:5.0f}  {share:6.1%} of peak  "
        f"attention alone {attending / spent:6.1%} of the time  memory above weights {temp / 2**20:5.0f} MiB"
    )


def here() -> Tuning:
    return Tuning.choose(jax.default_backend(), 1)


def compiled(function, *arguments, donate=()):
    program = jax.jit(function, donate_argnums=donate, **here().jit_options()).lower(*arguments).compile()
    return program, program.memory_analysis().temp_size_in_bytes


def measure_inference(cfg: TransformerConfig, repeats: int) -> None:
    graph, state = nnx.split(
        Transformer(cfg, tuning=here(), rngs=nnx.Rngs(0), param_dtype=jnp.dtype(cfg.dtype))
    )
    for name, rows in (("prefix(), 1 branch", 1), (f"velocity(), {BRANCHES} branches", BRANCHES)):
        prompt, sources, target, shape = inputs(rows)
        prefix, temp = compiled(
            lambda state, prompt, sources, length: nnx.merge(graph, state).prefix(
                prompt, sources, rope_length=length
            ),
            *(state, prompt, sources, shape["rope_length"]),
        )
        length, queries = prompt.token_ids.shape[1], 1 + target.values.shape[1]
        if rows == 1:
            run = functools.partial(prefix, state, prompt, sources, shape["rope_length"])
            queries = keys = length
        else:
            cache, keys = prefix(state, prompt, sources, shape["rope_length"]), length + queries
            t = jnp.full((rows,), 0.5)
            velocity, temp = compiled(
                lambda state, target, t, cache, prompt, shape: nnx.merge(graph, state).velocity(
                    target, t, cache, prompt, **shape
                ),
                *(state, target, t, cache, prompt, shape),
            )
            run = functools.partial(velocity, state, target, t, cache, prompt, shape)
        linear = linear_flops(cfg, rows * queries)
        flops = linear + attention_flops(cfg, rows, queries, keys)
        attend, peak = attention_run(cfg, rows, queries, keys), peak_run(cfg, rows * queries, cfg.dtype)
        compare(f"{cfg.dtype} {name}", run, attend, peak, flops, linear, repeats, temp)


def measure_training(cfg: TransformerConfig, repeats: int) -> None:
    """One sample; float32 masters and AdamW. Backward counts twice the forward; attention is timed forward
    only.
    """
    graph, params = nnx.split(Transformer(cfg, tuning=here(), rngs=nnx.Rngs(0)))
    optimizer = optax.adamw(1e-4)
    prompt, sources, target, shape = inputs(1)
    x_0, t = jax.random.normal(jax.random.key(1), target.values.shape), jnp.full((1,), 0.5)

    def loss(params):
        x_t = target._replace(values=flow.interpolate(x_0, target.values, t))
        velocity = nnx.merge(graph, params)(prompt, sources, x_t, t, **shape)
        return flow.loss(velocity, x_0, target.values, shape["num_target"]).mean()

    def step(params, moments):
        updates, moments = optimizer.update(jax.grad(loss)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    state = [params, optimizer.init(params)]
    program, temp = compiled(step, *state, donate=(0, 1))

    def run():
        state[:] = program(*state)
        return state

    tokens = prompt.token_ids.shape[1] + 1 + target.values.shape[1]
    linear = linear_flops(cfg, tokens)
    flops = 3 * (linear + attention_flops(cfg, 1, tokens, tokens))
    attend, peak = attention_run(cfg, 1, tokens, tokens), peak_run(cfg, tokens, cfg.dtype)
    compare(f"{cfg.dtype} training step", run, attend, peak, flops, linear, repeats, temp)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {jax.device_count()} x {device.platform} ({device.device_kind})")
    for dtype in args.dtype:
        cfg = model_config(dtype)
        measure_inference(cfg, args.repeats)
        measure_training(cfg, args.repeats)


if __name__ == "__main__":
    main()
