import os
import pickle
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from skpair import pair_up, split_pairs, stack_pairs
from skpair.rows import halves, layouts, pictures, reading


class NearestMean(ClassifierMixin, TransformerMixin, BaseEstimator):
    """The least that an estimator over pairs can be: what fails here is due to rows/."""

    def __init__(
        self, image_size=None, ink="auto", resize="stretch", contrast="full", crop_bottom=0
    ):
        self.image_size = image_size
        self.ink = ink
        self.resize = resize
        self.contrast = contrast
        self.crop_bottom = crop_bottom

    def fit(self, X, y, *rest):
        X, y, _ = reading.as_pairs(X, y, rest, **reading.how_of(self))
        images, _, self.layout_, y = reading.fit_pairs(self, X, y, **reading.how_of(self))
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("1 class only.")
        Z = read_all(images)
        self.means_ = np.stack([Z[codes == code].mean(axis=0) for code in range(max(codes) + 1)])
        return self

    def transform(self, X):
        check_is_fitted(self)
        return read_all(reading.image_half(self, X))

    def predict(self, X):
        Z = self.transform(X)
        return self.classes_[((Z[:, None] - self.means_) ** 2).sum(axis=2).argmin(axis=1)]

    def get_feature_names_out(self, input_features=None):
        return np.array([f"mean{i}" for i in range(self.means_.shape[1])], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def read_all(half):
    return np.concatenate([b.reshape(len(b), -1).astype(np.float32) for b in half.batches(7)])


@parametrize_with_checks([NearestMean()])
def test_feature_rows_meet_the_expectations_of_scikit_learn(estimator, check):
    check(estimator)


def lines(n=6, size=16):
    """Drawings with one line each, 1 on 0; row i has it in row i."""
    drawings = np.zeros((n, size, size), np.uint8)
    drawings[np.arange(n), np.arange(n) + 2, 2:-2] = 1
    return drawings


def photographs(n=6, size=16, colour=False, seed=0):
    shape = (n, 3, size, size) if colour else (n, size, size)
    images = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    images[::2] //= 4  # the even rows are dark: two cases that are easy to tell apart
    return images


CASES = np.array(["dark", "light"] * 3)


@pytest.fixture
def folder(tmp_path):
    """Six PNG photographs in colour and six drawings, dark on light; a data frame of them."""
    for row, (image, drawing) in enumerate(zip(photographs(colour=True), lines(), strict=True)):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"image{row}.png")
        Image.fromarray(255 - 255 * drawing).save(tmp_path / f"skeleton{row}.png")
    return tmp_path


@pytest.fixture
def frame(folder):
    columns = {
        kind: [str(folder / f"{kind}{row}.png") for row in range(6)] for kind in layouts.KINDS
    }
    return pd.DataFrame({"depth": range(6)} | columns)


# ---- stack_pairs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [lambda a: a, lambda a: np.moveaxis(a, 1, 3), list])
def test_colour_images_in_any_axis_order_give_the_same_rows(to):
    images = photographs(colour=True)
    X = stack_pairs(to(images), lines())
    assert X.dtype == np.uint8
    np.testing.assert_array_equal(X[:, :3], images)
    np.testing.assert_array_equal(X[:, 3], 255 * lines())


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.uint32])
def test_integers_of_eight_bits_are_kept(dtype):
    images = photographs()
    X = stack_pairs(images.astype(dtype), lines())
    np.testing.assert_array_equal(X[:, 0], images)


def test_floats_stay_floats_and_bool_becomes_black_and_white():
    images = photographs() / 255
    X = stack_pairs(images, lines())
    assert X.dtype == np.float32
    np.testing.assert_allclose(X[:, 0], images, rtol=1e-6)
    assert set(np.unique(X[:, 1])) == {0, 1}
    assert set(np.unique(stack_pairs(images > 0.5, lines()))) == {0, 255}


