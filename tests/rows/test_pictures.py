import os
import struct
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skpair import PairEncoder, PairMatcher
from skpair.rows import pictures

# ---- shades of TIFF files ------------------------------------------------------------------------


def write_tiff(path, array, white_is_zero, pack_bits=False):
    """Write one uncompressed strip of grey, byte by byte: Pillow is what is tested."""
    height, width = array.shape
    data = np.packbits(array, axis=1) if pack_bits else array
    bits = 1 if pack_bits else 8 * array.itemsize
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,  # no compression
        262: 0 if white_is_zero else 1,
        273: 8,  # where the strip begins
        277: 1,
        278: height,
        279: data.nbytes,
        339: {"b": 1, "u": 1, "i": 2, "f": 3}[array.dtype.kind],
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    where = 8 + data.nbytes
    path.write_bytes(
        struct.pack("<2sHI", b"II", 42, where)
        + data.tobytes()
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


#: Light on the left, a dark line on the right: what is to be seen.
PICTURE = np.tile(np.array([255, 255, 255, 204, 255, 255, 0, 255], np.uint8), (8, 1))


def stored(dtype, white_is_zero):
    """Give PICTURE in the numbers of a type, of its whole range (floats: of 0 to 1)."""
    top = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    shades = (255 - PICTURE if white_is_zero else PICTURE) / 255
    return (shades * top).astype(dtype)


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_white_in_every_depth(tmp_path, dtype, white_is_zero):
    path = tmp_path / "picture.tif"
    write_tiff(path, stored(dtype, white_is_zero), white_is_zero)
    for shape in ((1, 8, 8), (3, 8, 8)):
        image = pictures.decode_image(path, shape).astype(int)
        assert abs(image - PICTURE).max() <= 1
    dark, light = (
        pictures.decode_skeleton(path, (1, 8, 8), pictures.Look(ink))[0]
        for ink in ("dark", "light")
    )
    np.testing.assert_array_equal(dark, 255 * (PICTURE < 128))
    np.testing.assert_array_equal(light, 255 * (PICTURE > 128))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32])
def test_black_is_black_in_wide_integers(tmp_path, dtype):
    write_tiff(tmp_path / "picture.tif", stored(np.int16, False).astype(dtype), False)
    image = pictures.decode_image(tmp_path / "picture.tif", (1, 8, 8))[0].astype(int)
    assert abs(image - PICTURE).max() <= 1


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_one_bit_is_black_and_white(tmp_path, white_is_zero):
    light = PICTURE > 128
    write_tiff(tmp_path / "picture.tif", light ^ white_is_zero, white_is_zero, pack_bits=True)
    image = pictures.decode_image(tmp_path / "picture.tif", (1, 8, 8))[0]
    np.testing.assert_array_equal(image, 255 * light)
    drawing = pictures.decode_skeleton(tmp_path / "picture.tif", (1, 8, 8), pictures.Look("dark"))[
        0
    ]
    np.testing.assert_array_equal(drawing, 255 * ~light)


def test_compressed_pages_whose_white_is_zero(tmp_path):
    deep = Image.fromarray(stored(np.uint16, False))
    for compression in (None, "tiff_lzw"):
        path = tmp_path / f"{compression}.tif"
        deep.save(path, compression=compression, tiffinfo={262: 0})
        with Image.open(path) as image:
            assert image.tag_v2[262] == 0
        negative = 255 - pictures.decode_image(path, (1, 8, 8))[0].astype(int)
        assert abs(negative - PICTURE).max() <= 1  # Pillow stores the numbers as they are


# ---- files of several pages ----------------------------------------------------------------------


def save_pages(path, **how):
    colours = ("red", "white", "blue")
    first, *more = (Image.new("RGB", (8, 8), colour) for colour in colours)
    first.paste("black", (3, 0, 4, 8))  # a line
    first.save(path, save_all=True, append_images=more, **how)


@pytest.mark.parametrize(
    "name, how, several",
    [
        ("stack.tif", {}, True),
        ("packed.tif", {"compression": "tiff_lzw"}, True),
        ("moving.gif", {}, True),
        ("moving.png", {}, True),
        ("moving.webp", {"lossless": True}, True),
        ("telephone.jpg", {"format": "MPO"}, False),
    ],
)
def test_pages_are_counted_by_what_they_are(tmp_path, name, how, several):
    save_pages(tmp_path / name, **how)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 3
    assert pictures.check_file(tmp_path / name) == several
    Image.new("RGB", (8, 8)).save(tmp_path / f"one{name}")
    assert not pictures.check_file(tmp_path / f"one{name}")


@pytest.mark.parametrize(
    "kinds, several", [([1], False), ([1, 4], False), ([1, 0], True), ([2], True)]
)
def test_smaller_versions_and_masks_are_no_pages(tmp_path, kinds, several):
    pages = [Image.new("L", (8, 8)) for _ in kinds]
    for page, kind in zip(pages, kinds, strict=True):
        page.encoderinfo = {"tiffinfo": {254: kind}}
    Image.new("L", (16, 16)).save(tmp_path / "a.tif", save_all=True, append_images=pages)
    assert pictures.check_file(tmp_path / "a.tif") == several


