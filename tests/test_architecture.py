# SPDX-License-Identifier: Apache-2.0
"""Imports point down, as docs/architecture.md draws them, and the page names files that exist."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "ditfuse_jax"
BASE = {"bounds", "config", "image", "prompt", "scenes", "task", "text", "places"}  # image: a folder
BELOW = {  # room -> the rooms that it may import from, besides the files at the base
    "ops": set(),
    "image": set(),
    "models": {"ops"},
    "checkpoints": {"models", "ops"},
    "fidelity": set(),
    "registration": set(),
    "inference": {"fidelity", "registration", "checkpoints", "models", "ops"},
    "data": set(),
    "training": {"data", "checkpoints", "models", "ops"},
    "evaluation": {"inference", "fidelity", "data", "checkpoints", "models"},
    "serve": {"evaluation", "inference", "fidelity"},
    "cli": {"serve", "evaluation", "inference", "training", "data", "checkpoints"},
}


def imports(file: Path) -> set[str]:
    """The rooms and base files of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ditfuse_jax":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "ditfuse_jax" and len(name) > 1}
    return {name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_from_rooms_below(room):
    for file in (PACKAGE / room).rglob("*.py"):
        wrong = imports(file) - BELOW[room] - BASE - {room}
        assert not wrong, f"{file.relative_to(PROJECT)} imports {wrong}"


def test_every_folder_of_code_is_a_room():
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert rooms <= BELOW.keys()


def test_the_library_does_not_import_the_scripts():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & {"convert", "configs", "train", "infer"}, file


def test_the_page_names_files_that_exist():
    page = (PROJECT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"\b(?:ditfuse_jax|[a-z]+)/[a-z0-9_/]+\.py\b", page))
    assert len(named) > 30
    for name in named:
        assert (PROJECT / name).is_file() or (PACKAGE / name).is_file(), name
