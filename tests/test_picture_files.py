"""Files of pictures that are none, that hold several, or that mean their negative."""

import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image, TiffImagePlugin

from skpair import PairEncoder, PairMatcher, pixels
from skpair.comparison import encode_splits


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    return path


@pytest.fixture
def loop(tmp_path):
    path = tmp_path / "loop.png"
    path.symlink_to(tmp_path / "other.png")
    (tmp_path / "other.png").symlink_to(path)
    return path


@pytest.mark.parametrize("kind", ["image", "skeleton"])
@pytest.mark.parametrize("what", ["fifo", "loop", "folder", "/dev/zero"])
def test_what_is_no_file_is_not_opened(files, request, tmp_path, kind, what):
    X, y = files
    bad = {"folder": tmp_path, "/dev/zero": what}.get(what) or request.getfixturevalue(what)
    reason = "Too many levels|Symlink loop" if what == "loop" else "is not a file"
    message = rf"Row 7: the {kind} file '.*' cannot be read as an image: .*({reason})"
    broken = X.copy()
    broken.loc[7, kind] = str(bad)
    encoder = PairEncoder(frozen=True, image_size=16, random_state=0)
    fitted = PairEncoder(frozen=True, image_size=16, memory=tmp_path / "kept", random_state=0)
    fitted.fit(X)
    for ask in (
        lambda: encoder.fit(broken),
        lambda: fitted.transform(broken),
        lambda: PairMatcher(encoder, checkpoint=tmp_path / "state").fit(broken, y),
        lambda: encode_splits(encoder, broken, y, cv=2),
    ):
        with pytest.raises(OSError, match=message):
            ask()
    fitted.transform(X)  # no thread waits for ever


def test_a_pipe_does_not_keep_the_interpreter(fifo):
    code = (
        "import sys, numpy as np; from skpair import PairEncoder\n"
        f"X = np.array([[{str(fifo)!r}] * 2] * 3, dtype=object)\n"
        "try:\n    PairEncoder(frozen=True).fit(X)\n"
        "except OSError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert "is not a file" in done.stdout, done.stderr


def shades():
    return np.add.outer(np.arange(32), 2 * np.arange(32)).astype(np.uint8)  # 0..93


@pytest.mark.parametrize(
    "picture",
    [
        shades(),
        shades().astype(np.uint16) * 300,
        shades().astype(np.float32) / 93,
        shades() > 40,
    ],
    ids=lambda picture: picture.dtype.name,
)
def test_tiffs_whose_zero_is_white(tmp_path, picture):
    read = []
    for meaning in (0, 1):
        path = tmp_path / f"{meaning}.tif"
        Image.fromarray(picture).save(path, tiffinfo={262: meaning})
        with Image.open(path) as written:
            assert written.tag_v2[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] == meaning
        read.append(pixels.decode_image(path, (1, 32, 32)).astype(int))
    if picture.dtype.itemsize == 1:  # which Pillow writes in negative then, and reads so
        np.testing.assert_array_equal(read[0], read[1])
    else:
        np.testing.assert_array_equal(read[0], 255 - read[1])
    assert read[1][0, 0, 0] < read[1][0, -1, -1]


def test_a_drawing_whose_zero_is_white(tmp_path):
    drawing = np.zeros((32, 32), np.uint16)  # dark ink on white, told in negative
    drawing[10] = 60_000
    path = tmp_path / "drawing.tif"
    Image.fromarray(drawing).save(path, tiffinfo={262: 0})
    ink = pixels.decode_skeleton(path, (1, 32, 32), "dark")[0]
    np.testing.assert_array_equal(ink > 0, drawing > 0)


@pytest.fixture
def with_pages(files, tmp_path):
    """The digits; an image and two skeletons have several pages."""
    X, y = files
    X = X.copy()
    for row, kind, suffix in ((3, "image", "tif"), (3, "skeleton", "gif"), (5, "skeleton", "png")):
        with Image.open(X.loc[row, kind]) as first:
            path = tmp_path / f"pages_{row}_{kind}.{suffix}"
            first.save(path, save_all=True, append_images=[first.rotate(90)])
            X.loc[row, kind] = str(path)
    return X, y


def told(ask):
    with warnings.catch_warnings(record=True, action="always") as caught:
        ask()
    return [str(w.message) for w in caught if "only the first one is read" in str(w.message)]


@pytest.mark.parametrize("training", ["two_stage", "joint", "fine_tune"])
def test_files_of_several_pages_are_told_once(with_pages, training):
    X, y = with_pages
    encoder = PairEncoder(image_size=16, max_epochs=1)
    matcher = PairMatcher(encoder, training=training, max_epochs=1)
    for ask, n in (
        (lambda: matcher.fit(X, y), 3),
        (lambda: matcher.predict(X), 1),
        (lambda: matcher.embed_skeletons(X), 2),
        (lambda: matcher.pair_score(X), 3),
        (lambda: matcher.pair_score(X["image"], X["skeleton"]), 3),
        (lambda: PairEncoder(frozen=True, image_size=16).fit(X), 3),
        (lambda: matcher.predict(X[:3]), 0),
    ):
        messages = told(ask)
        assert len(messages) == (n > 0)
        if n:
            assert messages[0].startswith(f"Of {n} file(s) with several pages")
            assert len(re.findall(r"pages_\d_(image|skeleton)\.", messages[0])) == n


def test_pictures_beside_a_photograph_are_no_pages(tmp_path):
    picture = Image.fromarray(shades())
    path = tmp_path / "telephone.jpg"
    picture.save(path, format="MPO", save_all=True, append_images=[picture])
    assert not pixels.check_file(path)
    table = pd.DataFrame({"image": [path] * 2, "skeleton": [path] * 2})
    assert told(lambda: PairEncoder(frozen=True, image_size=16).fit(table)) == []
