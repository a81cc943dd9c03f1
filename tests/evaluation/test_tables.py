# SPDX-License-Identifier: Apache-2.0
import csv
import json
import math

import pytest

from ditfuse_jax.evaluation import plots, report, tables
from ditfuse_jax.evaluation.scoring import Row, Settings
from ditfuse_jax.evaluation.summary import mean_rank, ranks, summarise

NAN = math.nan


def row(method, stem, *, moved=False, resized=False, **values):
    return Row(method, stem, (64, 48), values, (3.0 if moved else 0.0, 0.0, 0.9), resized, ())


ROWS = [
    row("ours", "a", vif=1.0, mse=10.0, cf=5.0),
    row("ours", "b", vif=2.0, mse=30.0, cf=5.0),
    row("the_other", "a", vif=0.5, mse=5.0, cf=6.0),
    row("the_other", "b", vif=0.7, mse=NAN, cf=6.0),
]
FACTS = {"task": "mff", "protocol": "standard"}


def test_means_leave_out_what_is_missing_and_count_it():
    ours, other = summarise(ROWS)
    assert ours.cells["vif"][:4] == (1.5, 0.5, 1.5, 2)
    assert other.cells["mse"] == (5.0, 0.0, 5.0, 1, 1)


def test_ranks_know_the_direction():
    methods = summarise(ROWS)
    assert ranks(methods, "vif") == {"ours": 1, "the_other": 2}
    assert ranks(methods, "mse") == {"ours": 2, "the_other": 1}
    assert ranks(methods, "cf") == {}
    assert mean_rank(methods) == {"ours": 1.0, "the_other": 2.0}  # over VIF alone


def test_equal_means_share_a_rank():
    methods = summarise([row(name, "a", vif=value) for name, value in (("x", 1.0), ("y", 1.0), ("z", 0.5))])
    assert ranks(methods, "vif") == {"x": 1, "y": 1, "z": 3}


def test_csv_has_a_row_a_stem_and_a_column_a_metric():
    lines = list(csv.DictReader(tables.rows_csv(ROWS).splitlines()))
    assert [line["stem"] for line in lines] == ["a", "b", "a", "b"]
    assert lines[0]["vif"] == "1"
    assert lines[3]["mse"] == ""
    assert (lines[0]["width"], lines[0]["height"]) == ("64", "48")


def test_json_is_strict_and_complete():
    entry = json.loads(tables.summary_json(summarise(ROWS), FACTS), parse_constant=pytest.fail)
    assert entry["facts"] == FACTS
    assert entry["methods"]["ours"]["values"]["vif"]["mean"] == 1.5
    assert entry["metrics"]["mse"]["better"] == "down"
    empty = json.loads(
        tables.summary_json(summarise([row("x", "a", vif=NAN)]), FACTS), parse_constant=pytest.fail
    )
    assert empty["methods"]["x"]["values"]["vif"]["mean"] is None


def test_markdown_marks_the_best_and_what_is_odd():
    text = tables.markdown(summarise([*ROWS, row("moved", "a", moved=True, vif=9.0, mse=9.0, cf=1.0)]), FACTS)
    assert "- protocol: standard" in text
    assert "| method | images | VIF ↑ | MSE ↓ | colourfulness | mean rank |" in text
    assert "| ours | 2 | 1.500 | 20.00 | 5.000 | 2.00 |" in text
    assert "| the_other | 2 | 0.6000 | **5.000** |" in text
    assert "| moved (!) | 1 | **9.000** |" in text
    assert "moved: 1 of 1 results are shifted" in text
    assert "Reference metrics mean little." in text
    assert "the_other: images without a finite value: MSE 1." in text


def test_one_method_is_not_marked_best():
    assert "**" not in tables.markdown(summarise(ROWS[:2]), FACTS)


def test_latex_escapes_and_marks():
    text = tables.latex(summarise(ROWS), FACTS)
    assert "% protocol: standard" in text
    assert "the\\_other & 0.6000 & \\textbf{5.000} & 6.000 \\\\" in text
    assert text.count("&") == 3 * 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (66.63, "66.63"),
        (0.0213, "0.02130"),
        (1234.5, "1234"),
        (0, "0"),
        (1.72e-6, "1.72e-06"),
        (NAN, "-"),
        (-2, "-2.000"),
    ],
)
def test_numbers_have_four_digits(value, text):
    assert tables.number(value) == text


def test_writing_leaves_no_part_file(tmp_path):
    tables.write(tmp_path / "new" / "a.md", "text ↑\n")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.md"]
    assert (tmp_path / "new" / "a.md").read_text("utf-8") == "text ↑\n"


def test_means_are_over_the_images_that_all_methods_have():
    rows = [*ROWS, row("ours", "c", vif=9.0, mse=1.0, cf=1.0)]
    assert report.common(rows) == ROWS
    with pytest.raises(ValueError, match="no image has a usable result of every method"):
        report.common([row("x", "a", vif=1.0), row("y", "b", vif=1.0)])


def test_every_table_states_what_it_depends_on():
    stated = report.facts(ROWS, Settings("mff", "tang", ("vif",), False))
    assert set(stated) == {"task", "protocol", "colour", "sizes", "code"}
    assert "not verified against MATLAB" in stated["protocol"]
    assert stated["sizes"] == "64 x 48 (2)"


def test_plot_is_drawn_with_missing_values(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra eval is not installed")
    plots.draw([*ROWS, row("third", "a", vif=NAN, mse=1.0, cf=2.0)], tmp_path / "plots" / "metrics.png")
    assert (tmp_path / "plots" / "metrics.png").stat().st_size > 10_000
