# SPDX-License-Identifier: Apache-2.0
"""Attention by the accelerators' own kernels, through JAX's public functions.

cuDNN's flash attention (GPU) takes one run of keys per row. Splash attention (TPU, Pallas) takes any mask and
skips the blocks of it that are empty. A kernel is used where a small case of it, run once on this very
device, equals the reference.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np

from ditfuse_jax.ops.plain import plain_attention

KERNELS = {"cudnn": "gpu", "splash": "tpu"}  # and the backend that has it
LANES = 128  # of a TPU register: splash wants multiples of it
TOLERANCE = 2e-2  # relative L2 error of the small case; bfloat16 has 8 bits
FAILURES = (ValueError, TypeError, RuntimeError, NotImplementedError)  # of tracing, compiling and running


def one_run_attention(q, k, v, mask, *, run: int, implementation: str = "cudnn") -> jax.Array:
    """`plain_attention` where all queries from number `run` on see the same run of keys.

    The few queries before it take the plain form. The run is brought to the front of the keys, so that its
    length is the whole mask.

    Args: implementation: of `jax.nn.dot_product_attention`, "cudnn" or "xla".
    """
    few = plain_attention(q[:, :run], k, v, mask[:, :run])
    seen = mask[:, run]  # [B, S]
    order = (jnp.arange(k.shape[1])[None, :] + jnp.argmax(seen, axis=1)[:, None]) % k.shape[1]
    k, v = (jnp.take_along_axis(x, order[:, :, None, None], axis=1) for x in (k, v))
    lengths = seen.sum(axis=1, dtype=jnp.int32)
    many = jax.nn.dot_product_attention(
        q[:, run:], k, v, key_value_seq_lengths=lengths, implementation=implementation
    )
    return jnp.concatenate([few, many.astype(jnp.float32)], axis=1)


def splash_attention(q, k, v, mask, *, interpret: bool = False) -> jax.Array:
    """`plain_attention` by the block-sparse kernel; interpret: on any backend, slowly, for tests."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash  # a second, for TPUs alone

    length, keys, width = q.shape[1], k.shape[1], q.shape[3]
    q = q * jnp.asarray(width**-0.5, q.dtype)
    q, k, v = (_heads_first(x) for x in (q, k, v))  # [B, N, T, K], padded to whole lanes
    mask = jnp.pad(mask, ((0, 0), (0, q.shape[2] - length), (0, k.shape[2] - keys)))
    mask = mask.at[:, length:, 0].set(True)  # a query that sees nothing would be NaN
    sizes = {name: LANES for name in ("block_q", "block_kv", "block_kv_compute", "block_q_dkv")}
    sizes |= {name: LANES for name in ("block_kv_dkv", "block_kv_dkv_compute", "block_q_dq", "block_kv_dq")}

    def row(q, k, v, mask):
        heads = jnp.broadcast_to(mask, (q.shape[0], *mask.shape))
        blocks = splash.BlockSizes(**sizes)
        kernel = splash.make_splash_mha_single_device(mask=heads, block_sizes=blocks, interpret=interpret)
        # In a compiled program the flag became an array, of which the kernel asks a Python bool.
        kernel.fwd_mask_info = kernel.fwd_mask_info._replace(is_dynamic_mask=True)
        return kernel(q, k, v)

    y = jax.vmap(row)(q, k, v, mask)
    return y.transpose(0, 2, 1, 3)[:, :length, :, :width].astype(jnp.float32)


def _heads_first(x: jax.Array) -> jax.Array:
    """[B, T, N, K] -> [B, N, T', K'] with zeros up to multiples of LANES."""
    length, width = -x.shape[1] % LANES, -x.shape[3] % LANES
    return jnp.pad(x, ((0, 0), (0, length), (0, 0), (0, width))).transpose(0, 2, 1, 3)


@functools.cache
def usable(kernel: str, dtype: str, width: int) -> bool:
    """Whether a kernel can be used on this backend for heads of `width`; the log says why not, once."""
    if why := _refusal(kernel, dtype, width):
        logging.getLogger(__name__).warning("attention by %s: %s; blocks of scores instead", kernel, why)
    return not why


def _refusal(kernel: str, dtype: str, width: int) -> str:
    """Why not; empty where the small case is right."""
    if jax.default_backend() != KERNELS[kernel]:
        return f"needs a {KERNELS[kernel]}, and this is a {jax.default_backend()}"
    if kernel == "cudnn" and dtype == "float32":
        return "takes bfloat16 alone, and the model computes in float32"
    try:
        with jax.ensure_compile_time_eval():
            error = small_case(kernel, dtype, width)
    except FAILURES as problem:
        return str(problem).partition("\n")[0]
    return "" if error < TOLERANCE else f"is wrong on a small case, by {error:.1e}"


def small_case(kernel: str, dtype: str, width: int, **options) -> float:
    """Relative L2 error of 1 + 150 queries of two heads over 160 keys, in two rows, one of them padded."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, n, 2, width)), dtype) for n in (151, 160, 160))
    key = np.arange(160)[None, None, :]
    until = np.array([[90] + [150] * 150, [80] + [160] * 150])[:, :, None]
    mask = jnp.asarray((key >= np.array([0, 5])[:, None, None]) & (key < until))
    if kernel == "cudnn":
        options = {"run": 1, **options}
    function = {"cudnn": one_run_attention, "splash": splash_attention}[kernel]
    got, want = function(q, k, v, mask, **options), plain_attention(q, k, v, mask)
    return float(jnp.linalg.norm(got - want) / jnp.linalg.norm(want))
