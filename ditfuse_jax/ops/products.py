# SPDX-License-Identifier: Apache-2.0
"""Matrix products: operands in the compute dtype, sums in float32, forward and backward.

Each has a plain form beside it, `plain_*`, that says what it computes and lets JAX find the gradient.
"""

import functools

import jax
import jax.numpy as jnp

from ditfuse_jax.ops.tuning import PORTABLE, Tuning

NARROW = 8  # times narrower than the other side: a low-rank kernel


def exact_products(function):
    """`function` with real float32 products on accelerators, which by default take TF32 or bfloat16 for them.

    To be traced. Products of bfloat16 operands, and all products on CPU, are the same with and without.
    """

    @functools.wraps(function)  # jit finds static arguments by the wrapped signature
    def exact(*args, **kwargs):
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return exact


def plain_product(spec: str, a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
    """`einsum(spec, a, b)` multiplied in `dtype`, accumulated and returned in float32."""
    return jnp.einsum(spec, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def product(spec: str, a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
    """`plain_product` whose gradients are products in `dtype` too.

    JAX would multiply the float32 cotangent with the bfloat16 operand in float32, which takes twice as long.
    Each index of an operand must stand in the other one or in the result.
    """
    return plain_product(spec, a, b, dtype)


def _forward(spec, a, b, dtype):
    return product(spec, a, b, dtype), (a, b)


def _backward(spec, dtype, operands, cotangent):
    a, b = operands
    inputs, out = spec.split("->")
    first, second = inputs.split(",")
    da = product(f"{out},{second}->{first}", cotangent, b, dtype)
    db = product(f"{first},{out}->{second}", a, cotangent, dtype)
    return da.astype(a.dtype), db.astype(b.dtype)


product.defvjp(_forward, _backward)


def matmul(x: jax.Array, kernel: jax.Array, dtype: str, tuning: Tuning = PORTABLE) -> jax.Array:
    """x [..., in] @ kernel [in, out], multiplied in `dtype`, accumulated and returned in float32."""
    y = _matmul(x.reshape(-1, x.shape[-1]), kernel, dtype, tuning)
    return y.reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _matmul(x, kernel, dtype, tuning):
    return product("ti,io->to", x, kernel, dtype)


def _matmul_forward(x, kernel, dtype, tuning):
    return _matmul(x, kernel, dtype, tuning), (x, kernel)


def _matmul_backward(dtype, tuning, operands, dy):
    x, kernel = operands
    dx = product("to,io->ti", dy, kernel, dtype).astype(x.dtype)
    return dx, _kernel_gradient(x, dy, dtype, tuning).astype(kernel.dtype)


_matmul.defvjp(_matmul_forward, _matmul_backward)


def plain_adapted(x: jax.Array, kernel: jax.Array, low: jax.Array, up: jax.Array, dtype: str) -> jax.Array:
    """x [..., in] @ kernel [in, out] + low [..., r] @ up [r, out], float32."""
    return plain_product("...i,io->...o", x, kernel, dtype) + plain_product("...r,ro->...o", low, up, dtype)


def adapted(
    x: jax.Array, kernel: jax.Array, low: jax.Array, up: jax.Array, dtype: str, tuning: Tuning
) -> jax.Array:
    """`plain_adapted` as two products, or as one with [x, low] and [kernel; up] joined.

    One is for XLA:CPU, which is slow at narrow products and copies a layer's kernel out of the stack anyway.
    """
    if not tuning.joins_adapter:
        return matmul(x, kernel, dtype, tuning) + matmul(low, up, dtype, tuning)
    y = _joined(x.reshape(-1, x.shape[-1]), kernel, low.reshape(-1, low.shape[-1]), up, dtype, tuning)
    return y.reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _joined(x, kernel, low, up, dtype, tuning):
    return product("ti,io->to", _join(x, low, dtype, axis=1), _join(kernel, up, dtype, axis=0), dtype)


def _joined_forward(x, kernel, low, up, dtype, tuning):
    return _joined(x, kernel, low, up, dtype, tuning), (x, kernel, low, up)


def _joined_backward(dtype, tuning, operands, dy):
    x, kernel, low, up = operands
    both = product("to,io->ti", dy, _join(kernel, up, dtype, axis=0), dtype)
    dkernel, dup = (_kernel_gradient(part, dy, dtype, tuning) for part in (x, low))
    grads = (both[:, : x.shape[1]], dkernel, both[:, x.shape[1] :], dup)
    return tuple(grad.astype(part.dtype) for grad, part in zip(grads, operands, strict=True))


_joined.defvjp(_joined_forward, _joined_backward)


def _join(a, b, dtype: str, *, axis: int):
    return jnp.concatenate([a.astype(dtype), b.astype(dtype)], axis=axis)


def _kernel_gradient(x, dy, dtype: str, tuning: Tuning):
    """x.T @ dy, float32 [in, out], for x [T, in] and dy [T, out].

    XLA:CPU reads a transposed operand at half its speed. Where one operand is narrow, a transposed copy of
    it costs little, and the product is formed so that the wide one is read as it is.
    """
    num_in, num_out = x.shape[1], dy.shape[1]
    if not tuning.copies_narrow or max(num_in, num_out) < NARROW * min(num_in, num_out):
        return product("ti,to->io", x, dy, dtype)
    if num_out < num_in:
        return _transposed(product("ot,ti->oi", _transposed(dy), x, dtype))
    return product("it,to->io", _transposed(x), dy, dtype)


def _transposed(x):
    """Its transpose, in memory: XLA would fold a plain one into a product."""
    return jax.lax.optimization_barrier(x.T)


def plain_scaled(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x [..., D] * scale [D], float32."""
    return x * jnp.broadcast_to(scale, x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def scaled(x: jax.Array, scale: jax.Array, tuning: Tuning = PORTABLE) -> jax.Array:
    """`plain_scaled`; the gradient of the scale is a sum of rows, or a product with ones."""
    return plain_scaled(x, scale)


def _scaled_forward(x, scale, tuning):
    return plain_scaled(x, scale), (x, scale)


def _scaled_backward(tuning, operands, dy):
    x, scale = operands
    rows = (x * dy).reshape(-1, x.shape[-1])
    dscale = (jnp.ones((1, len(rows))) @ rows)[0] if tuning.sums_by_product else rows.sum(axis=0)
    return plain_scaled(dy, scale), dscale


scaled.defvjp(_scaled_forward, _scaled_backward)
