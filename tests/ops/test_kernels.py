# SPDX-License-Identifier: Apache-2.0
"""The accelerators' attention against the plain one: by XLA in cuDNN's place, and Pallas interpreted.

cuDNN and a TPU are not here: the kernels themselves are not run by these tests.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditfuse_jax.ops import kernels
from ditfuse_jax.ops.attention import attention
from ditfuse_jax.ops.plain import plain_attention
from ditfuse_jax.ops.tuning import Tuning

ONE_RUN = functools.partial(kernels.one_run_attention, run=1, implementation="xla")
SPLASH = functools.partial(kernels.splash_attention, interpret=True)


@pytest.fixture(autouse=True)
def forget():
    yield
    kernels.usable.cache_clear()


def case(*, dtype="float32"):
    """q [2, 6, 4, 8], k and v [2, 9, 2, 8]; row 2 has two keys of padding, the first query sees less."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, n, m, 8)), dtype) for n, m in ((6, 4), (9, 2), (9, 2)))
    key, until = np.arange(9)[None, None, :], np.array([[5, *[9] * 5], [5, *[7] * 5]])[:, :, None]
    return q, k, v, jnp.asarray((key >= np.array([0, 2])[:, None, None]) & (key < until))


def assert_same(function, atol):
    """Values and gradients."""
    *arrays, mask = case()

    def run(function):
        y, backward = jax.vjp(lambda *qkv: function(*qkv, mask), *arrays)
        return y, *backward(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    for ours, plain in zip(jax.jit(run, static_argnums=0)(function), run(plain_attention), strict=True):
        assert np.abs(plain).max() > 0.1
        np.testing.assert_allclose(ours, plain, atol=atol)


@pytest.mark.parametrize("function", [ONE_RUN, SPLASH], ids=["one run", "splash"])
def test_kernels_equal_plain_attention(function):
    assert_same(function, atol=1e-5)  # the same float32 sums in another order


def test_the_small_case_finds_a_kernel_right_and_a_wrong_one_wrong(monkeypatch):
    right = functools.partial(kernels.small_case, "cudnn", "bfloat16", 16, implementation="xla")
    assert right() < kernels.TOLERANCE
    monkeypatch.setattr(
        kernels, "one_run_attention", lambda q, k, v, mask, **_: plain_attention(q, k, v, mask[::-1])
    )
    assert right() > 5 * kernels.TOLERANCE


@pytest.mark.parametrize("kernel", kernels.KERNELS)
def test_what_cannot_run_here_falls_back_with_one_line(kernel, caplog):
    *arrays, mask = case()
    with caplog.at_level(logging.WARNING):
        found = [attention(*arrays, mask, run=1, tuning=Tuning(attention=kernel)) for _ in range(2)]
    np.testing.assert_allclose(found[1], plain_attention(*arrays, mask), atol=1e-5)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"attention by {kernel}: needs a ")
    assert line.endswith("and this is a cpu; blocks of scores instead")


def test_a_kernel_that_fails_to_compile_falls_back(monkeypatch, caplog):
    monkeypatch.setitem(kernels.KERNELS, "cudnn", "cpu")  # as if this backend had it
    *arrays, mask = case(dtype="bfloat16")
    got = jax.jit(lambda *x: attention(*x, mask, run=1, tuning=Tuning(attention="cudnn")))(*arrays)
    np.testing.assert_allclose(got, plain_attention(*arrays, mask), atol=2e-2)
    assert [record.getMessage()[:19] for record in caplog.records] == ["attention by cudnn:"]


def test_a_usable_kernel_is_taken_where_the_mask_is_one_run(monkeypatch):
    *arrays, mask = case()
    monkeypatch.setattr(kernels, "usable", lambda *_: True)
    monkeypatch.setattr(kernels, "one_run_attention", lambda *_, run: f"kernel from {run}")
    asked = functools.partial(attention, *arrays, mask, tuning=Tuning(attention="cudnn"))
    assert asked(run=1) == "kernel from 1"
    assert asked().shape == (2, 6, 4, 8)
