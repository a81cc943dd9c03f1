# SPDX-License-Identifier: Apache-2.0
import pytest
from pictures import folders

from ditfuse_jax.evaluation import catalogue, published
from ditfuse_jax.evaluation.__main__ import main


def test_every_row_fits_its_columns():
    found = published.tables()
    assert [one.name for one in found] == [
        *("Table I",) * 3,
        *("Table II",) * 3,
        "Table III",
        "Table IV",
        "Table V",
        "Table VI",
    ]
    for one in found:
        assert all(len(values) == len(one.columns) for values in one.rows.values())


def test_metric_columns_have_our_short_names():
    for one in published.tables():
        if one.name in ("Table I", "Table II", "Table VI"):
            assert set(one.columns) <= {*catalogue.BY_NAME, *catalogue.IQA}


def test_numbers_are_consistent_with_each_other():
    """Psnr of `tang` is 20 log10(255) - 10 log10(MSE) of one image; means over a set come close."""
    first, *_, third = published.of_dataset("MSRS")
    assert first.rows["DiTFuse"][:2] == third.rows["all three"][:2] == (0.021, 66.63)
    (iou,) = published.of_dataset("FMB")
    for column in range(4):
        values = [values[column] for name, values in iou.rows.items() if name != "Overall"]
        assert len(values) == 11
        assert sum(values) / 11 == pytest.approx(iou.rows["Overall"][column], abs=1e-4)


def test_the_second_group_of_table_one_is_m3fd():
    (table,) = published.of_dataset("m3fd")
    assert table.rows["DiTFuse"][1] == 63.81


def test_unknown_datasets_are_told():
    with pytest.raises(ValueError, match=r"no numbers on 'MRSS' \(did you mean MSRS\?\)"):
        published.of_dataset("MRSS")


def test_printed_beside_ours_and_marked(tmp_path, capsys):
    at = folders(tmp_path)
    words = ["score", "--sources", at["one"], at["two"], "--fused", at["mean_of_both"], "--task", "mff"]
    words += ["--metrics", "sf,ag", "--jobs", "1", "--published", "MFIF", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    told = capsys.readouterr().out
    assert "Published, not measured here: Table II of the DiTFuse paper, MFIF" in told
    assert "| DiTFuse | 23.81 | 8.26 | 3.891 | 68.42 | 0.668 |" in told
    assert "not measured here" in (tmp_path / "out/summary.md").read_text()
