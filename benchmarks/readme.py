# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of README.md and docs/*.md as they are written, and checks what the pages claim of them.

    python benchmarks/readme.py            # all that can run here; about ten minutes on two cores
    python benchmarks/readme.py --list     # what is run, what is not and why
    python benchmarks/readme.py --page docs/training.md   # one page alone

Every command shown is in RUN, in NOT_RUN with its reason, or in TESTED: tests/test_readme.py asks for it.
"""

import argparse
import re
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from readme_checks import (
    PROJECT,
    Result,
    brightens,
    compares,
    counts,
    done,
    draws,
    example,
    exports,
    fuses,
    fuses_own,
    goes_on,
    marks,
    obeys_words,
    run,
    scores,
    sees,
    sharpens,
    sheets,
    stores,
    trains,
)

PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (PROJECT / "docs").glob("*.md")))
SHOWN = re.compile(r"^    ((?:\w+=\S+ )*(?:python3? |ditfuse |\.venv/).*)$", re.MULTILINE)
CODE = re.compile(r"^(    from ditfuse_jax import .*\n(?:(?:    .*)?\n)*)", re.MULTILINE)  # a block of Python
PYTHON = "python -c "
DATA = "needs data that is not shipped (docs/data.md)"
RELEASED = "needs the released weights"
HOURS = "trains for hours"
THERMAL = "python infer.py shots/thermal/visible.png shots/thermal/thermal.png --task ivif"
NOT_RUN = {  # what a command begins with, or holds -> why it is not run here
    "python3 -m venv": "downloads packages; tests/test_wheel.py builds and installs what they install",
    ".[cuda12]": "needs a GPU",
    ".[tpu]": "needs a TPU",
    "-m pytest": "is the tests",
    "ditfuse serve": "runs until it is stopped; tests/serve/ asks it all that the page does",
    "hf:": "downloads from the hub",
    "DiTFuse-adapter": RELEASED,
    "convert inspect checkpoints/omnigen": RELEASED,
    "convert verify checkpoints/omnigen": RELEASED,
    "convert export checkpoints/omnigen": RELEASED,
    "export-lora checkpoints/ditfuse-lora": RELEASED,
    "OmniGen-v1/": RELEASED,
    "checkpoints/ditfuse": RELEASED,
    "accelerator.py --size omnigen": "needs an accelerator",
    "configs/ditfuse_lora.py": RELEASED,
    "configs/one_step.py": RELEASED,
    "runs/one_step": RELEASED,
    "--checkpoint teacher": RELEASED,
    "HOST:PORT": "needs several machines; tests/training/test_multihost.py runs two processes",
    "1.jpg 2.jpg": "is for your own pictures; tests/cli/test_infer.py runs a stack",
    "FLIR0123.jpg": "is for your own file; tests/cli/test_infer_photographs.py runs it",
    "--image-dir flir": "is for your own files; tests/cli/test_infer_photographs.py runs it",
    "train.py ...": "is a form, not a command",
    'infer.py --prompt "..."': "is a form, not a command",
    "train.py --config configs/demo": HOURS,
    "convert from-train runs/": HOURS + " before it; tests/convert/test_from_train.py runs it",
    "linear_start.py": DATA,
    "benchmarks/demo_quality.py": DATA,
    "benchmarks/fidelity.py": DATA,
    " configs/demo.py": DATA + "; tests/cli/test_data_cli.py runs all three on made pictures",
    "evaluation prompts --limit": DATA,
    "evaluation figures 7 8": DATA,
    "benchmarks/free_pictures.py": DATA,
    "evaluation runtime --out runs": "is for an idle machine; tests/evaluation/test_run.py runs it",
    "benchmarks/ablations.py train": HOURS + "; tests/test_ablations.py trains two steps",
    "benchmarks/ablations.py measure": HOURS + " before it",
    "benchmarks/results.py": DATA,
    "benchmarks/peers.py": DATA,
    "infer.py --image-dir pairs": "is for your own pictures; tests/cli/test_infer.py writes masks",
    "benchmarks/readme.py": "is this script",
}
TESTED = {"docs/evaluation.md": "tests/evaluation/test_evaluation_docs.py runs every command of it"}


class Shown(NamedTuple):
    page: str
    command: str  # without its comment


def shown() -> list[Shown]:
    """Every command of the pages, in order."""
    found = []
    for page in PAGES:
        text = (PROJECT / page).read_text("utf-8")
        for line in SHOWN.findall(text):
            command = re.sub(r"\s+#.*$", "", line).strip()
            found.append(Shown(page, command))
            if command.startswith("python3 -m venv"):  # what is run once all is installed
                found.append(Shown(page, command.rpartition("&& .venv/bin/")[2]))
        found += [Shown(page, f"{PYTHON}{shlex.quote(textwrap.dedent(code))}") for code in CODE.findall(text)]
    return found


def reason(one: Shown) -> str | None:
    """Why a command is not run here; None if it is."""
    if one.page in TESTED:
        return TESTED[one.page]
    return next((why for part, why in NOT_RUN.items() if part in one.command), None)


OWN = "python train.py --config own --data mine --set init=ditfuse_jax/demo --workdir mine/run"
PAIRS = "python -m ditfuse_jax.evaluation run --dataset mine/pairs --names val.txt --task ivif"
RUN: dict[str, Callable[[Result], None]] = {
    "python -m ditfuse_jax.data check own --data mine": counts,
    "python -m ditfuse_jax.data show own --data mine --out mine/sheet.png": sheets,
    OWN: trains,
    f"{OWN} --set steps=800": goes_on,
    "python -m convert from-train mine/run mine/adapter": exports,
    "python infer.py --task ivif --lora mine/adapter mine/pairs/vis/01.png mine/pairs/ir/01.png "
    "--out mine/fused.png": fuses_own,
    f"{PAIRS} --out mine/before": scores,
    f"{PAIRS} --lora mine/adapter --fused before=mine/before/fused --out mine/after": compares,
    "python infer.py": fuses,
    "python infer.py --image1 examples/mff/image1.jpg --image2 examples/mff/image2.jpg --task mff": sharpens,
    "python infer.py --task light+": brightens,
    'python infer.py --prompt "make the people brighter"': obeys_words,
    "python infer.py --segment car,road": marks,
    "python benchmarks/demo_examples.py examples/fused.jpg": draws("examples/fused.jpg"),
    "python benchmarks/fidelity_crops.py docs/fidelity.jpg": draws("docs/fidelity.jpg"),
    "python examples/make_shots.py shots": stores("shots/focus/3.jpg", "shots/frames/ir/4.png"),
    "python infer.py shots/focus/1.jpg shots/focus/2.jpg shots/focus/3.jpg --task mff --out sharp.jpg": sees(
        "sharp.jpg", ["shots/focus/1.jpg"]
    ),
    "python infer.py shots/brackets/2.jpg shots/brackets/1.jpg shots/brackets/3.jpg --task mef "
    "--out light.jpg": sees("light.jpg", ["shots/brackets/2.jpg"]),
    f"{THERMAL} --align homography --out night.png": sees("night.png", ["shots/thermal/visible.png"]),
    f"{THERMAL} --align homography --palette inferno --out warm.png": stores("warm.png"),
    "python infer.py shots/frames/vis/1.png shots/frames/ir/1.png --task ivif --align homography "
    "--save-align rig.json --out first.png": stores("rig.json", "first.png"),
    "python infer.py --image-dir shots/frames --task ivif --align rig.json --out frames": stores(
        *[f"frames/{number}.png" for number in (1, 2, 3, 4)]
    ),
    "python infer.py --image-dir shots/frames --task ivif --align rig.json --steady off --out alone": stores(
        "alone/1.png", "alone/4.png"
    ),
    "python infer.py --image-dirs shots/frames/vis shots/frames/ir --task ivif --align rig.json "
    "--thermal-range 7200 7900 --out ranged": stores("ranged/4.png"),
    "python benchmarks/accelerator.py": done,
}

FEW = "batch_size=2 save_every=2 log_every=1 mixture.buckets.0.height=64 mixture.buckets.0.width=64"
SMALLER = {  # what is added where a page shows a run of hours
    OWN: " ".join(f"--set {setting}" for setting in ("steps=2", *FEW.split())),
    f"{OWN} --set steps=800": " ".join(f"--set {setting}" for setting in ("steps=4", *FEW.split())),
}


def own_pairs(folder: Path) -> None:
    """Six pairs as one's own: windows of the example."""
    for side, name in ((1, "vis"), (2, "ir")):
        (folder / name).mkdir(parents=True)
        whole = example("ivif", side).astype(np.uint8)
        for number in range(6):
            top, left = divmod(number, 3)
            window = whole[128 * top :, 128 * left :][:256, :256]
            Image.fromarray(window).save(folder / name / f"{number + 1:02}.png")


