# SPDX-License-Identifier: Apache-2.0
"""Checkpoints by name: a hub on this machine, its cache offline, published layouts converted once."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import PATIENCE, golden
from convert.__main__ import main as convert
from ditfuse_jax.inference import pretrained
from ditfuse_jax.inference.fuse import DiTFuse
from runs import PROJECT, environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOS = {"acme/tiny": "ckpt_tiny", "acme/adapter": "dit_tiny/lora_attn"}
USE = """
from ditfuse_jax import DiTFuse
print(DiTFuse.from_pretrained("hf:acme/tiny", lora="acme/adapter").checkpoint_id)
print(DiTFuse.from_pretrained("acme/tiny", revision="main").checkpoint_id)
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as fetching a folder takes: its list of files, and the files."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        for name, folder in REPOS.items():
            if path.startswith(f"api/models/{name}/"):
                files = [file for file in sorted(golden(folder).rglob("*")) if file.is_file()]
                return self.answer_list(name, path, golden(folder), files)
            if path.startswith(f"{name}/resolve/"):
                file = golden(folder) / path.split("/", 4)[4]
                return self.answer(file.read_bytes()) if file.is_file() else self.answer(b"", 404)
        return self.answer(b"", 404)

    def answer_list(self, name, path, root, files):
        names = [str(file.relative_to(root)) for file in files]
        if "/tree/" in path:
            sizes = [(name, file.stat().st_size) for name, file in zip(names, files, strict=True)]
            told = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes]
        else:
            told = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
        return self.answer(json.dumps(told).encode(), kind="application/json")

    def answer(self, content, code=200, kind="application/octet-stream"):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(folder, endpoint, **more) -> subprocess.CompletedProcess:
    places = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(folder / "cache")}
    settings = environment() | places | {"HF_HUB_DISABLE_XET": "1"} | more
    command = [sys.executable, "-c", USE]
    return subprocess.run(
        command, env=settings, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE
    )


def test_a_name_of_the_hub_is_fetched_converted_and_kept(hub, tmp_path):
    first = run(tmp_path, hub)
    assert first.returncode == 0, first.stderr
    merged, plain = first.stdout.split()
    assert plain.startswith("acme--tiny-")
    assert merged == f"{plain}+{COMMIT}"
    assert len(list((tmp_path / "cache" / "ditfuse-jax" / "converted").glob("acme--tiny-*/config.json"))) == 1
    offline = run(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, first.stdout), offline.stderr
    empty = run(tmp_path / "other", "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert "acme/tiny is not here and cannot be fetched" in empty.stderr


def test_a_published_folder_is_converted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = pretrained.checkpoint(golden("ckpt_tiny"))
    made = (folder / "config.json").stat().st_mtime_ns
    assert pretrained.checkpoint(golden("ckpt_tiny")) == folder
    assert pretrained.checkpoint(folder) == folder
    assert (folder / "config.json").stat().st_mtime_ns == made
    assert folder.is_relative_to(tmp_path)


def test_names_that_are_nothing(tmp_path, capsys):
    for name, message in (
        ("nowhere", "nowhere does not exist; name a folder, or a hub id such as hf:owner/name"),
        ("hf:x", "hf:x is no hub id; write hf:owner/name"),
    ):
        with pytest.raises(ValueError, match=message):
            DiTFuse.from_pretrained(name)
    with pytest.raises(ValueError, match="revision 'x' goes with a hub id, and .* is a folder"):
        DiTFuse.from_pretrained(tmp_path, revision="x")
    assert convert(["omnigen", "Shitao/OmniGen-v1", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "Shitao/OmniGen-v1 does not exist; name a folder, or a hub id as hf:Shitao/OmniGen-v1" in told
