"""How well images and skeletons are matched, whatever the frequencies of the cases.

Most functions compare every image with every skeleton: they take the cases of n images, those of m
skeletons, and the similarity of each pair. A *query* is one image, which asks for skeletons of its
case; with ``direction="skeleton_to_image"`` it is one skeleton. Under ``average="macro"`` every
case counts alike, however many queries it has. `pair_scorer` makes of a function what scikit-learn
takes as `scoring`.

Where a case has no match or nothing but matches, it has no value: NaN in a table, left out of
"macro". If no case has one, the result is NaN, with an UndefinedMetricWarning.
"""

import functools
import inspect
import math
import warnings
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import unique_labels

from .pairs import check_no_gaps
from .training import check_choice, check_number

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
    queries = _Queries(y_images, y_skeletons, similarity, average, direction)
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
    queries = _Queries(y_images, y_skeletons, similarity, average, direction)
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
    queries = _Queries(y_images, y_skeletons, similarity, average, direction)
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
    queries = _Queries(y_images, y_skeletons, similarity, average, direction)

    def balanced_accuracy(same, score):
        called_same = score >= threshold
        return (called_same[same].mean() + (~called_same[~same]).mean()) / 2

    return queries.average_pairs(balanced_accuracy)


def _equal_error_rate(same, score):
    false_rate, true_rate, _ = roc_curve(same, score, drop_intermediate=False)
    return np.interp(0, false_rate - (1 - true_rate), false_rate)


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
    queries = _Queries(y_images, y_skeletons, similarity, average, direction)
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
    queries = _Queries(y_images, y_skeletons, similarity, average, direction)
    ranked = queries.ranked()
    place = np.arange(1, ranked.shape[1] + 1)
    n_matches = np.maximum(ranked.sum(axis=1, keepdims=True), 1)
    hits = ranked & (place <= n_matches)
    precision = ranked.cumsum(axis=1) / place
    return queries.average_queries((hits * precision).sum(axis=1) / n_matches[:, 0])


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


# ---- scorers -------------------------------------------------------------------------------------


def pair_scorer(metric, *, response="pair_proba", **parameters):
    """Make a scorer of a metric: what `GridSearchCV` and `cross_validate` take as `scoring`.

    It compares all images with all skeletons of the rows that it is given. Of a pipeline or a
    fitted search, the first steps transform the rows and the last step compares them.

    Parameters
    ----------
    metric : callable
        One of this module, or any function of `y_images`, `y_skeletons` and the (n, m)
        similarities that is higher for a better matcher. `pair_equal_error_rate` is scored
        negative, for less is better.
    response : {"pair_proba", "similarity"}, default="pair_proba"
        What the metric judges: the estimator's `pair_proba_matrix` or its `similarity_matrix`.
    **parameters
        Passed to `metric`. `pair_balanced_accuracy` of `pair_proba` takes the estimator's
        `threshold_` (or its `case_thresholds_`) if none is given.

    Returns
    -------
    callable
        Called as ``scorer(estimator, X, y)``.

    Examples
    --------
    >>> from skpair.metrics import pair_average_precision, pair_scorer
    >>> pair_scorer(pair_average_precision, response="similarity")
    pair_scorer(pair_average_precision, response='similarity')
    """
    return PairScorer(metric, response, parameters)


class PairScorer:
    """What `pair_scorer` makes; it can be pickled, as a search with workers asks."""

    def __init__(self, metric, response, parameters):
        if not callable(metric):
            raise TypeError(
                f"metric must be a function, such as those of skpair.metrics, got {metric!r}."
            )
        check_choice("response", response, ("pair_proba", "similarity"))
        if isinstance(metric, functools.partial):
            if metric.args:
                raise TypeError(f"The parameters of {metric!r} must be given by name.")
            metric, parameters = metric.func, {**metric.keywords, **parameters}
        needs_threshold = metric is pair_balanced_accuracy and "threshold" not in parameters
        if needs_threshold and response == "similarity":
            raise ValueError(
                "pair_balanced_accuracy of similarities needs a threshold=...: the estimator's "
                "threshold_ is one of pair_proba."
            )
        self.metric = metric
        self.response = response
        self.parameters = parameters

    def __repr__(self):
        """Spell the call that makes it."""
        given = {"response": self.response, **self.parameters}
        parameters = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"pair_scorer({self.name}, {parameters})"

    def __call__(self, estimator, X, y):
        """Score a fitted estimator on all pairs of the rows."""
        return self.score(estimator, X, y, **self.parameters)

    def suits(self, estimator):
        """Whether the last step of an estimator, fitted or not, can compare pairs."""
        if isinstance(estimator, Pipeline):
            return self.suits(estimator.steps[-1][1])
        if hasattr(estimator, "estimator") and hasattr(estimator, "refit"):  # a search
            return self.suits(estimator.estimator)
        return hasattr(estimator, self.method)

    def with_cases(self, estimator, X, y):
        """Score, and score each case: a float, and a Series (None for a metric without)."""
        average = inspect.signature(self.metric).parameters.get("average")
        if average is None:
            return self(estimator, X, y), None
        cases = self.score(estimator, X, y, **{**self.parameters, "average": None})
        if self.parameters.get("average", average.default) == "macro" and cases.notna().any():
            return float(cases.mean()), cases  # all pairs are ranked once, not twice
        return self(estimator, X, y), cases

    @property
    def name(self):
        """The name of the metric."""
        return getattr(self.metric, "__name__", repr(self.metric))

    @property
    def method(self):
        """The method that the last step of an estimator must have."""
        return f"{self.response}_matrix"

    def score(self, estimator, X, y, **parameters):
        """Score by other parameters than the scorer's own."""
        matcher, rows = last_step(estimator, X)
        if not hasattr(matcher, self.method):
            raise TypeError(
                f"{self!r} asks for an estimator with the method {self.method}, as PairMatcher "
                f"has it, but got {estimator!r}."
            )
        if self.metric is pair_balanced_accuracy:
            parameters.setdefault("threshold", _thresholds(matcher, rows))
        score = self.metric(y, y, getattr(matcher, self.method)(rows), **parameters)
        return -score if self.metric is pair_equal_error_rate else score


def last_step(estimator, X):
    """Unwrap fitted searches and pipelines: the last step, and the rows that reach it."""
    if hasattr(estimator, "best_estimator_"):
        return last_step(estimator.best_estimator_, X)
    if not isinstance(estimator, Pipeline):
        return estimator, X
    for _, step in estimator.steps[:-1]:
        if hasattr(step, "transform"):  # else "passthrough", or a sampler, of use in fit only
            X = step.transform(X)
    return last_step(estimator.steps[-1][1], X)


def _thresholds(matcher, rows):
    """Give the threshold that decides: one for all images, or that of the case of each."""
    thresholds = getattr(matcher, "case_thresholds_", None)
    if thresholds is None:
        return matcher.threshold_
    return thresholds[matcher.predict_proba(rows).argmax(axis=1)]


#: Scorers by the name of their metric, as `skpair.comparison.compare` takes them.
SCORERS = {
    metric.__name__: pair_scorer(metric)
    for metric in (
        pair_average_precision,
        pair_roc_auc,
        pair_equal_error_rate,
        pair_balanced_accuracy,
        precision_at_1,
        mean_average_precision_at_r,
    )
}


# ---- what they share -----------------------------------------------------------------------------


class _Queries:
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
