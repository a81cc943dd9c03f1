# SPDX-License-Identifier: Apache-2.0
"""benchmarks/ablations.py: the eight runs differ in one thing each; two steps of one run are measured."""

import sys

import pytest

from ditfuse_jax.training import config as train_config
from runs import PROJECT, write_photos
from synthetic import noise, write


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(PROJECT / "benchmarks"), *sys.path])


def scale(**changes):
    import ablation_runs

    return ablation_runs.Scale(7, 128, 1, "", "vae")._replace(**changes)


def flat(name):
    import ablation_runs

    return train_config.flat(train_config.to_dict(ablation_runs.settings(name, scale())))


def test_eight_runs_differ_from_one_in_one_thing():
    import ablation_runs as ablations

    base = flat("all")
    assert (base["steps"], base["draws"], base["seed"], base["init_vae"]) == (7, 1, 0, "vae")
    assert base["mixture.epoch"] == 7 * base["batch_size"] // 2
    assert base["mixture.untagged_share"] == 0
    changed = {}
    for name in ablations.NAMES:
        ours = flat(name)
        different = {key for key in base.keys() | ours.keys() if base.get(key) != ours.get(key)} - {"name"}
        changed[name] = {".".join(key.split(".")[:2]) for key in different}
    assert changed == {
        **dict.fromkeys(("m3_blur", "m3_mask", "m3_noise"), {"mixture.m3"}),
        "all": set(),
        "no_tags": {"mixture.untagged_share"},
        **dict.fromkeys(("fusion_only", "m3_only", "fusion_and_m3"), {"mixture.sources"}),
    }
    assert ablations.settings("m3_blur", scale()).mixture.m3.operations == ("blur",)
    kept = ablations.settings("fusion_and_m3", scale()).mixture.sources
    assert {source.name for source in kept} == {"m3", "ivif", "focus", "exposure"}


def data(root):
    write_photos(root)
    for folder, sides in (("ivif/tno", ("vis", "ir")), ("mff/lytro", ("a", "b"))):
        for seed, side in enumerate(sides):
            write(root / folder / side / "p.png", noise(seed, 32, 48, 3))
        (root / folder / "val.txt").write_text("p\n")
    return root


def test_a_run_is_trained_once_and_measured(tmp_path, monkeypatch, capsys):
    """Two steps of a tiny network stand in for the demo's; a run that was stopped leaves no checkpoint."""
    import ablation_runs
    import ablations

    tiny = train_config.load(PROJECT / "configs" / "smoke.py")
    tiny = train_config.override(tiny, ["batch_size=8", "model.num_layers=1"])
    monkeypatch.setattr(ablation_runs, "load", lambda _: tiny)
    monkeypatch.setattr(ablations, "SAMPLING", ablations.SAMPLING | {"steps": 1, "noises": 1})
    words = ["--out", str(tmp_path / "out"), "--data", str(data(tmp_path / "data"))]
    train = [
        "train",
        *words,
        "--only",
        "m3_only",
        "--steps",
        "2",
        "--side",
        "32",
        "--init",
        "",
        "--init-vae",
        "",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(ablations, "run", lambda *_: 1)
        ablations.main(train)
    assert not (tmp_path / "out/m3_only").exists()
    with pytest.raises(SystemExit, match="holds no finished run; start with `train --out"):
        ablations.main(["measure", *words])
    ablations.main(train)
    assert (tmp_path / "out/m3_only/config.json").is_file()
    capsys.readouterr()
    ablations.main(train)
    assert capsys.readouterr().out == "m3_only: finished\n"
    page = tmp_path / "page.md"
    page.write_text("# Ablations\n")
    with pytest.raises(SystemExit, match="page.md has no line <!-- measured"):
        ablations.main(["measure", *words, "--limit", "1", "--page", str(page)])
    page.write_text(f"# Ablations\n\n{ablations.MEASURED}\nold\n")
    capsys.readouterr()
    ablations.main(["measure", *words, "--limit", "1", "--page", str(page)])
    told = capsys.readouterr().out
    assert page.read_text() == f"# Ablations\n\n{ablations.MEASURED}\n{told[:-1]}"
    assert (
        "Start: random weights, seed 0. Each 2 steps of 8 rows, 1 noises a row: 16 samples, 2 epochs of 8."
        in told
    )
    assert "\n| run | checkpoint | photos |\n" in told
    assert "\n| m3_only | m3_only-" in told
    assert "- figures: means over 1 held-out scenes of each kind at 32 x 32 pixels, decoded\n" in told
    assert "- code: ditfuse-jax " in told
    assert "## Fig. 16: what is trained on" in told
    with pytest.raises(SystemExit, match="--only blur: not one of all, m3_blur"):
        ablations.main(["train", *words, "--only", "blur"])


def test_orders_of_the_paper_are_judged(capsys):
    """On figures that are given: blocks and smoothness as in its Fig. 16, contrasts as in its Fig. 15."""
    import ablation_runs
    import ablation_tables as ablations

    class Given:
        models = dict.fromkeys(ablation_runs.NAMES)
        figures = {"fusion_only": (1.0, 50.0), "m3_only": (1.4, 90.0), "fusion_and_m3": (1.1, 80.0)}

        def mean(self, name, probe, row, column):
            blocks, detail = self.figures.get(name, (0.0, 20.0 + (name == "all")))
            return {"blockiness": blocks, "colour (levels)": 3.0}.get(column, detail)

        def tang(self, name):
            return (0.01 if name == "all" else 0.02), 66.0

        def probe(self, name, probe):
            how, high = ("words", -1.0) if name == "no_tags" else ("tag", 2.0)
            gains = {"contrast-": 0.0, "contrast+": high}
            return [{f"{task}, {how}": {"contrast gain (levels)": gain} for task, gain in gains.items()}]

    given = Given()
    ablations.degradations(given)
    ablations.tags(given)
    ablations.compositions(given)
    told = capsys.readouterr().out
    assert told.count(": reproduced") == 5
    assert "| blur | 0.0200 | 66.00 | 20.00 | 0.027 | 65.58 |" in told
    given.figures = given.figures | {"fusion_only": (1.5, 95.0)}
    ablations.compositions(given)
    assert capsys.readouterr().out.count("NOT reproduced") == 2


def test_runs_that_are_not_equal_are_refused():
    import ablation_runs as ablations

    configs = {name: ablations.settings(name, scale()) for name in ablations.NAMES}
    ablations.check_equal(configs)
    longer = configs | {"all": ablations.settings("all", scale(steps=9))}
    with pytest.raises(SystemExit, match="the runs differ in steps: .*'all': 9"):
        ablations.check_equal(longer)
    wider = configs | {"all": ablations.settings("all", scale(side=160))}
    with pytest.raises(SystemExit, match="the runs differ in sides"):
        ablations.check_equal(wider)


def test_a_trained_start_goes_on_more_slowly():
    import ablation_runs as ablations

    later = ablations.settings("all", scale(init="demo"))
    assert (later.init, later.init_vae) == ("demo", "")
    assert later.optim.learning_rate < ablations.settings("all", scale()).optim.learning_rate
    assert (later.optim.schedule, later.optim.ema_decay) == ("cosine", 0.0)
