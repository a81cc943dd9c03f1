# SPDX-License-Identifier: Apache-2.0
"""Where a fusion is computed: in ComfyUI's own process, or by a `ditfuse serve` over HTTP."""

import functools
import io
import zipfile
from typing import NamedTuple

import numpy as np
from PIL import Image

SURE = 255.0  # levels: where an invention map is a whole mask


class Made(NamedTuple):
    image: np.ndarray  # float32 [H, W, 3] in [0, 1]
    invented: np.ndarray  # float32 [H, W] in [0, 1]; zero where the server made no map
    weights: np.ndarray  # float32 [H, W] in [0, 1], 1: the first source


class Asked(NamedTuple):
    prompt: str
    task: str
    seed: int


def here(pair: list[np.ndarray], asked: Asked, checkpoint: str) -> Made:
    """By the library in this process; pair: uint8 [H, W, 3] each. checkpoint: "" for the one that ships."""
    words = {"task": asked.task or None, "seed": asked.seed}
    result = _model(checkpoint).fuse(pair, asked.prompt or None, **words)
    flat = np.zeros(result.image.shape[:2], np.float32)
    invented = flat if result.invented is None else np.clip(result.invented / SURE, 0, 1)
    return Made(
        (result.pixels + 1) / 2, invented, flat if result.weights is None else np.clip(result.weights, 0, 1)
    )


@functools.lru_cache(maxsize=1)
def _model(checkpoint: str):
    from ditfuse_jax import DiTFuse  # seconds, so on use

    return DiTFuse.from_pretrained(checkpoint) if checkpoint else DiTFuse.load()


def there(pair: list[np.ndarray], asked: Asked, server: str, token: str) -> Made:
    """By the server at an address such as http://127.0.0.1:7860; its sentence is the error."""
    import httpx

    files = [("images", (f"image{number}.png", _png(image))) for number, image in enumerate(pair, 1)]
    fields = {"prompt": asked.prompt, "task": asked.task, "seed": str(asked.seed), "format": "zip"}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        address = f"{server.rstrip('/')}/v1/fuse"
        answer = httpx.post(address, files=files, data=fields, headers=headers, timeout=None)
    except httpx.HTTPError as error:
        raise ValueError(f"no DiTFuse server at {server} ({error}); start one with: ditfuse serve") from error
    if answer.status_code != 200:
        raise ValueError(answer.json()["error"])
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        image = _floats(archive, "fused.png")
        if "weights.png" not in archive.namelist():
            flat = np.zeros(image.shape[:2], np.float32)
            return Made(image, flat, flat)
        return Made(image, _floats(archive, "invented.png"), _floats(archive, "weights.png"))


def _png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _floats(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """float32 in [0, 1]."""
    with Image.open(archive.open(name)) as picture:
        return np.asarray(picture, np.float32) / np.float32(255)
