# SPDX-License-Identifier: Apache-2.0
"""Damaged pictures and checkpoints, as disks, downloads and editors make them."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SAVED = {  # name -> suffix, mode, options of Pillow
    "png": (".png", "RGB", {}),
    "png alpha": (".png", "RGBA", {}),
    "png palette": (".png", "P", {}),
    "png bilevel": (".png", "1", {}),
    "png deep": (".png", "I;16", {}),
    "jpeg": (".jpg", "RGB", {"quality": 80}),
    "jpeg grey": (".jpg", "L", {}),
    "jpeg progressive": (".jpg", "RGB", {"progressive": True}),
    "jpeg cmyk": (".jpg", "CMYK", {}),
    "tiff": (".tif", "RGB", {}),
    "tiff lzw": (".tif", "RGB", {"compression": "tiff_lzw"}),
    "tiff deflate": (".tif", "L", {"compression": "tiff_adobe_deflate"}),
    "tiff jpeg": (".tif", "RGB", {"compression": "jpeg"}),
    "tiff fax": (".tif", "1", {"compression": "group4"}),
    "tiff float": (".tif", "F", {}),
    "tiff deep": (".tif", "I;16", {}),
    "webp": (".webp", "RGB", {}),
    "webp lossless": (".webp", "RGBA", {"lossless": True}),
    "bmp": (".bmp", "RGB", {}),
    "bmp palette": (".bmp", "P", {}),
}
VALUES = (
    None,
    True,
    -1,
    0,
    0.5,
    10**12,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "x" * 10**5,
    [],
    {},
    [[[]]],
)


def pictures() -> dict[str, tuple[str, bytes]]:
    """name -> suffix, bytes of a small whole picture, 48 x 32, of every kind that is read."""
    levels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    smooth = Image.fromarray(levels).resize((48, 32), Image.Resampling.BICUBIC)
    made = {}
    for name, (suffix, mode, options) in SAVED.items():
        if mode == "I;16":
            image = Image.fromarray(np.asarray(smooth.convert("L")).astype(np.uint16) * 257)
        elif mode == "F":
            image = Image.fromarray(np.asarray(smooth.convert("L"), np.float32) / 255)
        else:
            image = smooth.convert(mode)
        stream = io.BytesIO()
        image.save(stream, Image.registered_extensions()[suffix], **options)
        made[name] = (suffix, stream.getvalue())
    return made


def damage(rng: np.random.Generator, data: bytes) -> bytes:
    """The bytes cut, flipped, blanked, moved, mixed or replaced; mostly near the start, where headers are."""
    kind = rng.integers(8)
    at = int(len(data) * rng.random() ** 3)
    size = int(rng.integers(1, max(2, min(64, len(data)))))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes(size) + data[at + size :]
    if kind == 2:
        return data[:at] + rng.bytes(size) + data[at + size :]
    if kind == 3:
        return data[:at] + data[at + size :]
    if kind == 4:
        return data[:at] + rng.bytes(size) + data[at:]
    if kind == 5:
        return data[:at] + b"\xff" * min(size, 8) + data[at + min(size, 8) :]
    if kind == 6:
        return rng.bytes(int(rng.integers(0, 200)))
    changed = bytearray(data)
    for place in (len(data) * rng.random(int(rng.integers(1, 9))) ** 2).astype(int):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def damage_json(rng: np.random.Generator, data: bytes) -> bytes:
    """One value anywhere replaced by another kind of value, a key lost or added; or the bytes damaged."""
    if rng.random() < 0.3:
        return damage(rng, data)
    values = json.loads(data)
    table = values
    while True:
        keys = list(table) if isinstance(table, dict) else list(range(len(table)))
        if not keys:
            break
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(table[key], dict | list) and table[key] and rng.random() < 0.8:
            table = table[key]
            continue
        change = rng.integers(6)
        if change == 0:
            del table[key]
        elif change == 1 and isinstance(table, dict):
            table[f"{key}x"] = table[key]
        else:
            table[key] = VALUES[int(rng.integers(len(VALUES)))]
        break
    return json.dumps(values).encode()


def damage_folder(rng: np.random.Generator, source: Path, target: Path) -> str:
    """A copy of a folder with one damaged, lost or empty file; returns which."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    tensors = [path for path in files if path.suffix == ".safetensors"]
    configs = [path for path in files if path.name in ("config.json", "adapter_config.json")]
    group = (files, tensors, configs)[int(rng.integers(3))]
    file = group[int(rng.integers(len(group)))]
    data = file.read_bytes()
    if rng.random() < 0.05:
        file.unlink()
    elif file.suffix == ".json":
        file.write_bytes(damage_json(rng, data))
    elif rng.random() < 0.5 and file.suffix == ".safetensors":  # inside the header
        length = 8 + int.from_bytes(data[:8], "little")
        file.write_bytes(damage(rng, data[:length]) + data[length:])
    else:
        file.write_bytes(damage(rng, data))
    return str(file.relative_to(target))
