# SPDX-License-Identifier: Apache-2.0
"""Stacks of simulated shots by the shipped weights, as benchmarks/stacks.py measures them."""

import shutil

import numpy as np
import pytest

import scripts
from ditfuse_jax.inference.fuse import DEMO, DiTFuse
from drawn import draw

SCENES = [draw(0, (96, 96), 30)]


@pytest.fixture(scope="module")
def rows():
    """PSNR in dB to the scene of every method, the mean over the scenes: of focus shots and of brackets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(scripts.PROJECT / "benchmarks"))
        stacks, model = scripts.load("benchmarks/stacks.py"), DiTFuse.load(DEMO)
        found = {}
        for name in ("focus_row", "exposure_row"):
            row = getattr(stacks, name)
            each = [row(model, np.random.default_rng(0), scene) for scene in SCENES]
            found[name] = {method: np.mean([one[method] for one in each]) for method in each[0]}
    return found


def test_five_focus_shots_are_nearly_as_good_as_a_pair(rows):
    found = rows["focus_row"]
    assert found["the stack"] > found["a pair"] - 1.5
    assert found["the stack"] > found["mean"] + 10


def test_three_brackets_are_nearer_to_the_scene_than_mertens_and_enfuse(rows):
    found = rows["exposure_row"]
    others = {"mean", "Mertens"} | ({"enfuse"} if shutil.which("enfuse") else set())
    assert others <= found.keys()
    for method in others:
        assert found["the stack"] > found[method], method
