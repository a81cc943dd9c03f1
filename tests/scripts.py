# SPDX-License-Identifier: Apache-2.0
"""Files that are run as scripts, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[1]


def load(path: str) -> ModuleType:
    """The module of a file below the project, without running its main; it imports what lies beside it."""
    file = PROJECT / path
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
