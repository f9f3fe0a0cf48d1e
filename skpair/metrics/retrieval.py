"""Metrics of retrieval: where the skeletons of the right case stand in the ranking of an image."""

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import unique_labels

from ..checks import check_choice, check_no_gaps, check_number

# ---- retrieval -----------------------------------------------------------------------------------


def recall_at_k(
    y_images, y_skeletons, similarity, k, *, average="macro", direction="image_to_skeleton"
):
    """Fraction of queries with an answer of their case among the `k` most similar ones.

    Among equally similar answers, those of other cases come first: a constant is no good ranking.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of n images and of m skeletons.
    similarity : array-like of shape (n, m)
        Higher for pairs that are more alike.
    k : int
        Number of answers to look at.
    average : {"macro", "micro"} or None, default="macro"
        Mean over cases of the mean over their queries; mean over queries; or a table.
    direction : {"image_to_skeleton", "skeleton_to_image"}, default="image_to_skeleton"
        Which kind the queries are of.

    Returns
    -------
    float or Series
        In [0, 1]; with ``average=None``, by case.
    """
    check_number("k", k, Integral, 1)
    queries = Queries(y_images, y_skeletons, similarity, average, direction)
    return queries.average_queries(queries.ranked()[:, :k].any(axis=1))


def precision_at_1(
    y_images, y_skeletons, similarity, *, average="macro", direction="image_to_skeleton"
):
    """Fraction of queries whose most similar answer is of their case.

    The same as `recall_at_k` with ``k=1``, under the name that metric learning gives it.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of n images and of m skeletons.
    similarity : array-like of shape (n, m)
        Higher for pairs that are more alike.
    average : {"macro", "micro"} or None, default="macro"
        Mean over cases of the mean over their queries; mean over queries; or a table.
    direction : {"image_to_skeleton", "skeleton_to_image"}, default="image_to_skeleton"
        Which kind the queries are of.

    Returns
    -------
    float or Series
        In [0, 1]; with ``average=None``, by case.
    """
    return recall_at_k(y_images, y_skeletons, similarity, 1, average=average, direction=direction)


def mean_average_precision_at_r(
    y_images, y_skeletons, similarity, *, average="macro", direction="image_to_skeleton"
):
    """Mean average precision at R: how pure the first R answers are, early ones above all.

    R is the number of answers of the query's case. Among the first R answers, the precision at
    each that is of the case is summed, and divided by R. Among equally similar answers, those of
    other cases come first.

    Parameters
    ----------
    y_images, y_skeletons : array-like of shape (n,) and (m,)
        Cases of n images and of m skeletons.
    similarity : array-like of shape (n, m)
        Higher for pairs that are more alike.
    average : {"macro", "micro"} or None, default="macro"
        Mean over cases of the mean over their queries; mean over queries; or a table.
    direction : {"image_to_skeleton", "skeleton_to_image"}, default="image_to_skeleton"
        Which kind the queries are of.

    Returns
    -------
    float or Series
        In [0, 1]; with ``average=None``, by case.

    References
    ----------
    Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.
    """
    queries = Queries(y_images, y_skeletons, similarity, average, direction)
    ranked = queries.ranked()
    place = np.arange(1, ranked.shape[1] + 1)
    n_matches = np.maximum(ranked.sum(axis=1, keepdims=True), 1)
    hits = ranked & (place <= n_matches)
    precision = ranked.cumsum(axis=1) / place
    return queries.average_queries((hits * precision).sum(axis=1) / n_matches[:, 0])


# ---- what they share -----------------------------------------------------------------------------


class Queries:
    """Queries in rows, answers in columns; how to average over them."""

    def __init__(self, y_images, y_skeletons, similarity, average, direction):
        if average is not None:
            check_choice("average", average, ("macro", "micro"), ", or None")
        check_choice("direction", direction, ("image_to_skeleton", "skeleton_to_image"))
        y_images, y_skeletons = column_or_1d(y_images), column_or_1d(y_skeletons)
        for name, y in (("y_images", y_images), ("y_skeletons", y_skeletons)):
            check_no_gaps(name, y)
        self.cases = unique_labels(y_images, y_skeletons)  # raises where kinds of labels are mixed
        similarity = check_array(similarity, input_name="similarity", dtype=("float64", "float32"))
        if similarity.shape != (len(y_images), len(y_skeletons)):
            raise ValueError(
                f"similarity must have a row per image and a column per skeleton, "
                f"{(len(y_images), len(y_skeletons))} by the cases given, but has "
                f"{similarity.shape}."
            )
        same = y_images[:, None] == y_skeletons[None, :]  # (n, m)
        if direction == "skeleton_to_image":
            y_images, y_skeletons, same, similarity = y_skeletons, y_images, same.T, similarity.T
        self.y = y_images
        self.same = same
        self.similarity = similarity
        self.how = average

    def ranked(self):
        """Whether each answer is of the query's case, the most similar first."""
        order = np.lexsort((self.same, -self.similarity), axis=1)
        return np.take_along_axis(self.same, order, axis=1)

    def average_pairs(self, metric):
        """Average a function of (same, similarity), each of one dimension."""

        def value(rows):
            same = self.same[rows].ravel()
            if same.all() or not same.any():  # of no rows, too
                return np.nan
            return float(metric(same, self.similarity[rows].ravel()))

        if self.how == "micro":
            return self._defined(value(slice(None)))
        return self._average_cases([value(self.y == case) for case in self.cases])

    def average_queries(self, values):
        """Average a value per query."""
        judged = self.same.any(axis=1) & ~self.same.all(axis=1)

        def mean(rows):
            rows = rows & judged
            return float(values[rows].mean()) if rows.any() else np.nan

        if self.how == "micro":
            return self._defined(mean(judged))
        return self._average_cases([mean(self.y == case) for case in self.cases])

    def _average_cases(self, values):
        if self.how is None:
            return pd.Series(values, index=pd.Index(self.cases, name="case"), name="score")
        defined = [value for value in values if not np.isnan(value)]
        return self._defined(float(np.mean(defined)) if defined else np.nan)

    def _defined(self, value):
        if np.isnan(value):
            warnings.warn(
                "No case has both a match and another answer: the score is undefined, NaN.",
                UndefinedMetricWarning,
                stacklevel=4,
            )
        return value
