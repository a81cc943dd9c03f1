# SPDX-License-Identifier: Apache-2.0
"""Matrix products: operands in the compute dtype, sums in float32, forward and backward."""

import functools

import jax
import jax.numpy as jnp

from ditfuse_jax.ops.bf16_cpu import row_major_product

NARROW = 8  # times narrower than the other side: a low-rank kernel


def one_cpu() -> bool:
    """Whether all there is is one CPU device, where what costs a copy and what does not is another matter."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def exact_products(function, backend: str | None = None):
    """`function` with real float32 products on accelerators, which by default take TF32 or bf16 for them.

    To be traced. On CPU they are exact as they are. backend: None is the default one while tracing.
    """

    @functools.wraps(function)  # jit finds static arguments by the wrapped signature
    def exact(*args, **kwargs):
        exact_already = (backend or jax.default_backend()) == "cpu"
        with jax.default_matmul_precision(None if exact_already else "highest"):
            return function(*args, **kwargs)

    return exact


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def product(spec: str, a: jax.Array, b: jax.Array, dtype: str) -> jax.Array:
    """`einsum(spec, a, b)` multiplied in `dtype`, accumulated and returned in float32.

    Each index of an operand must stand in the other one or in the result. Without the rule below, JAX would
    multiply
    the float32 cotangent with the bfloat16 operand in float32, which takes twice as long.
    """
    if dtype == "bfloat16" and jax.default_backend() == "cpu":
        return row_major_product(spec, a.astype(dtype), b.astype(dtype))
    return jnp.einsum(spec, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


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


def matmul(x: jax.Array, kernel: jax.Array, dtype: str) -> jax.Array:
    """x [..., in] @ kernel [in, out], multiplied in `dtype`, accumulated and returned in float32."""
    y = _matmul(x.reshape(-1, x.shape[-1]), kernel, dtype)
    return y.reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _matmul(x, kernel, dtype):
    return product("ti,io->to", x, kernel, dtype)


def _matmul_forward(x, kernel, dtype):
    return _matmul(x, kernel, dtype), (x, kernel)


def _matmul_backward(dtype, operands, dy):
    x, kernel = operands
    dx = product("to,io->ti", dy, kernel, dtype).astype(x.dtype)
    return dx, _kernel_gradient(x, dy, dtype).astype(kernel.dtype)


_matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def scaled(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x [..., D] * scale [D], float32.

    The gradient of the scale is a sum of rows, at which XLA:CPU is slower than at a product with ones.
    """
    return x * jnp.broadcast_to(scale, x.shape)


def _scaled_forward(x, scale):
    return scaled(x, scale), (x, scale)


def _scaled_backward(operands, dy):
    x, scale = operands
    each = (x * dy).reshape(-1, x.shape[-1])
    cpu = jax.default_backend() == "cpu"
    dscale = (jnp.ones((1, each.shape[0])) @ each)[0] if cpu else each.sum(axis=0)
    return dy * jnp.broadcast_to(scale, dy.shape), dscale


scaled.defvjp(_scaled_forward, _scaled_backward)


def joined_matmul(x: jax.Array, kernel: jax.Array, low: jax.Array, up: jax.Array, dtype: str) -> jax.Array:
    """x [..., in] @ kernel [in, out] + low [..., r] @ up [r, out] as one product of joined operands.

    For XLA:CPU, which copies a layer's kernel out of the stack in any case and is slow at narrow products.
    """
    y = _joined(x.reshape(-1, x.shape[-1]), kernel, low.reshape(-1, low.shape[-1]), up, dtype)
    return y.reshape(*x.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _joined(x, kernel, low, up, dtype):
    return product("ti,io->to", _join(x, low, dtype, axis=1), _join(kernel, up, dtype, axis=0), dtype)


def _joined_forward(x, kernel, low, up, dtype):
    return _joined(x, kernel, low, up, dtype), (x, kernel, low, up)


def _joined_backward(dtype, operands, dy):
    x, kernel, low, up = operands
    both = product("to,io->ti", dy, _join(kernel, up, dtype, axis=0), dtype)
    dkernel, dup = (_kernel_gradient(part, dy, dtype) for part in (x, low))
    grads = (both[:, : x.shape[1]], dkernel, both[:, x.shape[1] :], dup)
    return tuple(grad.astype(part.dtype) for grad, part in zip(grads, operands, strict=True))


_joined.defvjp(_joined_forward, _joined_backward)


def _join(a, b, dtype: str, *, axis: int):
    return jnp.concatenate([a.astype(dtype), b.astype(dtype)], axis=axis)


def _kernel_gradient(x, dy, dtype: str):
    """x.T @ dy, float32 [in, out], for x [T, in] and dy [T, out]."""
    num_in, num_out = x.shape[1], dy.shape[1]
    if jax.default_backend() != "cpu" or max(num_in, num_out) < NARROW * min(num_in, num_out):
        return product("ti,to->io", x, dy, dtype)
    # XLA:CPU multiplies x [T, in], transposed as it stands, at half its speed; the narrow one is soon copied.
    if num_out < num_in:
        return _transposed(_product_of_transposed(dy, x, dtype))
    return _product_of_transposed(x, dy, dtype)


def _product_of_transposed(narrow, wide, dtype: str):
    """narrow.T @ wide, with narrow transposed in memory first."""
    return product("nt,tw->nw", _transposed(narrow), wide, dtype)


def _transposed(x):
    """Its transpose, in memory: XLA would fold a plain one into a product."""
    return jax.lax.optimization_barrier(x.T)
