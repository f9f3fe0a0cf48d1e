"""Metrics of pairs: how well a score tells pairs of one case from pairs of two."""

import math
from numbers import Real

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.utils import check_array

from ..checks import check_number
from .retrieval import Queries

# ---- pairs ---------------------------------------------------------------------------------------


def pair_average_precision(
    y_images, y_skeletons, similarity, *, average="macro", direction="image_to_skeleton"
):
    """Average precision of telling pairs of one case from pairs of two.

    By chance it is the fraction of pairs that share a case. Unlike the area under the ROC curve,
    it falls when many different pairs rank above the few same ones.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of n images and of m skeletons.
    similarity : array-like of shape (n, m)
        Higher for pairs that are more alike.
    average : {"macro", "micro"} or None, default="macro"
        Mean over cases, each by the pairs that its queries are in; over all pairs; or a table.
    direction : {"image_to_skeleton", "skeleton_to_image"}, default="image_to_skeleton"
        Which kind the queries are of.

    Returns
    -------
    float or Series
        In [0, 1], 1 for a perfect ranking; with ``average=None``, by case.

    See Also
    --------
    sklearn.metrics.average_precision_score : What it is for one list of pairs.
    """
    queries = Queries(y_images, y_skeletons, similarity, average, direction)
    return queries.average_pairs(average_precision_score)


def pair_roc_auc(
    y_images, y_skeletons, similarity, *, average="macro", direction="image_to_skeleton"
):
    """Area under the ROC curve of telling pairs of one case from pairs of two.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of n images and of m skeletons.
    similarity : array-like of shape (n, m)
        Higher for pairs that are more alike.
    average : {"macro", "micro"} or None, default="macro"
        Mean over cases, each by the pairs that its queries are in; over all pairs; or a table.
    direction : {"image_to_skeleton", "skeleton_to_image"}, default="image_to_skeleton"
        Which kind the queries are of.

    Returns
    -------
    float or Series
        In [0, 1], 0.5 by chance; with ``average=None``, by case.
    """
    queries = Queries(y_images, y_skeletons, similarity, average, direction)
    return queries.average_pairs(roc_auc_score)


def pair_equal_error_rate(
    y_images, y_skeletons, similarity, *, average="macro", direction="image_to_skeleton"
):
    """Error rate at the threshold where both kinds of error are equally frequent.

    There, as large a fraction of the pairs of two cases is called the same as of the pairs of one
    case is called different; between the points of the ROC curve it is interpolated. Less is
    better.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of n images and of m skeletons.
    similarity : array-like of shape (n, m)
        Higher for pairs that are more alike.
    average : {"macro", "micro"} or None, default="macro"
        Mean over cases, each by the pairs that its queries are in; over all pairs; or a table.
    direction : {"image_to_skeleton", "skeleton_to_image"}, default="image_to_skeleton"
        Which kind the queries are of.

    Returns
    -------
    float or Series
        In [0, 1], 0.5 by chance; with ``average=None``, by case.
    """
    queries = Queries(y_images, y_skeletons, similarity, average, direction)
    return queries.average_pairs(_equal_error_rate)


def pair_balanced_accuracy(
    y_images,
    y_skeletons,
    similarity,
    *,
    threshold,
    average="macro",
    direction="image_to_skeleton",
):
    """Balanced accuracy of calling pairs the same from a threshold on.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of n images and of m skeletons.
    similarity : array-like of shape (n, m)
        Higher for pairs that are more alike.
    threshold : float or array-like of shape (n,)
        Least similarity of a pair that is called the same, of all pairs or of those of each image.
        `pair_scorer` takes the estimator's.
    average : {"macro", "micro"} or None, default="macro"
        Mean over cases, each by the pairs that its queries are in; over all pairs; or a table.
    direction : {"image_to_skeleton", "skeleton_to_image"}, default="image_to_skeleton"
        Which kind the queries are of.

    Returns
    -------
    float or Series
        In [0, 1], 0.5 by chance; with ``average=None``, by case.
    """
    if np.ndim(threshold):
        threshold = check_array(threshold, ensure_2d=False, input_name="threshold")
        if threshold.shape != np.shape(similarity)[:1]:
            raise ValueError(
                f"threshold must be a number, or one for each of the {np.shape(similarity)[0]} "
                f"images, but has the shape {threshold.shape}."
            )
        similarity, threshold = np.asarray(similarity) - threshold[:, None], 0
    check_number("threshold", threshold, Real, -math.inf)
    queries = Queries(y_images, y_skeletons, similarity, average, direction)

    def balanced_accuracy(same, score):
        called_same = score >= threshold
        return (called_same[same].mean() + (~called_same[~same]).mean()) / 2

    return queries.average_pairs(balanced_accuracy)


def _equal_error_rate(same, score):
    false_rate, true_rate, _ = roc_curve(same, score, drop_intermediate=False)
    return np.interp(0, false_rate - (1 - true_rate), false_rate)
