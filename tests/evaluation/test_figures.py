# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from pictures import coloured, write, write_mask
from PIL import Image

from ditfuse_jax.evaluation import figure_commands, plates, zoom
from ditfuse_jax.evaluation.__main__ import main
from ditfuse_jax.evaluation.figures import FIGURES
from ditfuse_jax.evaluation.zoom import Box

SIZE = (48, 64)


def test_boxes_lie_where_the_sources_differ_and_apart():
    first = np.full((100, 120, 3), 100, np.uint8)
    second = first.copy()
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    first[10:30, 80:100] = noise
    second[60:80, 10:30] = noise // 2
    strong, weak = zoom.boxes(first, second, 2)
    assert strong.side == 20
    assert abs(strong.top - 10) <= 1
    assert abs(strong.left - 80) <= 1
    assert abs(weak.top - 60) <= 1
    assert abs(weak.left - 10) <= 1
    assert strong.cut(first).shape == (20, 20, 3)
    assert zoom.boxes(first, second, 0) == ()
    assert len(zoom.boxes(first[:16, :16], second[:16, :16], 9)) < 9  # there is no room for more


def test_a_plate_frames_and_enlarges_its_boxes():
    """A red square in a grey picture is below it, over half a column wide."""
    picture = np.full((*SIZE, 3), 128, np.uint8)
    picture[8:24, 8:24] = 0, 0, 255
    row = plates.PlateRow("scene", {"one": picture, "two": picture}, (Box(8, 8, 16),))
    sheet = np.asarray(plates.draw([row, row]))
    column = plates.WIDTH + plates.GAP
    assert sheet.shape[1] == 2 * column
    top = 2 * plates.CAPTION + round(plates.WIDTH * SIZE[0] / SIZE[1]) + plates.GAP
    assert (sheet[top + plates.WIDTH // 2, plates.WIDTH // 2] == (0, 0, 255)).all()
    assert (sheet[top, plates.WIDTH // 2] == (255, 0, 0)).all()  # its frame
    bare = plates.draw([plates.PlateRow("scene", {"one": picture})])
    assert bare.height < sheet.shape[0] // 2


def test_figures_are_those_of_the_paper():
    assert list(FIGURES) == ["7", "8", "9", "10", "11", "12", "14", "17", "18", "19", "20"]
    assert FIGURES["8"].residuals
    assert "seg car" in FIGURES["11"].prompts
    assert FIGURES["11"].prompts["light+, car"].endswith("Brighten the car slightly.")


@pytest.fixture
def root(tmp_path):
    for seed, (folder, sides) in enumerate({"ivif/msrs": ("vis", "ir"), "mff/lytro": ("a", "b")}.items()):
        for side in sides:
            for stem in ("p", "q"):
                write(tmp_path / folder / side / f"{stem}.png", coloured(*SIZE, seed=seed + ord(stem)))
        (tmp_path / folder / "train.txt").write_text("q\n")
        (tmp_path / folder / "val.txt").write_text("p\n")
    return tmp_path


def test_scenes_of_groups_say_what_was_trained_on(root):
    file = root / "groups.toml"
    file.write_text('[fog]\n"ivif/msrs" = ["p", "q"]\n[night]\n"ivif/msrs" = ["q"]\n')
    found = figure_commands.grouped(file, root, 0)
    assert [scene.name for scene in found] == [
        "fog: msrs p",
        "fog: msrs q, trained on",
        "night: msrs q, trained on",
    ]
    assert len(figure_commands.grouped(file, root, 1)) == 2
    file.write_text('[fog]\n"ivif/msrs" = ["z"]\n')
    with pytest.raises(ValueError, match="has no pair z; correct the groups"):
        figure_commands.grouped(file, root, 0)


def test_own_groups_are_those_of_the_paper(data_root):
    names = [scene.name for scene in figure_commands.grouped(None, data_root, 1)]
    assert [name.split(":")[0] for name in names] == ["over-exposure", "fog", "low-light"]


def test_one_command_draws_figures(root, folder, capsys):
    """With the network, of random weights: residuals in rows, others' results and masks in columns."""
    out = root / "out"
    write(root / "theirs" / "p.png", coloured(*SIZE))
    write_mask(root / "lisa/car/p.png", np.ones(SIZE, bool))
    words = ["figures", "8", "14", "--steps", "1", "--checkpoint", folder, "--data", root, "--out", out]
    words += ["--fused", root / "theirs", "--baselines", "mean", "--masks", root / "lisa", "--zooms", "1"]
    assert main([str(word) for word in words]) == 0
    assert "fig8.png: Multi-focus, with residual maps" in capsys.readouterr().out
    column = plates.WIDTH + plates.GAP
    with Image.open(out / "fig8.png") as sheet:
        assert sheet.width == 5 * column  # sources, ditfuse, mean, theirs
        residuals = np.asarray(sheet)[-plates.WIDTH // 2, 3 * column + 20 : 4 * column - 20]
    assert (residuals == 128).all()  # equal sources, so the mean is equal to both
    with Image.open(out / "fig14.png") as sheet:
        assert sheet.width == 5 * column  # sources, base, seg car, lisa
    write(root / "theirs" / "p.png", coloured(32, 48))
    assert main([str(word) for word in words]) == 2
    assert "theirs of p" in capsys.readouterr().err
