"""The layouts of X: one array with a row per pair of an image and a skeleton.

A row is pixels, features or two files; :func:`stack_pairs` documents the three, and no other module
knows them. Whatever an estimator is given becomes two `Half` objects, the images and the skeletons,
which are read batch by batch.
"""

import copy
import hashlib
import os
import reprlib
import sys
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.utils import check_array, check_consistent_length, check_random_state, check_X_y
from sklearn.utils.validation import column_or_1d, validate_data

from . import pixels
from .paths import as_file

KINDS = ("image", "skeleton")  # the two halves of a row; in data frames, the columns
_LONGEST_SIDE = 2**31  # of an array that makes sense
DEFAULT_FILE_SIZE = 64  # pixels: files come in any size, a batch needs one


# ---- what a user calls ---------------------------------------------------------------------------


def stack_pairs(images, skeletons, *, size=None, ink="auto"):
    """Join images and skeletons into one X with a row per pair.

    Parameters
    ----------
    images : array-like
        One of

        - pixels: (n, H, W), (n, C, H, W) or (n, H, W, C) with C of 1, 3 or 4; also a list of
          arrays, of different sizes where `size` is given. Axis 1 is taken for the channels
          where its length allows it, else the last axis. The fourth channel is alpha and is
          composited over white. uint8, bool, floats in [0, 1]; each image of uint16 (and of
          other integers, where one is outside 0..255) is scaled by its own minimum and maximum.
        - features: (n, d) numbers;
        - files: (n,) str or path-like.
    skeletons : array-like
        The drawings of the same rows: (n, H, W), or with 1, 3 (RGB) or 4 (RGBA) channels as the
        images have them, of any real dtype, also of different sizes; features (n, e); or files
        (n,). Colour becomes grey, and grey drawings are cut
        midway between their own minimum and maximum; one whose shades differ by 5 % at most is
        blank. Drawings are brought to the size of the images, and thin lines survive that.
    size : int or (int, int), default=None
        Height and width that pixels are resized to. None keeps the size of the images.
    ink : {"auto", "light", "dark"}, default="auto"
        Which shade is ink: "light" the brighter one, "dark" the darker one; "auto" decides
        drawing by drawing for the rarer one.

    Returns
    -------
    X : ndarray
        - pixels: (n, C + 1, H, W) with C of 1 or 3, the skeleton last. uint8 with ink at 255, or
          float32 with ink at 1 where the images are floats;
        - features: (n, 2 * max(d, e)), the narrower half padded with zeros, so that the middle
          is always the border;
        - files: (n, 2) object.

    Raises
    ------
    ValueError
        If lengths differ, nothing is given, the two kinds do not go together, or pixels are not
        finite or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair.pairs import stack_pairs
    >>> photographs = np.full((2, 8, 8, 3), 200, dtype=np.uint8)
    >>> drawings = np.ones((2, 16, 16), dtype=bool)  # dark ink on a light ground
    >>> drawings[:, 8] = False
    >>> X = stack_pairs(photographs, drawings)
    >>> X.shape
    (2, 4, 8, 8)
    >>> X[0, -1, :, 0]
    array([  0,   0,   0,   0, 255,   0,   0,   0], dtype=uint8)
    """
    pixels.check_ink(ink)
    images, skeletons = _table(images), _table(skeletons)
    if len(images) != len(skeletons):
        raise ValueError(
            f"There are {len(images)} images and {len(skeletons)} skeletons, but row i of both "
            "must be a pair. pair_up(images, y_images, skeletons, y_skeletons) pairs two "
            "labelled sets of different lengths."
        )
    if len(images) == 0:
        raise ValueError("There are 0 images and 0 skeletons; at least one pair is needed.")
    layouts = [_layout_of(part) for part in (images, skeletons)]
    if layouts[0] != layouts[1]:
        raise ValueError(
            f"The images are {layouts[0]} and the skeletons are {layouts[1]}; both must be "
            "pixels, both features of shape (n, d), or both paths of shape (n,)."
        )
    if layouts[0] == "pixels":
        size = None if size is None else pixels.check_size(size)
        return _stack_pixels(images, skeletons, size, ink)
    if size is not None:
        hint = " PairEncoder(image_size=...) resizes files." if layouts[0] == "files" else ""
        raise ValueError(f"size={size!r} applies to pixels, but {layouts[0]} were given.{hint}")
    if layouts[0] == "files":
        return np.stack([_paths(images, 0), _paths(skeletons, 1)], axis=1)
    images, skeletons = check_array(images), check_array(skeletons)
    width = max(images.shape[1], skeletons.shape[1])
    return np.hstack([_pad_columns(images, width), _pad_columns(skeletons, width)])


