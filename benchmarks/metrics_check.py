# SPDX-License-Identifier: Apache-2.0
"""Metrics beside those of torchmetrics, which needs torch: `pip install -e ".[bench,eval]"`, then

    python benchmarks/metrics_check.py

prints both values on the example pairs and their mean. Exit code 1 where one is further off than BOUND. Never
in CI: the tests pin every metric by code of their own. MS-SSIM is not here: torchmetrics reflects the
borders at each scale, where we take whole windows alone; so of its SSIM the inner part is taken.
"""

import sys
from pathlib import Path

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.evaluation.baselines import mean
from ditfuse_jax.evaluation.metrics import colour, errors, similarity, visual

EXAMPLES = Path(__file__).parents[1] / "examples"
PAIRS = {"ivif": "png", "mff": "jpg", "mef": "jpg"}
BOUND = 1e-5  # relative; theirs partly compute in float32
BORDER = 5  # pixels: half a window of SSIM


def their_psnr(one, other):
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(one, other, data_range=255.0)


def their_ssim(one, other):
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    how = {"gaussian_kernel": True, "sigma": 1.5, "data_range": 255.0}
    _, values = ssim(one, other, **how, return_full_image=True)
    return values[..., BORDER:-BORDER, BORDER:-BORDER].mean()


def their_vif(one, other):
    from torchmetrics.functional.image import visual_information_fidelity

    return visual_information_fidelity(one, other, sigma_n_sq=2.0)


METRICS = {  # ours: grey float64 [H, W]; theirs: tensors [1, 1, H, W]; result, reference
    "PSNR": (errors.pair_psnr, their_psnr),
    "SSIM": (similarity.pair_ssim, their_ssim),
    "VIF": (visual.pair_vif, their_vif),
}


def main() -> int:
    import torch

    worst = 0.0
    print("| pair | metric | ours | torchmetrics | difference |\n|---|---|---|---|---|")
    for name, suffix in PAIRS.items():
        first, second = (image.read(EXAMPLES / name / f"image{number}.{suffix}") for number in (1, 2))
        fused, reference = colour.grey(mean(first, second)), colour.grey(first)
        tensors = [torch.from_numpy(np.ascontiguousarray(one))[None, None] for one in (fused, reference)]
        for metric, (ours, theirs) in METRICS.items():
            one, other = ours(fused, reference), float(theirs(*tensors))
            worst = max(worst, abs(one - other) / abs(other))
            print(f"| {name} | {metric} | {one:.6f} | {other:.6f} | {one - other:.1e} |")
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
