"""The layouts of X: one array with a row per pair of an image and a skeleton.

A row is pixels, features or two files; :func:`stack_pairs` documents the three, and no module
outside this folder knows them.
"""

import os
import reprlib
from dataclasses import dataclass

import numpy as np
from pandas.api.types import is_numeric_dtype
from PIL import Image
from sklearn.utils import (
    check_array,
)

from . import pictures
from .sizes import resize_images

KINDS = ("image", "skeleton")  # the two halves of a row; in data frames, the columns

_LONGEST_SIDE = 2**31  # of an array that makes sense


# ---- what a user calls ---------------------------------------------------------------------------


def stack_pairs(
    images, skeletons, *, size=None, ink="auto", resize="pad", contrast="full", crop_bottom=0
):
    """Join images and skeletons into one X with a row per pair.

    Parameters
    ----------
    images : array-like
        One of

        - pixels: (n, H, W), (n, C, H, W) or (n, H, W, C) with C of 1, 3 or 4; also a list of
          arrays, of different sizes where `size` is given. Axis 1 is taken for the channels
          where its length allows it, else the last axis. The fourth channel is alpha and is
          composited over white. uint8, bool, floats in [0, 1], or wider integers, see `contrast`.
        - features: (n, d) numbers;
        - files: (n,) str or path-like.
    skeletons : array-like
        The drawings of the same rows: (n, H, W), or with 1, 3 (RGB) or 4 (RGBA) channels as the
        images have them, of any real dtype, also of different sizes; features (n, e); or files
        (n,). Colour becomes grey. Grey drawings of 200 pixels or more are scans, and under
        ``ink="auto"`` cleaned as `skpair.field.drawings.clean` cleans them; others are cut midway
        between their own minimum and maximum, and one whose shades differ by 5 % at most is blank.
        Drawings are brought to the size of the images, and thin lines survive that.
    size : int or (int, int), default=None
        Height and width that pixels are resized to. None keeps the size of the images.
    ink : {"auto", "light", "dark"}, default="auto"
        Which shade is ink: "light" the brighter one, "dark" the darker one; "auto" decides
        drawing by drawing for the rarer one.
    resize : {"pad", "stretch"}, default="pad"
        How pictures come to a size of other proportions: whole, amid the shade of their border
        (drawings: amid blank ground), or distorted.
    contrast : {"full", "own"}, default="full"
        What becomes black and white in an image, the same for all types and depths: "full", 0 and
        the highest number of its bits (8, 12, 16 or more, as its brightest pixel needs; 1 for
        floats); "own", its own darkest and lightest pixels but for half a percent at either end.
    crop_bottom : int or float, default=0
        Rows that are cut off every image at the bottom, where scale bars and legends are burnt in:
        pixels, or a share below 1.

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
    >>> from skpair import stack_pairs
    >>> photographs = np.full((2, 8, 8, 3), 200, dtype=np.uint8)
    >>> drawings = np.ones((2, 16, 16), dtype=bool)  # dark ink on a light ground
    >>> drawings[:, 8] = False
    >>> X = stack_pairs(photographs, drawings)
    >>> X.shape
    (2, 4, 8, 8)
    >>> X[0, -1, :, 0]
    array([  0,   0,   0,   0, 255,   0,   0,   0], dtype=uint8)
    """
    look = pictures.Look(ink, resize, contrast, crop_bottom)
    pictures.check_look(look)
    images, skeletons = as_table(images), as_table(skeletons)
    if len(images) != len(skeletons):
        raise ValueError(
            f"There are {len(images)} images and {len(skeletons)} skeletons, but row i of both "
            "must be a pair. pair_up(images, y_images, skeletons, y_skeletons) pairs two "
            "labelled sets of different lengths."
        )
    if len(images) == 0:
        raise ValueError("There are 0 images and 0 skeletons; at least one pair is needed.")
    layouts = [layout_of(part) for part in (images, skeletons)]
    if layouts[0] != layouts[1]:
        raise ValueError(
            f"The images are {layouts[0]} and the skeletons are {layouts[1]}; both must be "
            "pixels, both features of shape (n, d), or both paths of shape (n,)."
        )
    if layouts[0] == "pixels":
        size = None if size is None else pictures.check_size(size)
        return _stack_pixels(images, skeletons, size, look)
    if size is not None:
        hint = " PairEncoder(image_size=...) resizes files." if layouts[0] == "files" else ""
        raise ValueError(f"size={size!r} applies to pixels, but {layouts[0]} were given.{hint}")
    if layouts[0] == "files":
        return np.stack([paths_of(images, 0), paths_of(skeletons, 1)], axis=1)
    images, skeletons = check_array(images), check_array(skeletons)
    width = max(images.shape[1], skeletons.shape[1])
    return np.hstack([pad_columns(images, width), pad_columns(skeletons, width)])


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
    >>> from skpair import split_pairs, stack_pairs
    >>> X = stack_pairs([[1.0, 2.0, 3.0]], [[4.0]])
    >>> X
    array([[1., 2., 3., 4., 0., 0.]])
    >>> split_pairs(X)
    (array([[1., 2., 3.]]), array([[4., 0., 0.]]))
    """
    return split_rows(X, ensure_all_finite=True)


def split_rows(X, *, ensure_all_finite=False):
    """Split X as `split_pairs` does; features may be missing (NaN) unless told otherwise."""
    X = as_table(X)
    layout = layout_of(X)
    if layout == "files":
        check_file_rows(X)
        return paths_of(X, 0), paths_of(X, 1)
    if layout == "pixels":
        check_pixel_rows(X)
        images = X[:, :-1]
        return images[:, 0] if images.shape[1] == 1 else images, (X[:, -1] != 0).astype(np.uint8)
    X = check_array(X, ensure_all_finite=ensure_all_finite)
    check_two_columns(X)
    middle = X.shape[1] // 2
    return X[:, :middle], X[:, middle:]


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
    resize: str = "stretch"  # these three as `Look` has them; the defaults are of earlier versions
    contrast: str = pictures.EARLIER
    crop_bottom: int | float = 0

    @property
    def look(self):
        """How pictures are read."""
        return pictures.Look(self.ink, self.resize, self.contrast, self.crop_bottom)

    @property
    def shapes(self):
        """The shapes of both kinds."""
        return self.image_shape, self.skeleton_shape


def layout_name(X):
    """Name the layout of rows, images alone or skeletons alone."""
    return layout_of(as_table(X))


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
    if not fits or type(layout.resizes) is not bool:
        raise ValueError(f"{layout} is no layout of rows with n_features_in_={n_features}.")
    pictures.check_look(layout.look, earlier=True)


def as_table(X):
    """Return X as an array; data frames and sparse matrices as they are.

    Images of different sizes become an object array of arrays.
    """
    check_no_single_path(X)
    if hasattr(X, "column_names") and hasattr(X, "to_pandas"):
        return X.to_pandas()  # a Table of pyarrow, whose columns have no names
    if is_frame(X):
        return X
    if isinstance(X, list | tuple) and any(isinstance(picture, Image.Image) for picture in X):
        X = [pictures.as_array(p) if isinstance(p, Image.Image) else p for p in X]
    try:
        array = np.asarray(X)
    except ValueError:  # rows of different shapes
        if min(map(np.ndim, X)) < 2:
            raise
        array = np.empty(len(X), dtype=object)
        for row, image in enumerate(X):
            array[row] = np.asarray(image)
    return X if array.ndim == 0 else array


def layout_of(X):
    """Name the layout of a table: "pixels", "features" or "files"."""
    if is_frame(X):
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
            raise ValueError(f"Pixels must be numbers, but X is {describe(X)} with strings.")
        if X.ndim == 1 or X.shape[1] <= 2:
            return "files"
    return "pixels" if X.ndim > 2 or pictures.is_ragged(X) else "features"


def check_no_single_path(X):
    """Raise for one path in the place of rows."""
    if _is_path(X):
        raise ValueError(
            f"One path was given ({X!r}), but rows are expected: a list of the paths of pictures, "
            "or their arrays. Of a folder, list the files: sorted(Path(folder).iterdir())."
        )


def is_frame(X):
    """Tell whether X is a data frame, of whatever library."""
    return hasattr(X, "columns")


def _is_path(cell):
    return isinstance(cell, str | bytes | os.PathLike)


def _has_paths(cells):
    return cells.dtype.kind in "OUST" and any(map(_is_path, cells.flat))


def paths_of(X, index):
    """Return the paths of one kind, (n,) object, from rows of files or from that kind alone."""
    kind = KINDS[index]
    if not len(X):
        raise ValueError(f"Found 0 sample(s): X is {describe(X)}, without a row.")
    if is_frame(X):
        if kind not in X.columns:
            raise ValueError(f"X is {describe(X)}; the column {kind!r} is missing.")
        if list(X.columns).count(kind) > 1:
            raise ValueError(f"X is {describe(X)}; the column {kind!r} is there more than once.")
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


def _stack_pixels(images, skeletons, size, look):
    images = pictures.as_images(images, size, look)
    size = size or images.shape[2:]
    dtype, top = (np.float32, 1) if images.dtype.kind == "f" else (np.uint8, 255)
    X = np.empty((len(images), images.shape[1] + 1, *size), dtype)
    for row, image in enumerate(images):
        X[row, :-1] = resize_images(pictures.plain_pixels(image), size, look.resize)
    np.multiply(pictures.as_ink(skeletons, size, look), dtype(top), out=X[:, -1:])
    return X


def pad_columns(X, width):
    """Add columns of zeros."""
    return X if X.shape[1] == width else np.pad(X, ((0, 0), (0, width - X.shape[1])))


# ---- checks --------------------------------------------------------------------------------------


def describe(X):
    """Say what was given, in an error."""
    if is_frame(X):
        return f"a data frame with the columns {list(X.columns)}"
    return f"an array of shape {X.shape}"


def check_two_columns(X):
    """Raise unless rows of features have two halves."""
    if X.shape[1] < 2:
        raise ValueError(
            f"X has n_features={X.shape[1]}, but at least 2 columns are needed: the first half "
            "for the image, the second half for the skeleton."
        )


def check_pixel_rows(X):
    """Raise unless X has the shape of rows of pixels."""
    if X.ndim != 4 or X.shape[1] not in (2, 4) or 0 in X.shape[2:]:
        raise ValueError(
            f"X is {describe(X)}, but rows of pixels have the shape (n, C + 1, H, W): 1 or 3 "
            "channels of the image and the skeleton as the last, so 2 or 4 in all. "
            "stack_pairs(images, skeletons, size=...) makes them."
        )


def check_file_rows(X):
    """Raise unless rows of files have an image and a skeleton."""
    both = set(KINDS) <= set(X.columns) if is_frame(X) else X.shape[1:] == (2,)
    if not both:
        raise ValueError(
            f"X is {describe(X)}, but rows of files have an image and a skeleton. Give a data "
            "frame with the columns 'image' and 'skeleton', or stack_pairs(images, skeletons)."
        )
