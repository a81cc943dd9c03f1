# SPDX-License-Identifier: Apache-2.0
"""The node: IMAGE batches and a STRING in; IMAGE, MASK and weights out."""

import numpy as np

from .sources import Asked, Made, here, there

TASKS = ("", "ivif", "mff", "mef", "fuse", "light++", "light+", "light-", "light--", "contrast+", "contrast-")


class DiTFuseFuse:
    """Fuses image 1 and image 2, picture by picture of their batches.

    IMAGE is a torch tensor float32 [B, H, W, 3] in [0, 1], MASK one of [B, H, W]: ComfyUI's own.
    """

    CATEGORY = "image/fusion"
    FUNCTION = "fuse"
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE")
    RETURN_NAMES = ("fused", "invented", "weights")
    DESCRIPTION = (
        "invented: what no source explains. weights: white where image 1 decides, black for image 2."
    )

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image1": ("IMAGE", {"tooltip": "visible, far-focused or over-exposed"}),
                "image2": ("IMAGE", {"tooltip": "infrared, near-focused or under-exposed"}),
                "task": (TASKS, {"default": "fuse"}),
                "prompt": ("STRING", {"default": "", "multiline": True}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**32 - 1}),
            },
            "optional": {
                "server": (
                    "STRING",
                    {"default": "", "tooltip": "http://127.0.0.1:7860; empty: in this process"},
                ),
                "token": ("STRING", {"default": ""}),
                "checkpoint": (
                    "STRING",
                    {"default": "", "tooltip": "in this process: a folder or hf:owner/name"},
                ),
            },
        }

    def fuse(self, image1, image2, task, prompt, seed, server="", token="", checkpoint=""):
        """Raises ValueError in one sentence, which ComfyUI shows."""
        if len(image1) != len(image2):
            raise ValueError(f"{len(image1)} and {len(image2)} images; give batches of one length")
        made = []
        for number, pair in enumerate(zip(image1, image2, strict=True)):
            levels = [pixels(picture) for picture in pair]
            asked = Asked(prompt.strip(), task, seed + number)
            made.append(there(levels, asked, server, token) if server else here(levels, asked, checkpoint))
        return outputs(made)


def pixels(image) -> np.ndarray:
    """A picture of an IMAGE batch as uint8 [H, W, 3]."""
    return np.rint(np.clip(image.cpu().numpy(), 0, 1) * 255).astype(np.uint8)


def outputs(made: list[Made]) -> tuple:
    import torch  # ComfyUI's; the rest of this package does without

    image, invented, weights = (np.stack(parts).astype(np.float32) for parts in zip(*made, strict=True))
    weights = np.repeat(weights[..., None], 3, axis=-1)
    return tuple(torch.from_numpy(part) for part in (image, invented, weights))


NODE_CLASS_MAPPINGS = {"DiTFuseFuse": DiTFuseFuse}
NODE_DISPLAY_NAME_MAPPINGS = {"DiTFuseFuse": "DiTFuse: fuse two images"}
