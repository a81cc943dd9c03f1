# SPDX-License-Identifier: Apache-2.0
"""bfloat16 products on CPU: each form runs, in bfloat16, and is right."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.ops.products import product

SIZES = {"b": 2, "m": 3, "t": 48, "s": 40, "k": 16, "i": 24, "o": 32}
FORMS = (
    "ti,io->to",  # forward
    "to,io->ti",  # gradient of the input
    "ti,to->io",  # gradient of the kernel
    "to,ti->io",  # the same, named the other way round
    "bmtk,bmsk->bmts",  # scores
    "bmts,bmsk->bmtk",  # weights times values
    "bmts,bmtk->bmsk",  # gradient of the values
)
# Float32 sums in another order, and pairs of products that some processors round before they add them.
RTOL = 1e-5
COARSE = 0.03  # bfloat16 against float32, through three products


def operands(spec: str, *, transposed: bool) -> list[jax.Array]:
    """Float32 arrays of a form; `transposed`: with the last two axes exchanged."""
    keys = jax.random.split(jax.random.key(0))
    names = spec.split("->")[0].split(",")
    shapes = [[SIZES[axis] for axis in (name[:-2] + name[:-3:-1] if transposed else name)] for name in names]
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def turned(x):
    return jnp.swapaxes(x, -1, -2)


@pytest.mark.parametrize("spec", FORMS)
@pytest.mark.parametrize("turns", ["nothing", "operands", "result"])
def test_product_next_to_a_transpose(spec, turns):
    def function(a, b):
        a, b = (turned(a), turned(b)) if turns == "operands" else (a, b)
        y = product(spec, a, b, "bfloat16")
        return turned(y) if turns == "result" else y

    given = operands(spec, transposed=turns == "operands")
    program = jax.jit(function).lower(*given).compile()
    left, right = (np.asarray(x.astype("bfloat16"), np.float64) for x in given)
    if turns == "operands":
        left, right = turned(left), turned(right)
    expected = np.einsum(spec, left, right)
    expected = turned(expected) if turns == "result" else expected
    np.testing.assert_allclose(program(*given), expected, rtol=0, atol=RTOL * np.abs(expected).max())
    assert multiplied_in(program) == multiplied_in(plain_program())


def plain_program():
    """The form that needs no help."""
    shapes = [jax.ShapeDtypeStruct(shape, "bfloat16") for shape in ((48, 24), (24, 32))]
    return jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type="float32")).lower(*shapes).compile()


def multiplied_in(program) -> set[str]:
    """Dtypes of the operands of all products in a compiled program."""
    text = program.as_text()
    dtype = dict(re.findall(r"(?:%|\()([\w.\-]+)(?: =|:) (\w+)\[", text))
    return {dtype[name] for name in re.findall(r" dot\(%?([\w.\-]+)", text)}


def test_gradient_of_a_product_of_a_product():
    def function(dtype):
        def loss(x, low, up):
            return jnp.square(product("ti,io->to", product("ti,io->to", x, low, dtype), up, dtype)).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))

    keys = jax.random.split(jax.random.key(1), 3)
    shapes = [(48, 64), (64, 4), (4, 32)]  # rank 4
    given = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    for found, expected in zip(function("bfloat16")(*given), function("float32")(*given), strict=True):
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=0.03 * abs(expected).max()
        )  # bfloat16: 2**-8
