# SPDX-License-Identifier: Apache-2.0
"""Trains the autoencoder, the transformer or an adapter: --config configs/demo.py --mesh 8"""

import argparse
import dataclasses
import functools
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import jax

from ditfuse_jax import places, text
from ditfuse_jax.cli import last_words

INTERRUPTED = 130  # the exit code of shells after Ctrl-C
LOST = "ended from outside, as when another process is lost; the same command continues from the last save"
MOST_VIRTUAL = 256  # CPU devices; a mesh of more is then refused
HEARTBEAT_SECONDS = 20  # a process that is silent for this long ends the others


def parse(arguments: list[str], prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, help="a run of configs/ (default: configs/smoke.py)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="optim.learning_rate=1e-4"
    )
    parser.add_argument(
        "--mesh", default="", help="8, or axes: data=2,fsdp=4 or data=2,tensor=4 (default: one device)"
    )
    parser.add_argument("--workdir", type=Path, help="checkpoints, log, pictures (default: runs/NAME)")
    parser.add_argument("--data", type=Path, help="data root (default: $DITFUSE_DATA, else ../shared/data)")
    parser.add_argument(
        "--accept-changed-data",
        action="store_true",
        help="resume although files of the data were added, removed or replaced since",
    )
    parser.add_argument(
        "--report-to",
        choices=("tensorboard", "wandb", "none"),
        default="tensorboard",
        help="where loss and pictures are charted, besides log.jsonl (default: tensorboard)",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="several processes: where the first one listens"
    )
    parser.add_argument("--num-processes", type=int, help="with --coordinator; on CPU with --distributed too")
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--distributed", action="store_true", help="several processes, found by JAX itself")
    return parser.parse_args(arguments)


def start_devices(args: argparse.Namespace, needed: int) -> None:
    """Joins the other processes, and makes virtual devices for the case that there is only a CPU."""
    if not 1 <= (args.num_processes or 1) <= needed or needed % (args.num_processes or 1):
        raise ValueError(f"--mesh of {needed} devices does not divide over {args.num_processes} processes")
    jax.config.update("jax_num_cpu_devices", min(MOST_VIRTUAL, needed // (args.num_processes or 1)))
    if args.coordinator:
        if args.num_processes is None or args.process_id is None:
            raise ValueError("--coordinator also needs --num-processes and --process-id")
        jax.distributed.initialize(
            args.coordinator, args.num_processes, args.process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    elif args.distributed:
        jax.distributed.initialize(
            num_processes=args.num_processes, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    if needed > 1 and jax.default_backend() == "cpu" and jax.process_index() == 0:
        print(f"no accelerator here: {needed} virtual CPU devices share its cores", flush=True)


def on_examples(config):
    """The run on every picture below examples/; three scenes are too few to hold one out."""
    source = dataclasses.replace(config.mixture.sources[0], path="*", names=None)
    mixture = dataclasses.replace(config.mixture, sources=(source,))
    return dataclasses.replace(config, mixture=mixture, validate_every=0)


def train(args: argparse.Namespace) -> None:
    from ditfuse_jax.data.sources import named_root
    from ditfuse_jax.training import config as train_config
    from ditfuse_jax.training.start import Place, devices_needed, run

    config = train_config.load(places.run_file(args.config or Path("smoke")))
    config = train_config.override(config, args.set)
    start_devices(args, devices_needed(args.mesh))
    if args.config is None and jax.process_index() == 0:
        print("no --config: running configs/smoke.py, a small test of everything", flush=True)
    root = named_root(args.data)
    if args.config is None and args.data is None and not root.is_dir():
        print(f"no data at {root}: the smoke test trains on the pictures of examples/", flush=True)
        root, config = places.folder("examples"), on_examples(config)
    workdir = args.workdir or places.home() / "runs" / config.name
    run(config, Place(workdir, root, args.mesh, args.accept_changed_data, args.report_to))


def fail(message: object, code: int, prog: str, say: Callable[[str], None]) -> None:
    """Ends this process at once: with peers gone, an orderly shutdown would wait for them."""
    say(f"{prog}: {text.message(message)}")
    os._exit(code)


def main(arguments: list[str], prog: str = "train.py") -> int:
    """Exit code 0; 2 after a mistake in the request; 1 if the run ended early and can be continued."""
    args = parse(arguments, prog)
    several = bool(args.coordinator or args.distributed)
    say = last_words.leave(f"{prog}: {LOST}") if several else last_words.aloud
    end = functools.partial(fail, prog=prog, say=say)
    try:
        train(args)
        say(last_words.NOTHING)
    except KeyboardInterrupt:
        end("interrupted before the first step; nothing was changed", INTERRUPTED)
    except ValueError as error:
        end(error, 2)
    except OSError as error:
        end(f"{error}; the same command continues from the last save", 1)
    except RuntimeError as error:
        if jax.process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError):
            reason = str(error).splitlines()[0]
            error = f"lost another process ({reason}); the same command continues from the last save"
        end(error, 1)
    except Exception:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        end("ended by the error above; so do the other processes", 1)
    return 0
