# SPDX-License-Identifier: Apache-2.0
"""What libraries read from the environment when they are imported; commands set it before they import JAX."""

import os

# Of XLA's YNN fusions only single products make a training step on CPU faster; so do wide vectors, where the
# processor has them (docs/training.md).
CPU_FLAGS = (
    "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT "
    "--xla_cpu_prefer_vector_width=512"
)


def for_fusing() -> None:
    """No advice and no log lines on the terminal."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def for_training() -> None:
    """No advice between the lines of a run, and XLA's faster way on CPU; XLA_FLAGS of the user come last."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ["XLA_FLAGS"] = f"{CPU_FLAGS} {os.environ.get('XLA_FLAGS', '')}"
