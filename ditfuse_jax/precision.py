# SPDX-License-Identifier: Apache-2.0
"""The one matrix product: operands in the compute dtype, sums in float32, forward and backward."""

import functools

import jax
import jax.numpy as jnp


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
