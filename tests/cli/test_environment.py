# SPDX-License-Identifier: Apache-2.0
"""What commands set before JAX is imported."""

import os
import subprocess
import sys

import pytest

from ditfuse_jax import text
from ditfuse_jax.cli import environment
from runs import PROJECT


@pytest.fixture
def flags(monkeypatch):
    """XLA_FLAGS of a user; put back after the test."""
    for name in ("TRANSFORMERS_NO_ADVISORY_WARNINGS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, os.environ.get(name, "error"))
    monkeypatch.setattr(text, "one_line_each", lambda: None)  # not for the tests that follow
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=128")


def test_the_flags_of_the_user_come_last(flags):
    environment.for_training()
    assert os.environ["XLA_FLAGS"].split() == [*environment.CPU_FLAGS, "--xla_cpu_prefer_vector_width=128"]


def test_a_flag_that_jaxlib_does_not_know_is_left_out(flags, monkeypatch, capsys):
    known = environment.CPU_FLAGS
    monkeypatch.setattr(environment, "CPU_FLAGS", (*known, "--xla_cpu_of_tomorrow=1"))
    environment.for_training()
    assert os.environ["XLA_FLAGS"].split() == [*known, "--xla_cpu_prefer_vector_width=128"]
    assert "does not know --xla_cpu_of_tomorrow=1: training without it" in capsys.readouterr().err


def test_jax_starts_with_the_flags_that_are_accepted():
    """And ends the process with one that is not: the answer is jaxlib's own."""
    command = [sys.executable, "-c", "import jax; jax.devices('cpu')"]
    for flags in (environment.CPU_FLAGS, ("--xla_cpu_of_tomorrow=1",)):
        variables = os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, env=variables, capture_output=True)
        assert (done.returncode == 0) == environment.accepted(flags)


LOUD = """
import warnings
from ditfuse_jax.cli import environment
environment.for_fusing()
warnings.warn("a first line\\n  and a second")
warnings.warn_explicit("Truncated File Read", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
from absl import logging
logging.warning("setting save_interval_steps=0.")
logging.error("this stays")
"""


def test_a_warning_is_one_line_and_other_libraries_say_errors_alone():
    done = subprocess.run([sys.executable, "-c", LOUD], cwd=PROJECT, capture_output=True, text=True)
    assert done.stderr.splitlines() == ["warning     a first line and a second", "ERROR:absl:this stays"]
