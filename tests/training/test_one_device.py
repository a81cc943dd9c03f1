# SPDX-License-Identifier: Apache-2.0
"""Training as on a laptop: one CPU device and all that is chosen for it. The other tests have eight."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import runs
from ditfuse_jax.ops.tuning import PORTABLE, Tuning
from ditfuse_jax.training import step as training
from ditfuse_jax.training.sharding import make_mesh, parse_mesh, put_batch

RTOL = 2e-5  # the same sums in another order, through three steps


def losses(adapter: bool, tuning: Tuning) -> list[float]:
    """Loss and gradient norm of three steps, with two draws of each row."""
    config, mesh = runs.config(lora=adapter, draws=2), make_mesh(parse_mesh(""))
    params, frozen = runs.weights(config, mesh)
    state, found = training.new_state(params, config, mesh), []
    for number in range(3):
        rows = put_batch(runs.batch(number), runs.ROWS, mesh)
        stop = put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, mesh)
        state, metrics = training.train_step(state, frozen, rows, stop, config=config, tuning=tuning)
        found += [float(metrics.loss), float(metrics.grad_norm)]
    return found


def main() -> None:
    """What the process of its own does."""
    jax.config.update("jax_num_cpu_devices", 1)  # eight by conftest.py
    tuning = Tuning.choose(jax.default_backend(), jax.device_count())
    choice = [jax.device_count(), tuning.max_scores]
    print(json.dumps([choice, *(losses(adapter, tuning) for adapter in (False, True))]))


@pytest.fixture(scope="module")
def one_device():
    paths = [str(path) for path in (runs.PROJECT, Path(runs.__file__).parent, Path(__file__).parent)]
    code = f"import sys; sys.path[:0] = {paths}; import test_one_device; test_one_device.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=runs.environment()
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_its_own_choices_are_made(one_device):
    devices, max_scores = one_device[0]
    assert devices == 1
    assert max_scores < PORTABLE.max_scores


@pytest.mark.parametrize("adapter", [False, True], ids=["base", "lora"])
def test_its_steps_are_those_of_any_other_machine(one_device, adapter):
    np.testing.assert_allclose(one_device[1 + adapter], losses(adapter, PORTABLE), rtol=RTOL)
