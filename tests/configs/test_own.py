# SPDX-License-Identifier: Apache-2.0
"""configs/own.py on a folder of one's own, as docs/training.md says."""

import pytest

from ditfuse_jax.config import DEMO
from ditfuse_jax.prompt import load_tokenizer
from ditfuse_jax.training.config import load, override
from ditfuse_jax.training.start import find_data, with_folders
from runs import PROJECT
from synthetic import noise, write

PHOTOS = ["mixture.sources.0.format=photos", "mixture.sources.0.path=photos"]


@pytest.fixture
def mine(tmp_path):
    """Six pairs, their fusions, and six photos; no lists."""
    for number in range(6):
        for folder in ("pairs/vis", "pairs/ir", "pairs/target", "photos"):
            write(tmp_path / folder / f"{number}.png", noise(number, 32, 48, 3))
    return tmp_path


def found(mine, *settings):
    config = with_folders(override(load(PROJECT / "configs/own.py"), [f"init={DEMO}", *settings]))
    return config, find_data(config, mine, load_tokenizer(config.tokenizer_folder))


def test_it_adapts_the_checkpoint_of_init(mine):
    config, _ = found(mine)
    assert (config.model.width, config.vae.latent_channels) == (256, 32)  # the demo's
    assert config.model.lora.rank == 16


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["mixture.sources.0.fuse=focus"],
        ["mixture.sources.0.fuse=exposure"],
        *[[*PHOTOS, f"mixture.sources.0.fuse={fuse}"] for fuse in ("focus", "exposure", "m3")],
    ],
)
def test_each_kind_of_folder_trains_and_validates_without_lists(mine, settings):
    _, data = found(mine, *settings)
    assert [len(mixture.stems) for mixture in (data.mixture, data.validation)] == [5, 1]


def test_focus_pairs_without_their_fusion_are_refused(mine):
    for file in (mine / "pairs/target").iterdir():
        file.unlink()
    (mine / "pairs/target").rmdir()
    with pytest.raises(ValueError, match="no target to train on; simulate them from photos, or add a target"):
        found(mine, "mixture.sources.0.fuse=focus")
