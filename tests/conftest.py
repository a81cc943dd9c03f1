# SPDX-License-Identifier: Apache-2.0
import os
import tempfile
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)  # virtual ones, for the tests of meshes

# Compiled programs, shared by the tests of a session and the processes that they start: most of the time is
# compiling, and many tests run the same step.
if "PYTEST_XDIST_WORKER" not in os.environ:
    FOLDER = tempfile.TemporaryDirectory(prefix="ditfuse-programs-")  # removed when the session ends
    os.environ["DITFUSE_TEST_PROGRAMS"] = FOLDER.name
PROGRAMS = os.environ["DITFUSE_TEST_PROGRAMS"]
jax.config.update("jax_compilation_cache_dir", PROGRAMS)

SMALL = Path(__file__).parent / "golden"
LARGE = Path(__file__).parents[2] / "shared" / "golden"
DATA = Path(os.environ.get("DITFUSE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def golden(name: str) -> Path:
    """A reference file or folder: the small ones lie in tests/golden, the others in ../shared/golden; skips
    without.
    """
    for folder in (SMALL, LARGE):
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"reference {name} is not here; it is looked for in tests/golden and ../shared/golden")


@pytest.fixture
def data_root() -> Path:
    """../shared/data or $DITFUSE_DATA; skips without."""
    if not DATA.is_dir():
        pytest.skip(f"no data at {DATA}; set DITFUSE_DATA")
    return DATA
