# SPDX-License-Identifier: Apache-2.0
"""docs/results.md of what results.py left in its folder: every number and every winner is taken from there.

What the eye saw on the sheets is in results_seen.toml, with the checkpoint that it was seen of; of another
one the page says that nobody has looked.
"""

import json
import re
import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path

import free_pictures
from PIL import Image

from ditfuse_jax.evaluation import tables
from ditfuse_jax.evaluation.figures import FIGURES

OURS, DECODED = "ditfuse", "ditfuse, decoded"
PART = "part.md"  # what each part of results.py leaves
WIDTH, QUALITY = 1220, 68  # pixels of a sheet at most, of the JPEG
NAMED = 3  # methods that are ahead, before the rest is a number
SEEN = Path(__file__).with_name("results_seen.toml")
NUMBERS = re.compile(r" \((Table|Fig)[^)]*\)")  # of the paper, in titles
COMMAND = "python benchmarks/results.py --out runs/results"
BESIDE = "Laplacian pyramid,guided filter"  # of the sheets: the strongest without a network
SCENES, PROMPT_SCENES = 2, 4  # of a sheet, of a table of prompts
OF_FREE = (
    "--data runs/results/free --groups runs/results/free/groups.toml --out runs/results/figures "
    f'--limit {SCENES} --baselines "{BESIDE}"'
)
HEAD = f"""# Results

Only what was measured with this code, losses included. What the numbers are worth:
[evaluation.md](evaluation.md). All of this page is made by

    {COMMAND} --limit 6 --page docs

which goes on where it was stopped, and makes everything again for other weights. Other programs take part
where they are installed: `apt install enfuse`, and openfocus and focusweave of the extra `bench`. Those by
themselves:

    python benchmarks/peers.py --dataset data/mff/lytro --names val.txt --task mff --out peers

The sets are described in `data/SOURCES.md` of the data root. Tables are of their validation lists, which the
checkpoint that ships was not trained on.
"""
TABLES = f"""
# Tables

`{OURS}` is made of the sources' pixels, as the checkpoint proposes; `{DECODED}` is what the network paints.
"""
PROMPTS = f"""
# Prompts at test time

    python -m ditfuse_jax.evaluation prompts --limit {PROMPT_SCENES} --out runs/results/prompts

Table VII and VIII and Fig. 15 to 20 of the paper as numbers; what each row asks is in
[evaluation.md](evaluation.md#prompts-at-test-time). An order that holds in few scenes is a failure.

"""
SHEETS = f"""
# Sheets

    python benchmarks/free_pictures.py --out runs/results/free
    python -m ditfuse_jax.evaluation figures {" ".join(FIGURES)} {OF_FREE}

The pairs of the sets are for research and are not copied here. These are drawn streets (dusk, over-exposure,
fog, low light) and pairs simulated from held-out photographs that are free: {{photos}}.
The same without `--data` and `--groups` makes the sheets of the sets' own pairs. Checkpoint {{checkpoint}}.
{{looked}}
"""
NOT_LOOKED = (
    "**Nobody has looked at these sheets yet**: `benchmarks/results_seen.toml` is about {checkpoint}."
)
LOOKED = "Below each sheet is what the eye saw on it, and on that of the sets' own pairs."
RUNTIME = """
# Seconds and memory

    python -m ditfuse_jax.evaluation runtime --out runs/results/runtime

"""


def table(name: str, scored: Path, problems: list[str], *, limit: int, checkpoint: str) -> str:
    """One set: the command, the table, what is missing, who is ahead of the checkpoint."""
    summary = json.loads((scored / "summary.json").read_text("utf-8"))
    text = (scored / "summary.md").read_text("utf-8").rstrip()
    command = f"{COMMAND} --parts tables --only {name}" + (f" --limit {limit}" if limit else "")
    ours = [method for method in (OURS, DECODED) if method in summary["methods"]]
    lines = [f"- not here: {line}" for line in problems] + [place(summary, method) for method in ours]
    return f"## {name}\n\n    {command}\n\n- checkpoint: {checkpoint}\n{text}\n\n" + "\n".join(lines) + "\n"


def place(summary: dict, method: str) -> str:
    """A line: where the method leads, and by whom it is beaten in the rest."""
    lead, lost = [], []
    for metric, ranks in summary["ranks"].items():
        better = sorted((other for other in ranks if ranks[other] < ranks.get(method, 0)), key=ranks.get)
        name = summary["metrics"][metric]["title"]
        if better:
            more = f" and {len(better) - NAMED} more" if len(better) > NAMED else ""
            lost.append(f"{name} by {', '.join(better[:NAMED])}{more}")
        elif method in ranks:
            lead.append(name)
    mean = summary["mean_rank"]
    first = f"mean rank {1 + sum(other < mean[method] for other in mean.values())} of {len(mean)}; "
    text = f"- {method}: {first if method in mean else ''}best in {', '.join(lead) or 'nothing'}"
    return f"{text}; beaten in {'; '.join(lost)}" if lost else text


def prompts(told: str) -> str:
    """told: prompts.md."""
    return PROMPTS + told.replace("### ", "## ")


def sheets(checkpoint: str) -> str:
    """What stands around the pictures, and what was seen on them."""
    seen = tomllib.loads(SEEN.read_text("utf-8"))
    known = seen["checkpoint"] == checkpoint
    looked = LOOKED if known else NOT_LOOKED.format(checkpoint=seen["checkpoint"])
    photos = "; ".join(f"{stem} ({where})" for stem, where in free_pictures.PHOTOS.items())
    text = SHEETS.format(photos=photos, checkpoint=checkpoint, looked=looked)
    for number, figure in FIGURES.items():
        title = NUMBERS.sub("", figure.title)
        text += f"\n## Fig. {number}: {title}\n\n![{title}](results/fig{number}.jpg)\n"
        text += f"\n{seen['figures'][number].strip()}\n" if known and number in seen["figures"] else ""
    return text


def smaller(sheet: Path, to: Path) -> None:
    """The sheet as a JPEG, at most WIDTH pixels wide."""
    with Image.open(sheet) as picture:
        small = picture.convert("RGB")
    small.thumbnail((WIDTH, small.height), Image.Resampling.LANCZOS)
    small.save(to, quality=QUALITY, optimize=True)


def write(out: Path, sets: Iterable[str], page: Path) -> None:
    """page/results.md and page/results/*.jpg of all parts in `out`. Raises ValueError where none is."""
    made = [out / name / PART for name in sets]
    made = [file.read_text("utf-8") for file in made if file.is_file()]
    rest = [out / name / PART for name in ("prompts", "figures", "runtime")]
    rest = [file.read_text("utf-8") for file in rest if file.is_file()]
    if not made + rest:
        raise ValueError(f"{out} holds no part of the results; leave --parts away, or name another --out")
    tables.write(page / "results.md", HEAD + "\n".join([TABLES, *made] if made else []) + "".join(rest))
    for file in sorted((out / "figures").glob("*.jpg")):
        (page / "results").mkdir(exist_ok=True)
        shutil.copyfile(file, page / "results" / file.name)
