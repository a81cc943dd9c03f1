# SPDX-License-Identifier: Apache-2.0
"""The last line of a process that other code may end at any moment, between lines of its own.

When one of several training processes is lost, XLA's runtime aborts the others from C++ under a page of stack
frames. A second small process outlives this one and says the line.
"""

import subprocess
import sys
from collections.abc import Callable

NOTHING = "\n"
# Ends with this process, whose end closes the pipe, however it comes about.
SAY = "import sys; told = sys.stdin.read() or sys.argv[1]; sys.stderr.write(told.strip() and told)"


def leave(default: str) -> Callable[[str], None]:
    """Has `default` said after this process has ended, unless the function that comes back is given a line.

    Given NOTHING it has nothing said; then all is well.
    """
    command = [sys.executable, "-I", "-S", "-c", SAY, f"{default}\n"]
    # A session of its own: Ctrl-C in the terminal does not end it.
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def say(line: str) -> None:
        watcher.stdin.write(line if line == NOTHING else f"{line}\n")
        watcher.stdin.flush()  # the end of this process closes it
        if line == NOTHING:
            watcher.communicate()

    return say


def aloud(line: str) -> None:
    """Says a line at once: for a process that nothing else ends."""
    if line != NOTHING:
        print(line, file=sys.stderr, flush=True)