def split_pairs(X):
    """Split X into images and skeletons: the inverse of `stack_pairs`, up to padding.

    Parameters
    ----------
    X : array-like or DataFrame
        Rows in one of the three layouts that `stack_pairs` returns.

    Returns
    -------
    images : ndarray
        Pixels: (n, H, W) of grey or (n, 3, H, W) of colour images; features: (n, p // 2);
        files: (n,) object.
    skeletons : ndarray
        Pixels: (n, H, W) uint8, 1 where there is ink and 0 elsewhere; features: (n, p - p // 2);
        files: (n,) object.

    Raises
    ------
    ValueError
        If X does not hold pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair.pairs import split_pairs, stack_pairs
    >>> X = stack_pairs([[1.0, 2.0, 3.0]], [[4.0]])
    >>> X
    array([[1., 2., 3., 4., 0., 0.]])
    >>> split_pairs(X)
    (array([[1., 2., 3.]]), array([[4., 0., 0.]]))
    """
    return split_rows(X, ensure_all_finite=True)


def split_rows(X, *, ensure_all_finite=False):
    """Split X as `split_pairs` does; features may be missing (NaN) unless told otherwise."""
    X = _table(X)
    layout = _layout_of(X)
    if layout == "files":
        _check_file_rows(X)
        return _paths(X, 0), _paths(X, 1)
    if layout == "pixels":
        _check_pixel_rows(X)
        images = X[:, :-1]
        return images[:, 0] if images.shape[1] == 1 else images, (X[:, -1] != 0).astype(np.uint8)
    X = check_array(X, ensure_all_finite=ensure_all_finite)
    _check_two_columns(X)
    middle = X.shape[1] // 2
    return X[:, :middle], X[:, middle:]


def pair_up(images, y_images, skeletons, y_skeletons, *, random_state=None):
    """Pair two separately labelled sets: every image with a skeleton of its case.

    The drawings of a case are dealt to its images in random order, each as often as the others
    (or once more). Drawings of cases without images are left out.

    Parameters
    ----------
    images : array-like
        n images: pixels, features or files, as in `stack_pairs`.
    y_images : array-like of shape (n,)
        The case of each image.
    skeletons : array-like
        m skeletons of the same layout.
    y_skeletons : array-like of shape (m,)
        The case of each skeleton.
    random_state : int, RandomState or None, default=None
        Decides which drawing goes to which image.

    Returns
    -------
    X : ndarray
        n rows in the layout that `stack_pairs` returns, in the order of the images.
    y : ndarray of shape (n,)
        The case of each row.

    Raises
    ------
    ValueError
        If a case of the images has no skeleton, or lengths differ.

    Examples
    --------
    >>> from skpair.pairs import pair_up
    >>> X, y = pair_up(["1.png", "2.png", "3.png"], ["a", "b", "a"], ["A.png", "B.png"], ["a", "b"])
    >>> X[:, 1]
    array(['A.png', 'B.png', 'A.png'], dtype=object)
    """
    images, skeletons = _table(images), np.asarray(_table(skeletons))
    y_images, y_skeletons = column_or_1d(y_images), column_or_1d(y_skeletons)
    check_consistent_length(images, y_images)
    check_consistent_length(skeletons, y_skeletons)
    cases = np.unique(y_images)
    missing = cases[~np.isin(cases, y_skeletons)].tolist()
    if missing:
        raise ValueError(
            f"These cases have images but no skeleton: {missing}. Every case needs at least one "
            "skeleton; add drawings of them, or leave their images out."
        )
    random = check_random_state(random_state)
    dealt = np.empty(len(y_images), dtype=int)
    for case in cases:
        rows = random.permutation(np.flatnonzero(y_images == case))
        drawings = random.permutation(np.flatnonzero(y_skeletons == case))
        dealt[rows] = np.resize(drawings, len(rows))  # cycles through the drawings
    return stack_pairs(images, skeletons[dealt]), y_images


