# SPDX-License-Identifier: Apache-2.0
"""Published weights in, and out again: `python -m convert` or `ditfuse convert`; see docs/convert.md."""

import argparse
import os
import signal
import sys
from pathlib import Path

from ditfuse_jax.cli import environment
from ditfuse_jax.inference import settings
from ditfuse_jax.text import message, one_line_each


def parser(prog: str) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog=prog, description="Published weights in, and out again.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, help: str, *, target: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument("source", metavar="SRC", type=str if name == "omnigen" else Path)
        if target:
            sub.add_argument("target", metavar="DST", type=Path, help="folder to write")
            sub.add_argument(
                "--overwrite", action="store_true", help="replace DST once the new one is complete"
            )
        return sub

    omnigen = command(
        "omnigen", "OmniGen (official or diffusers layout, or hf:owner/name) to a checkpoint folder"
    )
    omnigen.add_argument(
        "--lora", metavar="ADAPTER", type=Path, help="adapter folder to merge into the weights"
    )
    omnigen.add_argument("--dtype", choices=("bfloat16", "float32"), help="to store; default: the source's")
    omnigen.add_argument("--vae", metavar="VAE", type=Path, help="autoencoder, where SRC has no vae/")
    vae = command("vae", "an SDXL autoencoder (diffusers folder or original file) to a folder of its own")
    vae.add_argument("--scaling-factor", type=float, help="of a file without config; default: SDXL's 0.13025")
    command("lora", "a PEFT adapter to an adapter folder, kept apart from the weights")
    trained = command("from-train", "a --workdir of train.py to a folder that infer.py loads")
    trained.add_argument("--step", type=int, help="default: the last complete checkpoint")
    trained.add_argument(
        "--raw", action="store_true", help="the weights themselves, not their moving average"
    )
    trained.add_argument("--merge", action="store_true", help="an adapter: merge it into its base")
    trained.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="to store; default: float32, with --merge that of the base's files",
    )
    proposed = trained.add_argument_group(
        "what the folder proposes to infer.py (default: what its base does, and the longest trained side)"
    )
    settings.add_flags(proposed)
    command("inspect", "what a folder is and holds", target=False)
    verified = command("verify", "whether a checkpoint folder is whole and computes: a report", target=False)
    verified.add_argument("--lora", metavar="ADAPTER", type=Path, help="adapter folder to load with it")
    command("quantize", "a checkpoint folder to one with int8 weights, and how far their results differ")
    command("export", "a checkpoint folder to the official layout")
    command("export-lora", "an adapter folder to PEFT's files")
    return top


def run(args: argparse.Namespace) -> None:
    from . import export, jobs, lora, report  # flax and jax: not for --help

    if args.command == "inspect":
        print("\n".join(report.report(args.source)))
        return
    if args.command == "verify":
        environment.for_fusing()
        from .verify import verify

        print("\n".join(verify(args.source, args.lora)))
        return
    if args.command == "omnigen":
        options = {"lora": args.lora, "dtype": args.dtype, "vae": args.vae}
        jobs.convert_omnigen(args.source, args.target, **options, overwrite=args.overwrite)
    elif args.command == "from-train":
        from .from_train import from_train  # orbax and grain: for this command alone

        options = {"step": args.step, "raw": args.raw, "merged": args.merge, "dtype": args.dtype}
        options["sampling"] = settings.given(args)
        from_train(args.source, args.target, **options, overwrite=args.overwrite)
    elif args.command == "vae":
        options = {"scaling_factor": args.scaling_factor}
        jobs.convert_vae(args.source, args.target, **options, overwrite=args.overwrite)
    elif args.command == "lora":
        stamp = jobs.stamp(str(args.source), args.source)
        lora.convert_lora(args.source, args.target, stamp=stamp, overwrite=args.overwrite)
    elif args.command == "quantize":
        environment.for_fusing()
        from .quantize import errors, quantize

        quantize(args.source, args.target, overwrite=args.overwrite)
        print("\n".join(errors(args.source, args.target)))
    elif args.command == "export":
        export.export(args.source, args.target, overwrite=args.overwrite)
    else:
        lora.export_lora(args.source, args.target, overwrite=args.overwrite)
    print(f"wrote {args.target}")


def main(argv: list[str] | None = None, prog: str = "python -m convert") -> int:
    """Exit code 0, or 2 after one message on stderr."""
    args = parser(prog).parse_args(argv)
    try:
        run(args)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"convert {args.command}: {message(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"convert {args.command}: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


def _interrupt(number, frame):
    raise KeyboardInterrupt


def command(argv: list[str] | None, prog: str) -> int:
    """`main` in a process of its own: `kill` cleans up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    return main(argv, prog)


if __name__ == "__main__":
    one_line_each()
    sys.exit(command(None, "python -m convert"))
