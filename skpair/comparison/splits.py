"""Splits of rows that are the same for all estimators, and what both sides of them share."""

import hashlib
import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.model_selection import (
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..checks import as_file, check_no_gaps, first_of
from ..rows import layouts


def check_rows(X, y, groups):
    """Check that X, y and groups are of one length, and that of the last two none is missing."""
    check_consistent_length(X, y, groups)
    for name, labels in (("y", y), ("groups", groups)):
        check_no_gaps(name, labels)
    return column_or_1d(y), None if groups is None else column_or_1d(groups)


def keep_together(cv, groups):
    """Turn a number of folds into such as keep groups together, where there are groups."""
    together = isinstance(cv, Integral) and groups is not None
    return StratifiedGroupKFold(cv) if together else cv


def list_splits(cv, X, y, groups, seed):
    """List the splits, so that they are the same for all."""
    if cv is not None:
        splits = check_cv(keep_together(cv, groups), y, classifier=True).split(X, y, groups)
        return _distinct([_as_rows(split, len(y), i) for i, split in enumerate(splits)])
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    repeats = (kind(2, shuffle=True, random_state=(seed + i) % 2**32) for i in range(5))
    return _distinct([split for folds in repeats for split in folds.split(X, y, groups)])


def _as_rows(split, n_rows, number):
    """Bring the two parts of a split, given as lists, masks or arrays, to arrays of rows."""
    try:
        train, test = (np.arange(n_rows)[np.asarray(part)] if len(part) else [] for part in split)
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"cv: split {number} must be (train, test), the rows of each: {error}."
        ) from error
    if not len(train) or not len(test):
        raise ValueError(f"cv: split {number} has {len(train)} training, {len(test)} test rows.")
    return train, test


def _distinct(splits):
    """Drop splits that repeat another: they are no further evidence."""
    if not splits:
        raise ValueError("cv gives no split; at least one (train, test) is needed.")
    by_rows = {}
    for train, test in splits:
        by_rows.setdefault((np.sort(train).tobytes(), np.sort(test).tobytes()), (train, test))
    distinct = list(by_rows.values())
    if len(distinct) < len(splits):
        warnings.warn(
            f"Only {len(distinct)} of {len(splits)} splits differ, and each is taken once: with "
            "few groups there are few ways to part them.",
            UserWarning,
            stacklevel=4,
        )
    return distinct


#: What the very same picture on both sides of a split means, by its kind.
_SHARED = {
    "image": "scores are too good: pass `groups` that keep copies of an image in one fold, or "
    "remove them",
    "skeleton": "right where the same few drawings are known in use, too; to be judged by drawings "
    "that were never seen, pass `groups` that keep copies of a drawing in one fold",
}


def warn_of_duplicates(X, splits, groups):
    """Warn where the very same image or skeleton is on both sides of a split.

    Where there are groups, the user has said what must stay apart: drawings need not.
    """
    told = []
    for kind, half in zip(layouts.KINDS, layouts.split_rows(X), strict=True):
        if kind == "skeleton" and groups is not None:
            continue
        content, _ = pd.factorize(np.array([_digest(row) for row in half], dtype=object))
        twice = [test[np.isin(content[test], content[train])] for train, test in splits]
        worst = max(twice, key=len)
        if len(worst):
            told.append(
                f"{len(worst)} test rows hold the very same {kind} as a training row (rows "
                f"{first_of(worst)}): {_SHARED[kind]}."
            )
    if told:
        warnings.warn(f"In a split, {' '.join(told)}", UserWarning, stacklevel=3)


def _digest(row):
    if isinstance(row, np.ndarray):
        return hashlib.blake2b(np.ascontiguousarray(row)).digest()
    try:
        with open(as_file(row), "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return row  # `fit` will say which row and kind it is
