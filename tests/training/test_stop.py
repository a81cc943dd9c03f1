# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C asks a run to save and end; a second one does not wait."""

import subprocess
import sys

SCRIPT = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("stop", sys.argv[1])
stop = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stop)
asked = stop.Stop()
os.kill(os.getpid(), signal.SIGINT)
print("asked", asked.asked, flush=True)
os.kill(os.getpid(), signal.SIGINT)
print("still here", flush=True)
"""


def test_the_second_interrupt_ends_at_once():
    from ditfuse_jax.training import stop

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, stop.__file__], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "asked True\n"
    assert done.returncode == stop.INTERRUPTED
    assert done.stderr.splitlines() == [
        "saving, then the end; Ctrl-C again ends at once",
        "ended at once; the same command continues from the last save",
    ]
