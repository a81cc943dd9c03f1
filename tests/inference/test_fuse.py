# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file

from conftest import golden
from convert.__main__ import main as convert
from ditfuse_jax.config import DEMO
from ditfuse_jax.image import overlay
from ditfuse_jax.inference import passes, sampler, terminal
from ditfuse_jax.inference.fuse import DiTFuse
from ditfuse_jax.inference.noise import normal
from ditfuse_jax.inference.plan import describe
from ditfuse_jax.models import padded_vae
from ditfuse_jax.task import request

pytestmark = pytest.mark.usefixtures("small_blocks")

PROMPT = "Fuse both."
SHORT = {"steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def model(folder):
    return DiTFuse.load(folder)


def pair(height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    base = np.stack([rows * 3, columns * 2, rows + columns], axis=-1)
    return tuple(
        ((base * scale) % 256 + rng.integers(0, 30, base.shape)).clip(0, 255).astype(np.uint8)
        for scale in (1, 2)
    )


@pytest.mark.parametrize("case", [0, 1, 2])
@pytest.mark.parametrize("converted", [False, True], ids=["peft", "converted"])
def test_whole_pipeline_equals_the_reference(folder, model, tmp_path, case, converted):
    settings = json.loads(golden("e2e/e2e_mode.json").read_text())[case]
    with np.load(golden("e2e/e2e_mode.npz")) as file:
        data = {name: file[f"c{case}_{name}"] for name in ("image1", "image2", "noise", "latents", "image")}
    if settings["lora"] is not None:
        adapter = golden(f"dit_tiny/{settings['lora']}")
        if converted:
            assert convert(["lora", str(adapter), str(tmp_path / "adapter")]) == 0
            adapter = tmp_path / "adapter"
        model = DiTFuse.load(folder, lora=adapter)
    elif converted:
        pytest.skip("this case has no adapter")
    result = model.fuse(
        (data["image1"], data["image2"]),
        settings["prompt"],
        steps=settings["steps"],
        guidance=settings["gs"],
        image_guidance=settings["igs"],
        noise=data["noise"],
    )
    # the tolerances of golden/README.md for the whole pipeline
    np.testing.assert_allclose(result.latents, data["latents"], atol=2e-4)
    np.testing.assert_allclose(result.pixels * 0.5 + 0.5, data["image"], atol=5e-4)
    assert np.abs(result.image - data["image"] * 255).max() <= 0.5 + 255 * 5e-4


def test_the_result_has_the_size_of_the_first_input(model):
    for size in ((48, 64), (37, 53), (16, 17)):
        result = model.fuse(pair(*size), PROMPT, **SHORT)
        assert result.image.shape == (*size, 3)
        assert result.image.dtype == np.uint8
        assert result.latents.dtype == np.float32
    result = model.fuse(pair(90, 60), PROMPT, max_side=32, **SHORT)
    assert result.image.shape == (90, 60, 3)
    assert result.latents.shape == (4, 4, 4)  # 32 x 21 pixels, padded to 32 x 32
    assert min(result.timings) > 0


def test_a_batch_equals_its_members(model):
    pairs = [pair(48, 64), pair(37, 53, seed=1), pair(80, 32, seed=2)]
    prompts = ["Fuse both.", "Make it a lot brighter than it was before.", "x"]
    together = model.fuse_batch(pairs, prompts, steps=3, seed=[1, 2, 3])
    for i, result in enumerate(together):
        alone = model.fuse(pairs[i], prompts[i], steps=3, seed=i + 1)
        np.testing.assert_allclose(result.latents, alone.latents, atol=1e-4)
        assert np.abs(result.image.astype(int) - alone.image).max() <= 1


def test_several_noises_give_the_mean_of_what_each_leads_to(model):
    images, seen = pair(), {}
    pairs = [images, pair(37, 53, seed=1)]
    encoded = model.encode(images)
    first, second = (normal(encoded.latents.shape[1:], seed=3, draw=draw) for draw in (0, 1))
    assert np.abs(first - second).max() > 1
    alone = [model.fuse(images, PROMPT, steps=2, noise=noise).latents for noise in (first, -first, second)]
    for count in (2, 3):
        result = model.fuse(
            images,
            PROMPT,
            noises=count,
            on_step=lambda step, latents: seen.update({step: latents()}),
            **SHORT,
        )
        np.testing.assert_allclose(result.latents, np.mean(alone[:count], axis=0), atol=1e-5)
        np.testing.assert_array_equal(seen[2], result.latents)
    assert np.abs(alone[1] - alone[0]).max() > 1e-2  # so the mean is none of them
    together = model.fuse_batch(pairs, [PROMPT] * 2, noises=3, **SHORT)
    given = model.fuse_batch([images] * 2, [PROMPT] * 2, noise=np.stack([first] * 2), steps=2)
    np.testing.assert_allclose(given[1].latents, alone[0], atol=1e-4)
    for one, result in zip(pairs, together, strict=True):
        np.testing.assert_allclose(
            result.latents, model.fuse(one, PROMPT, noises=3, **SHORT).latents, atol=1e-4
        )


def test_many_prompts_equal_one_at_a_time(model):
    prompts = [
        "Fuse both.",
        "Make it a lot brighter than it was before, and mark the cars and the road.",
        "x",
    ]
    for result, prompt in zip(model.fuse_prompts(pair(), prompts, **SHORT), prompts, strict=True):
        np.testing.assert_allclose(result.latents, model.fuse(pair(), prompt, **SHORT).latents, atol=2e-5)


def test_what_prompts_share_is_encoded_once(model, monkeypatch):
    calls = []
    for owner, name in ((passes, "encode"), (sampler, "prefix")):
        original = getattr(owner, name)

        def counted(*args, original=original, name=name, **kwargs):
            rows = args[1].num_target.size if name == "prefix" else None
            calls.append((name, rows))
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    list(model.fuse_prompts(pair(), ["a", "b", "c"], **SHORT))
    assert calls == [("encode", None), ("prefix", 3), ("prefix", 1), ("prefix", 1)]


def test_padded_results_equal_exact_shapes(model, monkeypatch):
    sizes = ((48, 80), (37, 53))
    padded = [model.fuse(pair(*size), PROMPT, **SHORT) for size in sizes]
    monkeypatch.setattr(sampler, "round_up", lambda count, step: count)
    monkeypatch.setattr(padded_vae, "padded_side", lambda cells: cells)
    for size, got in zip(sizes, padded, strict=True):
        exact = model.fuse(pair(*size), PROMPT, **SHORT)
        np.testing.assert_allclose(exact.latents, got.latents, atol=2e-5)
        np.testing.assert_allclose(exact.pixels, got.pixels, atol=2e-5)


def test_a_folder_of_mixed_sizes_compiles_a_handful_of_programs(model):
    sizes = [(104, 104), (98, 120), (113, 97), (128, 110), (101, 128), (120, 125)]
    jax.clear_caches()
    with terminal.count_compiled() as compiled:
        model.fuse(pair(*sizes[0]), PROMPT, **SHORT)
        first = compiled().new
        for size in sizes[1:]:
            model.fuse(pair(*size), PROMPT, **SHORT)
        rest = compiled().new - first
    assert first <= 12  # encode, decode, noise, prefix, step and small ones
    assert rest == 0  # every side has one padded length, 49 to 64 patches one padded count


def test_the_seed_chooses_the_noise(model):
    encoded = model.encode(pair())
    noise = normal(encoded.latents.shape[1:], seed=7)
    np.testing.assert_array_equal(noise, jax.random.normal(jax.random.key(7), noise.shape))
    by_seed, given, other = (
        model.fuse(pair(), PROMPT, steps=2, **start).latents
        for start in ({"seed": 7}, {"noise": noise}, {"seed": 8})
    )
    np.testing.assert_array_equal(by_seed, given)
    assert np.abs(by_seed - other).max() > 0.1


def test_on_step_sees_each_state_and_changes_nothing(model):
    seen = []
    result = model.fuse(pair(), PROMPT, on_step=lambda step, latents: seen.append((step, latents())), **SHORT)
    assert [step for step, _ in seen] == [1, 2]
    np.testing.assert_array_equal(seen[-1][1], result.latents)
    np.testing.assert_array_equal(model.fuse(pair(), PROMPT, **SHORT).latents, result.latents)


def test_paths_and_pil_images_equal_arrays(model, tmp_path):
    first, second = pair()
    Image.fromarray(first).save(tmp_path / "a.png")
    Image.fromarray(second).save(tmp_path / "b.png")
    want = model.fuse((first, second), PROMPT, **SHORT).image
    np.testing.assert_array_equal(
        model.fuse([tmp_path / "a.png", str(tmp_path / "b.png")], PROMPT, **SHORT).image, want
    )
    got = model.fuse([Image.fromarray(first), Image.fromarray(second)], PROMPT, **SHORT).image
    np.testing.assert_array_equal(got, want)


def test_bf16_stays_near_float32(folder, model):
    half = DiTFuse.load(folder, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half.transformer.params)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half.vae.params)} == {"float32"}
    want, got = (each.fuse(pair(), PROMPT, **SHORT).latents for each in (model, half))
    assert np.linalg.norm(got - want) <= 0.02 * np.linalg.norm(want)  # parity in bf16, golden/README.md


