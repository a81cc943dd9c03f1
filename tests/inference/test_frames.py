# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax.inference import frames
from ditfuse_jax.inference.jobs import Job, in_sequence
from ditfuse_jax.inference.preparation import Preparation
from ditfuse_jax.task import request
from drawn import draw, infrared

pytestmark = pytest.mark.usefixtures("small_blocks")

THERMAL, PLAIN = request(task="ivif"), request("keep the warm things")
FUSION = request(None)


def save(file, pixels):
    Image.fromarray(pixels).save(file)
    return file


def job(tmp_path, name, visible, other, prompt=PLAIN):
    files = save(tmp_path / f"v{name}.png", visible), save(tmp_path / f"i{name}.png", other)
    return Job(files, prompt, tmp_path / "out" / f"{name}.png")


def counts(warmer):
    return (7250 + warmer + infrared(draw())[..., 0] * 2.2).astype(np.uint16)


@pytest.mark.parametrize("prompt", [THERMAL, PLAIN, FUSION])
def test_frames_share_the_range_of_all_that_can_be_read(tmp_path, prompt):
    low, high = np.percentile(counts(0), (1, 99))
    jobs = [job(tmp_path, warmer, draw(), counts(warmer), prompt) for warmer in (0, 100, 900)]
    jobs[2].images[1].write_bytes(b"no picture")
    found = frames.with_one_range(jobs, Preparation()).thermal_range
    assert found == pytest.approx((low, high + 100), abs=1)
    assert frames.with_one_range(jobs[2:], Preparation()).thermal_range is None
    given = Preparation(thermal_range=(1.0, 2.0))
    assert frames.with_one_range(jobs, given) is given


def test_two_deep_grey_pictures_of_one_camera_have_no_range(tmp_path):
    alone = job(tmp_path, "deep", counts(0), counts(3))
    assert frames.with_one_range([alone], Preparation()).thermal_range is None


def noisy(seed, scene):
    rng = np.random.default_rng(seed)
    return np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)


def test_a_camera_that_stands_still_is_told_of(tmp_path):
    said = []

    def tell(*visible):
        said.clear()
        jobs = [job(tmp_path, str(name), each, infrared(draw())) for name, each in enumerate(visible)]
        frames.told(jobs, said.append)
        return said

    (line,) = tell(noisy(0, draw()), noisy(1, draw()))
    assert "the first two differ by noise alone in " in line
    assert "--steady off" in line
    assert tell(draw(), draw()) == []  # equal frames do not flicker
    assert tell(noisy(0, draw()), noisy(1, draw(5))) == []  # another scene
    assert tell(noisy(0, draw())) == []
    three = Job((tmp_path / "v0.png",) * 3, PLAIN, tmp_path / "o.png")
    frames.told([three, three], said.append)
    assert said == []


def test_decoded_frames_are_steady_by_themselves():
    for asked, strength, steady in (("auto", 1, "auto"), ("auto", 0, "off"), ("on", 0, "on")):
        assert frames.settled([], Preparation(steady=asked), strength).steady == steady


def test_equal_frames_have_the_same_before_them(tmp_path):
    made = [job(tmp_path, str(n), noisy(seed, draw()), draw()) for n, seed in enumerate((0, 1, 1, 2, 1, 0))]
    before = [each.before for each in in_sequence(made)]
    first = made[0].images
    assert before == [None, first, first, made[2].images, first, None]
    made[1].images[0].unlink()  # fails by itself
    after = [each.before for each in in_sequence(made)]
    assert after == [None, first, made[1].images, made[2].images, made[1].images, None]
    made[4] = made[4]._replace(images=made[4].images[:1])  # of another number
    assert in_sequence(made)[4].before == made[3].images
