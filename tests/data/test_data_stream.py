# SPDX-License-Identifier: Apache-2.0
import dataclasses
import gc
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from conftest import PATIENCE, golden
from ditfuse_jax import prompt
from ditfuse_jax.data import loader, prompts, samples
from ditfuse_jax.data.config import Bucket, MixtureConfig
from ditfuse_jax.data.mixture import resolve
from synthetic import SMALL, TEXT, demo, jsonl, noise, only, synthetic_root, write  # noqa: F401


@pytest.fixture
def tokenizer():
    return prompt.load_tokenizer(golden("ckpt_tiny"))


def take(mixture, tokenizer, count: int, **settings) -> list[loader.Batch]:
    with loader.make_loader(mixture, tokenizer, **({"batch_size": 4} | settings)) as stream:
        return [next(stream) for _ in range(count)]


def flat(batch: loader.Batch) -> list[np.ndarray]:
    return [*batch.prompt, *batch[1:-1], *(array for prompt in batch.branches for array in prompt)]


def assert_same(one: list[loader.Batch], two: list[loader.Batch]) -> None:
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        for x, y in zip(flat(first), flat(second), strict=True):
            np.testing.assert_array_equal(x, y)


def test_the_stream_of_a_seed_is_pinned(root):
    """Of opaque 8-bit files, with the versions of constraints.txt: continued runs must not notice."""
    stored = {name: only(demo(root).config, name).sources for name in ("ivif", "control_object", "seg")}
    mixture = demo(root, sources=tuple(source for sources in stored.values() for source in sources))
    digest = hashlib.sha256()
    for position in range(24):
        sample = samples.make(mixture, position, SMALL[1]).sample
        for part in (sample.text.encode(), sample.sources.tobytes(), sample.target.tobytes()):
            digest.update(part)
    assert digest.hexdigest() == "915333af5e2fc9ed9ef2befc082122711510b0c3281b4e93438cd850b4f9f54a"


