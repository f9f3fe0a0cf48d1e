"""Scorers of pairs, as cross-validation and searches take them."""

import functools
import inspect

from sklearn.pipeline import Pipeline

from ..checks import check_choice
from .pairs import (
    pair_average_precision,
    pair_balanced_accuracy,
    pair_equal_error_rate,
    pair_roc_auc,
)
from .retrieval import mean_average_precision_at_r, precision_at_1

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
