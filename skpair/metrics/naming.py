"""Metrics of naming: how far probabilities and novelty can be trusted."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import unique_labels

from ..checks import check_number

# ---- certainty -----------------------------------------------------------------------------------


def expected_calibration_error(y, proba, *, classes=None, n_bins=15):
    """How far the probability of the named case is from how often it is the right one.

    Rows are put in bins by the probability of their most probable case. In each bin, the mean
    probability is compared with the fraction of rows whose case that is.

    Parameters
    ----------
    y : array-like of shape (n,)
        The true cases; one that is not in `classes` is never named.
    proba : array-like of shape (n, n_cases)
        Probabilities, as `predict_proba` gives them.
    classes : array-like of shape (n_cases,) or None, default=None
        The cases of the columns; None: the sorted cases of `y`.
    n_bins : int, default=15
        Bins of equal width.

    Returns
    -------
    float
        Mean difference over rows, in [0, 1]; 0 for perfect probabilities.

    References
    ----------
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    y = column_or_1d(y)
    proba = check_array(proba, input_name="proba")
    classes = unique_labels(y) if classes is None else column_or_1d(classes)
    unique_labels(y, classes)  # raises where kinds of labels are mixed
    if proba.min() < 0 or proba.max() > 1 + 1e-6:
        raise ValueError(
            f"proba must be probabilities, in 0..1, but lies in {proba.min()}..{proba.max()}."
        )
    check_number("n_bins", n_bins, Integral, 1)
    if proba.shape != (len(y), len(classes)):
        raise ValueError(
            f"proba must have a row per label and a column per case, {(len(y), len(classes))}, but "
            f"has {proba.shape}. If y lacks a case, give classes=estimator.classes_."
        )
    confidence = proba.max(axis=1).astype(float)
    right = classes[proba.argmax(axis=1)] == y
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(y))


def coverage_accuracy_curve(y_true, y_pred, novelty):
    """Accuracy on the rows that are named, when the most novel ones are not.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        The true cases, and those named without abstaining.
    novelty : array-like of shape (n,)
        High where to abstain first, as `PairMatcher.novelty_score` has it.

    Returns
    -------
    coverage : ndarray of shape (n_thresholds,)
        Fraction of rows that are named, rising to 1.
    accuracy : ndarray of shape (n_thresholds,)
        Fraction of these that are named rightly.
    thresholds : ndarray of shape (n_thresholds,)
        Largest novelty of a row that is named: a `novelty_threshold_`.

    References
    ----------
    El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 2010.
    """
    y_true, y_pred = column_or_1d(y_true), column_or_1d(y_pred)
    unique_labels(y_true, y_pred)  # raises where kinds of labels are mixed
    novelty = column_or_1d(check_array(novelty, ensure_2d=False, input_name="novelty"))
    check_consistent_length(y_true, y_pred, novelty)
    order = np.argsort(novelty, kind="stable")
    n_named = np.arange(1, len(order) + 1)
    accuracy = np.cumsum((y_true == y_pred)[order]) / n_named
    last = np.append(np.diff(novelty[order]) > 0, True)  # equally novel rows go together
    return n_named[last] / len(order), accuracy[last], novelty[order][last]
