# SPDX-License-Identifier: Apache-2.0
"""Training in bfloat16 on CPU: it runs, on one device and on eight, and its losses are those of float32."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import runs
from ditfuse_jax.config import LoraConfig
from ditfuse_jax.training import step as training
from ditfuse_jax.training.sharding import make_mesh, parse_mesh, put_batch

RTOL = 0.02  # bfloat16 against float32
# Before ops/bf16_cpu.py the step of an adapter on one device ended at this width, and ran at half of it.
WIDE = {"width": 256, "num_heads": 8, "num_kv_heads": 8, "mlp_width": 512}
ADAPTER = LoraConfig(rank=8, alpha=8.0)


@functools.cache
def losses(*, lora: bool, dtype: str, mesh: str = "") -> np.ndarray:
    """Of two steps."""
    model = WIDE | {"dtype": dtype, "lora": ADAPTER if lora else None}
    config = runs.config(model=model, frozen_dtype=dtype)
    devices = make_mesh(parse_mesh(mesh))
    params, frozen = runs.weights(config, devices)
    state = training.new_state(params, config, devices)
    found = []
    for number in range(2):
        rows = put_batch(runs.batch(number), runs.ROWS, devices)
        stop = put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, devices)
        state, metrics = training.train_step(state, frozen, rows, stop, config=config)
        found.append(float(metrics.loss))
    return np.array(found)


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_on_eight_devices(lora):
    found = losses(lora=lora, dtype="bfloat16", mesh="data=2,fsdp=2,tensor=2")
    np.testing.assert_allclose(found, losses(lora=lora, dtype="float32"), rtol=RTOL)


@pytest.fixture(scope="module")
def on_one_device():
    """Losses of both runs, by lora. A program of its own, since the tests have eight devices."""
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    code = f"import sys; sys.path[:0] = {paths}; import test_bf16; test_bf16.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=runs.environment()
    )
    assert done.returncode == 0, done.stderr[-2000:]
    devices, *found = json.loads(done.stdout.splitlines()[-1])
    assert devices == 1
    return found


def main() -> None:
    """What the process of its own does."""
    jax.config.update("jax_num_cpu_devices", 1)
    found = [losses(lora=lora, dtype="bfloat16").tolist() for lora in (False, True)]
    print(json.dumps([jax.device_count(), *found]))


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_on_the_only_device(on_one_device, lora):
    np.testing.assert_allclose(on_one_device[lora], losses(lora=lora, dtype="float32"), rtol=RTOL)
