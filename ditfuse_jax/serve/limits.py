# SPDX-License-Identifier: Apache-2.0
"""What one server accepts. Whatever is over a limit is refused with a sentence that names it."""

import dataclasses
from dataclasses import dataclass

MEGA = 1_000_000
FORM_BYTES = 1_000_000  # of a request that are no pictures: words, options, multipart lines
WORD_BYTES = 20_000  # of one field of text


def _limit(default: int, help: str):
    return dataclasses.field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Fields are flags of `ditfuse serve`: `--max-images` for max_images."""

    max_images: int = _limit(9, "pictures of one fusion")
    max_megapixels: int = _limit(40, "megapixels of one picture")
    max_megabytes: int = _limit(100, "megabytes of one picture's file")
    max_seconds: int = _limit(600, "seconds that one fusion may run, and that its upload may take")
    queue: int = _limit(16, "fusions that may wait; the next is refused (429)")
    batch: int = _limit(4, "fusions of one size that go through the model together; takes more memory")

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            least = 2 if name == "max_images" else 1
            if value < least:
                raise ValueError(f"--{name.replace('_', '-')} {value} is too small; use {least} or more")

    @property
    def body_bytes(self) -> int:
        """Of a whole request."""
        return self.max_images * self.max_megabytes * MEGA + FORM_BYTES
