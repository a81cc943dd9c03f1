# SPDX-License-Identifier: Apache-2.0
"""Where the folders beside the code are: in a clone beside the package, in an installed package inside it.

clone                     site-packages
  convert/                  ditfuse_jax/convert/
  configs/                  ditfuse_jax/configs/
  examples/ivif/            ditfuse_jax/examples/ivif/
  ditfuse_jax/              ditfuse_jax/
"""

import importlib
import runpy
import traceback
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parent
CLONE = not (PACKAGE / "configs").is_dir()


def folder(name: str) -> Path:
    """`configs` or `examples`, wherever this package brings it."""
    return (PACKAGE.parent if CLONE else PACKAGE) / name


def home() -> Path:
    """Where runs/ is made, and what data lies beside: the clone, or the current folder if there is none."""
    return PACKAGE.parent if CLONE else Path.cwd()


def run_file(name: Path) -> Path:
    """`name` if there is such a file, else the run of configs/ that it names: smoke or configs/smoke.py."""
    shipped = folder("configs") / f"{name.stem}.py"
    named = str(name.parent) in (".", "configs") and name.suffix in ("", ".py")
    return shipped if named and not name.is_file() and shipped.is_file() else name


def assigned(file: Path) -> dict:
    """The names that a run file assigns. An error in it is a ValueError naming file and line."""
    try:
        return runpy.run_path(str(file))
    except ValueError:
        raise  # settings name what is wrong with them
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else 1
        raise ValueError(f"{file}:{line}: {type(error).__name__}: {error}") from error


def converter(module: str) -> ModuleType:
    """A module of `convert`, which is the top-level package of that name in a clone that is not installed."""
    package = "ditfuse_jax.convert" if find_spec("ditfuse_jax.convert") else "convert"
    return importlib.import_module(f"{package}.{module}")
