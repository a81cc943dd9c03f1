# SPDX-License-Identifier: Apache-2.0
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from conftest import golden
from ditfuse_jax import image as im


def gradient(height=20, width=24):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 7, (rows + columns) * 3], axis=-1).astype(np.uint8)


def test_pixels_are_the_reference_ones():
    data = np.load(golden("processor/processor_phi3.npz"))
    for i in (0, 1):
        image = data[f"p0_image{i}_uint8"]
        want = data[f"p0_pixel{i}"].reshape(3, *image.shape[:2]).transpose(1, 2, 0)
        np.testing.assert_array_equal(im.to_pixels(image), want)


def test_every_level_survives_the_way_to_floats_and_back():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(im.to_image(im.to_pixels(levels)), levels)


def test_output_is_rounded_and_clipped():
    pixels = np.array([-3.0, (100.6 / 255) * 2 - 1, 3.0], np.float32)
    np.testing.assert_array_equal(im.to_image(pixels), [0, 101, 255])


def test_fit_then_restore_is_exact_below_max_side():
    image = gradient(37, 21)
    sizes = im.Geometry((37, 21), (37, 21), (48, 32))
    fitted = im.fit(image, sizes)
    assert fitted.shape == (48, 32, 3)
    np.testing.assert_array_equal(fitted[37, :21], image[35])  # reflected, not black
    np.testing.assert_array_equal(im.to_image(im.restore(im.to_pixels(fitted), sizes)), image)


def test_fit_pads_the_smallest_image_to_a_coarse_multiple():
    sizes = im.Geometry((16, 17), (16, 17), (64, 64))
    assert im.fit(gradient(16, 17), sizes).shape == (64, 64, 3)


def test_restore_brings_back_the_exact_native_size():
    image = np.tile(np.linspace(0, 255, 301).astype(np.uint8)[None, :, None], (203, 1, 3))
    sizes = im.Geometry((203, 301), (86, 128), (96, 128))
    back = im.to_image(im.restore(im.to_pixels(im.fit(image, sizes)), sizes))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).max() <= 3  # a ramp survives resampling but for its ends


