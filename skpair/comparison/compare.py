"""Fit and score estimators on the same splits."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_validate,
)
from sklearn.utils import Bunch, _safe_indexing

from ..checks import check_choice, check_number
from ..learning.devices import draw_seed
from .scoring import Scoring, make_scorers, suits
from .splits import check_rows, keep_together, list_splits, warn_of_duplicates
from .statistics import Comparison


def compare(
    estimators,
    X,
    y,
    *,
    cv=None,
    scoring=None,
    refit=None,
    groups=None,
    inner_cv=None,
    n_seeds=1,
    n_jobs=None,
    random_state=None,
    duplicates="warn",
):
    """Fit and score estimators on the same splits.

    Hyper-parameters are searched, and thresholds set, in the training rows of each split only.
    Every `random_state` of the estimators, and of those in a `param_grid`, is set, to the same
    numbers for all: two that share their first steps share their encodings, too, and with the
    `memory` of a Pipeline those are computed once.

    Parameters
    ----------
    estimators : dict of str to estimator or (estimator, param_grid)
        What to compare, by name. With a `param_grid`, GridSearchCV chooses.
    X : array-like or DataFrame
        Rows of pairs.
    y : array-like of shape (n,)
        Case of each row.
    cv : int, splitter, iterable or None, default=None
        The splits, as scikit-learn takes them. None means five repeats of two stratified folds.
        These, and a number of folds, keep `groups` together where they are given.
    scoring : str, callable, list or dict or None, default=None
        Names of scikit-learn's scorers or of the pair metrics of `skpair.metrics`, or scorers
        such as `pair_scorer` makes; a dict names them. None means balanced accuracy, macro-F1 and
        `pair_average_precision`. A pair metric is left out for estimators without pairs.
    refit : str or None, default=None
        The metric by which each `param_grid` is searched. None means the first that the
        estimator has.
    groups : array-like of shape (n,) or None, default=None
        Specimen, sample or drawing of each row, for the splitter. `inner_cv` gets them, too, and
        so does the `cv` of a search that is among the estimators.
    inner_cv : int, splitter or None, default=None
        The splits in which hyper-parameters are chosen. None means three stratified folds. These,
        and a number of folds, keep `groups` together. The `cv` of a search of your own is taken
        as it is: where its splitter, as that of a number, ignores groups, scikit-learn warns.
    n_seeds : int, default=1
        How often each split is fitted, with another seed; tables and tests take the means.
    n_jobs : int or None, default=None
        Number of splits that are fitted at a time, in processes.
    random_state : int, RandomState instance or None, default=None
        Draws the default splits, and the seeds.
    duplicates : {"warn", "ignore"}, default="warn"
        Whether to look for the very same image or skeleton on both sides of a split. What
        `encode_splits` gives says "ignore": it has looked at the pictures themselves.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If a parameter is not as described, or no estimator has a metric.

    Warns
    -----
    UserWarning
        If the very same image is in the training and the test rows of a split; or the very same
        skeleton, where there are no `groups`.

    Examples
    --------
    >>> from skpair import PairMatcher
    >>> from skpair.comparison import compare, image_only
    >>> from skpair.datasets import load_digit_pairs
    >>> from skpair import stack_pairs
    >>> data = load_digit_pairs(image_size=16, random_state=0)
    >>> X = stack_pairs(*(x[:200].reshape(200, -1) for x in (data.images, data.skeletons)))
    >>> both = {"n_pair": PairMatcher(max_epochs=5), "image_only": image_only()}
    >>> result = compare(both, X, data.y[:200], cv=2, random_state=0)
    >>> result.summary().shape
    (5, 4)
    """
    check_number("n_seeds", n_seeds, Integral, 1)
    check_choice("duplicates", duplicates, ("warn", "ignore"))
    y, groups = check_rows(X, y, groups)
    scorers = make_scorers(scoring)
    if refit is not None:
        check_choice("refit", refit, tuple(scorers))
    estimators = _estimators(estimators)
    chosen_by = {
        name: _search_metric(name, estimator, scorers, None if grid is None else refit)
        for name, (estimator, grid) in estimators.items()
    }
    seed = draw_seed(random_state)
    splits = list_splits(cv, X, y, groups, seed)
    if duplicates == "warn":
        warn_of_duplicates(X, splits, groups)
    seeds = np.random.RandomState(seed).randint(2**31 - 1, size=n_seeds).tolist()
    scoring = Scoring(scorers, np.unique(y))
    keys, fits, scores, case_scores = ["estimator", "split", "seed"], [], [], []
    for name, (estimator, grid) in estimators.items():
        for number, own_seed in enumerate(seeds):
            candidate = _with_seed(estimator, own_seed)
            if grid is not None:
                candidate = GridSearchCV(
                    candidate,
                    _seed_grid(grid, own_seed),
                    scoring=scorers[chosen_by[name]],
                    cv=_inner_cv(inner_cv, groups, own_seed),
                    error_score="raise",
                )
            searched = grid is not None or hasattr(estimator, "refit")
            grouped = groups is not None and _is_search(candidate)
            try:
                results = cross_validate(
                    candidate,
                    X,
                    y,
                    scoring=scoring,
                    cv=splits,
                    n_jobs=n_jobs,
                    params={"groups": groups} if grouped else {},
                    return_estimator=searched,
                    error_score="raise",
                )
            except Exception as error:
                error.add_note(f"This was raised for the estimator {name!r}.")
                raise
            for split, (train, test) in enumerate(splits):
                key = (name, split, number)
                chosen = (
                    getattr(results["estimator"][split], "best_params_", {}) if searched else {}
                )
                fit_time = results["fit_time"][split]
                fits.append((*key, len(train), len(test), fit_time, chosen))
                by_metric, by_case = scoring.read(results, split)
                scores += [(*key, *score) for score in by_metric.items()]
                rows = pd.Series(y[test]).value_counts()
                case_scores += [
                    (*key, metric, case, rows.get(case, 0), score)
                    for (metric, case), score in by_case.items()
                ]
    return Comparison(
        pd.DataFrame(scores, columns=[*keys, "metric", "score"]),
        pd.DataFrame(case_scores, columns=[*keys, "metric", "case", "n", "score"]),
        pd.DataFrame(fits, columns=[*keys, "n_train", "n_test", "fit_time", "params"]),
    )


def encode_splits(encoder, X, y, *, cv=None, groups=None, random_state=None):
    """Encode the rows of each split by an encoder that learned from its training rows only.

    So the towers learn once a split, and any number of matchers, losses and controls are compared
    on what they give: ``compare(estimators, **encode_splits(encoder, X, y))``.

    Choose the hyper-parameters of those beforehand. The encoder has learned from all training rows
    of a split, so a search within them sees encodings of cases that are known already, finds
    nearly every candidate perfect, and chooses badly. To search, compare pipelines that begin
    with the encoder.

    Parameters
    ----------
    encoder : PairEncoder
        Cloned for each split, its `random_state` set.
    X : array-like or DataFrame
        n rows of pairs.
    y : array-like of shape (n,)
        Case of each row.
    cv : int, splitter, iterable or None, default=None
        k splits, as `compare` has them; None means five repeats of two stratified folds.
    groups : array-like of shape (n,) or None, default=None
        For the splitter.
    random_state : int, RandomState instance or None, default=None
        Draws the default splits, and the seeds of the encoders.

    Returns
    -------
    Bunch
        What `compare` takes: `X`, ndarray of shape (n_encoded, p), float32, the encodings of the
        rows of each split, one split below the other; `y`, their cases; `groups`, theirs (or
        None); `cv`, a list of (train, test), the rows of each split in it; `duplicates`, "ignore",
        for of those it warns itself, as `compare` does.
    """
    if hasattr(encoder, "pair_proba_matrix") or not hasattr(encoder, "transform"):
        raise TypeError(
            "encoder must turn rows of pairs into feature rows of pairs, as PairEncoder does, got "
            f"{encoder!r}."
        )
    y, groups = check_rows(X, y, groups)
    seed = draw_seed(random_state)
    splits = list_splits(cv, X, y, groups, seed)
    warn_of_duplicates(X, splits, groups)
    encoded, rows, encoded_splits, start = [], [], [], 0
    for number, (train, test) in enumerate(splits):
        fitted = _with_seed(encoder, (seed + number) % 2**32)
        encoded.append(fitted.fit_transform(_safe_indexing(X, train), y[train]))
        encoded.append(fitted.transform(_safe_indexing(X, test)))
        rows += [train, test]
        border, end = start + len(train), start + len(train) + len(test)
        encoded_splits.append((np.arange(start, border), np.arange(border, end)))
        start = end
    rows = np.concatenate(rows)
    return Bunch(
        X=np.concatenate(encoded),
        y=y[rows],
        groups=None if groups is None else groups[rows],
        cv=encoded_splits,
        duplicates="ignore",
    )


def _estimators(estimators):
    """Bring every entry to the form (estimator, param_grid or None)."""
    named = isinstance(estimators, dict) and all(isinstance(name, str) for name in estimators)
    if not named or not estimators:
        raise ValueError(f"estimators must be a dict of names to estimators, got {estimators!r}.")
    known = {}
    for name, entry in estimators.items():
        pair = entry if isinstance(entry, tuple) else (entry, None)
        if len(pair) != 2 or isinstance(pair[0], type) or not hasattr(pair[0], "fit"):
            raise ValueError(
                f"{name!r} must be an estimator or (estimator, param_grid), got {entry!r}."
            )
        known[name] = pair
    return known


def _search_metric(name, estimator, scorers, refit):
    """Name the metric by which hyper-parameters are chosen."""
    suiting = [name for name, scorer in scorers.items() if suits(scorer, estimator)]
    if not suiting or (refit is not None and refit not in suiting):
        asked = list(scorers) if refit is None else refit
        raise ValueError(f"{name!r} has no methods for {asked}, which compare pairs.")
    return suiting[0] if refit is None else refit


def _inner_cv(inner_cv, groups, seed):
    if inner_cv is not None:
        return keep_together(inner_cv, groups)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    return kind(3, shuffle=True, random_state=seed)


def _is_search(estimator):
    """Whether it is a search, whose `fit` takes groups; others that refit have no `error_score`."""
    return hasattr(estimator, "refit") and hasattr(estimator, "error_score")


def _with_seed(estimator, seed):
    estimator = clone(estimator)
    names = [n for n in estimator.get_params() if n.split("__")[-1] == "random_state"]
    return estimator.set_params(**dict.fromkeys(names, seed))


def _seed_grid(grid, seed):
    """Seed the estimators among the candidates."""
    if not isinstance(grid, dict):
        return [_seed_grid(part, seed) for part in grid]
    return {
        name: [
            _with_seed(v, seed) if hasattr(v, "fit") and not isinstance(v, type) else v
            for v in values
        ]
        for name, values in grid.items()
    }
