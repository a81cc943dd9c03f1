# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

RUN = "import os, sys; from ditfuse_jax.cli import last_words; say = last_words.leave('lost')"
ENDS = {
    "aborted": ("print('noise', file=sys.stderr, flush=True); os.abort()", "noise\nlost\n"),
    "killed": ("os.kill(os.getpid(), 9)", "lost\n"),
    "said": ("say('why'); print('noise', file=sys.stderr, flush=True); os._exit(1)", "noise\nwhy\n"),
    "well": ("say(last_words.NOTHING)", ""),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_last_line_is_said_however_a_process_ends(how):
    code, told = ENDS[how]
    done = subprocess.run(
        [sys.executable, "-c", f"{RUN}\n{code}"], capture_output=True, text=True, timeout=120
    )
    assert done.stderr == told
