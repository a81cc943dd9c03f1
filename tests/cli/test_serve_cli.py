# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

from ditfuse_jax.cli import serve

FLAGS = ["--no-compile-cache", "--port", "0"]


def test_a_missing_extra_is_said(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "ditfuse_jax.serve.page", raising=False)
    for name in serve.PARTS:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ditfuse_jax.serve.http", raising=False)
    assert serve.main(FLAGS, "ditfuse serve") == 2
    told = capsys.readouterr().err
    assert told.startswith("ditfuse serve: needs ")
    assert told.endswith("pip install 'ditfuse-jax[app]'\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--queue", "0"], "ditfuse serve: --queue 0 is too small; use 1 or more"),
        (["--checkpoint", "nowhere"], "ditfuse serve: no checkpoint folder nowhere"),
        (["--host", "256.0.0.1"], "ditfuse serve: cannot listen on 256.0.0.1, port 0"),
        (["--port", "99999"], "ditfuse serve: cannot listen on 127.0.0.1, port 99999"),
    ],
)
def test_a_wrong_start_is_one_sentence(flags, message, capsys, monkeypatch):
    pytest.importorskip("gradio", reason="the extra app is not installed")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "restored after the test")
    assert serve.main([*FLAGS, *flags], "ditfuse serve") == 2
    told = capsys.readouterr().err
    assert told.startswith(message)
    assert told.count("\n") == 1
