# SPDX-License-Identifier: Apache-2.0
"""Files that cannot be used, named; and libraries that are missing."""

import contextlib
import textwrap
from collections.abc import Iterator

MOST_SAID = 500  # characters of what a decoder says


class BadFile(ValueError):
    """A file that cannot be used as a picture. In a training run it is replaced by another draw."""


class NoLibrary(ValueError):
    """A library that reads such files is missing here, so no file is to blame."""


@contextlib.contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Whatever a decoder raises as a BadFile."""
    try:
        yield
    except (BadFile, NoLibrary):
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        said = textwrap.shorten(str(error), MOST_SAID, placeholder=" ...")  # libvips gives many lines
        raise BadFile(f"{name}: truncated or damaged ({said}); copy or export the file again") from error