def test_a_damaged_second_page_is_one(tmp_path):
    save_pages(tmp_path / "stack.tif")
    with Image.open(tmp_path / "stack.tif") as image:
        second = image.tag_v2.next
    data = (tmp_path / "stack.tif").read_bytes()[:second]
    (tmp_path / "stack.tif").write_bytes(data)
    assert pictures.check_file(tmp_path / "stack.tif")
    assert pictures.decode_image(tmp_path / "stack.tif", (3, 8, 8))[0, :, 4:].min() == 255


@pytest.fixture
def stacks(files, tmp_path):
    """Rows of files, of which an image and a drawing are the first pages of several."""
    frame = files[0].copy()
    paths = {}
    for kind in ("image", "skeleton"):
        paths[kind] = str(tmp_path / f"{kind}.tif")
        with Image.open(frame[kind][3]) as picture:
            picture.save(paths[kind], save_all=True, append_images=[picture, picture])
    twice = frame.index.isin([3, 5])
    return frame.assign(**{k: frame[k].where(~twice, path) for k, path in paths.items()}), files[1]


def told_by(call, *args):
    """Give what a call returns, and its only warning, which points to this module."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        returned = call(*args)
    assert len(caught) == 1
    assert os.path.basename(caught[0].filename) == os.path.basename(__file__)
    return returned, str(caught[0].message)


@pytest.mark.slow
@pytest.mark.parametrize("training", ["two_stage", "joint", "fine_tune"])
def test_a_fit_warns_once_and_so_does_every_later_call(stacks, training):
    X, y = stacks
    encoder = PairEncoder(max_epochs=2, image_size=16)
    matcher = PairMatcher(encoder, max_epochs=1, random_state=0, training=training)
    matcher, message = told_by(matcher.fit, X, y)
    assert "Of 2 file(s) with several pages or frames, only the first one is read" in message
    assert "image.tif" in message
    assert "skeleton.tif" in message
    for call in (matcher.pair_score, matcher.pair_proba_matrix):
        assert told_by(call, X)[1] == message
        assert told_by(call, X[["image"]], X[["skeleton"]])[1] == message
    assert "Of 1 file(s)" in told_by(matcher.predict, X)[1]
    assert "Of 1 file(s)" in told_by(matcher.embed_skeletons, X)[1]
    matcher.predict(X[6:])  # warns of nothing, or it would be an error here


def test_an_encoder_alone_warns_once_a_call(stacks):
    X, y = stacks
    encoder = PairEncoder(max_epochs=1, image_size=16)
    encoder, _ = told_by(encoder.fit, X, y)
    told_by(encoder.transform, X)
    told_by(encoder.encode_images, X)


def test_few_of_many_files_are_named(tmp_path):
    paths = [str(tmp_path / f"{number}.tif") for number in range(8)]
    for path in paths:
        save_pages(path)
    X = pd.DataFrame({"image": paths, "skeleton": paths})
    _, message = told_by(PairEncoder(frozen=True, random_state=0).fit, X)
    assert "Of 8 file(s)" in message
    assert f"{paths[4]!r}, ..." in message
    assert paths[5] not in message


def scan(side=300):
    """A drawing of a cross in grey strokes, on paper that is shaded from one side to half."""
    paper = np.linspace(110, 230, side) * np.ones((side, 1))
    paper += np.random.default_rng(0).normal(scale=2, size=paper.shape)
    rows, columns = np.indices(paper.shape)
    lines = (abs(rows - 150) <= 3) & (abs(columns - 150) < 90)
    lines |= (abs(columns - 150) <= 3) & (abs(rows - 150) < 60)
    paper[lines] *= 0.45
    return np.clip(paper, 0, 255).astype(np.uint8)


def test_a_shadow_on_a_scan_is_no_ink(tmp_path):
    from skpair.field.drawings import clean

    grey = scan()
    Image.fromarray(grey).save(tmp_path / "scan.png")
    read = pictures.decode_skeleton(tmp_path / "scan.png", (1, 64, 64))[0]
    np.testing.assert_array_equal(read, clean(grey, size=64))
    in_memory = pictures.as_ink(grey[None], (64, 64), pictures.Look())[0, 0]
    np.testing.assert_array_equal(in_memory, read > 0)
    found = read > 0
    assert 0.02 < found.mean() < 0.08
    assert found[30:34].any(axis=0).sum() > 50 and found[:, 30:34].any(axis=1).sum() > 34
    assert not found[:8].any() and not found[-8:].any()
    shadow = pictures.decode_skeleton(tmp_path / "scan.png", (1, 64, 64), pictures.Look("dark"))[0]
    assert (shadow > 0).mean() > 0.3  # cut midway, as one who says which shade is ink wants it


def test_binary_drawings_stay_to_the_bit(tmp_path):
    binary = (scan() > 90) * np.uint8(255)
    Image.fromarray(binary).save(tmp_path / "binary.png")
    read = pictures.decode_skeleton(tmp_path / "binary.png", (1, 300, 300))[0]
    np.testing.assert_array_equal(read > 0, binary == 0)
