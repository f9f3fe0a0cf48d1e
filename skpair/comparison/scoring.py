"""All scores of a fitted estimator, and their parts by case."""

import inspect

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, get_scorer, precision_score, recall_score

from .. import metrics
from ..metrics import SCORERS, PairScorer

_CASE_METRICS = {  # what scikit-learn's scorers by these names average over cases
    "balanced_accuracy": recall_score,
    "recall_macro": recall_score,
    "precision_macro": precision_score,
    "f1_macro": f1_score,
}


class _MacroScorer:
    """A scorer of scikit-learn that is an average over cases, and its parts."""

    def __init__(self, name):
        self.name = name

    def __call__(self, estimator, X, y):
        return get_scorer(self.name)(estimator, X, y)

    def with_cases(self, estimator, X, y):
        cases = np.unique(y)
        values = _CASE_METRICS[self.name](
            y, estimator.predict(X), labels=cases, average=None, zero_division=0
        )
        return self(estimator, X, y), pd.Series(values, index=cases)


def make_scorers(scoring):
    """Bring what a user asks for to a dict of names to scorers."""
    if scoring is None:
        scoring = ["balanced_accuracy", "f1_macro", "pair_average_precision"]
    if isinstance(scoring, str):
        scoring = [scoring]
    if isinstance(scoring, PairScorer):
        scoring = {scoring.name: scoring}
    elif callable(scoring):
        scoring = {"score": scoring}
    if isinstance(scoring, list | tuple | set):
        scoring = {name: name for name in scoring}
    named = isinstance(scoring, dict) and all(isinstance(name, str) for name in scoring)
    if not named or not scoring:
        raise ValueError(
            "scoring must be a name, a scorer, a list of names, or a dict of names to scorers, "
            f"got {scoring!r}."
        )
    return {name: _scorer(name, scorer) for name, scorer in scoring.items()}


def _scorer(name, scorer):
    if inspect.isfunction(scorer) and scorer.__module__.startswith(metrics.__name__):
        raise ValueError(
            f"scoring {name!r}: {scorer.__name__} is a metric, but a scorer is expected; "
            f"pair_scorer({scorer.__name__}, ...) makes one of it."
        )
    if callable(scorer):
        return scorer
    if scorer in SCORERS:
        return SCORERS[scorer]
    if scorer in _CASE_METRICS:
        return _MacroScorer(scorer)
    try:
        return get_scorer(scorer)
    except ValueError:
        raise ValueError(
            f"scoring {name!r}: {scorer!r} is no scorer of scikit-learn and none of "
            f"{list(SCORERS)}; metrics that need a number take pair_scorer(metric, ...)."
        ) from None


def suits(scorer, estimator):
    """Tell whether an estimator has what a scorer asks for."""
    return not isinstance(scorer, PairScorer) or scorer.suits(estimator)


class Scoring:
    """All scores of a fitted estimator, and their parts by case, as `cross_validate` takes them."""

    def __init__(self, scorers, cases):
        self.scorers = scorers
        self.cases = cases

    def __call__(self, estimator, X, y):
        """Give a dict of scores, those of cases by a number."""
        scores = {}
        for name, scorer in self.scorers.items():
            if not suits(scorer, estimator):
                continue
            if not hasattr(scorer, "with_cases"):
                scores[name] = scorer(estimator, X, y)
                continue
            scores[name], by_case = scorer.with_cases(estimator, X, y)
            if by_case is not None:
                for code, score in enumerate(by_case.reindex(self.cases)):
                    scores[f"{name}@{code}"] = score
        return scores

    def read(self, results, split):
        """Read the scores by metric, and by metric and case, from what `cross_validate` gives."""
        found = {
            name.removeprefix("test_"): float(values[split])
            for name, values in results.items()
            if name.startswith("test_")
        }
        by_case = {
            (metric, case): found[f"{metric}@{code}"]
            for metric in self.scorers
            for code, case in enumerate(self.cases)
            if f"{metric}@{code}" in found
        }
        return {metric: found[metric] for metric in self.scorers if metric in found}, by_case