# ---- what the estimators call --------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """What the rows of `fit` were; estimators keep it as `layout_`."""

    name: str  # "pixels", "features" or "files"
    image_shape: tuple  # of one image as read: (C, H, W), or (d,) for features
    skeleton_shape: tuple  # (1, H, W), or (e,)
    resizes: bool = False  # whether images of any size are welcome
    ink: str = "auto"  # how skeletons are read that come alone or from files
    used_columns: tuple = ()  # features: columns of each half up to the last that is not all zero

    @property
    def shapes(self):
        """The shapes of both kinds."""
        return self.image_shape, self.skeleton_shape


def layout_name(X):
    """Name the layout of rows, images alone or skeletons alone."""
    return _layout_of(_table(X))


def as_pairs(X, y, rest, *, image_size=None, ink="auto"):
    """Resolve the two call forms ``fit(X, y)`` and ``fit(X_img, X_skel, y)`` to X and y."""
    if len(rest) > 1:
        raise TypeError(
            f"fit takes fit(X, y) or fit(X_img, X_skel, y), but {2 + len(rest)} positional "
            "arguments were given. sample_weight is not supported."
        )
    for given in (X, y):
        _check_no_single_path(given)
    if not rest:
        if y is not None and np.asarray(y).ndim > 2:
            raise ValueError(
                f"y has the shape {np.asarray(y).shape}, but it must hold the case of each row, "
                "(n,). Images and skeletons given apart are followed by their cases: "
                "fit(X_img, X_skel, y)."
            )
        check_no_gaps("y", y)
        return X, y
    check_no_gaps("y", rest[0])
    X = _table(X)
    return stack_pairs(X, y, size=image_size if pixels.is_ragged(X) else None, ink=ink), rest[0]


def check_no_gaps(name, labels):
    """Check that no label is missing: (n,) of any kind; None, and what is no column, may pass."""
    labels = np.asarray(labels, dtype=object)
    missing = np.flatnonzero(pd.isna(labels)) if labels.ndim == 1 else ()
    if len(missing):
        raise ValueError(f"{name} holds missing labels, first in row {missing[0]} (NaN or None).")


