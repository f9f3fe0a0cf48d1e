"""Files are decoded once in a fit: what is kept, where, and for how long."""

import collections
import os
import pickle
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skorch.callbacks import Callback
from torch import nn

from skpair import PairEncoder, PairMatcher
from skpair.learning.devices import seeded
from skpair.rows import decoded, halves, layouts, pictures, progress
from skpair.rows.decoded import DecodedPictures
from skpair.storage import EncodingCache


def some_pictures(n=20, shape=(3, 5, 7)):
    return np.random.default_rng(0).integers(256, size=(n, *shape), dtype=np.uint8)


def fill(kept, images):
    for number, image in enumerate(images):
        kept.keep("image", f"{number}.png", image)


def assert_found(kept, images):
    for number, image in enumerate(images):
        np.testing.assert_array_equal(kept.find("image", f"{number}.png"), image)


@pytest.fixture
def spilling(monkeypatch, tmp_path):
    """Let pictures go to a file beyond 100 bytes; gives the files that were made."""
    made, make = [], tempfile.TemporaryFile
    folder = tmp_path / "spilled"
    folder.mkdir()
    monkeypatch.setattr(decoded, "IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda *how, **more: made.append(make(*how, **more)) or made[-1]
    )
    return made


@pytest.fixture
def counts(monkeypatch):
    """Count how often each file is decoded."""
    counts, lock = collections.Counter(), threading.Lock()

    def counted(decode):
        def counting(path, *how):
            with lock:
                counts[os.fspath(path)] += 1
            return decode(path, *how)

        return counting

    for name in ("decode_image", "decode_skeleton"):
        monkeypatch.setattr(pictures, name, counted(getattr(pictures, name)))
    return counts


@pytest.fixture
def pairs(files):
    """Files of 30 pairs, as few as all kinds of training take."""
    X, y = files
    rows = np.concatenate([np.flatnonzero(y == case)[:10] for case in np.unique(y)])
    return X.iloc[rows].reset_index(drop=True), y[rows]


def small_encoder(**parameters):
    """Learns at once: a linear layer for each kind."""
    with seeded(0):
        layers = [nn.Sequential(nn.Flatten(), nn.Linear(64, 8)) for _ in range(2)]
    parameters = {"frozen": False, "image_size": 8, "max_epochs": 2, "random_state": 0} | parameters
    return PairEncoder(*layers, **parameters)


def matcher(training="two_stage", encoder=None, **parameters):
    encoder = encoder or small_encoder()
    return PairMatcher(encoder, training=training, max_epochs=2, random_state=0, **parameters)


# ---- what is kept --------------------------------------------------------------------------------


def test_what_is_kept_is_found_by_kind_and_path():
    images = some_pictures()
    with DecodedPictures() as kept:
        fill(kept, images)
        kept.keep("skeleton", "0.png", images[1, :1])
        assert len(kept) == 21
        assert_found(kept, images)
        np.testing.assert_array_equal(kept.find("skeleton", "0.png"), images[1, :1])
        assert kept.find("skeleton", "1.png") is None
        turned = images[3].transpose(0, 2, 1)  # of another shape, and not contiguous
        kept.keep("image", "0.png", turned)
        np.testing.assert_array_equal(kept.find("image", "0.png"), turned)


def test_what_is_found_is_a_copy():
    with DecodedPictures() as kept:
        fill(kept, some_pictures())
        kept.find("image", "0.png")[:] = 0
        assert_found(kept, some_pictures())


def test_beyond_the_bound_pictures_lie_in_a_file(spilling):
    images = some_pictures()
    with DecodedPictures() as kept:
        fill(kept, images[:0])
        assert not spilling
        fill(kept, images)
        assert len(spilling) == 1
        assert os.fstat(spilling[0].fileno()).st_size == images.size
        assert_found(kept, images)
    assert spilling[0].closed


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the system deletes it with its handle")
def test_the_file_has_no_name_that_a_killed_process_could_leave(spilling):
    with DecodedPictures() as kept:
        fill(kept, some_pictures())
        assert spilling and os.fstat(spilling[0].fileno()).st_nlink == 0
        assert os.listdir(tempfile.gettempdir()) == []


def test_after_the_end_nothing_is_found_or_kept():
    with DecodedPictures() as kept:
        fill(kept, some_pictures())
    kept.close()
    kept.keep("image", "0.png", some_pictures()[0])
    assert len(kept) == 0
    assert kept.find("image", "0.png") is None


