# SPDX-License-Identifier: Apache-2.0
"""The mask behind an answer to a segmentation prompt: its blue overlay against the plain fusion of the same
pictures, see image/overlay.py.
"""

from collections.abc import Sequence

import numpy as np

from ditfuse_jax import image
from ditfuse_jax.image import overlay
from ditfuse_jax.prompt import kind_of
from ditfuse_jax.task import request

PLAIN = request(task="fuse")  # what an overlay is laid over


def check(prompt: str | None, *, task: str | None, segment: Sequence[str]) -> None:
    """Raises ValueError for a request that marks nothing; the arguments are those of `task.request`."""
    if task == "seg" or (segment and task is None) or kind_of(prompt or "") == "seg":
        return
    asked = f"task {task}" if task else "words without a task"
    raise ValueError(
        f"a mask is that of a segmentation, not of {asked}; name things with --segment car,building "
        "(segment=[...] in Python), add --task seg to your words, or leave the mask away"
    )


def mask(marked, plain) -> np.ndarray:
    """Bool [H, W]: where `marked` has the overlay; both are `Fused` of the same pictures, with one seed."""
    pictures = (image.seen(each.image, each.origin.profile) for each in (marked, plain))
    return overlay.decode(*pictures).mask
