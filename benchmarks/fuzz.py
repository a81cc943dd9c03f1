# SPDX-License-Identifier: Apache-2.0
"""Damaged pictures, damaged checkpoints and kill -9: counts of what came of them.

    python benchmarks/fuzz.py                     # 5,000 pictures, 500 checkpoints, 50 kills
    python benchmarks/fuzz.py --pictures 300 --checkpoints 30 --kills 3
    python benchmarks/fuzz.py --seed 7 --published DIR --adapter DIR

Right is: read, or refused by a ValueError (the commands: exit code 2) of at most 3,200 characters. Everything
else is a fault: another exception (a traceback for the user), more than 20 seconds of processor time or 10
minutes of any time (a hang), a file under its name that is not whole, a process that grows by more than 3 GB.
"""

import argparse
import contextlib
import functools
import io
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz_damage
import fuzz_kills
import numpy as np

from convert.__main__ import main as convert
from ditfuse_jax import image
from ditfuse_jax.cli.fuse import main as fuse
from ditfuse_jax.inference import scene
from ditfuse_jax.inference.fuse import DiTFuse

SECONDS = 20  # of processor time: what waits for a busy machine is no hang
PATIENCE = 600  # seconds by the clock: what waits for ever is one
CHARACTERS = 3200
BYTES = 3_000_000_000
PUBLISHED = Path(__file__).resolve().parents[1] / "tests" / "golden"
FAULTS = ("traceback", "hang", "long error", "partial file")


