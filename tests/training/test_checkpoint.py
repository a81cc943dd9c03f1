# SPDX-License-Identifier: Apache-2.0
"""Training state on disk: all of it comes back, on any mesh, or is refused with reasons."""

import dataclasses

import jax
import numpy as np
import pytest

import runs
from ditfuse_jax.training import config as train_config
from ditfuse_jax.training import step as training
from ditfuse_jax.training.origin import check_frozen
from ditfuse_jax.training.resume import CheckpointError, Checkpoints, check_writable, locked
from ditfuse_jax.training.sharding import make_mesh, parse_mesh, put_batch
from ditfuse_jax.training.trainable import shapes


def fresh(config, mesh):
    params, frozen = runs.weights(config, mesh)
    return training.new_state(params, config, mesh), frozen


def advance(state, frozen, config, mesh, numbers):
    losses = []
    for number in numbers:
        rows = put_batch(runs.batch(number), runs.ROWS, mesh)
        stop = put_batch(np.zeros(runs.ROWS, bool), runs.ROWS, mesh)
        state, metrics = training.train_step(state, frozen, rows, stop, config=config)
        losses.append(np.asarray(metrics.loss).item())
    return state, losses


def moved(state):
    """Values that a fresh state does not have, in the same places; no step is compiled for them."""
    return jax.tree.map(lambda x: jax.device_put(np.asarray(x) + x.dtype.type(1), x.sharding), state)


@pytest.mark.parametrize("lora", [False, True])
def test_resuming_repeats_the_uninterrupted_run_bit_for_bit(tmp_path, lora):
    config, mesh = runs.config(lora=lora, optim={"ema_decay": 0.9}), make_mesh(parse_mesh(""))
    state, frozen = fresh(config, mesh)
    state, _ = advance(state, frozen, config, mesh, range(3))
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(state, config, step=3, loss=None, notes={})
    expected, losses = advance(state, frozen, config, mesh, range(3, 6))  # while the save is under way
    checkpoints.wait()
    shapes = jax.eval_shape(lambda: expected)
    again = checkpoints.restore(3, shapes, config, mesh)
    again, same = advance(again, frozen, config, mesh, range(3, 6))
    assert same == losses
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(expected))


@pytest.mark.parametrize(("saved", "restored"), [("8", "2"), ("data=2,fsdp=4", ""), ("", "data=2,tensor=4")])
def test_restoring_on_another_mesh(tmp_path, saved, restored):
    config = runs.config()
    state = moved(fresh(config, make_mesh(parse_mesh(saved)))[0])
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state, config, step=2, loss=None, notes={})
    checkpoints.wait()
    mesh = make_mesh(parse_mesh(restored))
    again = checkpoints.restore(2, jax.eval_shape(lambda: state), config, mesh)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again), jax.device_get(state))
    assert again.params["layers.attn.qkv.kernel"].sharding.mesh.shape == mesh.shape


def test_another_run_is_refused_with_the_differences(tmp_path):
    config, mesh = runs.config(), make_mesh(parse_mesh(""))
    state, _ = fresh(config, mesh)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state, config, step=1, loss=None, notes={})
    checkpoints.wait()
    other = dataclasses.replace(runs.config(model={"mlp_width": 96}, optim={"beta2": 0.95}), log_every=3)
    with pytest.raises(ValueError, match="another --workdir") as error:
        checkpoints.restore(1, jax.eval_shape(lambda: state), other, mesh)
    lines = str(error.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "model.mlp_width: 128 -> 96",
        "optim.beta2: 0.999 -> 0.95",
    ]


def test_a_run_from_before_a_setting_existed_is_the_same_run():
    saved = train_config.to_dict(runs.config())
    del saved["draws"], saved["optim"]["kind"]
    assert train_config.differences(saved, runs.config()) == []
    assert train_config.differences(saved | {"gone": 1}, runs.config())[0].startswith("draws: not set")


def test_other_frozen_weights_are_refused():
    config = runs.config(lora=True)
    _, frozen = runs.weights(config)
    saved = {name: float(x) for name, x in training.sizes(frozen).items()}
    check_frozen(saved, saved, config)
    check_frozen({}, saved, config)  # of a run that did not note them
    frozen.model["norm.scale"] = frozen.model["norm.scale"] * 1.1
    found = {name: float(x) for name, x in training.sizes(frozen).items()}
    with pytest.raises(ValueError, match=r"model\.norm\.scale and 0 more differ; name the folders"):
        check_frozen(saved, found, config)


