# SPDX-License-Identifier: Apache-2.0
"""The judge against a local HTTP server that speaks the protocol of chat completions."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from pictures import coloured, write, write_mask
from PIL import Image

from ditfuse_jax.data.segmentation import overlay
from ditfuse_jax.evaluation import judge
from ditfuse_jax.evaluation.__main__ import main
from ditfuse_jax.evaluation.verdicts import Verdict

openai = pytest.importorskip("openai", reason="the extra judge is not installed")


class Server(ThreadingHTTPServer):
    """Answers from the picture that it is sent; the first `refused` requests fail."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.refused, self.text = [], 0, None
        self.lock, self.running, self.most = threading.Lock(), 0, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, self.headers["Authorization"], body))
            refuse = len(self.server.requests) <= self.server.refused
        if refuse:
            self.reply(429, {"error": {"message": "slow down"}}, retry="0.01")
            return
        text = self.server.text or json.dumps(answer(body))
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        head = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        self.reply(200, head | {"choices": [choice]})

    def reply(self, status, body, retry=None):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry:
            self.send_header("Retry-After", retry)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


def answer(body):
    """Bluer in the second picture than in the first: all right."""
    text, *pictures = body["messages"][1]["content"]
    images = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one["image_url"]["url"].split(",")[1]))))
        for one in pictures
    ]
    marked = bool(images[1][..., 2].mean() > images[0][..., 2].mean() + 5)
    return {"precision": True, "recall": marked, "contour": "car" in text["text"]}


@pytest.fixture
def server():
    one = Server()
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield one
    one.shutdown()
    thread.join()
    one.server_close()


def questions():
    plain = coloured(32, 40)
    mask = np.ones((32, 40), bool)
    marked = overlay(plain, mask)
    return [
        judge.Question("a", "car", plain, marked),
        judge.Question("a", "sky", plain, marked),
        judge.Question("b", "car", plain, plain),
    ]


WANTED = {
    ("a", "car"): Verdict(True, True, True),
    ("a", "sky"): Verdict(True, True, False),
    ("b", "car"): Verdict(True, False, True),
}


def make(server, tmp_path):
    client = openai.OpenAI(base_url=server.url, api_key="test", max_retries=2)
    return client, judge.Judge(client, "eyes-1", tmp_path / "answers.jsonl")


def test_answers_come_back_and_are_asked_once(server, tmp_path):
    client, one = make(server, tmp_path)
    with client:
        done = []
        found, problems = one.ask(questions(), at_once=2, on_done=lambda: done.append(1))
        assert (found, problems, len(done)) == (WANTED, [], 3)
        assert len(server.requests) == 3
        again = judge.Judge(client, "eyes-1", tmp_path / "answers.jsonl")
        assert again.estimate(questions()) == (0, 3, 0, 0)
        assert again.ask(questions(), at_once=2, on_done=lambda: None)[0] == WANTED
        assert len(server.requests) == 3  # all from the file
        assert judge.Judge(client, "eyes-2", tmp_path / "answers.jsonl").estimate(questions()).requests == 3
    path, key, body = server.requests[0]
    assert (path, key, body["model"], body["temperature"]) == (
        "/v1/chat/completions",
        "Bearer test",
        "eyes-1",
        0,
    )


def test_refused_requests_are_repeated(server, tmp_path):
    server.refused = 1
    client, one = make(server, tmp_path)
    with client:
        found, problems = one.ask(questions()[:1], at_once=1, on_done=lambda: None)
    assert (list(found.values()), problems) == ([WANTED["a", "car"]], [])
    assert len(server.requests) == 2


def test_replies_that_answer_nothing_are_lines_and_are_not_kept(server, tmp_path):
    server.text = "I cannot tell."
    client, one = make(server, tmp_path)
    with client:
        found, problems = one.ask(questions()[:1], at_once=1, on_done=lambda: None)
    assert found == {}
    assert "a, car: the reply 'I cannot tell.' does not answer" in problems[0]
    assert (tmp_path / "answers.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"precision": true, "recall": false, "contour": true}', Verdict(True, False, True)),
        ('```json\n{"precision": true, "recall": true, "contour": true}\n```', Verdict(True, True, True)),
    ],
)
def test_replies_are_read(text, verdict):
    assert judge.parse(text) == verdict


def test_answers_other_than_true_and_false_are_refused():
    with pytest.raises(ValueError, match="other than true and false"):
        judge.parse('{"precision": "yes", "recall": true, "contour": true}')


def test_cost_is_tokens_times_price():
    estimate = judge.Estimate(requests=2, cached=0, tokens_in=3_000_000, tokens_out=500_000)
    assert estimate.cost(2.5, 10.0) == pytest.approx(12.5)


def answers(tmp_path):
    plain = coloured(32, 40)
    mask = np.zeros((32, 40), bool)
    mask[:16] = True
    write(tmp_path / "fused" / "a.png", plain)
    write(tmp_path / "answers" / "car" / "a.png", overlay(plain, mask))
    return mask


def test_command_counts_first_and_sends_when_told(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    answers(tmp_path)
    words = [
        "judge",
        "--overlays",
        f"ours={tmp_path / 'answers'}",
        "--fused",
        tmp_path / "fused",
        "--model",
        "eyes-1",
    ]
    words += [
        "--base-url",
        server.url,
        "--ask",
        "car",
        "--price-in",
        "2.5",
        "--price-out",
        "10",
        "--out",
        tmp_path / "out",
    ]
    words = [str(word) for word in words]
    assert main(words) == 0
    assert "1 requests (0 answers are cached)" in capsys.readouterr().out
    assert server.requests == []
    assert main([*words, "--yes"]) == 0
    assert "| car | 1.00 | 1.00 | 1.00 | 1 |" in (tmp_path / "out/judge.md").read_text()
    assert len(server.requests) == 1


def test_command_is_exact_from_labels(tmp_path, capsys):
    mask = answers(tmp_path)
    labels = np.where(mask, np.uint8(1), np.uint8(0))
    write(tmp_path / "labels" / "a.png", labels)
    (tmp_path / "classes.txt").write_text("0 other\n1 car\n")
    write_mask(tmp_path / "masks" / "car" / "a.png", mask)
    words = [
        "judge",
        "--masks",
        f"ours={tmp_path / 'masks'}",
        "--labels",
        tmp_path / "labels",
        "--ask",
        "car",
    ]
    words += ["--classes", tmp_path / "classes.txt", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 0
    text = capsys.readouterr().out
    assert "- judge: exact, from labels" in text
    assert "| car | 1.00 | 1.00 | 1.00 | 1 |" in text
    assert main([*(str(word) for word in words), "--model", "eyes-1"]) == 2
    assert "who judges?" in capsys.readouterr().err