def test_white_of_wide_images_is_the_highest_number_of_their_bits():
    ramp = np.arange(256, dtype=np.uint16).reshape(1, 16, 16)
    images = np.concatenate([ramp * 4 + 3000, ramp // 2 + 60_000])  # of 12 bits, and of 16
    X = stack_pairs(images, lines(2))
    np.testing.assert_array_equal(X[0, 0], np.rint(images[0] * (255 / 4095)))
    np.testing.assert_array_equal(X[1, 0], np.rint(images[1] * (255 / 65535)))
    np.testing.assert_array_equal(stack_pairs(images[:1], lines(1)), X[:1])
    below = stack_pairs(images[:1].astype(int) - 5000, lines(1))  # no range is known
    np.testing.assert_array_equal(below[0, 0].ravel(), np.arange(256))


@pytest.mark.parametrize("top", [255, 4095, 65535, 1.0])
@pytest.mark.parametrize("contrast", ["full", "own"])
def test_one_contrast_for_all_depths(top, contrast):
    shades = np.linspace(0.2, 0.6, 256).reshape(1, 16, 16)
    stored = shades * top
    if top != 1:
        stored = np.rint(stored).astype(np.uint8 if top == 255 else np.uint16)
    X = stack_pairs(stored, lines(1), contrast=contrast)[0, 0] * (255 if top == 1 else 1.0)
    expected = 255 * shades[0]
    if contrast == "own":
        low, high = np.quantile(expected, [0.005, 0.995])
        expected = np.clip((expected - low) * 255 / (high - low), 0, 255)
    assert abs(X - expected).max() < (1 if contrast == "full" else 2)


def test_the_bottom_is_cropped():
    images = photographs(2, 20)
    X = stack_pairs(images, lines(2, 16), crop_bottom=4, size=(16, 20))
    np.testing.assert_array_equal(X[:, 0], images[:, :16])
    np.testing.assert_array_equal(stack_pairs(images, lines(2, 16), crop_bottom=0.2), X)
    for cut, message in ((20, "leaves nothing of images of 20"), (-1, "a share below 1, got -1")):
        with pytest.raises(ValueError, match=message):
            stack_pairs(images, lines(2, 16), crop_bottom=cut)


def test_proportions_stay():
    images = np.full((1, 10, 40), 200, np.uint8)
    images[0, 4:6, 10:30] = 0
    drawing = np.zeros((1, 40, 10), np.uint8)
    drawing[0, :, 5] = 1
    X = stack_pairs(images, drawing, size=40)
    assert (X[0, 0, :15] == 200).all() and (X[0, 0, 25:] == 200).all()
    np.testing.assert_array_equal(X[0, 0, 15:25], images[0])
    np.testing.assert_array_equal(X[0, 1, :, 15:25] > 0, drawing[0] > 0)
    assert not X[0, 1, :, :15].any() and not X[0, 1, :, 25:].any()
    stretched = stack_pairs(images, drawing, size=40, resize="stretch")
    assert (stretched[0, 0, 18:22, 14:26] < 10).all()  # four times as high
    with pytest.raises(ValueError, match="resize must be one of.*'fill'"):
        stack_pairs(images, drawing, size=40, resize="fill")


@pytest.mark.parametrize("dtype, top", [(np.uint8, 255), (np.uint16, 65535), (float, 1)])
def test_alpha_is_composited_over_white(dtype, top):
    images = np.zeros((1, 8, 8, 4), dtype)
    images[0, :4, :, 3] = top  # the upper half is opaque black, the lower transparent
    images[0, 0, 0, 0] = top
    X = stack_pairs(images, lines(1, 8))
    white = 1 if dtype is float else 255
    np.testing.assert_allclose(X[0, :3, 4:], white)
    np.testing.assert_allclose(X[0, :3, 1:4], 0)
    np.testing.assert_allclose(X[0, :3, 0, 0], [white, 0, 0])


@pytest.mark.parametrize(
    "draw",
    [
        lambda d: d,
        lambda d: d.astype(bool),
        lambda d: ~d.astype(bool),
        lambda d: 255 * d,
        lambda d: 1.0 - d,
        lambda d: (200 - 150 * d.astype(int)).astype(np.int32),
        lambda d: d[:, None],
        lambda d: d[..., None],
    ],
)
def test_auto_finds_the_ink_of_any_drawing(draw):
    np.testing.assert_array_equal(stack_pairs(photographs(), draw(lines()))[:, 1], 255 * lines())


def test_auto_decides_drawing_by_drawing_and_ink_can_be_told():
    mixed = np.stack([lines()[0], 1 - lines()[1]])
    X = stack_pairs(photographs(2), mixed)
    np.testing.assert_array_equal(X[:, 1], 255 * lines(2))
    thick = np.ones((1, 16, 16), np.uint8)
    thick[0, :4] = 0  # more ink than ground
    for ink, expected in {"auto": 1 - thick, "light": thick, "dark": 1 - thick}.items():
        np.testing.assert_array_equal(
            stack_pairs(photographs(1), thick, ink=ink)[:, 1] > 0, expected
        )


def test_grey_edges_are_cut_midway_and_empty_pages_have_no_ink():
    drawing = np.full((3, 16, 16), 250, np.uint8)
    drawing[0, 5] = [10] * 8 + [120] * 4 + [140] * 4  # midway is 130
    drawing[1] += np.random.RandomState(0).randint(0, 6, (16, 16)).astype(np.uint8)  # paper
    X = stack_pairs(photographs(3), drawing)
    assert np.flatnonzero(X[0, 1, 5]).tolist() == list(range(12))
    assert not X[1:, 1].any()


@pytest.mark.parametrize("size", [8, (5, 11), 16, (16, 40), 64])
def test_thin_lines_survive_any_size(size):
    drawings = np.zeros((40, 40, 40), bool)
    drawings[np.arange(40), np.arange(40)] = True  # a horizontal line at every height
    X = stack_pairs(photographs(40, 40), drawings, size=size, resize="stretch")
    height, width = (size, size) if isinstance(size, int) else size
    assert X.shape == (40, 2, height, width)
    ink = X[:, 1] > 0
    assert (ink.any(axis=1)).all()  # over the full width
    if height <= 40:
        assert (ink.any(axis=2).sum(axis=1) == 1).all()  # and no thicker than one pixel
    expected = (np.arange(40) + 0.5) * height / 40
    centre = np.array([np.flatnonzero(rows).mean() + 0.5 for rows in ink.any(axis=2)])
    assert (abs(centre - expected) <= 0.5 + 0.5 * height / 40).all()


def test_images_are_resized_without_aliasing():
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    X = stack_pairs(board[None].astype(np.uint8), lines(1), size=16)
    assert abs(X[0, 0].astype(int) - 127).max() <= 2  # nearest neighbours would give 0 or 255
    X = stack_pairs(board[None] / 255, lines(1), size=16)
    assert X.dtype == np.float32
    assert abs(X[0, 0] - 0.5).max() < 0.01


def test_drawings_take_the_size_of_the_images():
    X = stack_pairs(photographs(size=32), lines(size=16))
    np.testing.assert_array_equal(X[:, 1], 255 * lines().repeat(2, axis=1).repeat(2, axis=2))


def test_images_of_different_sizes_need_a_size():
    images = [photographs(1, 20)[0], photographs(1, 16, colour=True)[0]]
    drawings = [lines(1, 30)[0], lines(1, 12)[0]]
    X = stack_pairs(images, drawings, size=16)
    assert X.shape == (2, 4, 16, 16)
    np.testing.assert_array_equal(X[0, 0], X[0, 1])  # grey in three channels
    np.testing.assert_array_equal(X[1, :3], images[1])
    with pytest.raises(ValueError, match="size="):
        stack_pairs(images, drawings)
    with pytest.raises(ValueError, match="floats in 0..1 and others integers"):
        stack_pairs([images[0] / 255, images[1]], drawings, size=16)


def test_features_are_padded_so_that_the_middle_is_the_border():
    wide, narrow = np.arange(12.0).reshape(3, 4), np.ones((3, 2))
    X = stack_pairs(wide, narrow)
    np.testing.assert_array_equal(X, np.hstack([wide, narrow, np.zeros((3, 2))]))
    np.testing.assert_array_equal(stack_pairs(narrow, pd.DataFrame(wide))[:, 4:], wide)


def test_paths_become_two_columns():
    X = stack_pairs(["a.png", Path("b.png")], pd.Series(["c.png", "d.png"]))
    assert X.tolist() == [["a.png", "c.png"], [Path("b.png"), "d.png"]]


@pytest.mark.parametrize(
    "images, skeletons, options, message",
    [
        (photographs(5), lines(6), {}, "5 images and 6 skeletons.*pair_up"),
        (photographs(0), lines(0), {}, "at least one pair"),
        ([], [], {}, "at least one pair"),
        (photographs(), lines(), {"ink": "red"}, "ink must be one of.*'red'"),
        (photographs(), lines(), {"size": 0}, "size must be a positive int"),
        (photographs(), lines(), {"size": (8, 8, 8)}, "size must be a positive int"),
        (photographs(), lines(), {"size": 8.5}, "size must be a positive int"),
        (["a"], ["b"], {"size": 8}, r"PairEncoder\(image_size="),
        (np.ones((2, 3)), np.ones((2, 3)), {"size": 8}, "size=8 applies to pixels"),
        (photographs(2), ["a", "b"], {}, "images are pixels and the skeletons are files"),
        (photographs() / 1.0, lines(), {}, r"lie in 0..1.*0.0..255.0.*Scale"),
        (np.full((1, 4, 4), np.nan), lines(1, 4), {}, "NaN"),
        (photographs(1), np.full((1, 4, 4), np.inf), {}, "infinity"),
        (photographs()[:, None].repeat(2, 1), lines(), {}, r"\(6, 2, 16, 16\); expected"),
        (photographs(), lines()[:, None].repeat(2, 1), {}, "skeletons have the shape .*RGBA"),
        (photographs().astype(str), lines(), {}, "Pixels must be numbers"),
        (["a", None], ["b", "c"], {}, "Row 1: image is None, but a path"),
    ],
)
def test_what_cannot_be_stacked_says_why(images, skeletons, options, message):
    with pytest.raises(ValueError, match=message):
        stack_pairs(images, skeletons, **options)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_split_pairs_inverts_stack_pairs(colour, scale):
    images = photographs(colour=colour)
    X = stack_pairs(images if scale == 1 else images * scale, lines())
    parts = split_pairs(X)
    assert parts[0].shape == images.shape
    np.testing.assert_array_equal(parts[1], lines())
    np.testing.assert_array_equal(stack_pairs(*parts), X)


def test_split_pairs_of_features_and_files(frame):
    X = np.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(split_pairs(X)[0], X[:, :2])
    np.testing.assert_array_equal(split_pairs(X)[1], X[:, 2:])
    images, skeletons = split_pairs(frame)
    assert images.tolist() == frame["image"].tolist()
    assert skeletons.tolist() == frame["skeleton"].tolist()
    with pytest.raises(ValueError, match="columns 'image' and 'skeleton'"):
        split_pairs(["a.png", "b.png"])
    with pytest.raises(ValueError, match="2 or 4 in all"):
        split_pairs(photographs())


# ---- pair_up -------------------------------------------------------------------------------------


def test_pair_up_deals_the_drawings_of_a_case_evenly():
    y_images = np.array(list("aabbbbbbbab"))
    y_skeletons = np.array(list("bbabb"))[[0, 2, 3, 4]]
    skeletons = np.array([f"{case}{i}" for i, case in enumerate(y_skeletons)])
    images = np.array([f"image{i}" for i in range(11)])
    X, y = pair_up(images, y_images, skeletons, y_skeletons, random_state=0)
    assert X[:, 0].tolist() == images.tolist()
    np.testing.assert_array_equal(y, y_images)
    assert [drawing[0] for drawing in X[:, 1]] == y_images.tolist()
    _, counts = np.unique(X[y == "b", 1].astype(str), return_counts=True)
    assert sorted(counts) == [2, 3, 3]
    again, _ = pair_up(images, y_images, skeletons, y_skeletons, random_state=0)
    assert (again == X).all()
    others = [pair_up(images, y_images, skeletons, y_skeletons, random_state=s)[0] for s in (1, 2)]
    assert any((other != X).any() for other in others)


def test_pair_up_takes_pixels_of_two_sizes():
    X, _ = pair_up(photographs(), CASES, lines(3, 32)[::2], ["light", "dark"])
    assert X.shape == (6, 2, 16, 16)
    ink = X[:, 1].reshape(6, -1)
    assert (ink[0] == ink[2]).all()
    assert (ink[0] != ink[1]).any()


def test_pair_up_names_the_cases_without_drawing():
    with pytest.raises(ValueError, match=r"no skeleton: \['dark'\]"):
        pair_up(photographs(), CASES, lines(1), ["light"])
    with pytest.raises(ValueError, match="a case for each of the 6 images"):
        pair_up(photographs(), CASES[:5], lines(1), ["light"])


# ---- pixels in an estimator ----------------------------------------------------------------------


@pytest.mark.parametrize("colour", [False, True])
def test_pixels_alone_in_any_form_equal_full_rows(colour):
    images = photographs(colour=colour)
    X = stack_pairs(images, lines())
    estimator = NearestMean().fit(images, lines(), CASES)
    assert estimator.n_features_in_ == X.shape[1]
    expected = estimator.transform(X)
    np.testing.assert_array_equal(expected, images.reshape(6, -1))
    np.testing.assert_array_equal(NearestMean().fit(X, CASES).transform(X), expected)
    forms = [images, list(images), X[:, :-1], np.moveaxis(X[:, :-1], 1, 3)]
    for form in forms:
        np.testing.assert_array_equal(estimator.transform(form), expected)
    assert estimator.predict(images).tolist() == CASES.tolist()


def test_what_is_read_from_pixels():
    X = stack_pairs(photographs(), lines())
    for rows, dtype, top in [
        (X, np.uint8, 255),
        (X.astype(np.int64), np.uint8, 255),
        (X > 100, np.uint8, 255),
        ((X / 255).astype(np.float64), np.float32, 1),
    ]:
        images, skeletons, layout, _ = reading.fit_pairs(NearestMean(), rows, CASES)
        assert images.shape == skeletons.shape == layout.image_shape == (1, 16, 16)
        batch = images.read([4, 0])
        assert batch.dtype == skeletons.read([0]).dtype == dtype
        assert batch.shape == (2, 1, 16, 16)
        np.testing.assert_allclose(
            batch[:, 0], rows[[4, 0], 0] * (255 if rows.dtype == bool else 1)
        )
        np.testing.assert_array_equal(skeletons.read(slice(None))[:, 0], top * lines())


def test_any_non_zero_value_is_ink():
    X = stack_pairs(photographs(), lines())
    X[:, 1][X[:, 1] > 0] = 3
    _, skeletons, _, _ = reading.fit_pairs(NearestMean(), X, CASES)
    np.testing.assert_array_equal(skeletons.read(slice(None))[:, 0], 255 * lines())


def test_subsets_and_batches_are_lazy_views():
    X = stack_pairs(photographs(), lines())
    images, _, _, _ = reading.fit_pairs(NearestMean(), X, CASES)
    assert np.shares_memory(images.source, X)
    subset = images.take([5, 1, 3]).take(slice(1, None))
    assert len(subset) == 2
    assert np.shares_memory(subset.source, X)
    np.testing.assert_array_equal(subset.read(slice(None))[:, 0], photographs()[[1, 3]])
    assert [len(batch) for batch in images.batches(4)] == [4, 2]
    assert len(images.take(CASES == "dark")) == 3


def test_a_read_only_memory_map_gives_writable_batches(tmp_path):
    np.save(tmp_path / "X.npy", stack_pairs(photographs(), lines()))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    for half in reading.fit_pairs(NearestMean(), X, CASES)[:2]:
        batch = half.read(slice(0, 2))
        assert batch.flags.writeable
        assert not isinstance(batch, np.memmap)


def test_a_given_size_always_resizes_pixels():
    X = stack_pairs(photographs(), lines())
    estimator = NearestMean(image_size=(8, 12))
    images, skeletons, layout, _ = reading.fit_pairs(estimator, X, CASES, image_size=(8, 12))
    assert images.shape == skeletons.shape == layout.image_shape == (1, 8, 12)
    assert images.read([0]).shape == skeletons.read([0]).shape == (1, 1, 8, 12)
    expected = stack_pairs(photographs(), lines(), size=(8, 12))
    np.testing.assert_array_equal(images.read(slice(None)), expected[:, :1])
    np.testing.assert_array_equal(skeletons.read(slice(None)), expected[:, 1:])
    assert estimator.fit(X, CASES).transform(photographs(size=40)).shape == (6, 96)


def test_images_of_any_size_are_welcome_where_they_are_resized():
    images = [*photographs(), photographs(1, 40)[0]]
    drawings = [*lines(), lines(1, 20)[0]]
    y = [*CASES, "dark"]
    estimator = NearestMean(image_size=16).fit(images, drawings, y)
    np.testing.assert_array_equal(estimator.transform(images)[:6], photographs().reshape(6, -1))
    assert len(reading.pair_halves(estimator, images, (drawings,))[1]) == 7
    with pytest.raises(ValueError, match="differ in size.*image_size="):
        NearestMean().fit(images, drawings, y)


def test_skeletons_alone_are_read_as_stack_pairs_reads_them():
    estimator = NearestMean().fit(photographs(), 1 - lines(), CASES)
    expected = 255 * lines()[:, None]
    X = stack_pairs(photographs(), lines())
    large = lines().repeat(2, axis=1).repeat(2, axis=2)
    for drawings in [lines(), 1 - lines(), lines()[:, None], X[:, 1:], X, large, large / 1.0]:
        half = reading.skeleton_half(estimator, drawings)
        assert half.shape == (1, 16, 16)
        np.testing.assert_array_equal(half.read(slice(None)), expected)


def test_pair_halves_takes_rows_or_two_parts():
    X = stack_pairs(photographs(), lines())
    estimator = NearestMean().fit(X, CASES)
    for pair in [
        reading.pair_halves(estimator, X),
        reading.pair_halves(estimator, photographs(), (lines(),)),
    ]:
        np.testing.assert_array_equal(pair[0].read([2]), X[[2], :1])
        np.testing.assert_array_equal(pair[1].read([2]), X[[2], 1:])
    images, skeletons = reading.pair_halves(estimator, photographs(), (lines(4),), aligned=False)
    assert (len(images), len(skeletons)) == (6, 4)
    with pytest.raises(ValueError, match="6 images and 4 skeletons"):
        reading.pair_halves(estimator, photographs(), (lines(4),))
    with pytest.raises(ValueError, match="stack_pairs"):
        reading.pair_halves(estimator, photographs())
    with pytest.raises(TypeError, match="3 positional"):
        reading.pair_halves(estimator, X, (X, X))


def test_blank_skeletons_are_reported_with_their_rows(frame):
    drawings = lines(20, 32)
    drawings[[3, 7]] = 0
    X = stack_pairs(photographs(20, 32), drawings)
    with pytest.warns(UserWarning, match=r"blank in 2 row\(s\): 3, 7\."):
        reading.fit_pairs(NearestMean(), X, np.arange(20))
    X[2:, -1] = 0
    with pytest.warns(UserWarning, match=r"18 row\(s\): 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, \.\.\."):
        reading.fit_pairs(NearestMean(), X, np.arange(20))
    Image.new("L", (16, 16), "white").save(frame["skeleton"][4])
    with pytest.warns(UserWarning, match=r"row\(s\): 4\."):
        NearestMean().fit(frame, CASES)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda X: X[:, 0], "2 or 4 in all"),
        (lambda X: X[:, :1], "2 or 4 in all"),
        (lambda X: X.repeat(3, axis=1), "2 or 4 in all"),
        (lambda X: X / 1.0, "must lie in 0..1"),
        (lambda X: X.astype(np.uint16) * 200, "stack_pairs scales"),
        (lambda X: X.astype(int) - 1, "must lie in 0..255"),
        (lambda X: np.where(X > 250, np.nan, 0.0), "NaN"),
        (lambda X: np.where(X > 250, np.inf, 0.0), "infinity"),
        (lambda X: X.astype(str), "must be numbers"),
        (lambda X: X * 1j, "Complex"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X[:5], "inconsistent numbers of samples"),
        (lambda X: [*X[:5], X[5, :, :8]], r"stack_pairs\(images, skeletons, size="),
    ],
)
def test_pixels_that_cannot_be_fitted_say_why(change, message):
    with pytest.raises(ValueError, match=message):
        NearestMean().fit(change(stack_pairs(photographs(), lines())), CASES)