def test_rows_of_a_varied_bucket_have_sizes_of_their_own(root, tokenizer):
    bucket = Bucket(height=48, width=64, least_height=16, least_width=32)
    mixture = resolve(dataclasses.replace(demo(root).config, buckets=(bucket,), swap_share=0.5), root)
    batches = take(mixture, tokenizer, 8)
    sizes = {tuple(size) for batch in batches for size in batch.size.tolist()}
    assert len(sizes) > 5
    assert sizes <= set(bucket.sizes()) == {(h, w) for h in (16, 32, 48) for w in (32, 48, 64)}
    for batch in batches:
        assert batch.target.shape == (4, 48, 64, 3)
        assert batch.prompt.token_ids.shape[1] == prompts.prefix_length(bucket, mixture.config)
        for row, (height, width) in enumerate(batch.size.tolist()):
            spans = set((batch.prompt.slots[row, :, 1] - batch.prompt.slots[row, :, 0]).tolist())
            assert spans <= {0, height * width // 256}
            assert batch.target[row, :height, :width].any()
            assert not batch.target[row, height:].any()
            assert not batch.target[row, :, width:].any()
    assert_same(batches[5:7], take(mixture, tokenizer, 2, start_batch=5))


@pytest.mark.parametrize(("least", "message"), [(24, "multiple of 16"), (80, "from 16 to 64")])
def test_least_sizes_are_checked(least, message):
    with pytest.raises(ValueError, match=message):
        Bucket(height=64, width=64, least_width=least)


def test_batch_has_the_shapes_of_its_bucket(root, tokenizer):
    mixture = demo(root)
    for number, batch in enumerate(take(mixture, tokenizer, 4)):
        bucket = mixture.bucket(number)
        length = batch.prompt.token_ids.shape[1]
        assert batch.sources.shape == (4, 2, bucket.height, bucket.width, 3)
        assert batch.target.shape == (4, bucket.height, bucket.width, 3)
        assert batch.sources.dtype == batch.target.dtype == np.uint8
        assert length == prompts.prefix_length(bucket, mixture.config)
        assert length % mixture.config.length_multiple == 0
        assert batch.index.tolist() == list(range(4 * number, 4 * number + 4))
        spans = batch.prompt.slots[..., 1] - batch.prompt.slots[..., 0]
        assert set(spans.ravel().tolist()) <= {0, prompts.patch_count(bucket)}
        dropped = (spans == 0).all(1)
        assert (batch.sources[dropped] == 0).all()
    assert {batch.target.shape[2] for batch in take(mixture, tokenizer, 8)} == {32, 48}


def test_stream_is_the_same_for_any_number_of_workers(root, tokenizer):
    mixture = demo(root)
    alone = take(mixture, tokenizer, 6)
    for workers in (1, 4):
        assert_same(alone, take(mixture, tokenizer, 6, workers=workers))


def test_hosts_together_hold_the_batch_of_one_host(root, tokenizer):
    mixture = demo(root)
    whole = take(mixture, tokenizer, 3)
    halves = [take(mixture, tokenizer, 3, host=host, num_hosts=2) for host in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        for x, a, b in zip(flat(batch), flat(first), flat(second), strict=True):
            np.testing.assert_array_equal(x, np.concatenate([a, b]))


@pytest.mark.parametrize("order", ["weighted", "shuffled"])
def test_stream_goes_on_at_the_very_next_batch_with_other_workers(root, tokenizer, order):
    mixture = demo(root, order=order)
    whole = take(mixture, tokenizer, 20)  # over the end of an epoch of about 70 samples
    assert mixture.samples_per_epoch < 80
    with loader.make_loader(mixture, tokenizer, batch_size=4, workers=1) as stream:
        for _ in range(7):
            next(stream)
        saved = stream.position
    assert saved == 7
    assert_same(whole[7:10], take(mixture, tokenizer, 3, start_batch=saved))
    assert_same(whole[7:], take(mixture, tokenizer, 13, start_batch=saved, workers=2))


def test_loader_returns_arrays_of_its_own(root, tokenizer):
    batches = take(demo(root), tokenizer, 2, workers=1)
    gc.collect()  # shared memory of the workers is gone by now
    for array in flat(batches[0]):
        assert type(array) is np.ndarray
        assert array.flags.owndata


def test_workers_end_with_the_loader(root, tokenizer):
    stream = loader.make_loader(demo(root), tokenizer, batch_size=4, workers=2)
    next(stream)
    running = [child for child in multiprocessing.active_children() if "grain" in child.name]
    assert len(running) == 2
    start = time.monotonic()
    stream.close()
    assert time.monotonic() - start < 60
    assert not any(child.is_alive() for child in running)


PROGRAM = """
import multiprocessing, os, signal, sys
from pathlib import Path
from ditfuse_jax import prompt
from ditfuse_jax.data import loader
from ditfuse_jax.data.config import Bucket, MixtureConfig, SourceConfig
from ditfuse_jax.data.mixture import resolve
if __name__ == "__main__":
    source, bucket = SourceConfig(name="m3", path="photos"), Bucket(height=64, width=64)
    config = MixtureConfig(sources=(source,), buckets=(bucket,), max_text_tokens=1024)
    mixture = resolve(config, Path(sys.argv[1]))
    stream = loader.make_loader(mixture, prompt.load_tokenizer(sys.argv[2]), batch_size=4, workers=2)
    next(stream)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie of a container without init is gone for our purpose
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


@pytest.mark.parametrize("end", ["forgets to close", "killed"])
def test_workers_of_a_program_end_with_it_quickly_and_quietly(root, tmp_path, end):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), str(root), str(golden("ckpt_tiny")), end]
    project = str(Path(loader.__file__).parents[2])
    with (tmp_path / "errors").open("w+") as errors:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=PATIENCE,
            env=os.environ | {"PYTHONPATH": project},
        )
        workers = [int(pid) for pid in done.stdout.split()]
        assert len(workers) == 2
        limit = time.monotonic() + 60
        while any(alive(pid) for pid in workers) and time.monotonic() < limit:
            time.sleep(0.1)
        assert not any(alive(pid) for pid in workers)
        errors.seek(0)
        lines = errors.read().splitlines()
    assert done.returncode == (-signal.SIGKILL if end == "killed" else 0)
    # Python's resource tracker may say that it cleaned up after a killed program.
    known = ("PyTorch was not found", "resource_tracker", "warnings.warn(")
    assert [line for line in lines if not any(word in line for word in known)] == []


def test_broken_file_is_replaced_by_the_next_attempt_with_one_warning(root, tokenizer):
    mixture = resolve(only(demo(root).config, "m3", buckets=SMALL[:1]), root)
    whole = take(mixture, tokenizer, 4)
    draws = [mixture.draw(position) for position in range(16)]
    victim = draws[5].item
    file = mixture.listings[0].items[victim].images[0]
    file.write_bytes(file.read_bytes()[:300])
    hit = [position for position in range(16) if draws[position].item == victim]
    for workers in (0, 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = take(mixture, tokenizer, 4, workers=workers)
        assert len(caught) >= len(hit)
        for position in hit:
            notes = [str(w.message) for w in caught if str(w.message).startswith(f"sample {position}:")]
            attempts = [
                mixture.listings[0].items[mixture.draw(position, a).item].images[0] for a in range(1, 8)
            ]
            replacement = next(path for path in attempts if path != file)
            assert sum(str(file) in note and str(replacement) in note for note in notes) >= 1
        for number, (before, after) in enumerate(zip(whole, again, strict=True)):
            kept = [row for row in range(4) if 4 * number + row not in hit]
            np.testing.assert_array_equal(before.sources[kept], after.sources[kept])


def test_too_long_a_prompt_is_named(root, tokenizer):
    mixture = demo(root, max_text_tokens=10, condition_dropout=0.0)
    with pytest.raises(ValueError, match=r"prompt '.*text tokens, max_text_tokens is 10"):
        take(mixture, tokenizer, 1)


def test_omnigen_jsonl_trains_unchanged(root, tokenizer):
    text = "<img><|image_1|></img> <img><|image_2|></img> merge them"
    rows = [
        {
            "task_type": "x",
            "instruction": text,
            "input_images": ["photos/p00.jpg", "photos/p00.jpg"],
            "output_image": "photos/p00.jpg",
        },
        {
            "instruction": "turn <img><|image_1|></img> red",
            "input_images": ["photos/p01.jpg"],
            "output_image": "photos/p02.jpg",
        },
        {"instruction": "a red square", "input_images": None, "output_image": "photos/p03.jpg"},
    ]
    cfg = MixtureConfig(
        sources=(jsonl(root, rows),),
        order="shuffled",
        buckets=SMALL[:1],
        max_text_tokens=TEXT,
        condition_dropout=0.0,
    )
    batch = take(resolve(cfg, root), tokenizer, 1, batch_size=3)[0]
    spans = batch.prompt.slots[..., 1] - batch.prompt.slots[..., 0]
    assert sorted(spans.tolist()) == [[0, 0], [4, 0], [4, 4]]
    both = int(np.flatnonzero(spans[:, 1])[0])
    np.testing.assert_array_equal(batch.sources[both, 0], batch.target[both])


def test_the_other_branches_come_with_a_batch_where_asked_for(root, tokenizer):
    base = dataclasses.replace(demo(root).config, condition_dropout=0.0, text_dropout=0.0)
    mixture = resolve(dataclasses.replace(base, max_text_tokens=224), root)  # the negative prompt is long
    (plain,) = take(mixture, tokenizer, 1)
    (batch,) = take(mixture, tokenizer, 1, branches=True)
    assert plain.branches == ()
    assert_same([plain], [batch._replace(branches=())])
    uncond, image_only = batch.branches
    assert uncond.token_ids.shape == image_only.token_ids.shape == batch.prompt.token_ids.shape
    assert not uncond.slots.any()
    np.testing.assert_array_equal(np.diff(image_only.slots), np.diff(batch.prompt.slots))
    assert (image_only.num_padding > batch.prompt.num_padding).all()  # it has no instruction