def test_the_plan_counts_what_runs(model):
    plan = model.plan(37, 53, PROMPT, steps=9, guidance=2.0, image_guidance=1.6)
    assert list(plan.tokens) == ["cond", "uncond", "img_cond"]
    assert {new for _, new in plan.tokens.values()} == {1 + 3 * 4}
    assert list(model.plan(37, 53, PROMPT, guidance=1.0, image_guidance=1.0).tokens) == ["cond"]
    text = describe(plan)
    assert "tokens" not in text  # nothing for those who only want a picture
    assert "\nparameters  1.6 M\n" in describe(plan, verbose=True)
    for words in (
        "53 x 37, padded to 64 x 48\n",
        "sampling    steps 9, guidance 2.0, image_guidance 1.6, ",
        "GB",
    ):
        assert words in text
    several = describe(model.plan(37, 53, PROMPT, steps=9, noises=2))
    assert "noises 2" in several
    small = describe(model.plan(37, 53, PROMPT, max_side=32))
    assert "fused at 32 x 22, padded to 32 x 32, and brought back\n" in small
    assert model.plan(1024, 1024, PROMPT).memory > model.plan(256, 256, PROMPT).memory


MEASURE = """
import dataclasses, re, sys
import jax, numpy as np
from flax import nnx
from ditfuse_jax.inference import fuse
from ditfuse_jax.models import outline
from ditfuse_jax.inference.sampler import Network

model = fuse.DiTFuse.load(sys.argv[1])
large = dict(width=1024, mlp_width=2816, num_layers=6, num_heads=16, num_kv_heads=16, vocab_size=32064)
large |= dict(short_factor=(1.0,) * 32, long_factor=(1.0,) * 32)
if sys.argv[2] == "large":
    config = dataclasses.replace(model.config.model, **large)
    graph, shapes = nnx.split(outline.transformer(config))
    params = jax.tree.map(lambda leaf: jax.numpy.full(leaf.shape, 0.01), shapes)
    config = dataclasses.replace(model.config, model=config)
    model = dataclasses.replace(model, config=config, transformer=Network(graph, params))
pair = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
model.fuse(pair, "Fuse both.", steps=2)
# Not getrusage: its maximum starts at the size of the process that started this one.
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
print(model.plan(256, 256, "Fuse both.", steps=2).memory, peak)
"""


