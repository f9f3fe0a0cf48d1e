"""What a user gives: numbers, names, labels, paths; errors say what was expected, and what to do.

`NestedParameters` does so for the names of `set_params`, as a mixin of all estimators.

No networks, no shapes of X: whoever is asked for something may use it.
"""

import contextlib
import math
import numbers
import os
import stat
import sys
import warnings
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets


def check_number(name, value, kind, low, *, low_allowed=True, high=None, high_allowed=False):
    """Check a numeric parameter, for its type and its range."""
    if isinstance(value, bool) or not isinstance(value, kind):
        expected = "an integer" if kind is Integral else "a number"
        raise TypeError(f"{name} must be {expected}, got {value!r}.")
    fits = math.isfinite(value) and (value > low or (low_allowed and value == low))
    bounds = f"{'>=' if low_allowed else '>'} {low}"
    if high is not None:
        fits = fits and (value < high or (high_allowed and value == high))
        bounds += f" and {'<=' if high_allowed else '<'} {high}"
    if not fits:
        raise ValueError(f"{name} must be {bounds}, got {value!r}.")


def check_choice(name, value, known, also=""):
    """Check a parameter that is one of a few names; `also` says what else it might have been."""
    if not (isinstance(value, str) and value in known):
        names = ", ".join(map(repr, known))
        raise ValueError(f"{name}={value!r} is unknown; known are {names}{also}.")


def check_no_gaps(name, labels):
    """Check that no label is missing: (n,) of any kind; None, and what is no column, may pass."""
    labels = np.asarray(labels, dtype=object)
    missing = np.flatnonzero(pd.isna(labels)) if labels.ndim == 1 else ()
    if len(missing):
        raise ValueError(f"{name} holds missing labels, first in row {missing[0]} (NaN or None).")


def check_cases(y):
    """Turn labels into codes.

    Parameters
    ----------
    y : array-like of shape (n,)
        Case of each row.

    Returns
    -------
    classes : ndarray of shape (n_cases,)
        The sorted cases.
    codes : ndarray of shape (n,), int
        Position of each row's case in `classes`.
    """
    if y is None:
        raise ValueError(
            "fit requires y to be passed, but the target y is None: give the case of each row."
        )
    y = column_or_1d(y, warn=True)
    check_no_gaps("y", y)
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    try:
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise ValueError(f"The labels in y are not of one kind: {error}.") from None
    check_classification_targets(y)
    if len(y) == 0:
        raise ValueError(
            "Found 0 sample(s) in y, while a minimum of 1 of each of 2 cases is needed."
        )
    if len(classes) < 2:
        raise ValueError(
            f"y holds one class only ({classes.tolist()[0]!r}); at least 2 classes (cases) are "
            "needed to learn what tells them apart."
        )
    return classes, codes


def common_codes(y_images, y_skeletons):
    """Turn the labels of images and of skeletons into codes of common cases.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of the images, and of the skeletons: labels of one kind.

    Returns
    -------
    cases : ndarray of shape (n_cases,)
        The sorted cases of both.
    codes, skeleton_codes : ndarray of shape (n,) and (m,), int
        Positions in `cases`.
    """
    y_images, y_skeletons = column_or_1d(y_images), column_or_1d(y_skeletons)
    y_images = as_labels(y_images, y_images, "the cases of the images")
    y_skeletons = as_labels(y_skeletons, y_images, "the cases of the skeletons")
    cases, codes = check_cases(np.concatenate([y_images, y_skeletons]))
    return cases, codes[: len(y_images)], codes[len(y_images) :]


def codes_by_kind(y, sets):
    """Turn the cases of rows, or of two sets that hold the same cases, into codes.

    Parameters
    ----------
    y : array-like of shape (n,)
        Cases of rows, of both the image and the skeleton.
    sets : None, or tuple of two array-like
        Cases of images and of skeletons; then `y` counts no more.

    Returns
    -------
    cases : ndarray of shape (n_cases,)
        The sorted cases.
    codes : tuple of two ndarray of int
        Positions of the images' and the skeletons' cases.
    """
    if sets is None:
        cases, codes = check_cases(y)
        return cases, (codes, codes)
    cases, *codes = common_codes(*sets)
    check_both_kinds(cases, *codes)
    return cases, tuple(codes)


def check_both_kinds(cases, codes, skeleton_codes):
    """Raise unless every case has an image and a skeleton."""
    for kind, other, there in (
        ("images", "skeleton", np.isin(codes, skeleton_codes)),
        ("skeletons", "image", np.isin(skeleton_codes, codes)),
    ):
        alone = cases[np.unique((codes if kind == "images" else skeleton_codes)[~there])]
        if len(alone):
            later = " A fitted PairMatcher takes them by add_cases." if other == "image" else ""
            raise ValueError(
                f"These cases have {kind} but no {other}: {alone.tolist()}. Every case needs one "
                f"of each: add to them, or leave their {kind} out.{later}"
            )