@pytest.mark.parametrize(
    "X, message",
    [
        (photographs(size=20), r"\(1, 20, 20\).*fitted on \(1, 16, 16\).*size="),
        (stack_pairs(photographs(size=20), lines()), r"\(1, 20, 20\)"),
        (stack_pairs(photographs(colour=True), lines()), r"\(3, 16, 16\)"),
        ([photographs()[0], photographs(size=20)[0]], "differ in size"),
        (np.ones((6, 4)), "X holds features, but NearestMean was fitted on pixels"),
        (photographs().astype(np.float32), "must lie in 0..1"),
        (np.full((1, 16, 16), np.nan), "NaN"),
        (np.zeros((2, 5, 16, 16)), r"\(2, 5, 16, 16\); expected"),
    ],
)
def test_pixels_unlike_those_of_fit_say_why(X, message):
    estimator = NearestMean().fit(stack_pairs(photographs(), lines()), CASES)
    with pytest.raises(ValueError, match=message):
        estimator.predict(X)


def test_channels_are_those_of_fit():
    grey, colour = photographs(), photographs(colour=True)
    estimator = NearestMean().fit(stack_pairs(grey, lines()), CASES)
    luma = np.rint(np.tensordot([0.299, 0.587, 0.114], colour, (0, 1)))
    np.testing.assert_array_equal(
        estimator.transform(colour), estimator.transform(luma.astype(np.uint8))
    )
    estimator = NearestMean().fit(stack_pairs(colour, lines()), CASES)
    thrice = np.stack([grey] * 3, axis=1)
    np.testing.assert_array_equal(estimator.transform(grey), estimator.transform(thrice))


