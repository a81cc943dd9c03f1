# SPDX-License-Identifier: Apache-2.0
"""The paper's no-reference scorers (MANIQA, LIQE, CLIPIQA+, MUSIQ) through pyiqa, the extra `iqa`.

pyiqa is PolyForm-Noncommercial, needs torch and fetches weights when a scorer is first made. Its scores
depend on checkpoint, size and, for MANIQA, on random crops: so names and seed are fixed and nothing is
resized.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Scorer = Callable[[np.ndarray], float]  # uint8 [H, W, 3] -> score, higher is better

# Our name -> pyiqa's, which stands for a checkpoint: KonIQ for maniqa and musiq.
CHECKPOINTS = {"maniqa": "maniqa", "liqe": "liqe", "clipiqa+": "clipiqa+", "musiq": "musiq"}
SEED = 0  # before every image
HELP = (
    "pip install 'ditfuse-jax[iqa]' brings pyiqa (PolyForm-Noncommercial), which fetches their weights on "
    "first use and needs the network for that"
)


class Available(NamedTuple):
    scorers: dict[str, Scorer]
    missing: str  # one sentence, or ""
    source: str  # what a table states


def available(names: Sequence[str], load: Callable[[str], tuple[Scorer, str]]) -> Available:
    """The scorers that can be made here. load: of a name the scorer and its version (`load_pyiqa`)."""
    scorers, lost, source = {}, {}, ""
    for name in names:
        try:
            scorers[name], source = load(CHECKPOINTS[name])
        except (ImportError, OSError, RuntimeError) as error:  # not installed; weights that cannot be had
            lost[name] = str(error).partition("\n")[0]
    missing = ""
    if lost:
        reason = next(iter(lost.values()))
        missing = f"left out: {', '.join(lost)} ({reason}); {HELP}; all other columns are computed"
    return Available(scorers, missing, source)


def load_pyiqa(name: str) -> tuple[Scorer, str]:
    """Raises ImportError without pyiqa, and what the download raises without weights."""
    import pyiqa
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    metric = pyiqa.create_metric(name, device=device)

    def score(image: np.ndarray) -> float:
        torch.manual_seed(SEED)  # MANIQA draws crops
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
        with torch.no_grad():
            return float(metric(pixels.permute(2, 0, 1)[None].float() / 255).item())

    return score, f"pyiqa {pyiqa.__version__} on {device}, seed {SEED}, native size, PolyForm-Noncommercial"