class Hang(BaseException):
    """More than SECONDS or PATIENCE."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raises Hang inside; also at the end, where code that cannot be interrupted took too long."""

    def ring(*_):
        raise Hang

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE)}
    before = {number: signal.signal(number, ring) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def outcome(work: Callable[[], None], faults: list[str], name: str) -> str:
    """read, refused or a fault, which is noted with its name."""
    try:
        with limited():
            work()
    except ValueError as error:
        if len(str(error)) <= CHARACTERS:
            return "refused"
        faults.append(f"{name}: an error of {len(str(error)):,} characters")
        return "long error"
    except Hang:
        faults.append(f"{name}: more than {SECONDS} s of processor time or {PATIENCE} s")
        return "hang"
    except Exception as error:
        faults.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
        return "traceback"
    return "read"


def fuzz_pictures(rng: np.random.Generator, count: int, folder: Path, faults: list[str]) -> Counter:
    """Each one through the readers of inference and training; it is kept in `folder` if it shows a fault."""
    whole = fuzz_damage.pictures()
    names, counts = sorted(whole), Counter()
    intact = np.zeros((32, 48, 3), np.uint8)
    for number in range(count):
        kind = names[number % len(names)]
        suffix, data = whole[kind]
        file = folder / f"{number}{suffix}"
        file.write_bytes(fuzz_damage.damage(rng, data))

        def work(file=file):
            image.read_metadata(file)
            with contextlib.suppress(ValueError):
                image.read_labels(file)
            with contextlib.suppress(ValueError):
                image.read_size(file)
            image.read_file(file, shortest=16)
            scene.read([file, intact])

        found = outcome(work, faults, f"picture {number}, {kind}")
        counts[found] += 1
        if found not in FAULTS:
            file.unlink()
    return counts


def fuzz_folder(rng: np.random.Generator, model: Path, folder: Path, faults: list[str]) -> Counter:
    """The command over a folder of damaged pairs: it goes on past bad ones and leaves no partial file."""
    whole = list(fuzz_damage.pictures().values())
    for number, (suffix, data) in enumerate(whole):
        for side, content in (("image1", fuzz_damage.damage(rng, data)), ("image2", data)):
            (folder / "pairs" / side).mkdir(parents=True, exist_ok=True)
            (folder / "pairs" / side / f"{number}{suffix}").write_bytes(content)
    scales = ["--steps", "1", "--guidance", "1", "--image-guidance", "1", "--noises", "1"]
    flags = ["--image-dir", folder / "pairs", "--out", folder / "out", "--checkpoint", model, *scales]
    code, told = called(fuse, [*flags, "--no-compile-cache"])
    made = list((folder / "out").iterdir())
    if code not in (0, 1) or "Traceback" in told:
        faults.append(f"folder of pictures: exit code {code}: {told[-300:]}")
        return Counter(traceback=1)
    for file in made:
        if outcome(functools.partial(image.read, file), faults, f"result {file.name}") != "read":
            return Counter({"partial file": 1})
    return Counter(read=len(made), refused=len(whole) - len(made))


def called(main: Callable, words: list) -> tuple[int, str]:
    """Exit code and all that a command said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    return code, said.getvalue()


def fuzz_checkpoints(
    rng: np.random.Generator, count: int, folder: Path, sources: dict[str, Path], faults: list[str]
) -> Counter:
    """Checkpoint folders, adapters and published folders in turn, loaded, planned with, converted."""
    counts = Counter()
    for number in range(count):
        kind = ("model", "model", "adapter", "published")[number % 4]
        harmed = folder / kind
        file = fuzz_damage.damage_folder(rng, sources[kind], harmed)

        def work(kind=kind, harmed=harmed):
            if kind == "published":
                made = folder / "made"
                code, told = called(convert, ["omnigen", harmed, made, "--overwrite"])
                if code:
                    raise ValueError(told)
                DiTFuse.load(made)
            else:
                place = (
                    {"folder": sources["model"], "lora": harmed} if kind == "adapter" else {"folder": harmed}
                )
                DiTFuse.load(**place).plan(32, 48, "Fuse both.")

        found = outcome(work, faults, f"checkpoint {number}, {kind}, {file}")
        left = [path.name for path in folder.iterdir() if ".partial-" in path.name]
        if left:
            faults.append(f"checkpoint {number}: {left} was left behind")
            found = "partial file"
        counts[found] += 1
    return counts


def fuzz_kills_of(rng, count: int, folder: Path, published: Path, faults: list[str]) -> Counter:
    counts = Counter()
    for number in range(count):
        kind = fuzz_kills.KINDS[number % len(fuzz_kills.KINDS)]
        wrong = fuzz_kills.kill(rng, kind, folder / kind, published)
        faults += [f"kill {number}: {wrong}"] if wrong else []
        counts["partial file" if wrong else "whole"] += 1
    return counts


def run(args: argparse.Namespace, folder: Path) -> list[str]:
    """Prints the counts; returns the faults."""
    faults: list[str] = []
    forget_peak()
    before = peak_bytes()
    model = folder / "whole"
    code, told = called(convert, ["omnigen", args.published, model])
    if code:
        raise SystemExit(told)
    sources = {"model": model, "adapter": args.adapter, "published": args.published}
    rngs = [np.random.default_rng([args.seed, part]) for part in range(4)]
    for name in ("pictures", "folder", "checkpoints", "kills"):
        (folder / name).mkdir()
    work = {
        f"{args.pictures} pictures": lambda: fuzz_pictures(
            rngs[0], args.pictures, folder / "pictures", faults
        ),
        "a folder of them": lambda: fuzz_folder(rngs[1], model, folder / "folder", faults),
        f"{args.checkpoints} checkpoints": lambda: fuzz_checkpoints(
            rngs[2], args.checkpoints, folder / "checkpoints", sources, faults
        ),
        f"{args.kills} kills": lambda: fuzz_kills_of(
            rngs[3], args.kills, folder / "kills", args.published, faults
        ),
    }
    for name, count in work.items():
        start = time.perf_counter()
        found = count()
        right = ", ".join(f"{found[key]} {key}" for key in ("read", "refused", "whole") if found[key])
        wrong = ", ".join(f"{found[key]} {key}" for key in FAULTS)
        print(f"{name:18} {right}; {wrong}  ({time.perf_counter() - start:.0f} s)", flush=True)
    grown = peak_bytes() - before
    print(f"{'memory':18} {grown / 1e9:.2f} GB more at the peak, bound {BYTES / 1e9:.0f} GB")
    if grown > BYTES:
        faults.append(f"memory: {grown / 1e9:.2f} GB")
    return faults


def peak_bytes() -> int:
    """The most memory that this process has had since `forget_peak`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """On Linux: what the process had before no longer counts. A test runs in one that has done much."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Damaged pictures, damaged checkpoints and kill -9.")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--checkpoints", type=int, default=500)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--published", type=Path, default=PUBLISHED / "ckpt_tiny", help="in the official layout"
    )
    parser.add_argument("--adapter", type=Path, default=PUBLISHED / "dit_tiny" / "lora_attn")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        faults = run(parse(words), Path(folder))
    print("\n".join(faults) or "no fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