def test_the_newest_and_the_best_are_kept(tmp_path):
    config, mesh = runs.config(), make_mesh(parse_mesh(""))
    state, _ = fresh(config, mesh)
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, loss in ((1, 0.5), (2, 0.1), (3, 0.4), (4, 0.3), (5, None), (6, None)):
        checkpoints.save(state, config, step=step, loss=loss, notes={"of": step})
        checkpoints.wait()
    assert checkpoints.steps() == [2, 5, 6]
    assert checkpoints.notes(2) == {"of": 2}


def test_only_the_parameters_can_be_read(tmp_path):
    config, mesh = runs.config(optim={"ema_decay": 0.5}), make_mesh(parse_mesh(""))
    state = moved(fresh(config, mesh)[0])
    state = dataclasses.replace(state, ema={name: x + 1 for name, x in state.ema.items()})
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state, config, step=2, loss=None, notes={})
    checkpoints.wait()
    for average, wanted in ((False, state.params), (True, state.ema)):
        found = checkpoints.params(2, shapes(config)[0], average=average)
        assert found.keys() == wanted.keys()
        jax.tree.map(np.testing.assert_array_equal, dict(found), jax.device_get(wanted))


def test_a_failed_save_is_an_error_and_leaves_the_last_one(tmp_path, monkeypatch):
    config, mesh = runs.config(), make_mesh(parse_mesh(""))
    state, _ = fresh(config, mesh)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state, config, step=1, loss=None, notes={})
    checkpoints.wait()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.manager, "wait_until_finished", full)
    with pytest.raises(CheckpointError, match="No space left on device; step 1 is the last complete one"):
        checkpoints.wait()


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="choose a folder that can be written to"):
        check_writable(tmp_path / "file" / "run")


def two_steps(workdir) -> Checkpoints:
    """A workdir whose steps 1 and 2 are complete."""
    config, mesh = runs.config(), make_mesh(parse_mesh(""))
    state, _ = fresh(config, mesh)
    checkpoints = Checkpoints(workdir, keep=2)
    for step in (1, 2):
        checkpoints.save(state, config, step=step, loss=None, notes={})
        checkpoints.wait()
    return checkpoints


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder):
    file = largest(folder)
    file.write_bytes(file.read_bytes()[:-100])


def flip(folder):
    file = largest(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def empty_settings(folder):
    (folder / "config" / "metadata").write_text("")


@pytest.mark.parametrize("damage", [truncate, flip, empty_settings, lambda folder: largest(folder).unlink()])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(tmp_path, capsys, damage):
    checkpoints = two_steps(tmp_path)
    damage(tmp_path / "checkpoints" / "2")
    assert checkpoints.latest_whole() == 1
    assert "checkpoint 2 of" in capsys.readouterr().err
    assert (tmp_path / "damaged" / "2").is_dir()  # nothing is lost
    assert checkpoints.steps() == [1]
    damage(tmp_path / "checkpoints" / "1")
    with pytest.raises(CheckpointError, match="no checkpoint of .* can be read"):
        checkpoints.latest_whole()


def test_a_step_without_checksums_is_taken_when_its_settings_can_be_read(tmp_path):
    checkpoints = two_steps(tmp_path)
    (tmp_path / "checksums" / "2.json").unlink()  # as after a kill between the save and its checksums
    assert checkpoints.latest_whole() == 2
    empty_settings(tmp_path / "checkpoints" / "2")
    assert checkpoints.latest_whole() == 1


def test_checksums_of_steps_that_are_gone_go_too(tmp_path):
    two_steps(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checksums").iterdir()) == ["1.json", "2.json"]
    config, mesh = runs.config(), make_mesh(parse_mesh(""))
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(fresh(config, mesh)[0], config, step=3, loss=None, notes={})
    checkpoints.wait()
    assert [path.name for path in (tmp_path / "checksums").iterdir()] == ["3.json"]


def test_a_second_run_in_a_workdir_is_refused(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(ValueError, match="another run is training in it; wait"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):  # free again
        pass


def test_a_constant_run_may_be_lengthened_and_a_cosine_one_not():
    config = runs.config(optim={"schedule": "constant"})
    longer = dataclasses.replace(config, steps=20)
    assert train_config.differences(train_config.to_dict(config), longer) == []
    config = runs.config(optim={"schedule": "cosine"})
    longer = dataclasses.replace(config, steps=20)
    assert train_config.differences(train_config.to_dict(config), longer) == ["steps: 10 -> 20"]
