# SPDX-License-Identifier: Apache-2.0
"""Conversion at full size: a random checkpoint with OmniGen-v1's shapes (float32, 15.5 GB) is converted to
bfloat16, loaded, and fuses one 256 x 256 pair with a single velocity evaluation.

    python benchmarks/convert_fullsize.py [--folder FOLDER]

Every stage is a process of its own; its resident memory is sampled from /proc while it runs, anonymous
memory (which must fit) apart from file-backed pages (which the kernel can drop). Needs 25 GB of free disk and
cleans up.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

NEEDED_GB = 25
FACTORS = {"short_factor": tuple(np.linspace(1, 3, 48)), "long_factor": tuple(np.linspace(1, 60, 48))}
BLOCK = 1 << 24  # random numbers, used again and again with another start
MUST_GB = {"convert": 3.0, "load and run": 12.0}
GOAL_GB = {"convert": 1.0, "load and run": 9.0}


def write(folder: Path) -> None:
    """The released layout: true in shape, random in value, with the true position table."""
    import json

    from convert import engine, omnigen
    from convert.configs import autoencoder_config, phi3_config
    from convert.jobs import model_shapes, vae_shapes
    from convert.vae import vae_rules
    from ditfuse_jax.checkpoints.folder import copy_tokenizer
    from ditfuse_jax.config import TransformerConfig, VAEConfig

    model, vae = TransformerConfig.omnigen_v1(**FACTORS), VAEConfig.sdxl()
    (folder / "vae").mkdir(parents=True)
    copy_tokenizer(PROJECT / "tests" / "golden" / "ckpt_tiny", folder)
    (folder / "config.json").write_text(json.dumps(phi3_config(model)))
    (folder / "vae" / "config.json").write_text(json.dumps(autoencoder_config(vae)))
    shapes = {
        name: array.shape for name, array in engine.invert(hollow(model_shapes(model)), omnigen.RULES).items()
    }
    shapes["pos_embed"] = (1, 192 * 192, model.width)
    table = {"pos_embed": lambda: omnigen.computed_table(model.width, np.dtype(np.float32))}
    write_random(folder / "model.safetensors", shapes, table)
    names = engine.invert(hollow(vae_shapes(vae)), vae_rules(vae))
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    write_random(path, {name: array.shape for name, array in names.items()}, {})


def hollow(shapes: dict) -> dict[str, np.ndarray]:
    """Arrays of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def write_random(path: Path, shapes: dict, given: dict) -> None:
    from ditfuse_jax.checkpoints.safetensors import Spec, write_tensors

    rng = np.random.default_rng(0)
    block = (0.02 * rng.standard_normal(2 * BLOCK, np.float32)).astype(np.float32)

    def pieces(name):
        if name in given:
            yield from given[name]()
            return
        count = int(np.prod(shapes[name]))
        for start in range(0, count, BLOCK):
            first = int(rng.integers(BLOCK))
            yield block[first : first + min(BLOCK, count - start)]

    specs = {name: Spec(shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    write_tensors(path, specs, pieces, {"format": "pt"})


def convert(source: Path, target: Path) -> None:
    from convert.__main__ import main

    sys.exit(main(["omnigen", str(source), str(target), "--dtype", "bfloat16"]))


def load_and_run(folder: Path) -> None:
    """Guidance 1 and 1 leaves one branch, one step is one velocity evaluation."""
    from ditfuse_jax.inference.fuse import DiTFuse

    start = time.perf_counter()
    model = DiTFuse.load(folder)
    print(f"loaded in {time.perf_counter() - start:.1f} s", flush=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 256, 256, 3), np.uint8)
    for _ in range(2):
        fused = model.fuse(images, "Fuse both images.", steps=1, guidance=1.0, image_guidance=1.0)
        assert np.isfinite(fused.latents).all()
        print(
            "seconds with compilation at first use:",
            {k: round(v, 1) for k, v in fused.timings._asdict().items()},
        )


def resident(pid: int) -> dict[str, float]:
    """GB of anonymous and file-backed memory of a process; nothing once it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return {key: int(fields[key].split()[0]) * 1024 / 1e9 for key in ("RssAnon", "RssFile") if key in fields}


def watch(job: subprocess.Popen, peak: dict[str, float]) -> None:
    while job.poll() is None:
        for key, value in resident(job.pid).items():
            peak[key] = max(peak.get(key, 0.0), value)
        time.sleep(0.02)


def measure(stage: str, *paths: Path) -> bool:
    """Runs a stage in its own process and prints its time and peaks; whether it kept its limit."""
    start, peak = time.perf_counter(), {}
    job = subprocess.Popen([sys.executable, __file__, "--stage", stage, *map(str, paths)], cwd=PROJECT)
    watcher = threading.Thread(target=watch, args=(job, peak))
    watcher.start()
    code = job.wait()
    watcher.join()
    if code:
        sys.exit(f"{stage} ended with exit code {code}")
    anonymous, mapped = peak.get("RssAnon", 0.0), peak.get("RssFile", 0.0)
    seconds = time.perf_counter() - start
    print(
        f"{stage}: {seconds:.0f} s, peak {anonymous:.2f} GB anonymous, {mapped:.2f} GB file-backed",
        flush=True,
    )
    if stage not in MUST_GB:
        return True
    must, goal = MUST_GB[stage], GOAL_GB[stage]
    print(f"  must < {must} GB: {'kept' if anonymous < must else 'BROKEN'}; goal < {goal} GB: ", end="")
    print("kept" if anonymous < goal else "missed", flush=True)
    return anonymous < must


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="where to put 25 GB for a while; default: the temporary folder"
    )
    parser.add_argument("--stage", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        stages = {"write": write, "convert": convert, "load and run": load_and_run}
        stages[args.stage[0]](*map(Path, args.stage[1:]))
        return 0
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="ditfuse-fullsize-") as temporary:
        free = shutil.disk_usage(temporary).free / 1e9
        if free < NEEDED_GB:
            print(
                f"{temporary} has {free:.0f} GB free, {NEEDED_GB} are needed; name another disk with --folder"
            )
            return 2
        source, target = Path(temporary) / "source", Path(temporary) / "converted"
        measure("write", source)
        kept = measure("convert", source, target)
        size = sum(path.stat().st_size for path in target.iterdir()) / 1e9
        print(f"  {(source / 'model.safetensors').stat().st_size / 1e9:.2f} GB in, {size:.2f} GB out")
        shutil.rmtree(source)
        return 0 if measure("load and run", target) and kept else 1


if __name__ == "__main__":
    sys.exit(main())
