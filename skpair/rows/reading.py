"""What estimators are given becomes two `Half` objects, the images and the skeletons."""

import warnings
from dataclasses import asdict, replace

import numpy as np
from sklearn.utils import _safe_indexing, check_array, check_X_y
from sklearn.utils.validation import column_or_1d, validate_data

from ..checks import check_no_gaps, first_of, users_level
from . import pictures
from .halves import ArrayHalf, FileHalf
from .layouts import (
    KINDS,
    Layout,
    as_table,
    check_file_rows,
    check_no_single_path,
    check_pixel_rows,
    check_two_columns,
    is_frame,
    layout_of,
    pad_columns,
    paths_of,
    stack_pairs,
)

#: Files come in any size, and a batch needs one: the median of their longer sides, if it is not
#: more than this (pixels).
MOST_PIXELS = 96
#: Files whose size is looked at, and images whose bottom is.
_LOOKED_AT, _COMPARED = 500, 20


def how_of(encoder):
    """Give the parameters of a PairEncoder that say how pictures are read, for `fit_pairs`."""
    look = pictures.Look(encoder.ink, encoder.resize, encoder.contrast, encoder.crop_bottom)
    return {"image_size": encoder.image_size, "look": look}


def as_pairs(X, y, rest, *, image_size=None, look=None):
    """Resolve the call forms of `fit` to rows of pairs and their cases.

    Parameters
    ----------
    X, y
        The first two arguments: X and y, or images and skeletons.
    rest : tuple
        The others: none; the cases; or the cases of the images, and those of the skeletons.
    image_size, look
        As `how_of` gives them, for images and skeletons given apart.

    Returns
    -------
    X : array-like or DataFrame
        Rows of pairs.
    y : array-like of shape (n,)
        Their cases.
    sets : None, or tuple of two array-like of shape (n_images,) and (n_skeletons,)
        Where two sets of any size were given: the cases of the images, and of the skeletons. Then
        the first `n_images` rows of X hold each image once, the first `n_skeletons` each skeleton,
        and what the rows beyond them hold counts no more.
    """
    if len(rest) > 2:
        raise TypeError(
            "fit takes fit(X, y), fit(X_img, X_skel, y) or fit(X_img, X_skel, y_img, y_skel), but "
            f"{2 + len(rest)} positional arguments were given. sample_weight is not supported."
        )
    for given in (X, y):
        check_no_single_path(given)
    if not rest:
        if y is not None and np.asarray(y).ndim > 2:
            raise ValueError(
                f"y has the shape {np.asarray(y).shape}, but it must hold the case of each row, "
                "(n,). Images and skeletons given apart are followed by their cases: "
                "fit(X_img, X_skel, y)."
            )
        check_no_gaps("y", y)
        return X, y, None
    sets = [as_table(X), as_table(y)]
    look = look or pictures.Look()
    check_reading(image_size, look)
    how = asdict(look)
    size = image_size if pictures.is_ragged(sets[0]) else None
    if len(rest) == 1:
        check_no_gaps("y", rest[0])
        return stack_pairs(*sets, size=size, **how), rest[0], None
    for name, part, labels in zip(("y_img", "y_skel"), sets, rest, strict=True):
        kind = "images" if name == "y_img" else "skeletons"
        if labels is None:
            raise ValueError(f"{name} is None: give the case of each of the {kind}.")
        if not len(part):
            raise ValueError(f"There are 0 {kind}; every case needs one of each kind at least.")
        check_no_gaps(name, labels)
        if len(part) != len(labels):
            raise ValueError(f"{name} has {len(labels)} cases, but there are {len(part)} {kind}.")
    n_rows = max(map(len, sets))
    sets = [_safe_indexing(part, np.resize(np.arange(len(part)), n_rows)) for part in sets]
    X = stack_pairs(*sets, size=size, **how)
    return X, np.resize(column_or_1d(rest[0]), n_rows), rest


def distinct_halves(halves, codes):
    """Keep the first row of each picture of a case.

    Parameters
    ----------
    halves : tuple of Half
        Images and skeletons, of at least as many rows as there are codes.
    codes : tuple of ndarray of shape (n,) and (m,), int
        Codes of the cases of each.

    Returns
    -------
    halves : list of Half
    codes : dict of str to ndarray of int
        By kind.
    """
    kept, codes_of_kept = [], {}
    for half, code in zip(halves, codes, strict=True):
        half = half.take(slice(len(code)))
        _, inverse = half.distinct()
        first = np.unique(inverse * (1 + code.max()) + code, return_index=True)[1]
        first.sort()
        kept.append(half.take(first))
        codes_of_kept[half.kind] = code[first]
    return kept, codes_of_kept