def test_the_size_is_read_from_the_header_alone(tmp_path):
    Image.fromarray(gradient(21, 64)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    assert im.read_size(tmp_path / "a.png") == (21, 64)
    for name, message in (("none.png", "none.png: no such file"), ("b.png", "b.png: 40 x 15 pixels, a side")):
        Image.fromarray(gradient(15, 40)).save(tmp_path / "b.png")
        with pytest.raises(ValueError, match=message):
            im.read_size(tmp_path / name)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = np.arange(256, dtype=np.uint16).repeat(2).reshape(16, 32) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    for name in ("deep.png", "deep.tif"):
        got = im.read(tmp_path / name)
        np.testing.assert_array_equal(got, np.repeat((deep // 257).astype(np.uint8)[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(im.read(deep)[..., 1], deep // 257)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "RGB"])
def test_modes_become_rgb(tmp_path, mode):
    source = Image.fromarray(gradient()).convert(mode)
    file = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    source.save(file)
    np.testing.assert_array_equal(im.read(file), np.asarray(source.convert("RGB")))


def test_transparent_pixels_lie_over_black(tmp_path):
    rgba = np.full((16, 16, 4), 200, np.uint8)
    rgba[:8, :, 3], rgba[8:, :, 3] = 0, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    got = im.read(tmp_path / "a.png")
    assert (got[:8] == 0).all()
    assert (got[8:] == 200).all()


def test_exif_orientation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(gradient(20, 24)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(im.read(tmp_path / "turned.png"), np.rot90(gradient(20, 24), -1))


def png_header(width, height):
    """A PNG that promises width x height pixels and holds none."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(
    ("size", "words"), [((11000, 10000), "110 megapixels"), ((60000, 60000), "megapixels")]
)
def test_too_many_pixels_are_refused_by_the_header(tmp_path, size, words):
    (tmp_path / "bomb.png").write_bytes(png_header(*size) + b"\0\0\0\0IDAT\x35\xaf\x06\x1e")
    with pytest.raises(ValueError, match=f"bomb.png: .*{words}.*scale the image down"):
        im.read(tmp_path / "bomb.png")


def test_broken_files_are_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        tmp_path / "whole.png"
    )
    whole = (tmp_path / "whole.png").read_bytes()
    for cut in (len(whole) // 2, 60, 30):
        (tmp_path / "cut.png").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cut.png: (truncated or damaged|not an image)"):
            im.read(tmp_path / "cut.png")
    Image.fromarray(gradient(64, 64)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-200])
    with pytest.raises(ValueError, match="cut.jpg: truncated or damaged"):
        im.read(tmp_path / "cut.jpg")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="text.png: not an image"):
        im.read(tmp_path / "text.png")
    with pytest.raises(ValueError, match="none.png: no such file"):
        im.read(tmp_path / "none.png")


def test_animations_and_small_images_are_refused(tmp_path):
    frames = [Image.fromarray(gradient() + i) for i in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="moving.gif: holds 3 frames"):
        im.read(tmp_path / "moving.gif")
    with pytest.raises(
        ValueError, match="20 x 161 pixels, the longer side is over 8 times the shorter; crop"
    ):
        im.read(np.zeros((161, 20, 3), np.uint8))
    assert im.read(np.zeros((160, 20, 3), np.uint8)).shape == (160, 20, 3)
    with pytest.raises(ValueError, match="40 x 15 pixels, a side is under 16"):
        im.read(gradient(15, 40))


@pytest.mark.parametrize(
    "array",
    [np.zeros((20, 20, 3), np.float32), np.zeros((3, 20, 20), np.uint8), np.zeros((0, 20, 3), np.uint8)],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match="is not an image"):
        im.read(array)


def test_sizes_must_match():
    with pytest.raises(ValueError, match="a.png 24 x 20 and b.png 24 x 21; register the pair"):
        im.check_same_size(gradient(), gradient(21), ("a.png", "b.png"))


def test_write_keeps_pixels_and_text(tmp_path):
    metadata = {"prompt": "fuse, bitte: 融合", "seed": "7"}
    im.write(tmp_path / "new" / "out.png", gradient(), metadata=metadata)
    with Image.open(tmp_path / "new" / "out.png") as image:
        assert image.text == metadata | {"software": "ditfuse-jax"}
        np.testing.assert_array_equal(np.asarray(image), gradient())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.png"]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
def test_write_follows_the_suffix(tmp_path, suffix):
    im.write(tmp_path / f"out{suffix}", gradient(), metadata={"prompt": "融合"})
    assert np.abs(im.read(tmp_path / f"out{suffix}").astype(int) - gradient()).max() <= (
        8 if suffix == ".jpg" else 0
    )
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert suffix == ".bmp" or "\\u878d" in image.getexif()[im.DESCRIPTION]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    im.write(tmp_path / "out.png", gradient(), metadata={})
    before = (tmp_path / "out.png").read_bytes()

    def broken(self, fp, *args, **kwargs):
        fp.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="No space"):
        im.write(tmp_path / "out.png", gradient() + 1, metadata={})
    assert (tmp_path / "out.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_was_written_here_is_replaced_and_what_was_not_is_kept(tmp_path, suffix):
    file, metadata = tmp_path / f"out{suffix}", {"prompt": "fuse 融合", "seed": "7"}
    im.write(file, gradient(), metadata=metadata)
    assert im.read_metadata(file) == metadata
    im.write(file, gradient() + 1, metadata={})
    assert im.read_metadata(file) == {}
    Image.fromarray(gradient()).save(file)
    assert im.read_metadata(file) is None
    before = file.read_bytes()
    with pytest.raises(ValueError, match=f"out{suffix} is there already and was not written by ditfuse-jax"):
        im.write(file, gradient(), metadata={})
    assert file.read_bytes() == before
    im.write(file, gradient(), metadata=metadata, overwrite=True)
    assert im.read_metadata(file) == metadata


def described(text):
    exif = Image.Exif()
    exif[im.DESCRIPTION] = text
    return exif


@pytest.mark.parametrize("text", ["a cat", "[1]", '{"software": "GIMP"}', "{" * 5000, '{"a":' * 5000, ""])
def test_descriptions_of_others_are_not_ours(tmp_path, text):
    Image.fromarray(gradient()).save(tmp_path / "photo.jpg", exif=described(text))
    assert im.read_metadata(tmp_path / "photo.jpg") is None


def test_a_file_without_place_for_metadata_is_not_replaced(tmp_path):
    im.write(tmp_path / "out.bmp", gradient(), metadata={})
    with pytest.raises(ValueError, match="out.bmp is there already and was not written by"):
        im.write(tmp_path / "out.bmp", gradient(), metadata={})
    im.write(tmp_path / "out.bmp", gradient() + 1, metadata={}, overwrite=True)
    np.testing.assert_array_equal(im.read(tmp_path / "out.bmp"), gradient() + 1)


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_folders_are_never_replaced(tmp_path, overwrite):
    im.write(tmp_path / "real.png", gradient(), metadata={})
    for name, target in (("link.png", "real.png"), ("dangling.png", "nowhere.png")):
        (tmp_path / name).symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match=f"{name} is a symbolic link, which is not replaced"):
            im.write(tmp_path / name, gradient(), metadata={}, overwrite=overwrite)
        assert (tmp_path / name).is_symlink()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("folder.png", "pipe.png"):
        with pytest.raises(ValueError, match=f"{name} is no file, so no picture can take its place"):
            im.write(tmp_path / name, gradient(), metadata={}, overwrite=overwrite)


def test_an_empty_file_holds_nothing_and_is_replaced(tmp_path):
    (tmp_path / "out.png").touch()
    im.write(tmp_path / "out.png", gradient(), metadata={})
    np.testing.assert_array_equal(im.read(tmp_path / "out.png"), gradient())


def test_files_reach_the_disk_before_their_name(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(im.os, "fsync", lambda handle: events.append(("fsync", os.fstat(handle).st_size)))
    replace = os.replace
    monkeypatch.setattr(im.os, "replace", lambda *names: (events.append(("replace",)), replace(*names)))
    im.write(tmp_path / "out.png", gradient(), metadata={})
    assert events == [("fsync", (tmp_path / "out.png").stat().st_size), ("replace",)]


def test_a_picture_too_large_for_its_format_is_known_before_it_is_made(tmp_path):
    im.check_fits(tmp_path / "out.webp", 16, 16383)
    im.check_fits(tmp_path / "out.png", 16, 70000)
    for name, side in (("out.webp", 16384), ("out.jpg", 65501)):
        with pytest.raises(ValueError, match=f"{name}: {side} x 16 pixels, a side is over {side - 1}"):
            im.check_fits(tmp_path / name, 16, side)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("letter", ["x", "融", '"'])
def test_text_that_does_not_fit_is_cut(tmp_path, suffix, letter):
    file = tmp_path / f"out{suffix}"
    im.write(file, gradient(), metadata={"prompt": letter * 100_000, "seed": "7"})
    found = im.read_metadata(file)
    assert found["seed"] == "7"
    assert 7000 < len(found["prompt"]) < 60_000
    assert found["prompt"].endswith(f"{letter}...")


def test_a_long_name_that_the_disk_takes_is_written(tmp_path):
    name = "融" * 83 + ".png"  # 253 bytes of 255
    im.write(tmp_path / name, gradient(), metadata={})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(ValueError, match="cannot be written: File name too long; choose another name"):
        im.check_writable(tmp_path / ("融" * 84 + ".png"))


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot write .exe; use one of .png"):
        im.write(tmp_path / "out.exe", gradient(), metadata={})
