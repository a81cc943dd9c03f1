# SPDX-License-Identifier: Apache-2.0
import ctypes
import gc
import os
import sys
import tempfile
from pathlib import Path

# Most of the time is compiling, of programs that run once or twice on small shapes. LLVM does not optimise
# them, and a program is not cut into 32 parts. Before JAX is imported, and for processes that tests start.
GIVEN = os.environ.setdefault("DITFUSE_TEST_XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))  # before ours
FLAGS = ("--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1")
# Here XLA's older and simpler emitters make each fusion: a training step compiles in a quarter of the
# processor time and half the memory. Those for several devices are not kept on disk: loaded from there, they
# wait for each other for ever (jaxlib 0.10.2).
SIMPLE = "--xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, SIMPLE, GIVEN])

import jax  # noqa: E402
import pytest  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)  # virtual ones, for the tests of meshes

# Compiled programs, shared by the processes that tests start: see runs.environment.
if "PYTEST_XDIST_WORKER" not in os.environ:
    FOLDER = tempfile.TemporaryDirectory(prefix="ditfuse-programs-")  # removed when the session ends
    os.environ["DITFUSE_TEST_PROGRAMS"] = FOLDER.name
PROGRAMS = os.environ["DITFUSE_TEST_PROGRAMS"]
os.environ["XDG_CACHE_HOME"] = f"{PROGRAMS}/home"  # nothing of the tests goes to the user's cache

LONG = (
    "test_train_cli.py",
    "test_training.py",
    "test_multihost.py",
    "test_fuse.py",
    "test_from_train.py",
    "test_sharding.py",
    "test_checkpoint.py",
    "test_bf16.py",
    "test_one_device.py",
    "test_fuzz.py",
    "test_unfinished.py",
)


def pytest_collection_modifyitems(items):
    """The longest files first, so that both processes end together. pytest-xdist would go by numbers of
    tests and begin the longest last: --no-loadscope-reorder.
    """
    places = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def trim() -> None:
    """What is free inside the process goes back to the system, on Linux with glibc."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)(0)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs of a file go when it ends; all together they are gigabytes."""
    yield
    jax.clear_caches()
    jax.config.update("jax_compilation_cache_dir", None)  # some commands keep theirs on disk
    compilation_cache.reset_cache()
    gc.collect()
    trim()


PATIENCE = 600  # seconds until a test gives up on a process; on a busy machine all take long
SMALL = Path(__file__).parent / "golden"
LARGE = Path(__file__).parents[2] / "shared" / "golden"
DATA = Path(os.environ.get("DITFUSE_DATA") or Path(__file__).parents[2] / "shared" / "data")


def golden(name: str) -> Path:
    """A reference file or folder; skips without it.

    The small ones lie in tests/golden, the others in ../shared/golden.
    """
    for folder in (SMALL, LARGE):
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"reference {name} is not here; it is looked for in tests/golden and ../shared/golden")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny released checkpoint, converted."""
    from convert.__main__ import main

    target = tmp_path_factory.mktemp("converted") / "tiny"
    assert main(["omnigen", str(golden("ckpt_tiny")), str(target)]) == 0
    return target


@pytest.fixture(scope="module")
def small_blocks():
    """For small pictures: a block with its halo is 484 pixels, here 356."""
    from ditfuse_jax import fidelity
    from ditfuse_jax.inference import native

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "BLOCK", 128)
        patch.setattr(native, "SIDE", 128 + 2 * fidelity.HALO)
        yield


@pytest.fixture
def data_root() -> Path:
    """../shared/data or $DITFUSE_DATA; skips without."""
    if not DATA.is_dir():
        pytest.skip(f"no data at {DATA}; set DITFUSE_DATA")
    return DATA