def test_threads_may_use_it_at_once(spilling):
    images = some_pictures(200)
    with DecodedPictures() as kept:

        def work(number):
            kept.keep("image", f"{number}.png", images[number])
            for asked in (number, number // 2):
                found = kept.find("image", f"{asked}.png")
                if found is not None and (found != images[asked]).any():
                    return False
            return True

        assert all(pictures.in_threads(work, range(200)))
        assert_found(kept, images)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_a_full_disk_says_what_to_do(spilling, monkeypatch, pairs):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *how, **more: open("/dev/full", "w+b"))
    X, y = pairs
    estimator = matcher()
    message = "decoded pictures cannot be kept in .*spilled.*: No space left.*TMPDIR"
    with pytest.raises(OSError, match=message):
        estimator.fit(X, y)
    assert not hasattr(estimator, "net_")


def test_what_is_pickled_does_without():
    with DecodedPictures() as kept:
        assert pickle.loads(pickle.dumps({"kept": kept})) == {"kept": None}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_finds_nothing_and_waits_for_nobody():
    with DecodedPictures() as kept:
        fill(kept, some_pictures())
        with warnings.catch_warnings(), kept._lock:
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: the point
            child = os.fork()
            if child == 0:
                kept.keep("image", "0.png", some_pictures()[1])
                os._exit(0 if kept.find("image", "1.png") is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert_found(kept, some_pictures())


# ---- halves that keep ----------------------------------------------------------------------------


def half_of(paths, channels=3, size=8, kept=None):
    layout = layouts.Layout("files", (channels, size, size), (1, size, size), True)
    return halves.FileHalf(np.array(paths, dtype=object), layout, 0, kept)


@pytest.fixture
def odd_images(tmp_path):
    """Grey, coloured, and of a colour that is lost when they are made smaller; 200 pixels."""
    noise = np.random.default_rng(0).integers(90, 160, size=(200, 200, 1), dtype=np.uint8)
    grey, faint = np.repeat(noise, 3, axis=2), np.repeat(noise, 3, axis=2)
    faint[::7, ::5, 2] += 1  # which L rounds away or not, pixel by pixel
    faint[::7, 1::5, 1] -= 1
    colour = np.random.default_rng(1).integers(256, size=(200, 200, 3), dtype=np.uint8)
    for name, image in {"grey": grey, "faint": faint, "colour": colour}.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    Image.fromarray(noise[:, :, 0]).save(tmp_path / "plain.png")
    Image.fromarray(grey).convert("CMYK").save(tmp_path / "print.tif")
    Image.fromarray(noise[:, :, 0]).save(tmp_path / "plain.jpg")
    return {path.name: str(path) for path in sorted(tmp_path.iterdir())}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 64, 200])
def test_kept_images_are_those_of_their_files_to_the_bit(odd_images, channels, size):
    paths = list(odd_images.values())
    expected = half_of(paths, channels, size).read(slice(None))
    with DecodedPictures() as kept:
        asked = half_of(paths, 3, size, kept)
        colour = asked.ask_files(asked.has_colour)  # as fit does, before it knows the channels
        assert colour[paths.index(odd_images["colour.png"])]
        assert not colour[paths.index(odd_images["grey.png"])]
        for _ in range(2):
            found = half_of(paths, channels, size, kept).read(slice(None))
            np.testing.assert_array_equal(found, expected)


def test_either_number_of_channels_tells_all(odd_images):
    images = {n: pictures.decode_image(p, (None, 200, 200)) for n, p in odd_images.items()}
    channels = {name: len(image) for name, image in images.items()}
    assert channels["plain.png"] == channels["plain.jpg"] == channels["grey.png"] == 1
    assert channels["colour.png"] == channels["faint.png"] == 3
    small = pictures.decode_image(odd_images["colour.png"], (None, 4, 6))
    np.testing.assert_array_equal(small, pictures.decode_image(odd_images["colour.png"], (3, 4, 6)))


def test_parts_and_joined_halves_share_what_is_kept(odd_images, counts):
    paths = list(odd_images.values())
    with DecodedPictures() as kept:
        half = half_of(paths[:4], kept=kept)
        joined = half.take([2, 0]).followed_by(half_of(paths[4:], kept=kept))
        expected = half_of(paths).read([2, 0, 4, 5])
        counts.clear()
        for _ in range(3):
            np.testing.assert_array_equal(joined.read(slice(None)), expected)
        half.read([0, 2])
        assert counts == dict.fromkeys([paths[2], paths[0], *paths[4:]], 1)
        fresh = joined.afresh()
        fresh.read([0])
        pickle.loads(pickle.dumps(joined)).read([0])
        assert counts[paths[2]] == 3
    np.testing.assert_array_equal(joined.read(slice(None)), expected)  # from the files


def test_a_cache_holds_what_the_file_is_now(odd_images, tmp_path):
    cache = EncodingCache(tmp_path / "cache")
    path = odd_images["plain.png"]

    def mean(half):
        return half.read(slice(None)).mean(axis=(1, 2, 3), dtype=np.float32)[:, None]

    with DecodedPictures() as kept:
        half = half_of([path], kept=kept)
        half.read([0])
        Image.new("L", (8, 8), 77).save(path)
        assert cache.encode(b"network", half, mean).tolist() == [[77]]


