# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from ditfuse_jax.data import jsonl
from ditfuse_jax.data.__main__ import command
from synthetic import synthetic_root  # noqa: F401

BOTH = "Fuse <img><|image_1|></img> and <img><|image_2|></img>."
GOOD = {"instruction": BOTH, "input_images": ["v0.png", "i0.png"], "output_image": "t0.png"}


def text_of(**changes) -> bytes:
    """A good line and, behind it, one with changes."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in (GOOD, GOOD | changes)).encode()


BAD = {
    "no placeholder": (text_of(instruction="Fuse both images"), "names images [], but there are 2 sources"),
    "one placeholder": (text_of(instruction="Fuse <|image_1|>"), "names images [1], but there are 2 sources"),
    "mistyped": (text_of(instruction=BOTH.replace("_1|>", "_1>")), "'<|image_1>' is no placeholder"),
    "no images": (text_of(input_images=None), "names images [1, 2], but there are 0 sources"),
    "null instruction": (text_of(instruction=None), "instruction is None; write a string"),
    "null output": (text_of(output_image=None), "output_image is None; write a string"),
    "empty output": (text_of(output_image=" "), "output_image is ' '; write a string"),
    "a number": (text_of(input_images=["v0.png", 3]), "input_images is 3; write a string"),
    "a string": (text_of(input_images="v0.png"), "input_images 'v0.png' is not a list"),
    "three images": (text_of(input_images=["a"] * 3), "3 input images; this stream takes up to two"),
    "a list": (text_of() + b"\n[]", "holds list where an object"),
    "half a row": (text_of() + b'\n{"instruction": ', "is not valid JSON"),
    "other encoding": (text_of() + b"\n\xba\xc3", "byte 1 of the line, 0xba, is not UTF-8"),
    "deep": (text_of() + b"\n" + b"[" * 100_000, "is nested too deeply"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path, name):
    content, reason = BAD[name]
    file = tmp_path / "train.jsonl"
    file.write_bytes(content)
    number = 1 + content.count(b"\n")
    with pytest.raises(ValueError, match="train.jsonl") as error:
        jsonl.read(file)
    assert str(error.value).startswith(f"{file}:{number}")
    assert reason in str(error.value)
    assert len(str(error.value)) < 500


def test_a_byte_order_mark_and_line_separators_inside_strings_are_read(tmp_path):
    words = f"{BOTH}\u2028end\u0085"
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + text_of(instruction=words) + b"\r\n\r\n")
    first, second = jsonl.read(tmp_path / "train.jsonl")
    assert first == (BOTH, ("v0.png", "i0.png"), "t0.png", f"{tmp_path / 'train.jsonl'}:1")
    assert second.instruction == words


RUN = """
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
own = SourceConfig(name="own", path="train.jsonl", format="jsonl", names=None, fuse="given")
config = MixtureConfig(sources=(own,), buckets=(Bucket(height=32, width=32),), max_text_tokens=128)
"""


@pytest.mark.parametrize("name", ["no placeholder", "null output", "other encoding", "long", "lost"])
def test_check_refuses_what_training_refuses(root, tmp_path, capsys, name):
    long = {**GOOD, "instruction": f"{BOTH} " + "好" * 200}  # few letters, many tokens
    lost = {**GOOD, "input_images": ["photos/p00.jpg", "gone.jpg"], "output_image": "photos/p00.jpg"}
    rows = {"long": long, "lost": lost}
    content = json.dumps(rows[name]).encode() if name in rows else BAD[name][0]
    (root / "train.jsonl").write_bytes(content)
    (tmp_path / "run.py").write_text(RUN)
    assert command(["check", str(tmp_path / "run.py"), "--data", str(root)], "data") > 0
    told = "".join(capsys.readouterr())
    number = 1 + content.count(b"\n")
    assert f"train.jsonl:{number}: " in told
    assert "no bad files" not in told


def test_the_longest_prompt_may_be_one_of_the_file(root, tmp_path, capsys):
    both = [GOOD | {"input_images": ["photos/p00.jpg"] * 2, "output_image": "photos/p00.jpg"}] * 2
    both[1] = both[1] | {"instruction": f"{BOTH} and keep each of the small lights of the harbour"}
    (root / "train.jsonl").write_text("\n".join(map(json.dumps, both)))
    (tmp_path / "run.py").write_text(RUN)
    assert command(["check", str(tmp_path / "run.py"), "--data", str(root)], "data") == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("longest prompt: ")]
    assert "the small lights of the harbour" in told
    assert not told.startswith("longest prompt: 0 ")
