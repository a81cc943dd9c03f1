# SPDX-License-Identifier: Apache-2.0
"""The benchmark for accelerators, on the CPU with tiny shapes: one JSON with all that it promises."""

import json

import pytest

import scripts


@pytest.fixture
def accelerator(monkeypatch):
    monkeypatch.syspath_prepend(str(scripts.PROJECT / "benchmarks"))
    return scripts.load("benchmarks/accelerator.py")


def test_every_stage_is_run_and_printed_as_one_json(accelerator, capsys):
    assert accelerator.main(["--size", "tiny", "--side", "32", "--times", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"]["platform"] == "cpu"
    assert found["settings"]["parameters"] == 258_000
    assert found["parity"]["relative_l2_error"]["float32"] < 1e-4  # the same float32 sums in another order
    assert found["sampler"]["tokens"]["cond"][1] == 1 + 2 * 2
    assert 0 < found["sampler"]["step_mfu"] < 1
    assert 0 < found["training"]["mfu"] < 1
    assert found["loader"]["rows_per_s"] > 0
    assert found["loader"]["memory"]["process_gb"] > 0.1


def test_a_stage_that_fails_says_why_and_the_others_go_on(accelerator, capsys, monkeypatch):
    def full(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")

    monkeypatch.setattr(accelerator, "sample", full)
    assert accelerator.main(["--only", "sampler", "loader", "--side", "32", "--times", "1"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["sampler"] == {"failed": "RESOURCE_EXHAUSTED: out of memory", "passed": False}
    assert found["loader"]["rows_per_s"] > 0
