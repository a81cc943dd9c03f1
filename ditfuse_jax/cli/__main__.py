# SPDX-License-Identifier: Apache-2.0
"""DiTFuse: fuses registered images as an English instruction says."""

import argparse
import sys

import ditfuse_jax
from ditfuse_jax import places
from ditfuse_jax.cli import environment

# A command imports its code when it is called, after the environment is set: JAX reads it on import.


def fuse(arguments: list[str], prog: str) -> int:
    environment.for_fusing()
    from ditfuse_jax.cli.fuse import main

    return main(arguments, prog)


def train(arguments: list[str], prog: str) -> int:
    environment.for_training()
    from ditfuse_jax.cli.train import main

    return main(arguments, prog)


def convert(arguments: list[str], prog: str) -> int:
    environment.for_fusing()
    return places.converter("__main__").command(arguments, prog)


def data(arguments: list[str], prog: str) -> int:
    environment.for_fusing()
    from ditfuse_jax.data.__main__ import command

    return command(arguments, prog)


def evaluate(arguments: list[str], prog: str) -> int:
    environment.for_fusing()
    from ditfuse_jax.evaluation.__main__ import main

    return main(arguments, prog)


def serve(arguments: list[str], prog: str) -> int:
    environment.for_serving()
    from ditfuse_jax.cli.serve import main

    return main(arguments, prog)


COMMANDS = {
    fuse: "make pictures: two images and an instruction in, one fused image out",
    train: "train the autoencoder, the transformer or an adapter",
    convert: "published weights to checkpoint folders of this library, and back",
    data: "look at a training stream before training on it",
    evaluate: "score fused pictures, compare methods, run a dataset",
    serve: "a page in the browser and HTTP, for people and programs (extra: app)",
}


def main() -> int:
    """Runs the command that the first word names; what follows it are that command's flags."""
    parser = argparse.ArgumentParser(prog="ditfuse", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ditfuse {ditfuse_jax.__version__}")
    names = parser.add_subparsers(metavar="COMMAND", required=True)
    for command, use in COMMANDS.items():
        names.add_parser(command.__name__, help=use, add_help=False).set_defaults(command=command)
    command = parser.parse_args(sys.argv[1:2]).command
    return command(sys.argv[2:], f"ditfuse {command.__name__}")


if __name__ == "__main__":
    sys.exit(main())