# ---- fits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", ["two_stage", "joint", "fine_tune"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_decodes_each_file_once(pairs, counts, training, early_stopping):
    X, y = pairs
    matcher(training, early_stopping=early_stopping).fit(X, y)
    assert counts == dict.fromkeys([*X["image"], *X["skeleton"]], 1)


def test_a_fit_of_frozen_networks_decodes_each_file_once(pairs, counts):
    X, y = pairs
    matcher(encoder=small_encoder(frozen=True)).fit(X, y)
    assert counts == dict.fromkeys([*X["image"], *X["skeleton"]], 1)


def test_an_encoder_and_its_background_are_decoded_once(pairs, counts):
    X, y = pairs
    known = y != y.max()
    matcher().fit(X[known], y[known], background=X["image"][~known])
    assert counts == dict.fromkeys([*X["image"], *X["skeleton"][known]], 1)
    counts.clear()
    small_encoder().fit(X, y)
    assert counts == dict.fromkeys([*X["image"], *X["skeleton"]], 1)


def test_a_broken_background_is_named_before_anything_is_learnt(pairs, tmp_path):
    X, y = pairs
    whole, broken = (tmp_path / name for name in ("whole.png", "broken.png"))
    Image.effect_noise((64, 64), 50).save(whole)
    broken.write_bytes(whole.read_bytes()[:1000])  # its header is whole
    estimator = matcher(encoder=small_encoder(callbacks=[Ended(AssertionError())]))
    with pytest.raises(OSError, match="Row 1: the image file .*broken.png.* cannot be read"):
        estimator.fit(X, y, background=[str(whole), str(broken)])


@pytest.mark.parametrize("training", ["two_stage", "joint"])
def test_kept_spilled_or_decoded_again_a_fit_is_the_same_to_the_bit(
    pairs, training, request, monkeypatch
):
    X, y = pairs
    in_memory = matcher(training).fit(X, y).decision_function(X)
    made = request.getfixturevalue("spilling")
    np.testing.assert_array_equal(matcher(training).fit(X, y).decision_function(X), in_memory)
    assert made
    counts = request.getfixturevalue("counts")
    monkeypatch.setattr(DecodedPictures, "find", lambda *asked: None)
    np.testing.assert_array_equal(matcher(training).fit(X, y).decision_function(X), in_memory)
    assert max(counts.values()) > 2


class Ended(Callback):
    """Ends a training of towers with an error, in its first epoch."""

    def __init__(self, error):
        self.error = error

    def on_epoch_end(self, net, **kwargs):
        raise self.error


@pytest.mark.parametrize("error", [None, ValueError("mine"), KeyboardInterrupt()])
@pytest.mark.parametrize("alone", [False, True])
def test_the_file_is_gone_after_fit_however_it_ends(pairs, spilling, error, alone):
    X, y = pairs
    encoder = small_encoder(callbacks=[] if error is None else [Ended(error)])
    estimator = encoder if alone else matcher(encoder=encoder)
    if error is None:
        estimator.fit(X, y)
    else:
        with pytest.raises(type(error)):
            estimator.fit(X, y)
    assert len(spilling) == 1 and spilling[0].closed
    assert os.listdir(tempfile.gettempdir()) == []


def test_the_file_is_gone_where_a_picture_is_broken(pairs, spilling, tmp_path):
    X, y = pairs
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(X["skeleton"][25]).read_bytes()[:60])
    X = X.assign(skeleton=X["skeleton"].where(X.index != 25, str(broken)))
    with pytest.raises(OSError, match="Row 25: the skeleton file .*broken.png"):
        matcher().fit(X, y)
    assert len(spilling) == 1 and spilling[0].closed


# ---- progress ------------------------------------------------------------------------------------


def test_bars_are_named_by_what_they_count(pairs, monkeypatch, capfd):
    X, y = pairs
    monkeypatch.setattr(progress, "DELAY", 0)
    fitted = matcher(verbose=1).fit(X, y)
    err = capfd.readouterr().err
    for name in ("decoding images", "decoding drawings", "encoding images", "encoding drawings"):
        assert name in err
    fitted.transform(X)
    err = capfd.readouterr().err
    assert "encoding images" in err and "decoding" not in err and "drawings" not in err
    fitted.set_params(verbose=0).transform(X)
    matcher().fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_what_is_soon_done_shows_no_bar(pairs, monkeypatch, capfd):
    X, y = pairs
    monkeypatch.setattr(progress, "DELAY", 600)
    fitted = matcher().fit(X, y).set_params(verbose=1)
    fitted.transform(X)
    assert capfd.readouterr() == ("", "")
