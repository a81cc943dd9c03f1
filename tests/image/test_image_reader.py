# SPDX-License-Identifier: Apache-2.0
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ditfuse_jax import image as im
from ditfuse_jax.image import reader


def gradient(height=20, width=24):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 7, (rows + columns) * 3], axis=-1).astype(np.uint8)


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


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, rows, *, depth=8, colour=2, interlaced=0):
    """A PNG file that promises width x height pixels and holds these bytes of rows."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "words"), [((11000, 10000), "110 megapixels"), ((60000, 60000), "megapixels")]
)
def test_too_many_pixels_are_refused_by_the_header(tmp_path, size, words):
    (tmp_path / "bomb.png").write_bytes(png(*size, b""))
    with pytest.raises(ValueError, match=f"bomb.png: .*{words}.*scale the image down"):
        im.read(tmp_path / "bomb.png")


def test_nothing_is_said_of_a_large_picture_that_is_read(tmp_path):
    """From 89 megapixels on Pillow warns, which the tests take for an error."""
    (tmp_path / "large.png").write_bytes(png(10000, 9900, b""))
    assert im.read_size(tmp_path / "large.png") == (9900, 10000)
    assert im.read_depth(tmp_path / "large.png") == 8


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
    frames = [Image.fromarray(gradient() * i) for i in (1, 2, 3)]
    for name in ("moving.webp", "pages.tif", "moving.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match=f"{name}: holds several frames or pages; give one"):
            im.read(tmp_path / name)
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


def test_only_the_advertised_formats_are_opened(tmp_path):
    for name in ("a.gif", "a.ppm", "a.pdf", "a.eps", "a.tga", "a.dds"):
        Image.fromarray(gradient()).save(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "renamed.png")
        with pytest.raises(im.BadFile, match="renamed.png: not an image that can be read; give a PNG, JPEG"):
            im.read(tmp_path / "renamed.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"])
def test_whatever_is_cut_off_a_file_only_badfile_is_raised(tmp_path, name):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / name, compression="tiff_lzw" if name == "a.tif" else None)
    whole = (tmp_path / name).read_bytes()
    assert im.read(tmp_path / name).shape == image.shape
    for kept in (0, 1, 9, 30, *range(40, len(whole) - 20, len(whole) // 30)):
        (tmp_path / name).write_bytes(whole[:kept])
        with pytest.raises(im.BadFile, match=f"{name}: (truncated or damaged|not an image)"):
            im.read(tmp_path / name)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_bad(tmp_path, progressive):
    Image.fromarray(gradient(64, 64)).save(tmp_path / "a.jpg", progressive=progressive)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:-2])
    with pytest.raises(im.BadFile, match="a.jpg: truncated or damaged"):
        im.read(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(whole + b"what a camera adds")
    assert im.read(tmp_path / "a.jpg").shape == (64, 64, 3)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("missing", [0, 1, 17, 97, 194, 970, 1000])
def test_a_png_with_too_few_rows_is_bad(tmp_path, interlaced, missing):
    """Whole rows too, which Pillow does not miss."""
    lines = [(4, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16), (16, 32)] if interlaced else [(32, 32)]
    rows = b"".join(b"\0" + b"\x77" * 3 * columns for count, columns in lines for _ in range(count))
    (tmp_path / "a.png").write_bytes(png(32, 32, rows[: len(rows) - missing], interlaced=interlaced))
    for read in (im.read, im.read_file):
        if not missing:
            assert (read(tmp_path / "a.png") == 0x77).all()
            continue
        with pytest.raises(im.BadFile, match="a.png: truncated or damaged"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (8, 0), (8, 2), (8, 4), (8, 6)])
@pytest.mark.parametrize("size", [(17, 16), (16, 33), (21, 19)])
def test_a_black_picture_is_whole_and_without_its_last_row_it_is_not(
    tmp_path, size, depth, colour, interlaced
):
    """Every kind and odd sizes, whose rows are counted, as the last ones are all 0."""
    height, width = size
    bits = depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    rows = []
    for top, left, down, right in passes if interlaced else [(0, 0, 1, 1)]:
        columns = len(range(left, width, right))
        rows += [bytes(1 + (columns * bits + 7) // 8)] * len(range(top, height, down))
    kind = {"depth": depth, "colour": colour, "interlaced": interlaced}
    (tmp_path / "a.png").write_bytes(png(width, height, b"".join(rows), **kind))
    assert not im.read(tmp_path / "a.png").any()
    (tmp_path / "a.png").write_bytes(png(width, height, b"".join(rows[:-1]), **kind))
    with pytest.raises(im.BadFile, match=r"a.png: truncated or damaged \(it holds 9\d% of its rows"):
        im.read(tmp_path / "a.png")


def test_labels_without_their_last_rows_are_bad(tmp_path):
    (tmp_path / "a.png").write_bytes(png(32, 16, (b"\0" + b"\1" * 32) * 12, colour=0))
    with pytest.raises(im.BadFile, match="a.png: .*holds 75% of its rows"):
        im.read_labels(tmp_path / "a.png")


def test_a_tiff_that_names_a_second_page_of_nothing_is_bad(tmp_path):
    """Pillow raises a TypeError, which is none of the errors that it names for damage."""
    Image.fromarray(gradient()).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    data += b"\0" * (len(data) % 2)
    struct.pack_into("<I", data, first + 2 + 12 * entries, len(data))
    (tmp_path / "a.tif").write_bytes(data + bytes(6))  # a page without tags, and no further one
    for read in (im.read, im.read_file, im.read_labels):
        with pytest.raises(im.BadFile, match="a.tif: (truncated or damaged|holds several frames or pages)"):
            read(tmp_path / "a.tif")


def test_a_tiff_of_many_pages_is_refused_without_counting_them(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    table = bytes(data[first : first + 2 + 12 * entries])
    at = first + len(table)  # where the offset of the next page stands
    for _ in range(100_000):
        data += b"\0" * (len(data) % 2)
        struct.pack_into("<I", data, at, len(data))
        data += table + b"\0\0\0\0"
        at = len(data) - 4
    (tmp_path / "a.tif").write_bytes(data)
    before = time.process_time()
    with pytest.raises(im.BadFile, match="a.tif: holds several frames or pages"):
        im.read(tmp_path / "a.tif")
    assert time.process_time() - before < 5  # seconds; counting takes minutes


def test_white_may_be_zero(tmp_path):
    deep = np.arange(256, dtype=np.uint16).repeat(2).reshape(16, 32) * 257
    for image in (deep, deep / np.float32(65535), 255 - (deep // 257).astype(np.uint8)):
        Image.fromarray(image).save(tmp_path / "a.tif", tiffinfo={262: 0})  # turns 8 bits, and no others
        np.testing.assert_array_equal(im.read(tmp_path / "a.tif")[..., 0], 255 - deep // 257)


def test_jpegs_are_decoded_small_and_never_too_small(tmp_path):
    Image.fromarray(gradient(600, 800)).save(tmp_path / "big.jpg")
    for shortest, shape in ((None, (600, 800)), (100, (150, 200)), (301, (600, 800)), (75, (75, 100))):
        assert im.read_file(tmp_path / "big.jpg", shortest=shortest).shape == (*shape, 3)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("shortest", [None, 100, 200])
def test_pixels_are_those_of_opencv(tmp_path, subsampling, shortest):
    """What the shipped weights were trained on was read by OpenCV: the same bits, at every reduced size."""
    coarse = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((821, 603), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "a.jpg", subsampling=subsampling)
    factor = reader.reduction(603, shortest) if shortest else 1
    flag = {1: cv2.IMREAD_COLOR, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}[factor]
    wanted = cv2.cvtColor(cv2.imread(str(tmp_path / "a.jpg"), flag), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(im.read_file(tmp_path / "a.jpg", shortest=shortest), wanted)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("palette", [False, True])
def test_labels_are_the_numbers_in_the_file(tmp_path, depth, palette):
    labels = (np.arange(16 * 32).reshape(16, 32) % 2**depth).astype(np.uint8)
    bits = np.unpackbits(labels[..., None], axis=-1)[..., 8 - depth :]
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits.reshape(16, -1), axis=1))
    data = png(32, 16, rows, depth=depth, colour=3 if palette else 0)
    colours = chunk(b"PLTE", bytes(range(255, 255 - 2**depth, -1)) * 3)
    head = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data[:head] + (colours if palette else b"") + data[head:])
    np.testing.assert_array_equal(im.read_labels(tmp_path / "a.png"), labels)


def test_pictures_without_indices_are_no_labels(tmp_path):
    for mode in ("RGB", "LA", "I;16"):
        Image.fromarray(gradient()[..., 0]).convert(mode).save(tmp_path / "a.png")
        with pytest.raises(im.BadFile, match=f"a.png has mode {mode}; labels are one 8-bit channel"):
            im.read_labels(tmp_path / "a.png")


def test_a_damaged_fax_page_says_nothing_itself(tmp_path, capfd):
    """libtiff would write a line for each damaged row, from C."""
    file = tmp_path / "a.tif"
    rows = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(bool)
    Image.fromarray(rows).save(file, compression="group4")
    content = bytearray(file.read_bytes())
    content[40:60] = bytes(byte ^ 0x55 for byte in content[40:60])
    file.write_bytes(content)
    im.read(file)
    assert capfd.readouterr().err == ""
