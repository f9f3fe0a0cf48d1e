"""Metrics of naming known and new cases together, as in generalized zero-shot learning."""

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import unique_labels


def harmonic_mean_accuracy(y_true, y_pred, new_cases):
    """Harmonic mean of the accuracies on known and on new cases.

    It is high only if both are: who never names a new case has 0.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        The true cases and the named ones. What is named may be any label, as one for unknown.
    new_cases : array-like of shape (k,)
        The cases that no training has seen.

    Returns
    -------
    float
        In [0, 1]. Both accuracies are means over cases of the fraction that is named rightly.

    Raises
    ------
    ValueError
        If `y_true` has no row of a new case, or none of a known one.

    References
    ----------
    Xian et al., "Zero-Shot Learning: A Comprehensive Evaluation of the Good, the Bad and the Ugly",
    TPAMI 2018.

    Examples
    --------
    >>> from skpair.metrics import harmonic_mean_accuracy
    >>> harmonic_mean_accuracy(["a", "a", "b", "c"], ["a", "c", "b", "c"], new_cases=["c"])
    0.8571428571428571
    """
    y_true, y_pred = column_or_1d(y_true), column_or_1d(y_pred)
    check_consistent_length(y_true, y_pred)
    unique_labels(y_true, y_pred)  # raises where kinds of labels are mixed
    is_new, weights = _weights(y_true, new_cases)
    right = weights * (y_true == y_pred)
    known, new = right[~is_new].sum(), right[is_new].sum()
    return float(2 * known * new / (known + new)) if known + new else 0.0


def known_new_curve(y_true, scores, *, classes, new_cases):
    """Accuracy on known and on new cases, for every offset that is added to the new ones' scores.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        The true cases.
    scores : array-like of shape (n, n_cases)
        Of each case, as `PairMatcher.decision_function` gives them.
    classes : array-like of shape (n_cases,)
        The cases of the columns: ``matcher.classes_``.
    new_cases : array-like of shape (k,)
        Those of `classes` that no training has seen; one at least is known.

    Returns
    -------
    known_accuracy : ndarray of shape (n_offsets,)
        Mean over known cases of the fraction that is named rightly, falling.
    new_accuracy : ndarray of shape (n_offsets,)
        The same of new cases, rising from 0.
    offsets : ndarray of shape (n_offsets,)
        From minus infinity, where no new case is named, rising: rows for which the best known case
        is better by more than this keep it.

    Raises
    ------
    ValueError
        If shapes do not fit, or cases of one of the kinds are missing.

    References
    ----------
    Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
    Recognition in the Wild", ECCV 2016.
    """
    y_true, classes = column_or_1d(y_true), column_or_1d(classes)
    scores = check_array(scores, input_name="scores", dtype=np.float64)
    check_consistent_length(y_true, scores)
    unique_labels(y_true, classes)  # raises where kinds of labels are mixed
    is_new, weights = _weights(y_true, new_cases)
    if scores.shape[1] != len(classes):
        raise ValueError(
            f"scores has {scores.shape[1]} columns, but there are {len(classes)} cases."
        )
    new_column = np.isin(classes, new_cases)
    if new_column.all() or not new_column.any():
        raise ValueError(
            f"new_cases must be some of the classes, but not all: got {np.asarray(new_cases)!r} "
            f"for the classes {classes!r}."
        )
    best, right = [], []
    for columns in (np.flatnonzero(~new_column), np.flatnonzero(new_column)):
        place = scores[:, columns].argmax(axis=1)
        best.append(scores[np.arange(len(scores)), columns[place]])
        right.append(weights * (classes[columns[place]] == y_true))
    lead = best[0] - best[1]  # the row becomes new beyond this offset
    order = np.argsort(lead, kind="stable")
    last = np.append(np.diff(lead[order]) > 0, True)  # rows of equal lead go together
    lost = np.cumsum(np.where(is_new, 0, right[0])[order])[last]
    found = np.cumsum(np.where(is_new, right[1], 0)[order])[last]
    known = right[0][~is_new].sum()
    return (
        np.concatenate([[known], np.maximum(known - lost, 0)]),
        np.concatenate([[0.0], found]),
        np.concatenate([[-np.inf], lead[order][last]]),
    )


def known_new_auc(y_true, scores, *, classes, new_cases):
    """Area under the curve of known against new accuracy (AUSUC).

    It judges the scores whatever offset is taken: how well new cases are told from known ones, and
    from one another.

    Parameters
    ----------
    y_true, scores, classes, new_cases
        As `known_new_curve` takes them.

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
    Recognition in the Wild", ECCV 2016.
    """
    known, new, _ = known_new_curve(y_true, scores, classes=classes, new_cases=new_cases)
    return float(np.trapezoid(known, new))


def _weights(y_true, new_cases):
    """Tell the rows of new cases, and weigh rows so that each case counts alike in its kind."""
    new_cases = column_or_1d(np.atleast_1d(new_cases))
    unique_labels(y_true, new_cases)
    is_new = np.isin(y_true, new_cases)
    if is_new.all() or not is_new.any():
        which = "new" if is_new.all() else "known"
        raise ValueError(
            f"y_true holds {which} cases only, but rows of both kinds are judged; new_cases is "
            f"{new_cases.tolist()}."
        )
    cases, codes, counts = np.unique(y_true, return_inverse=True, return_counts=True)
    n_new = np.isin(cases, new_cases).sum()
    return is_new, 1 / counts[codes] / np.where(is_new, n_new, len(cases) - n_new)
