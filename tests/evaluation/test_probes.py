# SPDX-License-Identifier: Apache-2.0
import csv

import numpy as np
import pytest
from pictures import coloured, write

from ditfuse_jax.data.segmentation import overlay
from ditfuse_jax.evaluation import cases, probes, prompt_commands
from ditfuse_jax.evaluation.__main__ import main
from ditfuse_jax.evaluation.cases import Scene
from ditfuse_jax.prompt import SOURCES
from runs import write_photos

SCENE = Scene("a", coloured(32, 48), coloured(32, 48, seed=1), coloured(32, 48, seed=2))


def measure(name, column, result, base=SCENE.first, scene=SCENE):
    return probes.PROBES[name].measures[column](result, base, scene)


def test_light_and_contrast_are_gains_over_the_base():
    brighter = (SCENE.first.astype(int) + 10).clip(0, 255).astype(np.uint8)
    assert 9 < measure("tag", "luminance gain (levels)", brighter) <= 10.5
    flat = (128 + (SCENE.first.astype(int) - 128) // 2).astype(np.uint8)
    assert measure("contrast", "contrast gain (levels)", flat) < -5


def test_colour_is_none_on_grey_and_the_spread_of_the_channels():
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert measure("grey", "colour (levels)", grey) == 0
    assert measure("grey", "colour (levels)", grey + np.array([0, 0, 30], np.uint8)) == 30


def test_blocks_are_seen_at_their_edges():
    """A picture of flat blocks steps only there; one without blocks steps everywhere alike."""
    levels = np.random.default_rng(0).integers(0, 256, (4, 4, 1), np.uint8)
    blocks = np.repeat(np.kron(levels[..., 0], np.ones((16, 16), np.uint8))[..., None], 3, -1)
    assert measure("blocks", "blockiness", blocks) > 100
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    assert measure("blocks", "blockiness", noise) == pytest.approx(1, abs=0.05)


def test_detail_is_that_of_the_stronger_source():
    sharp, smooth = coloured(32, 48), np.full((32, 48, 3), 90, np.uint8)
    scene = Scene("b", sharp, smooth)
    assert measure("smooth", "detail (%)", sharp, scene=scene) == pytest.approx(100)
    assert measure("smooth", "detail (%)", smooth, scene=scene) == 0


def test_areas_of_irregular_masks_are_told_apart():
    """Noise in one area lowers that area's figure alone."""
    photo = coloured(64, 64)
    scene = cases.irregular(np.random.default_rng(1), photo)
    both, one = scene.missing.all(0), scene.missing[0] ^ scene.missing[1]
    result = photo.copy()
    result[both] = 255 - result[both]
    columns = probes.PROBES["irregular"].measures
    found = {name: value(result, None, scene) for name, value in columns.items()}
    assert found["lost in both (dB)"] < 20
    assert found["lost in one source (dB)"] == found["lost in none (dB)"] > 70
    result[one] = 0
    assert columns["lost in one source (dB)"](result, None, scene) < 20


def test_marks_are_counted():
    half = np.zeros((32, 48), bool)
    half[:, :24] = True
    assert measure("noise", "marked (%)", overlay(SCENE.first, half)) == pytest.approx(50, abs=4)
    assert measure("noise", "marked (%)", SCENE.first) == 0


def test_prompts_are_the_papers():
    words = list(probes.PROBES["words"].prompts.values())
    assert words[4].startswith(SOURCES)
    assert words[4].endswith("Fuse the images and increase the brightness.")
    noise = list(probes.PROBES["noise"].prompts.values())
    assert noise[5] == (
        "Fuse the <img><|image_1|></img> and <img><|image_2|></img> and seg the cars and the buildings."
    )
    tagged = probes.PROBES["tag"].prompts
    assert tagged["light+, tag"] == "[CONTROL]. <LIGHT+>. " + tagged["light+, words"]


def test_orders_are_shares_of_scenes():
    probe = probes.PROBES["contrast"]
    rising = {row: {"contrast gain (levels)": 0.0} for row in probe.prompts}
    rising["contrast-, tag"]["contrast gain (levels)"] = -2.0
    rising["contrast+, tag"]["contrast gain (levels)"] = 3.0
    level = {row: {"contrast gain (levels)": 0.0} for row in probe.prompts}
    text = probes.markdown(probe, [rising, level])
    assert "| contrast-, tag < base < contrast+, tag | 50% |" in text
    assert "| contrast+, tag | 1.50 |" in text
    assert "| contrast-, words < base < contrast+, words | 0% |" in text


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photographs, and one pair of each kind."""
    at = write_photos(tmp_path_factory.mktemp("data"))
    for folder, sides in {"ivif/roadscene": ("vis", "ir"), "mff/lytro": ("a", "b")}.items():
        for seed, side in enumerate(sides):
            write(at / folder / side / "p.png", coloured(48, 64, seed=seed))
        (at / folder / "val.txt").write_text("p\n")
    return at


def test_scenes_are_held_out_and_as_asked(root):
    (grey,) = cases.held_out("grey", root, limit=0, side=32)
    assert grey.name == "roadscene p"
    assert grey.first.shape == (32, 32, 3)
    assert np.ptp(grey.first, axis=-1).max() == 0
    assert [scene.name for scene in cases.held_out("damaged", root, limit=2, side=32)] == ["p8", "p10"]
    (native,) = cases.held_out("streets", root, limit=4, side=None)
    assert native.first.shape == (48, 64, 3)
    with pytest.raises(ValueError, match="--side 8 is under 16 pixels"):
        cases.held_out("irregular", root, limit=0, side=8)
    with pytest.raises(ValueError, match="holds no held-out pairs in mef"):
        cases.held_out("mef", root, limit=0, side=None)


def test_one_command_measures_the_prompts(root, folder, tmp_path, capsys):
    """With the network, of random weights: the tables have every row, the file every value."""
    words = ["prompts", "--only", "irregular,words", "--limit", "1", "--side", "32", "--steps", "1"]
    words += ["--checkpoint", folder, "--data", root, "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    told = capsys.readouterr().out
    assert "1 steps, 1 noises, fidelity 0.0, seed 0; held-out scenes at 32 x 32 pixels" in told
    assert "; code: ditfuse-jax " in told
    assert "### Irregular masks (Fig. 20), PSNR to the photograph by area, 1 scenes" in told
    assert "| base < prompt 4 |" in told
    assert (tmp_path / "out/prompts.md").read_text() in told
    with (tmp_path / "out/prompts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 + 5
    assert {row["scene"] for row in rows if row["probe"] == "words"} == {"roadscene p"}


def test_a_probe_that_is_none_is_told(capsys):
    with pytest.raises(SystemExit):
        main(["prompts", "--limit", "-1", "--out", "nowhere"])
    assert "-1 is less than nothing; give 0 or more" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"--only 'contrasts' \(did you mean contrast\?\)"):
        prompt_commands.choose("tag,contrasts")