def warn_of_lookalikes(cases, new=None):
    """Warn of cases whose labels differ by upper case or outer spaces only.

    Parameters
    ----------
    cases : ndarray of shape (n_cases,)
        The cases.
    new : ndarray or None
        Some of them: only what looks like one of these is told. None: all.
    """
    alike = {}
    for case in cases.tolist():
        if isinstance(case, str):
            alike.setdefault(case.strip().casefold(), []).append(case)
    alike = [
        group
        for group in alike.values()
        if len(group) > 1 and (new is None or np.isin(group, new).any())
    ]
    if alike:
        warnings.warn(
            "These labels differ by upper case or outer spaces only, and are different cases: "
            f"{'; '.join(map(repr, alike))}. If they are one, give them one label.",
            UserWarning,
            stacklevel=users_level(),
        )


def as_labels(labels, cases, name):
    """Bring labels to the kind of the known cases.

    Parameters
    ----------
    labels : array-like of shape (k,)
        Labels.
    cases : ndarray of shape (n_cases,)
        The known cases.
    name : str
        What the labels are called in an error.

    Returns
    -------
    ndarray of shape (k,)

    Raises
    ------
    ValueError
        If a label is missing, or not of the kind of the cases.
    """
    labels = column_or_1d(labels, input_name=name)
    check_no_gaps(name, labels)
    kind = _kind_of(cases[0])
    if kind == "booleans" and labels.dtype.kind in "iuf" and np.isin(labels, (0, 1)).all():
        labels = labels.astype(bool)  # as they come of a nullable column
    if not all(_kind_of(label) == kind for label in labels):
        raise ValueError(
            f"{name} must be of the kind of the cases, {kind}, such as {cases.tolist()[0]!r}; got "
            f"{labels.tolist()[:5]!r}."
        )
    if cases.dtype.kind not in "iu":
        return labels.astype(cases.dtype.type)
    labels = labels if labels.dtype.kind in "iu" else labels.astype(np.int64)
    bounds = np.iinfo(cases.dtype)
    if not len(labels) or (int(labels.min()) >= bounds.min and int(labels.max()) <= bounds.max):
        return labels.astype(cases.dtype)
    if np.result_type(labels, cases).kind not in "iu":
        raise ValueError(
            f"{name} holds {labels.tolist()[:5]!r}, which no integer type holds together with the "
            f"cases, {cases.dtype}. Fit with labels of int64."
        )
    return labels


def _kind_of(label):
    if isinstance(label, str):
        return "strings"
    if isinstance(label, bool | np.bool_):
        return "booleans"
    # 2.0 may name a case that is called 2: labels turn to floats in a table with gaps
    number = isinstance(label, numbers.Real) and not isinstance(label, np.timedelta64)
    return "whole numbers" if number and float(label).is_integer() else type(label).__name__


def as_file(path, more=""):
    """Turn into a Path what is a file or missing; folders, pipes and devices raise.

    Parameters
    ----------
    path : str or path-like
        Links are followed; a loop of them raises, too.
    more : str, default=""
        What the message says beyond "is not a file".

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If it is something else than a file; IsADirectoryError for a folder.
    """
    path = Path(path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it is missing
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = IsADirectoryError if stat.S_ISDIR(mode) else OSError
            raise kind(f"{os.fspath(path)!r} is not a file{more}.")
    return path


def first_of(values, most=5, show=str):
    """Name the first of some values, for a message: "3, 7, 12, ..."."""
    return ", ".join(map(show, values[:most])) + (", ..." if len(values) > most else "")


def users_level():
    """Count the frames from the caller to the user's code, for `warnings.warn`."""
    level, frame = 1, sys._getframe(1)
    own = ("skpair", "sklearn")
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    return level


#: What to give as a parameter, so that it has parameters of its own.
_NESTED = {
    "encoder": "a PairEncoder, as in PairMatcher(PairEncoder()),",
    "classifier": "a classifier",
    "matcher": "a PairMatcher",
}


class NestedParameters:
    """A `set_params` that says which parameter has none of its own: a mixin for estimators."""

    def set_params(self, **params):
        """Set parameters, and those of the estimators among them, as ``encoder__lr=0.001``.

        Parameters
        ----------
        **params : dict
            By name.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If there is no such parameter, or what has it is yet to be given.
        """
        known = self.get_params(deep=False)
        for name in params:
            outer, nested, _ = name.partition("__")
            owner = params.get(outer, known.get(outer))
            if not nested or outer not in known:
                continue  # scikit-learn knows what to say
            if isinstance(owner, type) or not hasattr(owner, "set_params"):
                what = f" Give {_NESTED[outer]} first." if outer in _NESTED else ""
                raise ValueError(
                    f"{name} cannot be set: {outer}={owner!r} has no parameters of its own.{what}"
                )
        return super().set_params(**params)
