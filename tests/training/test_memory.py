# SPDX-License-Identifier: Apache-2.0
"""What a run keeps on a device, counted before it is there."""

import jax
import pytest

import runs
from ditfuse_jax.training import memory
from ditfuse_jax.training import step as training
from ditfuse_jax.training.sharding import make_mesh, parse_mesh


def kept(config, mesh) -> int:
    """Bytes on the first device of a run that has started, with room for the gradients."""
    params, frozen = runs.weights(config, mesh)
    state = training.new_state(params, config, mesh)
    first = mesh.devices.flat[0]
    shards = [
        shard.data.nbytes
        for leaf in jax.tree.leaves((state, state.params, frozen))
        for shard in leaf.addressable_shards
        if shard.device == first
    ]
    return sum(shards)


@pytest.mark.parametrize("mesh", ["", "fsdp=4,tensor=2"])
@pytest.mark.parametrize(
    "settings",
    [{"lora": True, "frozen_dtype": "bfloat16"}, {"optim": {"ema_decay": 0.9}}, {"stage": "vae"}],
    ids=["adapter", "average", "vae"],
)
def test_what_is_needed_is_what_a_run_keeps(settings, mesh):
    config, devices = runs.config(**settings), make_mesh(parse_mesh(mesh))
    assert memory.needed_bytes(config, devices) == kept(config, devices)


def test_a_run_that_cannot_fit_is_refused_with_both_sizes_and_the_way_out(monkeypatch):
    config, mesh = runs.config(), make_mesh(parse_mesh(""))
    needed = memory.needed_bytes(config, mesh)
    monkeypatch.setattr(memory, "device_bytes", lambda mesh: needed)
    memory.check_memory(config, mesh)
    monkeypatch.setattr(memory, "device_bytes", lambda mesh: needed - 1)
    with pytest.raises(ValueError, match=r"keeps 0.0 GB .*\(--mesh fsdp=8\)") as error:
        memory.check_memory(config, mesh)
    assert "model.lora" in str(error.value)
    monkeypatch.setattr(memory, "device_bytes", lambda mesh: None)  # a backend that does not say
    memory.check_memory(config, mesh)


def test_virtual_devices_share_the_memory_of_the_machine():
    one, eight = (memory.device_bytes(make_mesh(parse_mesh(mesh))) for mesh in ("", "8"))
    assert one // 8 == eight > 2**20


def test_a_run_that_needs_given_weights_names_init():
    mesh = make_mesh(parse_mesh(""))
    with pytest.raises(ValueError, match="--set init=FOLDER.*GB on each device.*needs_init=false"):
        memory.check_init(runs.config(needs_init=True), mesh)
    memory.check_init(runs.config(needs_init=True, init="folder"), mesh)
    memory.check_init(runs.config(), mesh)
