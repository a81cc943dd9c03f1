# SPDX-License-Identifier: Apache-2.0
import math

import pytest
from pictures import coloured

from ditfuse_jax.evaluation import catalogue
from ditfuse_jax.evaluation.metrics import errors, similarity


def small_scene(task="ivif"):
    return catalogue.scene(*(coloured(48, 52, seed=seed) for seed in range(4)), task=task)


def test_all_that_the_issue_names_is_there():
    names = "mse psnr en sd sf ag mi nmi cc scd ssim ms_ssim mef_ssim vif qabf nabf q_w q_cv q_cb ciede cf"
    names = names.split(" ")
    assert set(names) <= set(catalogue.BY_NAME)
    assert set(catalogue.choose("all", task="mff", truth=False).metrics) == set(names)


def test_paper_means_the_table_of_the_task():
    found = catalogue.choose("paper", task="mef", truth=False)
    assert set(found.metrics) == {*catalogue.LEAD, "en", "sd"}
    assert found.iqa == ("liqe", "clipiqa+", "musiq")
    assert catalogue.choose("paper", task="ivif", truth=True).metrics[0] == "psnr_truth"


def test_names_are_checked():
    with pytest.raises(ValueError, match="'psnrr' is not known"):
        catalogue.choose("en,psnrr", task="mff", truth=False)
    with pytest.raises(ValueError, match="psnr_truth compares with a truth; add --truth DIR"):
        catalogue.choose("psnr_truth", task="mff", truth=False)


@pytest.mark.parametrize("protocol", catalogue.PROTOCOLS)
def test_every_metric_has_a_value(protocol):
    pytest.importorskip("skimage", reason="the extra eval is not installed")
    one = small_scene()
    for metric in catalogue.METRICS:
        if metric.name != "ms_ssim":  # needs 176 pixels
            assert math.isfinite(metric.compute(one, protocol)), metric.name


def test_protocols_differ_where_they_should():
    one = small_scene()
    changed = {metric.name for metric in catalogue.METRICS if metric.tang is not None}
    assert changed == {"qabf", "mse", "psnr", "sd", "ag", "mi", "ssim", "ms_ssim", "nabf"}
    psnr = catalogue.BY_NAME["psnr"]
    assert psnr.compute(one, "tang") - psnr.compute(one, "standard") == pytest.approx(48.1308, abs=1e-4)
    ssim = catalogue.BY_NAME["ssim"]
    assert ssim.compute(one, "tang") == similarity.mef_ssim(one.a, one.b, one.f)


def test_metrics_see_the_right_pictures():
    one = small_scene()
    assert catalogue.BY_NAME["psnr"].compute(one, "standard") == errors.psnr(one.a, one.b, one.f)
    assert catalogue.BY_NAME["psnr_truth"].compute(one, "standard") == errors.pair_psnr(one.fused, one.truth)


def test_colour_error_is_to_the_visible_image_and_else_to_both():
    colour = pytest.importorskip("skimage.color")
    one = small_scene("ivif")
    to = [
        float(colour.deltaE_ciede2000(colour.rgb2lab(source), colour.rgb2lab(one.fused)).mean())
        for source in (one.first, one.second)
    ]
    assert catalogue.BY_NAME["ciede"].compute(one, "standard") == pytest.approx(to[0])
    assert catalogue.BY_NAME["ciede"].compute(small_scene("mff"), "standard") == pytest.approx(sum(to) / 2)


def test_code_version_names_package_and_metrics():
    assert catalogue.code_version().startswith("ditfuse-jax ")
    assert catalogue.code_version() == catalogue.code_version()