def test_fit_takes_two_call_forms_and_no_weights():
    with pytest.raises(TypeError, match="sample_weight is not supported"):
        NearestMean().fit(photographs(), lines(), CASES, CASES, np.ones(6))
    with pytest.raises(ValueError, match="requires y"):
        NearestMean().fit(stack_pairs(photographs(), lines()), None)
    with pytest.raises(ValueError, match="One path was given"):
        NearestMean().fit("image.png", "skeleton.png", CASES)
    with pytest.raises(ValueError, match="image_size must be a positive int"):
        NearestMean(image_size=-1).fit(photographs(), lines(), CASES)


# ---- features in an estimator --------------------------------------------------------------------


def test_feature_halves_alone():
    X = np.random.RandomState(0).normal(size=(6, 5))
    estimator = NearestMean().fit(X, CASES)
    assert estimator.layout_.shapes == ((2,), (3,))
    for rows in (X, X[:, :2], pd.DataFrame(X), X.tolist()):
        assert estimator.transform(rows).dtype == np.float32
        np.testing.assert_allclose(estimator.transform(rows), X[:, :2], rtol=1e-6)
    for rows in (X, X[:, 2:]):
        half = reading.skeleton_half(estimator, rows)
        np.testing.assert_allclose(half.read(slice(None)), X[:, 2:], rtol=1e-6)
    with pytest.raises(ValueError, match="X has 3 features, but NearestMean is expecting 5"):
        estimator.transform(X[:, 2:])
    with pytest.raises(ValueError, match="X has 2 features, but NearestMean is expecting 5"):
        reading.pair_halves(estimator, X[:, :2])


