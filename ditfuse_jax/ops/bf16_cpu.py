# SPDX-License-Identifier: Apache-2.0
"""bfloat16 products on CPU, in the one form that XLA:CPU multiplies in bfloat16.

XLA:CPU leaves a product of bfloat16 operands to a library (YNNPACK) where both lie row-major and the first
one has its contracted axis last. It computes all others in float32. It decides so early in compiling. A
later pass may fold a transpose, of an operand or of the result, into a product that was left to the
library, which then refuses it: the program ends with "Unsupported element type for DotThunk::Execute: BF16
x BF16 = F32". Behind the barriers here a product keeps its form. Source: openxla/xla of jaxlib 0.10,
xla/service/cpu/cpu_compiler.cc (`upcaster_filter`, then `TransposeFolding`),
xla/backends/cpu/ynn_support.cc (`IsDotSupportedByYnn`).
"""

import jax
import jax.numpy as jnp


def row_major_product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """`einsum(spec, a, b)` of bfloat16 operands, float32.

    The last two axes of operands and result are those of a matrix; the axes before them are the same in all
    three. What has to be transposed in memory is the smaller operand.
    """
    inputs, out = spec.split("->")
    first, second = inputs.split(",")
    if out[-2] in second:
        return row_major_product(f"{second},{first}->{out}", b, a)
    if first[-1] in out:  # the contracted axis is not the last one
        if a.size > b.size:  # (A.T B).T = B.T A
            return _swapped(row_major_product(f"{second},{first}->{_swapped_name(out)}", b, a))
        first, a = _swapped_name(first), _swapped(a)
    a, b = _row_major(a), _row_major(b)
    y = jnp.einsum(f"{first},{second}->{out}", a, b, preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(y)


def _row_major(x: jax.Array) -> jax.Array:
    """x [...] in memory, with a shape of which XLA knows no transpose: only a reshape forgets the layout."""
    return jax.lax.optimization_barrier(x[None]).reshape(x.shape)


def _swapped(x: jax.Array) -> jax.Array:
    return jnp.swapaxes(x, -1, -2)


def _swapped_name(axes: str) -> str:
    return axes[:-2] + axes[-1] + axes[-2]
