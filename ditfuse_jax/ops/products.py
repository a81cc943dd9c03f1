# SPDX-License-Identifier: Apache-2.0
"""Matrix products: operands in the compute dtype, sums in float32, forward and backward.

A fast form has its plain one beside it, `plain_*`, that says what it computes.
"""

import functools

import jax
import jax.numpy as jnp

from ditfuse_jax.ops.bf16_cpu import row_major_product


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
    # Not a choice, so not in Tuning: XLA:CPU refuses the other forms, see bf16_cpu.
    if dtype == "bfloat16" and jax.default_backend() == "cpu":
        return row_major_product(spec, a.astype(dtype), b.astype(dtype))
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


def matmul(x: jax.Array, kernel: jax.Array, dtype: str) -> jax.Array:
    """x [..., in] @ kernel [in, out], multiplied in `dtype`, accumulated and returned in float32."""
    y = product("ti,io->to", x.reshape(-1, x.shape[-1]), kernel, dtype)
    return y.reshape(*x.shape[:-1], -1)