def test_a_half_narrower_by_its_padding_is_welcome():
    wide, narrow = np.random.RandomState(0).normal(size=(2, 6, 4))
    narrow = narrow[:, :2]
    estimator = NearestMean().fit(wide, narrow, CASES)
    half = reading.pair_halves(estimator, wide, (narrow,))[1]
    np.testing.assert_allclose(half.read(slice(None))[:, :2], narrow, rtol=1e-6)
    assert not half.read(slice(None))[:, 2:].any()
    with pytest.raises(ValueError, match="expecting 8 features"):
        reading.skeleton_half(estimator, narrow[:, :1])


def test_names_of_feature_columns_are_checked():
    frame = pd.DataFrame(np.random.RandomState(0).normal(size=(6, 4)), columns=list("abcd"))
    estimator = NearestMean().fit(frame, CASES)
    assert estimator.feature_names_in_.tolist() == list("abcd")
    assert estimator.transform(frame[["a", "b"]]).shape == (6, 2)
    assert len(reading.skeleton_half(estimator, frame[["c", "d"]])) == 6
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame[["b", "a"]])
    with pytest.raises(ValueError, match="n_features=1.*at least 2 columns"):
        NearestMean().fit(frame[["a"]], CASES)
    with pytest.raises(ValueError, match="X holds pixels, but NearestMean was fitted on features"):
        estimator.transform(photographs())