def fit_pairs(
    estimator, X, y, *, image_size=None, look=None, n_skeletons=None, kept=None, verbose=0
):
    """Validate the rows of `fit`, setting `n_features_in_` and `feature_names_in_`.

    Of two sets, only the first `n_skeletons` rows hold skeletons that no other row holds. Every
    file is decoded; `kept`, a `DecodedPictures`, keeps what it holds for the halves, until it is
    closed. `verbose` shows a progress bar for each kind.
    Returns the images and the skeletons, each a `Half` of n rows, the `Layout`, and y as an array
    of shape (n,) (or None).
    """
    look = look or pictures.Look()
    size = check_reading(image_size, look)
    X = as_table(X)
    _check_some(estimator, X)
    name = layout_of(X)
    X, y = _validate_rows(estimator, X, name, y=y, reset=True)
    if name == "features":
        check_two_columns(X)
        parts = np.split(X, [X.shape[1] // 2], axis=1)
        layout = Layout(
            name, *(part.shape[1:] for part in parts), used_columns=tuple(map(_count_used, parts))
        )
    elif name == "pixels":
        height_width = size or X.shape[2:]
        layout = Layout(
            name,
            (X.shape[1] - 1, *height_width),
            (1, *height_width),
            size is not None,
            **asdict(look),
        )
        _warn_blank(~X[:n_skeletons, -1].any(axis=(1, 2)))
    else:
        layout = Layout(name, (3, 1, 1), (1, 1, 1), True, **asdict(look))
        images, skeletons = _split_rows(X, layout)
        _check_files(images, skeletons)
        size = size or _usual_size(images)
        layout = replace(layout, image_shape=(3, *size), skeleton_shape=(1, *size))
        images, skeletons = _split_rows(X, layout, kept)
        # Every file is decoded first: a broken one must not show up after hours of training.
        if not images.ask_files(images.has_colour, verbose).any():
            layout = replace(layout, image_shape=(1, *size))
        _warn_blank(skeletons.ask_files(skeletons.is_blank, verbose)[:n_skeletons])
    return *_split_rows(X, layout, kept), layout, y


def hand_on_columns(source, target):
    """Give another estimator what `fit_pairs` has set in one, for rows that it has read."""
    for name in ("layout_", "n_features_in_", "feature_names_in_"):
        vars(target).pop(name, None)
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def _usual_size(images):
    """Give the median of the longer sides of image files, at most `MOST_PIXELS`: a square."""
    step = -(-len(images) // _LOOKED_AT)
    side = int(np.median(images.take(slice(None, None, step)).longer_sides()))
    return (min(side, MOST_PIXELS),) * 2


def check_reading(image_size, look):
    """Check the parameters that say how pictures are read."""
    pictures.check_look(look)
    return None if image_size is None else pictures.check_size(image_size, "image_size")


def image_half(estimator, X):
    """Return the images of n full rows, or n images alone, as a `Half` for a fitted estimator."""
    half = _half(estimator, X, 0)
    _check_files(half)
    return half


def background_half(estimator, X, images):
    """Return images of no case as a `Half`, which rows of `images` can be followed by."""
    half = image_half(estimator, X)
    if len(half) < 2:
        raise ValueError(f"background must hold 2 images or more, got {len(half)}.")
    if half.layout != images.layout:
        raise ValueError(f"background holds {half.layout}, but X {images.layout}: give both alike.")
    if half.layout == "files":
        half.kept = images.kept
    if half.layout == "pixels" and (half.source.dtype.kind == "f") != (
        images.source.dtype.kind == "f"
    ):
        raise ValueError(
            f"background holds {half.source.dtype}, but X {images.source.dtype}: give both as "
            "floats in 0..1, or both as integers in 0..255."
        )
    if half.layout == "files":
        half.kept = images.kept
        half.ask_files(half.is_blank, estimator.verbose)  # a broken one is named now
    return half


def skeleton_half(estimator, X):
    """Return the skeletons of full rows, or skeletons alone, as a `Half`."""
    half = _half(estimator, X, 1)
    _check_files(half)
    return half


def pair_halves(estimator, X, rest=(), *, aligned=True):
    """Resolve ``method(X)`` and ``method(X_img, X_skel)`` to images and skeletons.

    With `aligned`, both must be of the same length.
    """
    check_one_more(rest)
    if rest:
        halves = _half(estimator, X, 0), _half(estimator, rest[0], 1)
        if aligned:
            check_aligned(*halves)
    else:
        X = as_table(X)
        _check_layout(estimator, X)
        halves = _split_rows(_validate_fitted(estimator, X), estimator.layout_)
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


# ---- from X to its halves ------------------------------------------------------------------------


def _half(estimator, X, index):
    X = as_table(X)
    layout = estimator.layout_
    given = _check_layout(estimator, X)
    if given == "files":
        return FileHalf(paths_of(X, index), replace(layout, name="files"), index)
    if layout.name == "files":  # pictures in memory, brought to what the files are brought to
        layout = replace(layout, name="pixels")
    elif not _is_alone(estimator, X, index):
        return _split_rows(_validate_fitted(estimator, X), layout)[index]
    if layout.name == "features":
        X = check_array(X, dtype=np.float32, estimator=estimator, input_name="X")
        X = pad_columns(X, layout.shapes[index][0])
    elif index == 0:
        X = pictures.as_images(X, layout.image_shape[1:] if layout.resizes else None, layout.look)
        X = pictures.to_channels(X, layout.image_shape[0])
        _check_same_shape(estimator, X)
    else:
        X = pictures.as_ink(X, layout.skeleton_shape[1:], layout.look)
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
    if not fits or names is None or not is_frame(X):
        return fits
    names = names[:width] if index == 0 else names[-width:]
    return list(X.columns) == list(names[:n_columns])


def _split_rows(X, layout, kept=None):
    """Split validated rows into the two halves, without copying."""
    if layout.name == "files":
        return tuple(FileHalf(paths_of(X, index), layout, index, kept) for index in (0, 1))
    border = layout.image_shape[0]  # channels or columns
    return ArrayHalf(X[:, :border], layout, 0), ArrayHalf(X[:, border:], layout, 1)


def _validate_fitted(estimator, X):
    """Validate full rows after `fit`."""
    name = estimator.layout_.name
    if name == "files":  # picked by name already, else without names: nothing for scikit-learn
        check_file_rows(X)
        return X
    if name == "pixels":
        check_pixel_rows(X)
        _check_same_shape(estimator, X[:, :-1])
    return _validate_rows(estimator, X, name)[0]


def _validate_rows(estimator, X, name, *, y="no_validation", reset=False):
    """Pass full rows through scikit-learn's validation; returns X and y (None if not given)."""
    if name == "features":
        checks = {"dtype": np.float32}
    elif name == "pixels":
        check_pixel_rows(X)
        checks = {"allow_nd": True}
    else:
        check_file_rows(X)
        X = X[list(KINDS)] if is_frame(X) else X
        checks = {"skip_check_array": True}
    with np.errstate(over="ignore", invalid="ignore"):  # too large for float32: the check says so
        checked = validate_data(estimator, X, y, reset=reset, **checks)
    X, y = checked if isinstance(checked, tuple) else (checked, None)
    if name == "pixels":
        pictures.check_range(X)
    if name == "files" and y is not None:
        _, y = check_X_y(np.zeros((len(X), 1)), y, estimator=estimator)
    return X, y


def _count_used(X):
    used = np.flatnonzero(X.any(axis=0))
    return int(used[-1]) + 1 if len(used) else 0


def _check_layout(estimator, X):
    """Name the layout of X, which must go with that of `fit`: pictures with pictures."""
    _check_some(estimator, X)
    given, fitted = layout_of(X), estimator.layout_.name
    if given != fitted and "features" in (given, fitted):
        single = (
            " One picture alone needs an axis before it: X[None]." if fitted != "features" else ""
        )
        raise ValueError(
            f"X holds {given}, but {type(estimator).__name__} was fitted on {fitted}. Give X in "
            f"the layout that fit has seen.{single}"
        )
    return given


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


def _check_files(*halves):
    """Raise for files that are no pictures; warn, once for all, of those of several pages."""
    files = list(dict.fromkeys(path for half in halves for path in half.check_files()))
    if files:
        warnings.warn(
            f"Of {len(files)} file(s) with several pages or frames, only the first one is read: "
            f"{first_of(files, show=repr)}. Save each page that counts as a file of its own.",
            UserWarning,
            stacklevel=users_level(),
        )


def _warn_blank(blank):
    rows = np.flatnonzero(blank)
    if len(rows):
        warnings.warn(
            f"The skeleton is blank in {len(rows)} row(s): {first_of(rows, 10)}. They tell nothing "
            "about their cases; check the drawings, or `ink` if lines and ground are mixed up.",
            UserWarning,
            stacklevel=users_level(),
        )
