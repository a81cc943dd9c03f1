# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from ditfuse_jax.evaluation import trust as module
from ditfuse_jax.evaluation.__main__ import main
from ditfuse_jax.evaluation.scoring import Row
from ditfuse_jax.image import read
from synthetic import synthetic_root  # noqa: F401  (a fixture)

pytest.importorskip("scipy", reason="the extra eval is not installed")


def rows(stem, **values):
    """A row per method; values by metric, in the order of the methods."""
    names = list(values)
    lines = zip(*values.values(), strict=True)
    return [
        Row(f"m{i}", stem, (64, 48), dict(zip(names, line, strict=True)), (0.0, 0.0, 1.0), False, ())
        for i, line in enumerate(lines)
    ]


def test_correlation_with_the_order_of_the_truth():
    found = module.trust(
        rows(
            "a",
            psnr_truth=(20, 21, 22, 23),
            ssim_truth=(0.9, 0.8, 0.7, 0.6),
            vif=(1, 2, 3, 4),
            mse=(4, 3, 2, 1),  # lower is better: the same order
            en=(2, 1, 3, 4),
            cf=(1, 2, 3, 4),  # no direction: left out
        )
    )
    by_name = {one.metric: one for one in found}
    assert set(by_name) == {"vif", "mse", "en"}
    assert by_name["vif"][1:] == pytest.approx((1, -1, 1))
    assert by_name["mse"][1:] == pytest.approx((1, -1, 1))
    assert by_name["en"].psnr == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 - 6 sum d^2 / (n (n^2 - 1))


def test_mean_over_images_and_best_first():
    truth = {"psnr_truth": (1, 2, 3, 4), "ssim_truth": (1, 2, 3, 4)}
    both = [
        *rows("a", **truth, sf=(1, 2, 3, 4), vif=(1, 2, 3, 4)),
        *rows("b", **truth, sf=(4, 3, 2, 1), vif=(1, 2, 3, 4)),
        *rows("c", **truth, sf=(1, math.nan, 2, 3), vif=(5, 5, 5, 5)),  # too few, and no order
    ]
    found = module.trust(both)
    assert [one.metric for one in found] == ["vif", "sf"]
    assert found[0] == ("vif", 1, 1, 2)
    assert found[1] == ("sf", 0, 0, 2)
    assert "| VIF | 1.00 | 1.00 | 2 |" in module.markdown(found, both, {})


def test_three_methods_are_no_order():
    with pytest.raises(ValueError, match="3 methods give no order"):
        module.trust(rows("a", psnr_truth=(1, 2, 3), ssim_truth=(1, 2, 3), vif=(1, 2, 3)))


@pytest.mark.parametrize("kind", list(module.KINDS))
def test_simulated_pairs_lie_beside_their_truth(root, tmp_path, kind):
    module.simulate(kind, root, tmp_path / "made", limit=0)
    assert [file.name for file in (tmp_path / "made/truth").iterdir()] == ["p11.png"]  # the held-out photo
    first, second, truth = (
        read(tmp_path / "made" / side / "p11.png") for side in ("image1", "image2", "truth")
    )
    np.testing.assert_array_equal(truth, read(root / "photos/p11.jpg"))
    assert (first != truth).any()
    assert (second != truth).any()


def test_command_simulates_and_writes_the_table(root, tmp_path, capsys):
    out = tmp_path / "trusted"
    assert main(["trust", "--simulate", "focus", "--data", str(root), "--jobs", "1", "--out", str(out)]) == 0
    table = (out / "trust.md").read_text()
    assert table.startswith("- task: mff\n- protocol: standard\n- colour: ")
    assert "- code: ditfuse-jax" in table
    assert "across 5 methods (mean, maximum," in table
    assert "| Qabf |" in table
    assert table in capsys.readouterr().out


def test_command_needs_a_truth(tmp_path, capsys):
    assert main(["trust", "--out", str(tmp_path)]) == 2
    assert "trust needs a truth" in capsys.readouterr().err