# ---- files ---------------------------------------------------------------------------------------


def test_files_are_what_stack_pairs_makes_of_their_pixels(frame):
    images, skeletons, layout, _ = reading.fit_pairs(NearestMean(), frame, CASES, image_size=16)
    expected = stack_pairs(photographs(colour=True), lines())
    assert layout.shapes == ((3, 16, 16), (1, 16, 16))
    np.testing.assert_array_equal(images.read(slice(None)), expected[:, :3])
    np.testing.assert_array_equal(np.concatenate(list(skeletons.batches(4))), expected[:, 3:])
    np.testing.assert_array_equal(images.take([4, 2]).read([1]), expected[[2], :3])
    assert images.read(slice(0, 0)).shape == (0, 3, 16, 16)
    chosen = list(images.stream(rows for rows in ([0], [5, 1])))
    np.testing.assert_array_equal(chosen[1], expected[[5, 1], :3])


def test_the_size_of_files_follows_them(frame, tmp_path):
    assert NearestMean().fit(frame, CASES).layout_.image_shape == (3, 16, 16)
    for row, (height, width) in enumerate(
        [(30, 40), (20, 50), (60, 10), (45, 45), (8, 9), (50, 3)]
    ):
        Image.new("L", (width, height)).save(tmp_path / f"{row}.png")
    other = frame.assign(image=[str(tmp_path / f"{row}.png") for row in range(6)])
    assert NearestMean().fit(other, CASES).layout_.image_shape == (1, 47, 47)
    Image.new("L", (400, 300)).save(tmp_path / "large.png")
    other["image"] = str(tmp_path / "large.png")
    assert NearestMean().fit(other, CASES).layout_.image_shape == (1, 96, 96)


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_pictures_are_pictures(frame, resize):
    files = NearestMean(resize=resize).fit(frame, CASES)
    images = [np.asarray(Image.open(path)) for path in frame["image"]]
    expected = files.transform(frame["image"])
    pillow = [Image.open(path) for path in frame["image"]]
    for pictures_ in (images, np.stack(images), pillow):
        np.testing.assert_array_equal(files.transform(pictures_), expected)
    wide = [image[:6] for image in images]  # other sizes, too
    assert files.transform([*wide[:3], *images[3:]]).shape == expected.shape
    drawings = [np.asarray(Image.open(path)) for path in frame["skeleton"]]
    half = reading.skeleton_half(files, drawings)
    np.testing.assert_array_equal(half.read(slice(None))[:, 0], 255 * lines())
    arrays = NearestMean(resize=resize).fit(stack_pairs(np.stack(images), lines()), CASES)
    np.testing.assert_array_equal(arrays.transform(frame["image"]), arrays.transform(images))


def test_files_come_in_many_forms(frame):
    estimator = NearestMean(image_size=16).fit(frame, CASES)
    assert estimator.feature_names_in_.tolist() == ["image", "skeleton"]
    assert estimator.n_features_in_ == 2
    expected = estimator.transform(frame)
    images = frame["image"].tolist()
    table = frame[["image", "skeleton"]].to_numpy()
    alone = [images, np.array(images), [Path(p) for p in images], frame["image"], frame[["image"]]]
    for form in [*alone, frame[["skeleton", "image"]], frame.assign(skeleton=None)]:
        np.testing.assert_array_equal(estimator.transform(form), expected)
    nameless = NearestMean(image_size=16).fit([(Path(a), b) for a, b in table], CASES)
    np.testing.assert_array_equal(nameless.transform(table.astype(str)), expected)
    np.testing.assert_array_equal(NearestMean(16).fit(*table.T, CASES).transform(table), expected)
    for form in [frame, table, frame["skeleton"], frame[["skeleton"]]]:
        np.testing.assert_array_equal(
            reading.skeleton_half(nameless, form).read(slice(None))[:, 0], 255 * lines()
        )


def test_a_frame_of_paths_works_in_a_grid_search(frame):
    search = GridSearchCV(NearestMean(), {"image_size": [8, 16]}, cv=3)
    assert search.fit(frame, CASES).best_score_ == 1


