# SPDX-License-Identifier: Apache-2.0
"""Meshes: what lies where, that it changes no number, and what crosses the network."""

from pathlib import Path

import jax
import numpy as np
import pytest

import runs
from ditfuse_jax.training import step as training
from ditfuse_jax.training import validation
from ditfuse_jax.training.sharding import check_batch, local_rows, make_mesh, parse_mesh, put_batch, spec_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MESHES = [(True, "8"), (True, "data=2,tensor=4"), (False, "8"), (False, "data=2,fsdp=2,tensor=2")]


@pytest.fixture(autouse=True)
def _eight_devices():
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices; tests/conftest.py makes virtual ones on CPU")


def inputs(config, mesh):
    params, frozen = runs.weights(config, mesh)
    state = training.new_state(params, config, mesh)
    rows = put_batch(runs.batch(), runs.ROWS, mesh)
    return state, frozen, rows, put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, mesh)


def test_meshes_are_read():
    assert parse_mesh("") == {"data": 1, "fsdp": 1, "tensor": 1}
    assert parse_mesh("8") == {"data": 8, "fsdp": 1, "tensor": 1}
    assert parse_mesh("data=2,tensor=4") == {"data": 2, "fsdp": 1, "tensor": 4}
    for text in ("rows=2", "data", "data=0", "data=x", "100000000000", "²"):
        with pytest.raises(ValueError, match=f"--mesh '{text}'"):
            parse_mesh(text)


def test_mesh_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"mesh of 4096 devices does not fit the \d+ cpu devices"):
        make_mesh(parse_mesh("4096"))
    with pytest.raises(ValueError, match="12 rows in 1 parts does not divide over 8 devices"):
        check_batch(12, 1, make_mesh(parse_mesh("8")))


def test_rules():
    mesh = make_mesh(parse_mesh("data=2,fsdp=2,tensor=2"))
    assert tuple(spec_of("layers.attn.qkv.kernel", (2, 64, 192), mesh)) == (None, "fsdp", "tensor")
    assert tuple(spec_of("layers.mlp.down.kernel", (2, 128, 64), mesh)) == (None, "tensor", "fsdp")
    assert tuple(spec_of("layers.mlp.down.kernel", (2, 127, 64), mesh)) == (
        None,
        None,
        "fsdp",
    )  # 127 does not divide
    for name in ("layers.attn.qkv.lora_a", "norm.scale", "final.out.bias"):
        assert tuple(spec_of(name, (2, 64), mesh)) == ()


@pytest.mark.parametrize(("lora", "text"), MESHES)
def test_a_mesh_changes_no_number(lora, text):
    config = runs.config(lora=lora)
    expected = None
    for shape in ("", text):
        state, frozen, rows, stop = inputs(config, make_mesh(parse_mesh(shape)))
        losses = []
        for _ in range(2):
            state, metrics = training.train_step(state, frozen, rows, stop, config=config)
            losses += [float(metrics.loss), float(metrics.grad_norm)]
        expected = expected or losses
    np.testing.assert_allclose(losses, expected, rtol=1e-5)  # the order of sums


def test_validation_on_a_mesh_is_that_of_one_device():
    config = runs.config(picture_rows=2, picture_steps=2)
    found = []
    for shape in ("", "8"):
        state, frozen, rows, _ = inputs(config, make_mesh(parse_mesh(shape)))
        fixed = validation.held_out([rows], config)
        sheet = validation.pictures(state.params, frozen, fixed, config)
        found.append((validation.losses(state.params, frozen, fixed, config), sheet.astype(int)))
    (one, first), (eight, second) = found
    assert eight["loss"] == pytest.approx(one["loss"], rel=1e-5)  # the order of sums
    assert eight["task_loss"] == pytest.approx(one["task_loss"], rel=1e-5)
    assert abs(first - second).max() <= 1  # a value between two grey levels may round either way


def test_parameters_are_born_sharded():
    config = runs.config()
    state, _, _, _ = inputs(config, make_mesh(parse_mesh("data=2,fsdp=4")))
    kernel = state.params["layers.attn.qkv.kernel"]
    assert kernel.addressable_shards[0].data.shape == (2, 64 // 4, 192)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert moments
    assert {leaf.sharding for leaf in moments} == {kernel.sharding}


def test_state_is_donated():
    config = runs.config(lora=True)
    state, frozen, rows, stop = inputs(config, make_mesh(parse_mesh("8")))
    training.train_step(state, frozen, rows, stop, config=config)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(frozen))


def test_a_lora_step_over_data_sends_only_adapter_gradients_and_scalars(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import collectives

    config = runs.config(lora=True)
    state, frozen, rows, stop = inputs(config, make_mesh(parse_mesh("8")))
    program = (
        training.step_program(training.PORTABLE)
        .lower(state, frozen, rows, stop, config=config)
        .compile()
        .as_text()
    )
    sent = collectives.sent(program)  # bytes; a loop's as often as it turns
    adapter = sum(leaf.nbytes for leaf in state.params.values())
    scalars = sum(sent.values()) - adapter
    assert 0 < scalars <= 4 * 4 * len(training.TASKS), sent


def test_each_process_makes_the_rows_of_its_devices():
    assert local_rows(16, make_mesh(parse_mesh("8"))) == slice(0, 16)
