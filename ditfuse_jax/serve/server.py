# SPDX-License-Identifier: Apache-2.0
"""The process: one port, the app on it, and an orderly end."""

import asyncio
import errno
import signal
import socket

import uvicorn
from fastapi import FastAPI

from ditfuse_jax.serve.worker import Worker

FAREWELL = 5  # seconds for the last answers to leave, and for pages that stay open


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a port that is taken is known before the model is loaded; ValueError then."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
        door.listen()
    except (OSError, OverflowError) as error:
        door.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise ValueError(
                f"port {port} of {host} is taken, perhaps by another ditfuse serve; choose --port"
            ) from error
        raise ValueError(f"cannot listen on {host}, port {port}: {error}; choose --host, --port") from error
    return door


class Server(uvicorn.Server):
    """Ends in order: no new work, what runs is finished and answered, pages that stay open are cut off."""

    def __init__(self, app: FastAPI, worker: Worker):
        super().__init__(
            uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=FAREWELL)
        )
        self.worker = worker

    async def shutdown(self, sockets=None) -> None:
        self.worker.stop()
        while self.worker.alive and not self.force_exit:  # the app goes on answering
            await asyncio.sleep(0.1)
        await super().shutdown(sockets)


def run(app: FastAPI, worker: Worker, door: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C; a second Ctrl-C ends at once."""
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again at the end
        signal.signal(number, lambda *_: None)
    Server(app, worker).run(sockets=[door])