def test_steps_of_a_stack_are_counted_on(model):
    steps = []
    pictures = [*pair(32, 32), pair(32, 32, seed=1)[0]]
    how = {"steps": 2, "guidance": 1.0, "image_guidance": 1.0, "fidelity": 1.0}
    made = model.fuse(pictures, task="mff", on_step=lambda step, _: steps.append(step), **how)
    assert steps == [1, 2, 3, 4]
    assert made.image.shape == (32, 32, 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("size", ["tiny", "large"])
def test_the_planned_memory_is_what_a_run_takes(folder, size):
    """Tiny, where the runtime is nearly all, and 114 M parameters; 256 px, three branches."""
    command = [sys.executable, "-c", MEASURE, str(folder), size]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    planned, measured = map(int, run.stdout.split()[-2:])
    print(f"{size}: planned {planned / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB")
    assert 0.8 * measured <= planned <= 1.25 * measured  # what compilers take varies from machine to machine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps 0 is not a whole number from 1 to 10,000"),
        ({"noises": 0}, "noises 0 is not a whole number from 1 to 1,000"),
        ({"max_side": 8}, "max_side 8 is not a whole number from 16"),
        ({"max_side": 1025}, "max_side 1025 is over 1024 pixels, the longest side that this checkpoint"),
        ({"seed": 1.5}, "seed 1.5 is not a whole number"),
        ({"seed": 2**64}, "seed 18446744073709551616 is not a whole number"),
        ({"guidance": float("nan")}, "guidance nan is not a number from -100"),
        ({"noise": np.zeros((2, 2, 4))}, "must be finite and of the latents' shape"),
    ],
)
def test_bad_settings_are_refused(model, changes, message):
    with pytest.raises(ValueError, match=message):
        model.fuse(pair(), PROMPT, **changes)


def test_pairs_that_do_not_fit_are_refused(model):
    with pytest.raises(
        ValueError, match="different sizes: image 1 64 x 48 and image 2 48 x 64; crop or resize"
    ):
        model.fuse((pair(48, 64)[0], pair(64, 48)[1]), PROMPT)
    with pytest.raises(ValueError, match="1 pairs and 2 prompts"):
        model.fuse_batch([pair()], ["a", "b"])


