# SPDX-License-Identifier: Apache-2.0
"""A small part of benchmarks/fuzz.py: damaged files and kill -9 end in a sentence, nothing is half there."""

import time
import warnings

import pytest

import runs
import scripts
from conftest import golden

BENCHMARKS = scripts.PROJECT / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for (
        name,
        value,
    ) in runs.quick_environment(devices=1).items():  # compiled programs are shared
        monkeypatch.setenv(name, value)
    return scripts.load("benchmarks/fuzz.py")


def test_no_traceback_no_hang_no_partial_file(fuzz, tmp_path, capsys):
    golden("ckpt_tiny")
    counts = ["--pictures", "300", "--checkpoints", "30", "--kills", "3"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what it meets in damaged files
        faults = fuzz.run(fuzz.parse(counts), tmp_path)
    assert faults == []
    told = capsys.readouterr().out
    assert "300 pictures" in told
    assert "3 whole; 0 traceback, 0 hang" in told


def test_every_kind_of_fault_is_counted(fuzz):
    faults = []

    def traceback():
        raise KeyError("a")

    def long_error():
        raise ValueError("x" * 10_000)

    def refused():
        raise ValueError("no such file")

    found = [
        fuzz.outcome(work, faults, work.__name__) for work in (traceback, long_error, refused, lambda: None)
    ]
    assert found == ["traceback", "long error", "refused", "read"]
    assert len(faults) == 2


def test_a_hang_is_a_fault(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    faults = []

    def hang():
        while True:
            pass

    assert fuzz.outcome(hang, faults, "loop") == "hang"
    assert faults == ["loop: more than 1 s of processor time or 600 s"]


def test_waiting_for_ever_is_a_hang_and_waiting_for_a_busy_machine_is_none(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "PATIENCE", 3)
    faults = []
    assert fuzz.outcome(lambda: time.sleep(2), faults, "short") == "read"
    assert fuzz.outcome(lambda: time.sleep(30), faults, "long") == "hang"
