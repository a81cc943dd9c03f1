# SPDX-License-Identifier: Apache-2.0
"""Files that cannot be used, named."""

import contextlib
from collections.abc import Iterator


class BadFile(ValueError):
    """A file that cannot be used as a picture. In a training run it is replaced by another draw."""


@contextlib.contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Whatever a decoder raises as a BadFile."""
    try:
        yield
    except BadFile:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        said = " ".join(str(error).split())  # libvips gives several lines
        raise BadFile(f"{name}: truncated or damaged ({said}); copy or export the file again") from error
