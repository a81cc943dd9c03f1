# SPDX-License-Identifier: Apache-2.0
import pytest

from ditfuse_jax.text import MOST_QUOTED, MOST_SAID, json_object, lines, message, quoted, read_json


def test_lines_end_at_line_feeds_alone(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffone\r\ntwo\u2028half\x0c\x85\n\nlast".encode())
    assert lines(file) == ["one", "two\u2028half\x0c\x85", "", "last"]


def test_what_is_not_utf8_is_named_by_line_and_byte(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\ntw\xba\n")
    with pytest.raises(
        ValueError, match=r"a.txt:2: byte 3 of the line, 0xba, is not UTF-8; save the file as"
    ):
        lines(file)
    with pytest.raises(ValueError, match=r"b.txt: cannot be read: No such file"):
        lines(tmp_path / "b.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "here is not valid JSON"),
        ("[1]", "here holds list where an object"),
        ('{"a":' * 100_000, "here is nested too deeply"),
        ('{"a": ' + "9" * 10_000 + "}", "here is not valid JSON"),
    ],
)
def test_json_that_is_no_object_is_refused_in_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as error:
        json_object(text, "here")
    assert len(str(error.value)) < 300


def test_a_file_of_settings_is_small_and_text(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"config.json is not UTF-8 text"):
        read_json(file)
    monkeypatch.setattr("ditfuse_jax.text.MOST_JSON", 2)
    file.write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"config.json has 8 bytes, more than 2"):
        read_json(file)


def test_errors_repeat_only_so_much():
    assert quoted("abc") == "'abc'"
    assert len(quoted("x" * 10**6)) < MOST_QUOTED + 40
    assert quoted(10**10_000) == "an integer of 33220 bits"
    assert message(ValueError("short")) == "short"
    assert len(message(ValueError("x" * 10**6))) < MOST_SAID + 40
