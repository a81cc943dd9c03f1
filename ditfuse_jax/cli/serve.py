# SPDX-License-Identifier: Apache-2.0
"""Serves a page in the browser and HTTP on this machine, see docs/serve.md."""

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

from ditfuse_jax.cli.fuse import keep_compiled_programs
from ditfuse_jax.inference import settings
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.text import message

TOKEN = "DITFUSE_TOKEN"  # the environment variable; unlike a flag, other users do not see it
PARTS = ("fastapi", "fastapi_offline", "gradio", "prometheus_client", "uvicorn")


def parse(arguments: list[str], prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: this machine alone"
    )
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument(
        "--token", default=os.environ.get(TOKEN), help=f"asked of everybody; default: ${TOKEN}"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="folder or hf:owner/name; default: the one that ships"
    )
    parser.add_argument("--lora", type=Path, help="adapter folder, PEFT or converted")
    settings.add_dtype(parser)
    parser.add_argument(
        "--no-compile-cache", action="store_true", help="do not keep compiled programs for the next start"
    )
    limits = parser.add_argument_group("limits")
    for field in dataclasses.fields(Limits):
        flag = "--" + field.name.replace("_", "-")
        told = f"{field.metadata['help']}; default: {field.default}"
        limits.add_argument(flag, type=int, default=field.default, help=told)
    return parser.parse_args(arguments)


def serve(flags: argparse.Namespace, uploads: str) -> None:
    """Uploads of the page are kept in the folder `uploads`, until it closes or an hour has passed."""
    os.environ["GRADIO_TEMP_DIR"] = uploads
    from ditfuse_jax.inference import pretrained
    from ditfuse_jax.inference.fuse import DiTFuse
    from ditfuse_jax.serve import http, page, server

    names = [field.name for field in dataclasses.fields(Limits)]
    limits = Limits(**{name: getattr(flags, name) for name in names})
    with server.listen(flags.host, flags.port) as door:
        checkpoint = pretrained.on_command_line(flags.checkpoint)
        lora = pretrained.adapter_on_command_line(flags.lora)
        model = DiTFuse.load(checkpoint, lora=lora, dtype=flags.dtype)
        app, worker = http.build(model, limits, token=flags.token)
        app = page.mount(app, worker, Path(uploads))
        tell(door.getsockname(), model.checkpoint_id, flags.token)
        server.run(app, worker, door)
    print("ended       what ran is finished")


def tell(place: tuple, checkpoint: str, token: str | None) -> None:
    """Where the doors are."""
    host, port = place[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    print(f"checkpoint  {checkpoint}")
    print(f"page        {address}{f'?token={token}' if token else ''}")
    print(f"HTTP        {address}docs", flush=True)


def main(arguments: list[str], prog: str) -> int:
    """Exit code 0 after SIGTERM or Ctrl-C, 2 after one message on stderr."""
    flags = parse(arguments, prog)
    if not flags.no_compile_cache:
        keep_compiled_programs()
    try:
        with tempfile.TemporaryDirectory(prefix="ditfuse-page-") as uploads:
            serve(flags, uploads)
    except ImportError as error:
        if (error.name or "").split(".")[0] not in PARTS:
            raise
        print(f"{prog}: needs {error.name}; pip install 'ditfuse-jax[app]'", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"{prog}: {message(error)}", file=sys.stderr)
        return 2
    return 0
