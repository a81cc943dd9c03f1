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


def flat(name):
    import ablations

    return train_config.flat(train_config.to_dict(ablations.settings(name, 7, init="", init_vae="vae")))


def test_eight_runs_differ_from_one_in_one_thing():
    import ablations

    base = flat("all")
    assert (base["steps"], base["seed"], base["init_vae"]) == (7, 0, "vae")
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
    assert ablations.settings("m3_blur", 7, init="", init_vae="").mixture.m3.operations == ("blur",)
    kept = ablations.settings("fusion_and_m3", 7, init="", init_vae="").mixture.sources
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
    import ablations

    tiny = train_config.load(PROJECT / "configs" / "smoke.py")
    tiny = train_config.override(tiny, ["batch_size=8", "model.num_layers=1"])
    monkeypatch.setattr(ablations, "load", lambda _: tiny)
    monkeypatch.setattr(ablations, "SIDE", 32)
    monkeypatch.setattr(ablations, "LEAST", 32)
    monkeypatch.setattr(ablations, "SAMPLING", ablations.SAMPLING | {"steps": 1, "noises": 1})
    words = ["--out", str(tmp_path / "out"), "--data", str(data(tmp_path / "data"))]
    train = ["train", *words, "--only", "m3_only", "--steps", "2", "--init-vae", ""]
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
    ablations.main(["measure", *words, "--limit", "1"])
    told = capsys.readouterr().out
    assert told.startswith("m3_only: m3_only-")
    assert "## Fig. 16: what is trained on" in told
    assert "\n| m3_only | " in told
    with pytest.raises(SystemExit, match="--only blur: not one of all, m3_blur"):
        ablations.main([*train[:-6], "--only", "blur"])


def test_orders_of_the_paper_are_judged(capsys):
    """On figures that are given: blocks and smoothness as in its Fig. 16, contrasts as in its Fig. 15."""
    import ablations

    class Given:
        models = dict.fromkeys(ablations.NAMES)
        figures = {"fusion_only": (1.0, 50.0), "m3_only": (1.4, 90.0), "fusion_and_m3": (1.1, 80.0)}

        def mean(self, name, probe, row, column):
            blocks, detail = self.figures.get(name, (0.0, 20.0 + (name == "all")))
            return {"blockiness": blocks, "colour (levels)": 3.0}.get(column, detail)

        def tang(self, name):
            return 0.02, 66.0

        def probe(self, name, probe):
            how, high = ("words", -1.0) if name == "no_tags" else ("tag", 2.0)
            gains = {"contrast-": 0.0, "contrast+": high}
            return [{f"{task}, {how}": {"contrast gain (levels)": gain} for task, gain in gains.items()}]

    given = Given()
    ablations.degradations(given)
    ablations.tags(given)
    ablations.compositions(given)
    told = capsys.readouterr().out
    assert told.count(": reproduced") == 4
    assert "| blur | 0.0200 | 66.00 | 20.00 | 0.027 | 65.58 |" in told
    given.figures = given.figures | {"fusion_only": (1.5, 95.0)}
    ablations.compositions(given)
    assert capsys.readouterr().out.count("NOT reproduced") == 2