def workplace() -> Path:
    """A folder with all of the project as links, but for what the commands write."""
    folder = Path(tempfile.mkdtemp(prefix="readme-"))
    for entry in PROJECT.iterdir():
        if entry.name not in ("examples", "runs", ".git", "fused.png"):
            (folder / entry.name).symlink_to(entry)
    (folder / "examples").mkdir()
    for entry in (PROJECT / "examples").iterdir():
        if entry.name != "fused.jpg":
            (folder / "examples" / entry.name).symlink_to(entry)
    own_pairs(folder / "mine/pairs")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="say what would be run, and run nothing")
    parser.add_argument("--page", choices=PAGES, help="the commands of one page; default: of all")
    args = parser.parse_args()
    failed, folder = 0, workplace()
    for one in shown():
        if args.page not in (None, one.page):
            continue
        if why := reason(one):
            print(f"not run   {one.page}: {one.command}  ({why})")
            continue
        if args.list:
            print(f"run       {one.page}: {one.command}")
            continue
        try:
            result = run(f"{one.command} {SMALLER.get(one.command, '')}", folder)
            RUN.get(one.command, done)(result)
            print(f"ok        {one.page}: {one.command}  ({result.seconds:.0f} s)", flush=True)
        except (AssertionError, RuntimeError) as error:
            failed += 1
            print(f"FAILED    {one.page}: {one.command}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
