# SPDX-License-Identifier: Apache-2.0
"""Guidance folded into one branch: what the student is to learn, and that it does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
import scripts
from ditfuse_jax.checkpoints.flat import fill
from ditfuse_jax.models import flow
from ditfuse_jax.training import losses, step
from ditfuse_jax.training.config import DistilConfig, load
from ditfuse_jax.training.sharding import make_mesh, parse_mesh, put_batch
from ditfuse_jax.training.trainable import transformer, vae

MIXTURE = dataclasses.replace(runs.config().mixture, condition_dropout=0.0, text_dropout=0.0)


def config(**changes):
    distil = DistilConfig(**({"share": 1.0} | changes))
    return runs.config(lora=True, mixture=MIXTURE, zero_time=1.0, distil=distil)


def batch():
    """Rows whose other branches are other words, the uncond one without sources."""
    made = runs.batch()
    uncond, image_only = runs.batch(1, dropped=tuple(range(runs.ROWS))).prompt, runs.batch(2).prompt
    return made._replace(branches=(uncond, image_only))


def test_the_target_is_the_guided_teacher_mixed_with_the_data():
    cfg, rows = config(), batch()
    params, frozen = runs.weights(cfg)
    drawn = losses.draw(jax.random.key(0), rows, cfg)
    assert not np.any(drawn.t)  # zero_time 1: all at pure noise

    @jax.jit
    def run(params, frozen, rows, drawn):
        found = losses.condition(fill(vae(cfg), frozen.vae), rows, padded=False)
        student = fill(transformer(cfg), params | frozen.model)
        teacher = losses.teacher(frozen, cfg, step.PORTABLE)

        def loss(model, **changes):
            return losses.distil_loss(model, teacher, rows, found, drawn, config(**changes).distil)

        own = loss(teacher, guidance=1.0, image_guidance=1.0)  # one branch, its own teacher
        data = loss(student, share=0.0), losses.velocity_loss(student, rows.prompt, found, drawn)
        prompts = [rows.prompt, *rows.branches]
        x = losses.packed(drawn.noise, found.grid)
        count = found.grid.prod(axis=1)
        answers = [
            teacher(
                each, found.sources, x, drawn.t, num_target=count, rope_length=losses.own_length(each, count)
            )
            for each in prompts
        ]
        guided = flow.guide(jnp.concatenate(answers), flow.Guidance(2.0, 1.6))
        given = student(
            rows.prompt,
            found.sources,
            x,
            drawn.t,
            num_target=count,
            rope_length=losses.own_length(rows.prompt, count),
        )
        by_hand = jnp.square(given - guided).mean(axis=(1, 2))
        return own, data, (loss(student), by_hand)

    own, data, guided = run(params, frozen, rows, drawn)
    np.testing.assert_allclose(own, 0.0, atol=1e-9)
    np.testing.assert_allclose(*data, rtol=1e-5)
    np.testing.assert_allclose(*guided, rtol=1e-4)  # of squares of sums of three numbers
    assert np.min(guided[1]) > 0.01


def test_the_student_comes_nearer_to_its_teacher():
    cfg, mesh = dataclasses.replace(config(), steps=100), make_mesh(parse_mesh(""))
    params, frozen = runs.weights(cfg, mesh)
    state = step.new_state(params, cfg, mesh)
    rows, stop = (put_batch(part, runs.ROWS, mesh) for part in (batch(), np.zeros(runs.ROWS, bool)))
    found = []
    for _ in range(12):
        state, metrics = step.train_step(state, frozen, rows, stop, config=cfg)
        found.append(float(metrics.loss))
    assert np.mean(found[-3:]) < 0.9 * np.mean(found[:3])
    assert set(state.params) == {name for name in state.params if ".lora_" in name}


def test_what_cannot_teach_is_refused():
    for changes, message in (
        ({"model": {"lora": None}}, "teaches an adapter; set model.lora"),
        ({"draws": 2}, "draws 2: distil takes one draw"),
        ({"mixture": runs.config().mixture}, "set mixture's dropouts to 0"),
    ):
        with pytest.raises(ValueError, match=message):
            runs.config(**({"lora": True, "mixture": MIXTURE, "distil": DistilConfig()} | changes))


def test_the_run_is_at_pure_noise_with_one_picture_step():
    run = load(scripts.PROJECT / "configs" / "one_step.py")
    assert (run.zero_time, run.picture_steps, run.needs_init) == (1.0, 1, True)
    assert run.distil == DistilConfig(guidance=2.0, image_guidance=1.6, share=0.5)
    assert run.model.lora is not None