def test_a_tokenizer_of_another_model_is_refused(folder, tmp_path):
    """Its ids would be read beyond the end of the embedding, which XLA does without a word."""
    shutil.copytree(folder, tmp_path / "mixed")
    shutil.copyfile(DEMO / "tokenizer.json", tmp_path / "mixed" / "tokenizer.json")
    with pytest.raises(ValueError, match="the tokenizer has 1287 ids, model.vocab_size is 512; use the"):
        DiTFuse.load(tmp_path / "mixed")


@pytest.mark.parametrize(
    ("part", "path", "file"),
    [("transformer", ("norm", "scale"), "model.safetensors"), ("vae", ("quant", "bias"), "vae.safetensors")],
)
def test_nan_weights_are_named(folder, part, path, file):
    model = DiTFuse.load(folder)
    variable = dict(nnx.to_flat_state(getattr(model, part).params))[path]
    variable.set_value(variable[...].at[0].set(np.nan))
    with pytest.raises(ValueError, match=rf"{file}: {'.'.join(path)} holds NaN.*convert or copy it again"):
        model.fuse(pair(), PROMPT, **SHORT)


def test_nan_in_an_adapter_is_named(tmp_path, folder):
    broken = tmp_path / "adapter"
    shutil.copytree(golden("dit_tiny/lora_all"), broken)
    tensors = load_file(broken / "adapter_model.safetensors")
    next(iter(tensors.values()))[0] = np.nan
    save_file(tensors, broken / "adapter_model.safetensors")
    with pytest.raises(
        ValueError, match=r"adapter_model.safetensors is no usable adapter(?s:.)*lora_A.weight holds NaN"
    ):
        DiTFuse.load(folder, lora=broken)


def test_missing_checkpoints_and_adapters_are_named(tmp_path, folder):
    with pytest.raises(ValueError, match="no checkpoint folder .*nowhere"):
        DiTFuse.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no adapter folder .*nowhere"):
        DiTFuse.load(folder, lora=tmp_path / "nowhere")


def test_a_mask_comes_with_the_marked_picture(model):
    """Decoded from this model's own two pictures; the marked one is not changed by it."""
    made = model.fuse(pair(), segment=["car"], mask=True, **SHORT)
    alone = model.fuse(pair(), segment=["car"], **SHORT)
    plain = model.fuse(pair(), task="fuse", **SHORT)
    np.testing.assert_array_equal(made.image, alone.image)
    np.testing.assert_array_equal(made.mask, overlay.decode(alone.image, plain.image).mask)
    assert alone.mask is None
    with pytest.raises(ValueError, match="a mask is that of a segmentation, not of task light"):
        model.fuse(pair(), task="light+", mask=True)


def test_a_task_is_rendered_as_its_prompt(model):
    by_task = model.fuse(pair(), task="light+", object="car", **SHORT).latents
    by_prompt = model.fuse(pair(), request(task="light+", thing="car"), **SHORT).latents
    np.testing.assert_array_equal(by_task, by_prompt)
    with pytest.raises(ValueError, match=r"segment 'car' is one string; give a sequence of names"):
        model.fuse(pair(), segment="car")
    with pytest.raises(ValueError, match=r"unknown option 'step' \(did you mean steps\?\)"):
        model.fuse(pair(), step=3)


@pytest.mark.parametrize(("images", "message"), [(pair()[:1], "1 images to fuse"), ("a.png", "one image to")])
def test_another_number_of_images_is_refused(model, images, message):
    with pytest.raises(ValueError, match=f"{message}.*give a sequence of 2"):
        model.fuse(images, PROMPT)


def test_a_prompt_is_tokenised_once(model):
    words, seen = model.tokenizer.__wrapped__, []

    def counted(chunk):
        seen.append(chunk)
        return words(chunk)

    counting = dataclasses.replace(model, tokenizer=functools.lru_cache(counted))
    counting.plan(48, 64, "a", steps=1)
    list(counting.fuse_prompts(pair(), ["a", "b"], steps=1))
    assert len(seen) == len(set(seen))
    assert sum(chunk.endswith("requirements: a<|end|>\n<|assistant|>\n<|diffusion|>") for chunk in seen) == 1


def test_a_tick_copies_no_latents(model, monkeypatch):
    copies, ticks = [], []
    original = sampler.mean_latents
    monkeypatch.setattr(sampler, "mean_latents", lambda *args: copies.append(1) or original(*args))
    model.fuse(pair(), PROMPT, on_step=lambda step, _: ticks.append(step), **SHORT)
    assert ticks == [1, 2]
    assert len(copies) == 1  # the result
