# SPDX-License-Identifier: Apache-2.0
"""Ending a run from outside: SIGTERM or Ctrl-C save first, a second Ctrl-C does not."""

import os
import signal
import threading

INTERRUPTED = 130  # the exit code of shells after Ctrl-C


class Stop:
    """`asked` is set by SIGTERM and SIGINT; the loop then saves and ends. A second SIGINT ends at once."""

    def __init__(self):
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)
            signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, _frame) -> None:
        if self.asked and number == signal.SIGINT:
            os.write(2, b"ended at once; the same command continues from the last save\n")
            os._exit(INTERRUPTED)
        if number == signal.SIGINT:  # print() may be in use by what was interrupted
            os.write(2, b"saving, then the end; Ctrl-C again ends at once\n")
        self.asked = True