def fit_pairs(estimator, X, y, *, image_size=None, ink="auto"):
    """Validate the rows of `fit`, setting `n_features_in_` and `feature_names_in_`.

    Returns the images and the skeletons as `Half`, the `Layout`, and y as an array (or None).
    """
    size = check_reading(image_size, ink)
    X = _table(X)
    _check_some(estimator, X)
    name = _layout_of(X)
    X, y = _validate_rows(estimator, X, name, y=y, reset=True)
    if name == "features":
        _check_two_columns(X)
        parts = np.split(X, [X.shape[1] // 2], axis=1)
        layout = Layout(
            name, *(part.shape[1:] for part in parts), used_columns=tuple(map(_count_used, parts))
        )
    elif name == "pixels":
        height_width = size or X.shape[2:]
        layout = Layout(
            name, (X.shape[1] - 1, *height_width), (1, *height_width), size is not None, ink
        )
        _warn_blank(~X[:, -1].any(axis=(1, 2)))
    else:
        size = size or (DEFAULT_FILE_SIZE, DEFAULT_FILE_SIZE)
        layout = Layout(name, (3, *size), (1, *size), True, ink)
        images, skeletons = _split_rows(X, layout)
        _check_files(images, skeletons)
        # Every file is decoded once: a broken one must not show up after hours of training.
        if not images.ask_files(images.has_colour).any():
            layout = replace(layout, image_shape=(1, *size))
        _warn_blank(skeletons.ask_files(skeletons.is_blank))
    return *_split_rows(X, layout), layout, y


def check_layout(layout, n_features):
    """Raise unless a layout and `n_features_in_`, from a file, are such as `fit_pairs` gives."""
    image, skeleton, used = layout.image_shape, layout.skeleton_shape, layout.used_columns
    known = all(isinstance(part, tuple) for part in (image, skeleton, used))
    known = known and all(type(side) is int for side in (*image, *skeleton, *used, n_features))
    if not known or not all(0 < side <= _LONGEST_SIDE for side in (*image, *skeleton)):
        raise ValueError(f"{layout} is no layout: its shapes must hold integers above 0.")
    if layout.name == "features":
        fits = len(image) == len(skeleton) == 1 and skeleton[0] - image[0] in (0, 1)
        fits = fits and len(used) == 2 and 0 <= used[0] <= image[0] and 0 <= used[1] <= skeleton[0]
        fits = fits and n_features == image[0] + skeleton[0]
    else:
        fits = layout.name in ("pixels", "files") and len(image) == 3 and image[0] in (1, 3)
        fits = fits and skeleton == (1, *image[1:]) and not used
        fits = fits and n_features == (2 if layout.name == "files" else image[0] + 1)
    if not fits or type(layout.resizes) is not bool or type(layout.ink) is not str:
        raise ValueError(f"{layout} is no layout of rows with n_features_in_={n_features}.")
    pixels.check_ink(layout.ink)


def check_reading(image_size, ink):
    """Check the parameters that say how pictures are read."""
    pixels.check_ink(ink)
    return None if image_size is None else pixels.check_size(image_size, "image_size")


def image_half(estimator, X):
    """Return the images of full rows, or images alone, as a `Half` for a fitted estimator."""
    half = _half(estimator, X, 0)
    _check_files(half)
    return half


def skeleton_half(estimator, X):
    """Return the skeletons of full rows, or skeletons alone, as a `Half`."""
    half = _half(estimator, X, 1)
    _check_files(half)
    return half


def pair_halves(estimator, X, rest=(), *, aligned=True, checked=False):
    """Resolve ``method(X)`` and ``method(X_img, X_skel)`` to images and skeletons.

    With `aligned`, both must be of the same length. With `checked`, files are not looked at: the
    same call has done that, and has warned.
    """
    check_one_more(rest)
    if rest:
        halves = _half(estimator, X, 0), _half(estimator, rest[0], 1)
        if aligned:
            check_aligned(*halves)
    else:
        X = _table(X)
        _check_layout(estimator, X)
        halves = _split_rows(_validate_fitted(estimator, X), estimator.layout_)
    if not checked:
        _check_files(*halves)
    return halves


def check_one_more(rest):
    """Raise unless ``method(X)`` or ``method(X_img, X_skel)`` was called."""
    if len(rest) > 1:
        raise TypeError(
            "Either full rows (X) or images and skeletons (X_img, X_skel) are taken, but "
            f"{1 + len(rest)} positional arguments were given."
        )


def check_aligned(images, skeletons):
    """Raise unless there are as many images as skeletons."""
    if len(images) != len(skeletons):
        raise ValueError(
            f"There are {len(images)} images and {len(skeletons)} skeletons, but row i of both "
            "must be a pair. similarity_matrix compares every image with every skeleton."
        )


def file_names(layout, X, kind):
    """Return the paths of one kind as a list of str, or None where rows are no files."""
    if layout.name != "files":
        return None
    return [os.fspath(path) for path in _paths(_table(X), KINDS.index(kind))]


def feature_half(features, kind):
    """Return features (n, p) of one kind, such as the encodings of images, as a `Half`."""
    shape = features.shape[1:]
    return ArrayHalf(features, Layout("features", shape, shape), KINDS.index(kind))


class Half:
    """One kind (images or skeletons) of every row, read batch by batch.

    Attributes
    ----------
    layout : {"pixels", "features", "files"}
    kind : {"image", "skeleton"}
    shape : tuple of int
        Of one row as read: (C, H, W), (1, H, W) or (p,).
    rows : ndarray of shape (n,)
        Which rows of the source belong to this half.
    """

    def __init__(self, source, layout, index):
        self.source = source
        self.layout = layout.name
        self.kind = KINDS[index]
        self.shape = layout.shapes[index]
        self.ink = layout.ink
        self.rows = np.arange(len(source))

    def reading(self):
        """Tell how a row becomes what `read` gives; what it is itself tell `contents`."""
        return self.layout, self.kind, self.shape, self.ink

    def __len__(self):
        """Return the number of rows."""
        return len(self.rows)

    def take(self, rows):
        """Return a subset (slice, int or bool array); nothing is read or copied."""
        subset = copy.copy(self)
        subset.rows = self.rows[rows]
        return subset

    def read(self, rows):
        """Return some rows (slice or int array): (b, *shape).

        uint8 of 0..255 (skeletons: 0 or 255), float32 of 0..1 (skeletons: 0 or 1) where pixels
        are floats, and any float32 for features.
        """
        return next(self.stream([rows]))

    def batches(self, batch_size):
        """Yield all rows in order, `batch_size` at a time."""
        starts = range(0, len(self), batch_size)
        return self.stream(slice(start, start + batch_size) for start in starts)


class ArrayHalf(Half):
    """Pixels or features in memory (or in a memory map): a view until a batch is read."""

    def stream(self, row_batches):
        """Yield `read(rows)` for each of the row selections."""
        for rows in row_batches:
            batch = np.asarray(self.source[self.rows[rows]])  # a copy, also of memory maps
            if self.layout == "features":
                yield batch.astype(np.float32, copy=False)
            elif self.kind == "image":
                yield pixels.resize_images(pixels.plain_pixels(batch), self.shape[1:])
            else:
                ink = pixels.resize_ink(batch != 0, self.shape[1:])
                yield pixels.plain_pixels(ink.astype(float) if batch.dtype.kind == "f" else ink)

    def reading(self):
        """Tell how a row becomes what `read` gives."""
        dtype = self.source.dtype
        kept = dtype.kind == "f" if self._is_ink() else dtype.str
        return *super().reading(), kept, self.source.shape[1:]

    def contents(self):
        """Yield the bytes of each row; ink is ink, whatever its number."""
        for row in self.rows:
            row = self.source[row] != 0 if self._is_ink() else self.source[row]
            yield np.ascontiguousarray(row).reshape(-1).view(np.uint8)

    def _is_ink(self):
        return self.layout == "pixels" and self.kind == "skeleton"

    def check_files(self):
        """Return no paths: there are no files."""
        return []


class FileHalf(Half):
    """Files, decoded in threads when a batch is read."""

    def stream(self, row_batches):
        """Yield `read(rows)` for each of the row selections, decoding one selection ahead."""
        ahead = None
        for rows in row_batches:
            following = pixels.in_threads(self._decode, self.rows[rows])
            if ahead is not None:
                yield self._stack(ahead)
            ahead = following
        if ahead is not None:
            yield self._stack(ahead)

    def check_files(self):
        """Raise where a file is missing or is no image; pixels are not decoded.

        Returns the paths of those that hold more pages than the first, which is read.
        """
        more = self.ask_files(lambda row: self._open(row, pixels.check_file))
        return [os.fspath(path) for path in self.source[self.rows[more]]]

    def ask_files(self, question):
        """Ask `question(row)`, a bool, once for each different file: (n,) answers."""
        paths = [os.fspath(path) for path in self.source[self.rows]]
        files, _ = pd.factorize(np.array(paths, dtype=object))  # (n,) codes, by first appearance
        rows = self.rows[np.unique(files, return_index=True)[1]]
        answers = []
        for start in range(0, len(rows), 1024):  # bounds what waits in the pool
            answers += pixels.in_threads(question, rows[start : start + 1024])
        return np.array(answers, dtype=bool)[files]

    def contents(self):
        """Yield a digest of the file of each row."""
        for start in range(0, len(self), 1024):  # bounds what waits in the pool
            yield from pixels.in_threads(self._content, self.rows[start : start + 1024])

    def _content(self, row):
        return self._open(row, lambda path: hashlib.sha256(as_file(path).read_bytes()).digest())

    def has_colour(self, row):
        """Whether the channels of an image differ."""
        return bool(np.ptp(self._decode(row), axis=0).any())

    def is_blank(self, row):
        """Whether a skeleton has no ink."""
        return not self._decode(row).any()

    def _stack(self, decoded):
        decoded = list(decoded)
        return np.stack(decoded) if decoded else np.empty((0, *self.shape), np.uint8)

    def _decode(self, row):
        if self.kind == "image":
            return self._open(row, pixels.decode_image, self.shape)
        return self._open(row, pixels.decode_skeleton, self.shape, self.ink)

    def _open(self, row, read, *how):
        path = self.source[row]
        where = f"Row {row}: the {self.kind} file {os.fspath(path)!r}"
        try:
            return read(path, *how)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where} does not exist.") from error
        except Exception as error:  # Pillow's decoders raise many kinds
            raise OSError(f"{where} cannot be read as an image: {error}") from error


# ---- from X to its halves ------------------------------------------------------------------------


def _half(estimator, X, index):
    X = _table(X)
    layout = estimator.layout_
    _check_layout(estimator, X)
    if layout.name == "files":
        return FileHalf(_paths(X, index), layout, index)
    if not _is_alone(estimator, X, index):
        return _split_rows(_validate_fitted(estimator, X), layout)[index]
    if layout.name == "features":
        X = check_array(X, dtype=np.float32, estimator=estimator, input_name="X")
        X = _pad_columns(X, layout.shapes[index][0])
    elif index == 0:
        X = pixels.as_images(X, layout.image_shape[1:] if layout.resizes else None)
        _check_same_shape(estimator, X)
    else:
        X = pixels.as_ink(X, layout.skeleton_shape[1:], layout.ink)
    return ArrayHalf(X, layout, index)


def _is_alone(estimator, X, index):
    """Whether pixels or features are one half only; full rows are the other possibility."""
    layout = estimator.layout_
    if layout.name == "pixels":
        return X.ndim != 4 or X.shape[1] not in (2, 4)
    if len(getattr(X, "shape", ())) != 2:
        return False
    n_columns, width = X.shape[1], layout.shapes[index][0]
    # Columns that were all zero in fit are padding: a narrower half may come without them.
    fits = layout.used_columns[index] <= n_columns <= width
    names = getattr(estimator, "feature_names_in_", None)
    if not fits or names is None or not _is_frame(X):
        return fits
    names = names[:width] if index == 0 else names[-width:]
    return list(X.columns) == list(names[:n_columns])


def _split_rows(X, layout):
    """Split validated rows into the two halves, without copying."""
    if layout.name == "files":
        return tuple(FileHalf(_paths(X, index), layout, index) for index in (0, 1))
    border = layout.image_shape[0]  # channels or columns
    return ArrayHalf(X[:, :border], layout, 0), ArrayHalf(X[:, border:], layout, 1)


def _validate_fitted(estimator, X):
    """Validate full rows after `fit`."""
    name = estimator.layout_.name
    if name == "files":  # picked by name already, else without names: nothing for scikit-learn
        _check_file_rows(X)
        return X
    if name == "pixels":
        _check_pixel_rows(X)
        _check_same_shape(estimator, X[:, :-1])
    return _validate_rows(estimator, X, name)[0]


def _validate_rows(estimator, X, name, *, y="no_validation", reset=False):
    """Pass full rows through scikit-learn's validation; returns X and y (None if not given)."""
    if name == "features":
        checks = {"dtype": np.float32}
    elif name == "pixels":
        _check_pixel_rows(X)
        checks = {"allow_nd": True}
    else:
        _check_file_rows(X)
        X = X[list(KINDS)] if _is_frame(X) else X
        checks = {"skip_check_array": True}
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32: the check says so
        checked = validate_data(estimator, X, y, reset=reset, **checks)
    X, y = checked if isinstance(checked, tuple) else (checked, None)
    if name == "pixels":
        pixels.check_range(X)
    if name == "files" and y is not None:
        _, y = check_X_y(np.zeros((len(X), 1)), y, estimator=estimator)
    return X, y


def _table(X):
    """Return X as an array; data frames and sparse matrices as they are.

    Images of different sizes become an object array of arrays.
    """
    _check_no_single_path(X)
    if hasattr(X, "column_names") and hasattr(X, "to_pandas"):
        return X.to_pandas()  # a Table of pyarrow, whose columns have no names
    if _is_frame(X):
        return X
    try:
        array = np.asarray(X)
    except ValueError:  # rows of different shapes
        if min(map(np.ndim, X)) < 2:
            raise
        array = np.empty(len(X), dtype=object)
        for row, image in enumerate(X):
            array[row] = np.asarray(image)
    return X if array.ndim == 0 else array


def _layout_of(X):
    if _is_frame(X):
        named = [kind for kind in KINDS if kind in list(X.columns)]
        if any(_has_paths(np.asarray(X[kind], dtype=object)) for kind in named):
            return "files"
        if named and not len(X) and not any(is_numeric_dtype(X[kind]) for kind in named):
            return "files"
        if _has_paths(np.asarray(X[:1], dtype=object)):
            raise ValueError(
                f"X is a data frame of strings with the columns {list(X.columns)}. Files are "
                "picked by name from the columns 'image' and 'skeleton': rename them."
            )
        return "features"
    if not isinstance(X, np.ndarray):
        return "features"  # or what scikit-learn refuses by name, such as sparse matrices
    if _has_paths(X) or (not len(X) and X.dtype.kind in "OUT"):
        if X.ndim > 2:
            raise ValueError(f"Pixels must be numbers, but X is {_describe(X)} with strings.")
        if X.ndim == 1 or X.shape[1] <= 2:
            return "files"
    return "pixels" if X.ndim > 2 or pixels.is_ragged(X) else "features"


def _check_no_single_path(X):
    if _is_path(X):
        raise ValueError(
            f"One path was given ({X!r}), but rows are expected: a list of the paths of pictures, "
            "or their arrays. Of a folder, list the files: sorted(Path(folder).iterdir())."
        )


def _is_frame(X):
    return hasattr(X, "columns")


def _is_path(cell):
    return isinstance(cell, str | bytes | os.PathLike)


def _has_paths(cells):
    return cells.dtype.kind in "OUST" and any(map(_is_path, cells.flat))


def _paths(X, index):
    """Return the paths of one kind, (n,) object, from rows of files or from that kind alone."""
    kind = KINDS[index]
    if not len(X):
        raise ValueError(f"Found 0 sample(s): X is {_describe(X)}, without a row.")
    if _is_frame(X):
        if kind not in X.columns:
            raise ValueError(f"X is {_describe(X)}; the column {kind!r} is missing.")
        if list(X.columns).count(kind) > 1:
            raise ValueError(f"X is {_describe(X)}; the column {kind!r} is there more than once.")
        column = np.asarray(X[kind], dtype=object)
    else:
        columns = X.astype(object).reshape(len(X), -1)
        column = columns[:, index if columns.shape[1] == 2 else 0]
    for row, cell in enumerate(column):
        if not _is_path(cell) or isinstance(os.fspath(cell), bytes):
            raise ValueError(
                f"Row {row}: {kind} is {reprlib.repr(cell)}, but a path is expected, as str or "
                "os.PathLike (of bytes, os.fsdecode makes one)."
            )
    return column


def _stack_pixels(images, skeletons, size, ink):
    images = pixels.as_images(images, size)
    size = size or images.shape[2:]
    dtype, top = (np.float32, 1) if images.dtype.kind == "f" else (np.uint8, 255)
    X = np.empty((len(images), images.shape[1] + 1, *size), dtype)
    for row, image in enumerate(images):
        X[row, :-1] = pixels.resize_images(pixels.plain_pixels(image), size)
    np.multiply(pixels.as_ink(skeletons, size, ink), dtype(top), out=X[:, -1:])
    return X


def _pad_columns(X, width):
    return X if X.shape[1] == width else np.pad(X, ((0, 0), (0, width - X.shape[1])))


def _count_used(X):
    used = np.flatnonzero(X.any(axis=0))
    return int(used[-1]) + 1 if len(used) else 0


# ---- checks --------------------------------------------------------------------------------------


def _describe(X):
    if _is_frame(X):
        return f"a data frame with the columns {list(X.columns)}"
    return f"an array of shape {X.shape}"


def _check_layout(estimator, X):
    _check_some(estimator, X)
    given, fitted = _layout_of(X), estimator.layout_.name
    if given != fitted:
        single = (
            " One picture alone needs an axis before it: X[None]." if fitted == "pixels" else ""
        )
        raise ValueError(
            f"X holds {given}, but {type(estimator).__name__} was fitted on {fitted}. Give X in "
            f"the layout that fit has seen.{single}"
        )


def _check_some(estimator, X):
    if getattr(X, "shape", (1,))[:1] == (0,):
        raise ValueError(
            f"Found 0 sample(s) (shape={X.shape}) while a minimum of 1 is required by "
            f"{type(estimator).__name__}."
        )


def _check_same_shape(estimator, images):
    layout, given = estimator.layout_, images.shape[1:]
    if layout.resizes:
        given = (given[0], *layout.image_shape[1:])
    if given != layout.image_shape:
        raise ValueError(
            f"The images are {images.shape[1:]} (channels, height, width), but "
            f"{type(estimator).__name__} was fitted on {layout.image_shape}. Resize them with "
            "stack_pairs(..., size=...), or let PairEncoder(image_size=...) do it; the number of "
            "channels must agree in any case. One image alone needs an axis before it: image[None]."
        )


def _check_two_columns(X):
    if X.shape[1] < 2:
        raise ValueError(
            f"X has n_features={X.shape[1]}, but at least 2 columns are needed: the first half "
            "for the image, the second half for the skeleton."
        )


def _check_pixel_rows(X):
    if X.ndim != 4 or X.shape[1] not in (2, 4) or 0 in X.shape[2:]:
        raise ValueError(
            f"X is {_describe(X)}, but rows of pixels have the shape (n, C + 1, H, W): 1 or 3 "
            "channels of the image and the skeleton as the last, so 2 or 4 in all. "
            "stack_pairs(images, skeletons, size=...) makes them."
        )


def _check_file_rows(X):
    both = set(KINDS) <= set(X.columns) if _is_frame(X) else X.shape[1:] == (2,)
    if not both:
        raise ValueError(
            f"X is {_describe(X)}, but rows of files have an image and a skeleton. Give a data "
            "frame with the columns 'image' and 'skeleton', or stack_pairs(images, skeletons)."
        )


def _check_files(*halves):
    """Raise for files that are no pictures; warn, once for all, of those of several pages."""
    files = list(dict.fromkeys(path for half in halves for path in half.check_files()))
    if files:
        shown = ", ".join(map(repr, files[:5])) + (", ..." if len(files) > 5 else "")
        warnings.warn(
            f"Of {len(files)} file(s) with several pages or frames, only the first one is read: "
            f"{shown}. Save each page that counts as a file of its own.",
            UserWarning,
            stacklevel=users_level(),
        )


def _warn_blank(blank):
    rows = np.flatnonzero(blank)
    if len(rows):
        shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
        warnings.warn(
            f"The skeleton is blank in {len(rows)} row(s): {shown}. They tell nothing about "
            "their cases; check the drawings, or `ink` if lines and ground are mixed up.",
            UserWarning,
            stacklevel=users_level(),
        )


def users_level():
    """Count the frames from the caller to the user's code, for `warnings.warn`."""
    level, frame = 1, sys._getframe(1)
    own = ("skpair", "sklearn")
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    return level
