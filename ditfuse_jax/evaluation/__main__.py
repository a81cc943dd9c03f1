# SPDX-License-Identifier: Apache-2.0
"""Score fused images: python -m ditfuse_jax.evaluation COMMAND ... (see docs/evaluation.md)."""

import sys
from collections.abc import Sequence

from ditfuse_jax.evaluation import commands, figure_commands, mark_commands, prompt_commands, run_commands
from ditfuse_jax.evaluation.flags import arguments
from ditfuse_jax.text import message, one_line_each

COMMANDS = {
    "score": commands.score,
    "compare": commands.compare,
    "trust": commands.trust,
    "run": run_commands.run,
    "prompts": prompt_commands.prompts,
    "figures": figure_commands.figures,
    "runtime": run_commands.runtime,
    "iou": mark_commands.iou,
    "judge": mark_commands.ask,
}


def main(words: Sequence[str], prog: str = "python -m ditfuse_jax.evaluation") -> int:
    """Exit code 0, or 2 after one message on stderr; `ditfuse evaluate` is the same."""
    args = arguments(words, prog)
    try:
        return COMMANDS[args.command](args)
    except (ValueError, OSError) as error:
        print(f"evaluation {args.command}: {message(error)}", file=sys.stderr)
    except ImportError as error:
        extra = "judge" if error.name == "openai" else "eval"
        print(f"evaluation {args.command}: {error}; pip install 'ditfuse-jax[{extra}]'", file=sys.stderr)
    return 2


if __name__ == "__main__":
    one_line_each()
    sys.exit(main(sys.argv[1:]))
