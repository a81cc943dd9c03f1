# SPDX-License-Identifier: Apache-2.0
"""ditfuse serve under load: python benchmarks/serve_load.py [--pictures 200] [--checkpoint DIR]

Starts a server on this machine. 4 clients send 200 pictures, then ten times as many clients as the queue has
places send at once, then one more client. Prints answers by code, seconds, and the server's memory; the exit
code is 1 if an answer was neither a picture nor 429, or if the server did not recover. Needs the extra app.
"""

import argparse
import io
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

CLIENTS, QUEUE, OVER = 4, 4, 10
FIELDS = {"task": "ivif", "steps": "1", "guidance": "1", "image_guidance": "1", "noises": "1"}


def start(checkpoint: Path | None) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "ditfuse_jax.cli", "serve", "--port", "0", "--queue", str(QUEUE)]
    command += ["--checkpoint", str(checkpoint)] if checkpoint else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if found := re.match(r"page +(http://\S+)/", line):
            return server, found[1]
    raise SystemExit("the server did not start; its message is above")


def picture(side: int, seed: int) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def megabytes(server: subprocess.Popen) -> float:
    return psutil.Process(server.pid).memory_info().rss / 1e6


class Load:
    """Sends pairs and notes answers by code, and their seconds."""

    def __init__(self, address: str, side: int):
        self.address, self.codes, self.seconds = address, Counter(), []
        self.files = [("images", (f"{seed}.png", picture(side, seed))) for seed in range(2)]

    def send(self, seed: int) -> None:
        begun = time.monotonic()
        try:
            with httpx.Client(timeout=600) as client:
                fields = FIELDS | {"seed": str(seed)}
                answer = client.post(f"{self.address}/v1/fuse", files=self.files, data=fields)
            self.codes[answer.status_code] += 1
        except httpx.HTTPError as error:
            self.codes[type(error).__name__] += 1
        self.seconds.append(time.monotonic() - begun)

    def run(self, clients: int, count: int) -> None:
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.send, range(count)))

    def told(self) -> str:
        answers = ", ".join(f"{count} x {code}" for code, count in self.codes.items())
        middle, slow = np.percentile(self.seconds, (50, 95))
        return f"{answers}; seconds: median {middle:.2f}, 95 % {slow:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--checkpoint", type=Path, help="default: the demo")
    args = parser.parse_args()
    server, address = start(args.checkpoint)
    try:
        return measure(server, address, args)
    finally:
        server.terminate()
        server.wait(60)


def measure(server: subprocess.Popen, address: str, args: argparse.Namespace) -> int:
    warm = Load(address, args.side)
    for clients in (1, CLIENTS, CLIENTS):  # programs of every batch size are compiled
        warm.run(clients, 2 * clients)
    print(f"warm        {megabytes(server):.0f} MB")
    steady, begun = Load(address, args.side), time.monotonic()
    for _ in range(4):
        steady.run(CLIENTS, args.pictures // 4)
        print(f"steady      {len(steady.seconds)} pictures, {megabytes(server):.0f} MB")
    rate = len(steady.seconds) / (time.monotonic() - begun)
    print(f"{CLIENTS} clients   {steady.told()}; {rate:.2f} pictures a second")
    crowd = Load(address, args.side)
    crowd.run(OVER * QUEUE, 2 * OVER * QUEUE)
    print(f"overload    {crowd.told()}; {megabytes(server):.0f} MB")
    after = Load(address, args.side)
    after.run(1, 3)
    print(f"after       {after.told()}; {megabytes(server):.0f} MB")
    good = set(steady.codes) == {200} == set(after.codes) and set(crowd.codes) == {200, 429}
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
