# SPDX-License-Identifier: Apache-2.0
"""What libraries read from the environment when they are imported; commands set it before they import JAX."""

import os
import subprocess
import sys
from collections.abc import Sequence

from ditfuse_jax import text

# Of XLA's YNN fusions only single products make a training step on CPU faster (benchmarks/tuning.py).
CPU_FLAGS = ("--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",)
PARSE_FLAGS = "from jaxlib import xla_client; xla_client._xla.CompileOptions()"  # the cheapest call that does


def for_fusing() -> None:
    """No advice and no log lines on the terminal."""
    text.one_line_each()
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def for_serving() -> None:
    """As for fusing, and nothing of ours or of Gradio's asks another machine for anything."""
    for_fusing()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def for_training() -> None:
    """No advice between the lines of a run, and XLA's faster way on CPU; XLA_FLAGS of the user come last."""
    text.one_line_each()
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    flags = CPU_FLAGS if accepted(CPU_FLAGS) else [flag for flag in CPU_FLAGS if accepted([flag])]
    for flag in set(CPU_FLAGS) - set(flags):
        print(f"this jaxlib does not know {flag}: training without it", file=sys.stderr, flush=True)
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])


def accepted(flags: Sequence[str]) -> bool:
    """Whether this jaxlib knows all these XLA flags; asked in a second process, as an unknown one ends it."""
    command = [sys.executable, "-c", PARSE_FLAGS]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0
