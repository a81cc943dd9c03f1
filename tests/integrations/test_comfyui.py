# SPDX-License-Identifier: Apache-2.0
"""The ComfyUI node without ComfyUI: stand-ins for its tensors and for torch, a server's real answers."""

import importlib
import io
import sys
import zipfile
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image

from runs import PROJECT

pytestmark = pytest.mark.usefixtures("small_blocks")


class Tensor(np.ndarray):
    """As much of a torch tensor as the node touches."""

    def cpu(self):
        return self

    def numpy(self):
        return np.asarray(self)


@pytest.fixture
def nodes(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "integrations")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(from_numpy=lambda array: array))
    yield importlib.import_module("comfyui.nodes")
    for name in [name for name in sys.modules if name.split(".")[0] == "comfyui"]:
        del sys.modules[name]


def batch(count, seed):
    return np.random.default_rng(seed).random((count, 16, 24, 3), dtype=np.float32).view(Tensor)


def test_in_this_process_each_pair_of_the_batch_is_fused(nodes, monkeypatch):
    def fuse(pair, prompt, *, task, seed):
        assert all(image.dtype == np.uint8 for image in pair)
        assert (prompt, task) == (None, "mff")
        pixels = np.full((16, 24, 3), seed / 10, np.float32)
        return SimpleNamespace(image=pair[0], pixels=pixels, invented=pixels[..., 0] * 255, weights=None)

    monkeypatch.setattr("comfyui.sources._model", lambda _: SimpleNamespace(fuse=fuse))
    image, invented, weights = nodes.DiTFuseFuse().fuse(batch(2, 0), batch(2, 1), "mff", " ", 5)
    assert (image.shape, invented.shape, weights.shape) == ((2, 16, 24, 3), (2, 16, 24), (2, 16, 24, 3))
    assert all(part.dtype == np.float32 for part in (image, invented, weights))
    np.testing.assert_allclose(image[:, 0, 0, 0], [0.75, 0.8])
    np.testing.assert_allclose(invented[:, 0, 0], [0.5, 0.6])
    with pytest.raises(ValueError, match="2 and 1 images; give batches of one length"):
        nodes.DiTFuseFuse().fuse(batch(2, 0), batch(1, 1), "mff", "", 0)


def test_a_server_is_asked_and_its_sentence_is_the_error(nodes, monkeypatch):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, mode, level in (("fused", "RGB", 255), ("weights", "L", 51), ("invented", "L", 0)):
            with archive.open(f"{name}.png", "w") as file:
                Image.new(mode, (24, 16), (level,) * 3 if mode == "RGB" else level).save(file, "PNG")
    asked = []

    def post(address, *, files, data, headers, timeout):
        asked.append((address, data["seed"], headers))
        with Image.open(io.BytesIO(files[1][1][1])) as second:
            assert second.size == (24, 16)
        if data["task"] == "fuse":
            return httpx.Response(200, content=content.getvalue())
        return httpx.Response(400, json={"error": "one sentence"})

    monkeypatch.setattr(httpx, "post", post)
    node, more = nodes.DiTFuseFuse(), {"server": "http://127.0.0.1:7860/", "token": "t"}
    image, _, weights = node.fuse(batch(1, 0), batch(1, 1), "fuse", "x", 7, **more)
    assert asked == [("http://127.0.0.1:7860/v1/fuse", "7", {"authorization": "Bearer t"})]
    assert image.min() == 1
    np.testing.assert_allclose(weights, 0.2)
    with pytest.raises(ValueError, match="^one sentence$"):
        node.fuse(batch(1, 0), batch(1, 1), "mff", "x", 7, **more)


def test_what_it_offers_is_what_the_library_takes(nodes):
    from ditfuse_jax.task import TASKS, request

    assert {name for name in nodes.TASKS if name} == TASKS.keys() - {"seg"}
    assert all(request(task=name or None) for name in nodes.TASKS)
    inputs = nodes.DiTFuseFuse.INPUT_TYPES()
    names = {*inputs["required"], *inputs["optional"]}
    assert names == {"image1", "image2", "task", "prompt", "seed", "server", "token", "checkpoint"}