def test_grey_files_give_one_channel(folder, frame):
    for row, image in enumerate(photographs()):
        grey = Image.fromarray(image)
        grey.convert("RGB" if row % 2 else "L").save(folder / f"image{row}.png")
    images, _, layout, _ = reading.fit_pairs(NearestMean(), frame, CASES, image_size=16)
    assert layout.image_shape == (1, 16, 16)
    np.testing.assert_array_equal(images.read(slice(None))[:, 0], photographs())


def decode(path, shape=(3, 4, 4), ink="auto", index=0):
    layout = layouts.Layout("files", shape, (1, *shape[1:]), True, ink)
    return halves.FileHalf(np.array([path], dtype=object), layout, index).read([0])[0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_every_mode_of_image_is_read(tmp_path, mode):
    image = Image.new("RGB", (4, 4), "white")
    image.paste("black", (0, 0, 4, 2))
    path = tmp_path / "image.tif"
    image.convert("L" if mode in ("I", "F") else "RGB").convert(mode).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = decode(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[:, :2], 0, atol=1)
    np.testing.assert_allclose(pixels[:, 2:], 255, atol=1)


def test_sixteen_bits_are_scaled_and_alpha_shows_white(tmp_path):
    ramp = 1000 + np.arange(16, dtype=np.uint16).reshape(4, 4)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(
        decode(tmp_path / "deep.png")[0], 17 * np.arange(16).reshape(4, 4)
    )
    float_ramp = (ramp / 2000).astype(np.float32)
    Image.fromarray(float_ramp).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(decode(tmp_path / "float.tif")[0].ravel(), 17 * np.arange(16))
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (decode(tmp_path / "clear.png") == 255).all()
    clear_palette = Image.new("P", (4, 4), 0)
    clear_palette.save(tmp_path / "palette.png", transparency=b"\x00" * 256)
    assert (decode(tmp_path / "palette.png") == 255).all()


def test_exif_orientation_is_followed(tmp_path):
    image = Image.new("L", (4, 4), 0)
    image.paste(255, (0, 0, 2, 4))  # light on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = decode(tmp_path / "turned.png", (1, 4, 4))[0]
    assert (pixels[:2] == 255).all()
    assert (pixels[2:] == 0).all()


def test_large_photographs_are_averaged(tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, (400, 600, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.jpg", quality=95)
    pixels = decode(tmp_path / "photo.jpg", (3, 8, 12))
    assert pixels.shape == (3, 8, 12)
    assert abs(pixels.astype(int) - 127).max() < 15


@pytest.mark.parametrize(
    "colour, ground, ink, found",
    [
        ((0, 0, 0, 255), (0, 0, 0, 0), "auto", True),
        ((255, 255, 255, 255), (255, 255, 255, 0), "auto", True),
        ((255, 255, 255, 255), (0, 0, 0, 0), "light", True),
        ((0, 0, 0, 255), (255, 255, 255, 0), "dark", True),
        ((200, 0, 0, 255), (255, 255, 255, 255), "auto", True),
        ((255, 255, 255, 255), (255, 255, 255, 255), "auto", False),
    ],
)
def test_ink_of_drawings_in_files(tmp_path, colour, ground, ink, found):
    drawing = Image.new("RGBA", (40, 40), ground)
    drawing.paste(colour, (7, 0, 8, 40))  # a line one pixel wide
    drawing.save(tmp_path / "drawing.png")
    expected = np.zeros((1, 4, 4), np.uint8)
    expected[:, :, 0] = 255 * found
    np.testing.assert_array_equal(decode(tmp_path / "drawing.png", ink=ink, index=1), expected)


def spoil(path, how):
    if how == "missing":
        os.remove(path)
    elif how == "truncated":
        data = Path(path).read_bytes()
        Path(path).write_bytes(data[: len(data) // 2])
    elif how == "text":
        Path(path).write_text("no image")
    else:
        os.remove(path)
        NO_FILES[how](path)


NO_FILES = {
    "folder": os.mkdir,
    "pipe": os.mkfifo,  # which would be waited for
    "endless": lambda path: os.symlink("/dev/zero", path),
    "loop": lambda path: os.symlink(path, path),
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
}


@pytest.mark.parametrize("kind", layouts.KINDS)
@pytest.mark.parametrize("how", ["missing", "truncated", "text", *NO_FILES])
def test_a_broken_file_is_named_before_anything_is_learnt(frame, kind, how):
    estimator = NearestMean(image_size=16).fit(frame, CASES)
    spoil(frame[kind][3], how)
    error = FileNotFoundError if how == "missing" else OSError
    message = f"Row 3: the {kind} file .*{kind}3.png"
    with pytest.raises(error, match=message) as caught:
        NearestMean().fit(frame, CASES)
    assert caught.value.__cause__ is not None
    if how != "truncated":
        with pytest.raises(error, match=message):
            reading.pair_halves(estimator, frame)
    if kind == "image":
        with pytest.raises(error, match=message):
            estimator.predict(frame)
    else:
        assert len(estimator.predict(frame)) == 6  # predict looks at images only


@pytest.mark.parametrize("how", ["folder", "pipe", "endless", "socket"])
def test_what_is_no_file_is_never_opened(frame, how):
    half = halves.FileHalf(
        frame["image"].to_numpy(), layouts.Layout("files", (3, 8, 8), (1, 8, 8)), 0
    )
    spoil(frame["image"][3], how)
    asked = [half.check_files, lambda: half.read([3]), lambda: list(half.contents())]
    for ask in asked:
        with pytest.raises(OSError, match=r"Row 3: .*image3.png' is not a file\.$"):
            ask()
    assert len(half.read([0, 1])) == 2  # the threads are free


def test_headers_are_checked_without_decoding(frame, monkeypatch):
    estimator = NearestMean().fit(frame, CASES)
    monkeypatch.setattr(pictures, "decode_image", None)
    spoil(frame["image"][5], "text")
    with pytest.raises(OSError, match="Row 5"):
        reading.image_half(estimator, frame["image"])


def test_a_file_used_in_many_rows_is_checked_once(frame, monkeypatch):
    calls = []
    original = pictures.decode_skeleton
    monkeypatch.setattr(
        pictures, "decode_skeleton", lambda *args: calls.append(1) or original(*args)
    )
    frame["skeleton"] = frame["skeleton"][0]
    NearestMean().fit(frame, CASES)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f[["image"]], "columns 'image' and 'skeleton'"),
        (lambda f: f["image"], "columns 'image' and 'skeleton'"),
        (lambda f: f.rename(columns={"image": "photo", "skeleton": "drawing"}), "rename them"),
        (lambda f: f.assign(skeleton=[None] + ["x"] * 5), "Row 0: skeleton is (None|nan)"),
        (lambda f: f.assign(image=["x"] * 5 + [np.nan]), "Row 5: image is nan"),
        (lambda f: f[:0], "0 "),
        (lambda f: f[:5], "inconsistent numbers of samples"),
        (lambda f: f.to_numpy().astype(str), "could not convert string to float"),
    ],
)
def test_tables_of_files_that_cannot_be_fitted_say_why(frame, change, message):
    with pytest.raises(ValueError, match=message):
        NearestMean().fit(change(frame), CASES)


def test_files_unlike_those_of_fit_say_why(frame):
    estimator = NearestMean().fit(frame, CASES)
    with pytest.raises(ValueError, match="X holds features, but NearestMean was fitted on files"):
        estimator.predict(np.ones((6, 4)))
    with pytest.raises(ValueError, match="column 'image' is missing"):
        estimator.predict(frame[["skeleton"]])
    with pytest.raises(ValueError, match="y holds missing labels, first in row 5"):
        NearestMean().fit(frame, [1.0, 2, 1, 2, 1, np.nan])
    with pytest.raises(ValueError, match="requires y"):
        NearestMean().fit(frame, None)


def test_halves_of_files_can_be_pickled_and_closed_early(frame):
    images = reading.fit_pairs(NearestMean(), frame, CASES, image_size=16)[0]
    expected = images.read([0, 1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).read([0, 1]), expected)
    batches = images.batches(2)
    np.testing.assert_array_equal(next(batches), expected)
    batches.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_files_are_read_after_a_fork(frame):
    images = reading.fit_pairs(NearestMean(), frame, CASES, image_size=16)[0]
    images.read([0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: the point here
        child = os.fork()
    if child == 0:
        os._exit(0 if images.read([0, 1]).shape == (2, 3, 16, 16) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_layouts_are_named(frame):
    X = stack_pairs(photographs(), lines())
    for rows, name in [(X, "pixels"), (X[:, 0], "pixels"), (X[:, 0, 0], "features")]:
        assert layouts.layout_name(rows) == name
    assert layouts.layout_name(frame) == layouts.layout_name(frame["image"].tolist()) == "files"


def test_encodings_become_a_half():
    half = halves.feature_half(np.eye(3), "skeleton")
    assert (half.kind, half.layout, half.shape) == ("skeleton", "features", (3,))
    np.testing.assert_array_equal(half.take([2, 0]).read([0]), [[0, 0, 1]])
    assert half.read([0]).dtype == np.float32


@pytest.mark.parametrize("ink", ["auto", "dark", "light"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("layout", ["channels first", "channels last", "ragged"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colour_drawings_are_read_as_their_files_are(tmp_path, ink, mode, layout, dtype):
    rng = np.random.default_rng(0)
    drawing = np.full((16, 16, 4), (230, 240, 255, 255), np.uint8)
    drawing[5:7, 2:14] = (180, 20, 60, 255)
    drawing[2:14, 9] = (20, 120, 60, 200)
    if mode == "RGBA":
        drawing[drawing[..., 0] == 230] = (255, 255, 255, 0) if ink == "light" else (0, 0, 0, 0)
    drawing[..., :3] += rng.integers(0, 2, size=(16, 16, 3)).astype(np.uint8) * (ink == "dark")
    picture = Image.fromarray(drawing).convert(mode)
    path = tmp_path / "drawing.png"
    picture.save(path)
    expected = pictures.decode_skeleton(path, (1, 16, 16), pictures.Look(ink))[0] > 0
    assert 20 < np.count_nonzero(expected) < 250
    array = np.asarray(picture)
    if dtype == np.float32:
        array = array / np.float32(255)
    drawings = {
        "channels first": np.moveaxis(array[None], 3, 1) if array.ndim == 3 else array[None, None],
        "channels last": array[None] if array.ndim == 3 else array[None, ..., None],
        "ragged": [array, np.pad(array, [(0, 1), (0, 1), (0, 0)][: array.ndim], mode="edge")],
    }[layout]
    images = np.zeros((len(drawings), 16, 16), np.uint8)
    X = stack_pairs(images, drawings, size=16 if layout == "ragged" else None, ink=ink)
    np.testing.assert_array_equal(X[0, 1] > 0, expected)


@pytest.mark.slow
def test_a_pipe_does_not_keep_the_interpreter(tmp_path):
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    code = (
        "import sys, numpy as np; from skpair import PairEncoder\n"
        f"X = np.array([[{str(fifo)!r}] * 2] * 3, dtype=object)\n"
        "try:\n    PairEncoder(frozen=True).fit(X)\n"
        "except OSError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert "is not a file" in done.stdout, done.stderr
