# SPDX-License-Identifier: Apache-2.0
"""Matrix products against their plain forms, forward and backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.ops.products import (
    exact_products,
    matmul,
    plain_product,
    product,
)

ATOL = 1e-5  # the same float32 sums in another order


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes]


def assert_same(function, plain, operands, *, atol=ATOL):
    """Output and gradients of `function` are those of `plain`."""

    def run(function):
        y, backward = jax.vjp(function, *operands)
        return y, *backward(arrays(y.shape)[0])

    for ours, wanted in zip(jax.jit(lambda: run(function))(), run(plain), strict=True):
        assert np.abs(wanted).max() > 0.1
        assert ours.dtype == wanted.dtype
        np.testing.assert_allclose(ours, wanted, atol=atol)


def test_matmul_over_any_leading_axes():
    operands = arrays((2, 5, 24), (24, 40))
    assert_same(lambda x, kernel: matmul(x, kernel, "float32"), jnp.matmul, operands)


def test_a_frozen_kernel_costs_no_gradient():
    x, kernel = arrays((50, 24), (24, 40))

    def flops(argnums):
        grad = jax.grad(lambda *operands: matmul(*operands, "float32").sum(), argnums)
        return jax.jit(grad).lower(x, kernel).compile().cost_analysis()["flops"]

    assert flops((0, 1)) - flops((0,)) > 1.9 * 50 * 24 * 40


@pytest.mark.parametrize("spec", ["ti,io->to", "bmtk,bmsk->bmts"])
def test_product_in_float32_and_in_bfloat16(spec):
    operands = arrays((2, 3), (3, 4)) if spec == "ti,io->to" else arrays((2, 2, 5, 3), (2, 2, 4, 3))
    assert_same(lambda a, b: product(spec, a, b, "float32"), functools.partial(jnp.einsum, spec), operands)
    low = functools.partial(plain_product, spec, dtype="bfloat16")
    # the cotangent is rounded too: 2 ** -8 of a sum of a few normal numbers
    assert_same(lambda a, b: product(spec, a, b, "bfloat16"), low, operands, atol=0.05)


def test_products_of_bfloat16_are_formed_in_bfloat16_backward_too():
    a, b = arrays((2, 3), (3, 4))
    text = jax.jit(jax.grad(lambda a: product("ti,io->to", a, b, "bfloat16").sum())).lower(a).as_text()
    dots = [line for line in text.splitlines() if "dot_general" in line]
    assert dots
    assert all(line.count("xbf16>") == 2 for line in dots), dots


def test_exact_products_ask_for_all_bits():
    a, b = arrays((2, 3), (3, 4))
    assert "HIGHEST" in jax.jit(exact_products(jnp.matmul)).lower(a, b).as_text()
    assert "HIGHEST" not in jax.jit(jnp.matmul).lower(a, b).as_text()
