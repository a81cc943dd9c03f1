# SPDX-License-Identifier: Apache-2.0
"""The step: what trains, what it costs, and what must not change it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from cases import model_of, nhwc, prompt_of, sources_of
from conftest import golden
from ditfuse_jax.config import PATCH
from ditfuse_jax.training import step as training
from ditfuse_jax.training.config import OptimConfig
from ditfuse_jax.training.initial import trained_weights
from ditfuse_jax.training.losses import Condition, Draw, draw, velocity_loss
from ditfuse_jax.training.optimizer import learning_rate
from ditfuse_jax.training.sharding import make_mesh, parse_mesh, put_batch

FLOAT_RTOL = 2e-5  # the same sums in another order, through a whole backward pass


def start(config):
    mesh = make_mesh(parse_mesh(""))
    params, frozen = runs.weights(config, mesh)
    return training.new_state(params, config, mesh), frozen, mesh


def steps(config, count=3, **settings):
    """Losses and final parameters after some steps."""
    state, frozen, mesh = start(config)
    losses = []
    for number in range(count):
        rows = put_batch(runs.batch(number, **settings), runs.ROWS, mesh)
        stop = put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, mesh)
        state, metrics = training.train_step(state, frozen, rows, stop, config=config)
        losses.append(float(metrics.loss))
    return np.array(losses), jax.device_get(state.params)


def test_loss_of_the_official_code():
    z = np.load(golden("dit_tiny") / "case_train.npz")
    drawn = Draw(jnp.asarray(z["t"]), jnp.asarray(nhwc(z["x0"])))
    x_1 = jnp.asarray(nhwc(z["x1"]))
    grid = jnp.tile(jnp.array(x_1.shape[1:3]) // PATCH, (len(x_1), 1))
    losses = velocity_loss(model_of("ckpt_tiny"), prompt_of(z), Condition(sources_of(z), x_1, grid), drawn)
    np.testing.assert_allclose(losses, z["tensor_loss_per_sample"], rtol=1e-5)


def test_several_draws_of_a_row_are_their_mean():
    config = runs.config(draws=3)
    state, frozen, _ = start(config)
    batch, drawn = training.step_input(jax.random.key(0), runs.batch(dropped=(1,)), config)
    assert drawn.t.shape == (runs.ROWS, 3)
    found = training.held_out_losses(state.params, frozen, batch, drawn, config=config)
    single = [
        training.held_out_losses(
            state.params, frozen, batch, Draw(drawn.t[:, k], drawn.noise[:, k]), config=config
        )
        for k in range(3)
    ]
    assert np.ptp(single, axis=0).min() > 0.01  # the draws differ
    np.testing.assert_allclose(found, np.mean(single, axis=0), rtol=FLOAT_RTOL)


def test_padding_of_a_row_changes_nothing():
    """A batch of smaller images inside larger arrays, against the same images in arrays of their size."""
    small, large, size = (32, 16), (32, 48), 8
    alone, within = runs.batch(shape=small), runs.batch(shape=small, inside=large)
    plain, varied = runs.config(draws=2), runs.config(draws=2, mixture=runs.varied(large, least=small))
    state, frozen, _ = start(plain)
    drawn = draw(jax.random.key(0), within, varied, several=(2,))
    cells = (slice(None), slice(None), slice(small[0] // size), slice(small[1] // size))
    expected = training.held_out_losses(
        state.params, frozen, alone, Draw(drawn.t, drawn.noise[cells]), config=plain
    )
    found = training.held_out_losses(state.params, frozen, within, drawn, config=varied)
    np.testing.assert_allclose(found, expected, rtol=FLOAT_RTOL)
    gradients = jax.jit(training.accumulate, static_argnums=4)
    one = gradients(state.params, frozen, alone, Draw(drawn.t, drawn.noise[cells]), plain)[1]
    two = gradients(state.params, frozen, within, drawn, varied)[1]
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("count", "share"), [(1, 0.25), (2, 0.5), (4, 0.3)])
def test_a_share_of_the_draws_is_at_pure_noise(count, share):
    several = (count,) if count > 1 else ()
    config = runs.config(zero_time=share, draws=count)
    batch = runs.batch()
    drawn = [draw(jax.random.key(seed), batch, config, several=several) for seed in range(60)]
    zero = np.stack([one.t == 0 for one in drawn]).reshape(-1, count)
    assert abs(zero.mean() - share) < 0.05
    assert set(zero.sum(axis=1)) <= {int(count * share), int(np.ceil(count * share))}
    plain = draw(jax.random.key(0), batch, runs.config(), several=several)
    np.testing.assert_array_equal(drawn[0].noise, plain.noise)
    np.testing.assert_array_equal(np.where(drawn[0].t == 0, 0, plain.t), drawn[0].t)


def test_only_the_adapter_trains_when_there_is_one():
    config = runs.config(lora=True)
    state, frozen, mesh = start(config)
    assert state.params.keys() == {
        f"layers.{name}.{part}" for name in config.model.lora.targets for part in ("lora_a", "lora_b")
    }
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * sum(leaf.size for leaf in state.params.values())
    before = jax.device_get(frozen)
    rows = put_batch(runs.batch(), runs.ROWS, mesh)
    stop = put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, mesh)
    old = jax.device_get(state.params)
    state, _ = training.train_step(state, frozen, rows, stop, config=config)
    assert any(np.any(old[name] != state.params[name]) for name in old)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(frozen))


def test_frozen_base_is_stored_in_its_dtype_and_the_adapter_in_float32():
    config = runs.config(lora=True, frozen_dtype="bfloat16", model={"dtype": "bfloat16"})
    state, frozen, _ = start(config)
    assert {leaf.dtype for leaf in frozen.model.values()} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in (*state.params.values(), *frozen.vae.values())} == {jnp.dtype("float32")}
    losses, _ = steps(config)
    reference, _ = steps(runs.config(lora=True))
    np.testing.assert_allclose(losses, reference, rtol=0.02)  # bfloat16 against float32


@pytest.mark.parametrize("stage", ["model", "vae"])
def test_accumulation_changes_nothing(stage):
    whole = runs.config(stage=stage)
    state, frozen, _ = start(whole)
    batch, drawn = training.step_input(jax.random.key(1), runs.batch(), whole)
    parts = runs.config(stage=stage, optim={"accumulation": 4})
    gradients = jax.jit(training.accumulate, static_argnames="config")
    (losses, expected), (same, found) = (
        gradients(state.params, frozen, batch, drawn, config=config) for config in (whole, parts)
    )
    np.testing.assert_allclose(same, losses, rtol=FLOAT_RTOL)
    # Gradients, not parameters: Adam makes a step of a gradient that is nothing but rounding. For the same
    # reason the largest value of all is the measure, not each value.
    largest = max(float(abs(grad).max()) for grad in expected.values())
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=FLOAT_RTOL * largest)


def test_rows_without_sources_do_not_see_their_pixels():
    config = runs.config()
    state, frozen, mesh = start(config)
    rows = runs.batch(dropped=(1,))
    other = rows._replace(
        sources=np.where(np.arange(runs.ROWS)[:, None, None, None, None] == 1, 0, rows.sources)
    )
    rows, drawn = training.step_input(jax.random.key(0), rows, config)
    first, second = (
        training.held_out_losses(state.params, frozen, put_batch(b, runs.ROWS, mesh), drawn, config=config)
        for b in (rows, other)
    )
    np.testing.assert_array_equal(first, second)
    seen = rows._replace(sources=255 - rows.sources)
    third = training.held_out_losses(
        state.params, frozen, put_batch(seen, runs.ROWS, mesh), drawn, config=config
    )
    assert np.flatnonzero(first != third).tolist() == [0, 2, 3, 4, 5, 6, 7]


def test_training_lowers_the_loss_of_each_stage():
    for stage in ("model", "vae"):
        config = runs.config(stage=stage, optim={"learning_rate": 6e-3})
        mesh = make_mesh(parse_mesh(""))
        params, frozen = trained_weights(config, mesh), runs.weights(config, mesh)[1]  # as a run starts
        state = training.new_state(params, config, mesh)
        rows = put_batch(runs.batch(), runs.ROWS, mesh)
        stop = put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, mesh)
        losses = []
        for _ in range(9):
            state, metrics = training.train_step(state, frozen, rows, stop, config=config)
            losses.append(float(metrics.loss))
        assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3]), (stage, losses)


def test_losses_per_task():
    loss, rows = training.per_task(jnp.array([1.0, 2.0, 5.0]), jnp.array([0, 2, 2]))
    assert rows.tolist()[:3] == [1, 0, 2]
    assert loss.tolist()[:3] == [1.0, 0.0, 3.5]


def test_moving_average_starts_at_the_parameters_and_follows():
    ema = training.averaged({"w": jnp.float32(0)}, {"w": jnp.float32(1)}, jnp.int32(0), 0.999)
    assert float(ema["w"]) == pytest.approx(0.9)  # ramp: decay 1 / 10 in the first step
    late = training.averaged({"w": jnp.float32(0)}, {"w": jnp.float32(1)}, jnp.int32(10**6), 0.999)
    assert float(late["w"]) == pytest.approx(0.001, rel=1e-3)


def test_schedules():
    cosine = learning_rate(OptimConfig(learning_rate=1.0, schedule="cosine", warmup_steps=10), 110)
    assert [float(cosine(step)) for step in (0, 5, 10, 60, 110)] == pytest.approx(
        [0, 0.5, 1, 0.5, 0], abs=1e-6
    )
    constant = learning_rate(OptimConfig(learning_rate=1.0), 110)
    assert float(constant(0)) == float(constant(109)) == 1.0


def test_times_are_logistic_normal():
    config = runs.config()
    keys = jax.random.split(jax.random.key(0), 200)
    t = np.concatenate([draw(key, runs.batch(), config).t for key in keys])
    normal = np.log(t / (1 - t))
    assert abs(normal.mean()) < 0.1  # 1600 draws: 4 standard errors
    assert abs(normal.std() - 1) < 0.1
