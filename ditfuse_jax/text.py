# SPDX-License-Identifier: Apache-2.0
"""Text that came from outside: lines of a file, a JSON object, how much of it an error repeats, warnings."""

import json
import warnings
from pathlib import Path

MOST_JSON = 64_000_000  # bytes; a config.json has a few thousand, a tokenizer.json some millions
MOST_QUOTED = 120  # characters of one value in an error
MOST_SAID = 3000  # characters of a whole error


def quoted(value) -> str:
    """A value for an error: its repr, cut at MOST_QUOTED characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * MOST_QUOTED:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to write very long ones out
    return _cut(repr(value), MOST_QUOTED)


def message(error: object) -> str:
    """The text of an error, cut at MOST_SAID characters."""
    return _cut(str(error), MOST_SAID)


def one_line_each() -> None:
    """For commands: warnings without the line of code that raised them; of other libraries errors alone.

    Pillow warns of damage, which our reader names with its file; Orbax logs what it does to absl.
    """
    from absl import logging

    warnings.formatwarning = lambda said, *_: f"warning     {' '.join(str(said).split())}\n"
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.set_verbosity(logging.ERROR)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} ... ({len(text) - most:,} more characters)"


def lines(file: Path) -> list[str]:
    r"""The lines of a UTF-8 file without their ends, which are \n or \r\n; a byte order mark is dropped.

    Other separators, such as U+2028 or a form feed, are characters like all others: JSON allows them inside
    strings. Raises ValueError naming file, line and byte for what is not UTF-8, and for a file not readable.
    """
    try:
        rows = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    return [_decoded(row.removesuffix(b"\r"), f"{file}:{number}") for number, row in enumerate(rows, 1)]


def _decoded(row: bytes, where: str) -> str:
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: byte {error.start + 1} of the line, 0x{row[error.start]:02x}, is not UTF-8; "
            "save the file as UTF-8 text"
        ) from None


def json_object(text: str, where: str) -> dict:
    """A JSON object; raises ValueError, which begins with `where`, for anything else."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply; settings have a few levels") from None
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where} holds {type(value).__name__} where an object of settings should be")
    return value


def read_json(path: Path) -> dict:
    """A file with a JSON object; raises ValueError naming it when it is missing, damaged or of other kind."""
    try:
        size = path.stat().st_size
        if size > MOST_JSON:
            raise ValueError(f"{path} has {size:,} bytes, more than {MOST_JSON:,}; it is no file of settings")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); copy or download it again") from None
    return json_object(text, str(path))
