"""Compare estimators on the same splits, beside controls, by a test that minds repeated splits."""

import hashlib
import inspect
import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import f1_score, get_scorer, precision_score, recall_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
    cross_validate,
)
from sklearn.utils import Bunch, _safe_indexing
from sklearn.utils.validation import check_consistent_length, column_or_1d

from . import pairs
from .controls import (
    ImageOnly,
    OneHotSkeletons,
    TwoClassifiers,
    image_only,
    one_hot_skeletons,
    two_classifiers,
)
from .metrics import SCORERS, PairScorer
from .paths import as_file
from .training import check_choice, check_number, draw_seed

__all__ = [
    "Comparison",
    "ImageOnly",
    "OneHotSkeletons",
    "TwoClassifiers",
    "compare",
    "corrected_t_test",
    "encode_splits",
    "image_only",
    "one_hot_skeletons",
    "two_classifiers",
]


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
    y, groups = _check_rows(X, y, groups)
    scorers = _scorers(scoring)
    if refit is not None:
        check_choice("refit", refit, tuple(scorers))
    estimators = _estimators(estimators)
    chosen_by = {
        name: _search_metric(name, estimator, scorers, None if grid is None else refit)
        for name, (estimator, grid) in estimators.items()
    }
    seed = draw_seed(random_state)
    splits = _splits(cv, X, y, groups, seed)
    if duplicates == "warn":
        _warn_duplicates(X, splits, groups)
    seeds = np.random.RandomState(seed).randint(2**31 - 1, size=n_seeds).tolist()
    scoring = _Scoring(scorers, np.unique(y))
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
    y, groups = _check_rows(X, y, groups)
    seed = draw_seed(random_state)
    splits = _splits(cv, X, y, groups, seed)
    _warn_duplicates(X, splits, groups)
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


class Comparison:
    """Scores of estimators on the same splits: what `compare` returns.

    Attributes
    ----------
    scores : DataFrame
        A row for each `estimator`, `split`, `seed` and `metric`, with its `score`.
    case_scores : DataFrame
        The same for each `case`, where a metric is an average over cases, with `n`, its test rows.
    fits : DataFrame
        A row for each `estimator`, `split` and `seed`: `n_train`, `n_test`, `fit_time` in seconds
        (of the search, where there was one) and `params`, the hyper-parameters it chose.

    References
    ----------
    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
    Statistics 6, 1979.
    """

    def __init__(self, scores, case_scores, fits):
        self.scores = scores
        self.case_scores = case_scores
        self.fits = fits

    def __repr__(self):
        """Count what was compared."""
        n_estimators, n_splits = self.fits["estimator"].nunique(), self.fits["split"].nunique()
        return f"Comparison({n_estimators} estimators, {n_splits} splits)"

    def summary(self):
        """Summarize the scores of each estimator.

        The interval is that of a t-test corrected for splits that share rows, as `test` has it.

        Returns
        -------
        DataFrame
            By metric and estimator: `mean`, `low` and `high` (95 % interval of the mean) and
            `n_splits`, those in which the score is defined.
        """
        rows = []
        for metric, estimator, scores in self._by_split():
            scores = scores.dropna()
            low, high = _interval(scores, self._ratio())
            rows.append((metric, estimator, scores.mean(), low, high, len(scores)))
        columns = ["metric", "estimator", "mean", "low", "high", "n_splits"]
        return pd.DataFrame(rows, columns=columns).set_index(["metric", "estimator"])

    def test(self, reference, metrics=None, against=None):
        """Test whether a reference differs from other estimators.

        The two-sided corrected resampled t-test of Nadeau and Bengio, on the differences within
        splits: those of repeated splits are no independent observations, for they share training
        rows, and the usual test would find differences where there are none. P-values are
        adjusted by Holm's method for all comparisons in the table.

        Parameters
        ----------
        reference : str
            Name of an estimator.
        metrics : str, list of str or None, default=None
            What to test. None means all.
        against : str, list of str or None, default=None
            Names of the others: what is asked makes the family that p-values are adjusted for,
            so it should be chosen before the scores are seen. None means all.

        Returns
        -------
        DataFrame
            By metric and estimator: `difference`, the mean of the reference's score minus the
            other's, `low` and `high` (its 95 % interval, not adjusted), `t`, `p` and `p_holm`.
        """
        names = list(self.fits["estimator"].unique())
        check_choice("reference", reference, names)
        against = _chosen("against", against, names)
        metrics = self._metrics(metrics)
        if self.fits["split"].nunique() < 2:
            raise ValueError("A test needs at least two splits, but there is one.")
        scores = {(m, e): s for m, e, s in self._by_split() if m in metrics}
        rows = []
        for (metric, estimator), others in scores.items():
            asked = estimator in against and estimator != reference
            if not asked or (metric, reference) not in scores:
                continue
            differences = (scores[metric, reference] - others).dropna()
            t, p = corrected_t_test(differences, self._ratio())
            low, high = _interval(differences, self._ratio())
            rows.append((metric, estimator, differences.mean(), low, high, t, p))
        if not rows:
            raise ValueError(
                f"There is nothing to test {reference!r} against: no other of {against} has "
                f"scores that it has, of {metrics}."
            )
        columns = ["metric", "estimator", "difference", "low", "high", "t", "p"]
        table = pd.DataFrame(rows, columns=columns).set_index(["metric", "estimator"])
        return table.assign(p_holm=_holm(table["p"].to_numpy()))

    def by_case(self):
        """Give the mean score of each case, for the metrics that are averages over cases.

        Returns
        -------
        DataFrame
            By metric and case: `n`, its mean number of test rows in a split, and a column per
            estimator. A case that was in no test rows has no score.
        """
        groups = self.case_scores.groupby(["metric", "case"], sort=False)
        scores = self.case_scores.groupby(["metric", "case", "estimator"], sort=False)["score"]
        table = scores.mean().unstack("estimator")
        table.insert(0, "n", groups["n"].mean())
        return table.sort_index(level="metric", sort_remaining=False)

    def plot(self, metrics=None):
        """Draw the means and intervals of `summary`, a panel a metric. Needs matplotlib.

        Parameters
        ----------
        metrics : str, list of str or None, default=None
            What to draw. None means all.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from matplotlib.figure import Figure

        table, metrics = self.summary(), self._metrics(metrics)
        names = list(self.fits["estimator"].unique())
        size = (2 + 3 * len(metrics), 1 + 0.3 * len(names))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for panel, metric in zip(panels, metrics, strict=True):
            part = table.loc[metric].reindex(names)
            for place, row in enumerate(part.itertuples()):
                panel.plot([row.low, row.high], [place, place], color="tab:blue", linewidth=2)
                panel.plot(row.mean, place, "o", color="tab:blue")
            panel.set_title(metric.replace("_", " "), fontsize=10)
            panel.grid(axis="x", alpha=0.3)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        return figure

    def _metrics(self, metrics):
        known = list(self.scores["metric"].unique())
        return _chosen("metrics", metrics, known)

    def _by_split(self):
        """Yield metric, estimator and the score of each split, the mean over seeds."""
        for metric, of_metric in self.scores.groupby("metric", sort=False):
            for estimator, group in of_metric.groupby("estimator", sort=False):
                yield metric, estimator, group.groupby("split")["score"].mean()

    def _ratio(self):
        return (self.fits["n_test"] / self.fits["n_train"]).mean()


def _chosen(parameter, names, known):
    """Bring a name, several or None (all) to a list of known ones."""
    names = known if names is None else [names] if isinstance(names, str) else names
    if not names:
        raise ValueError(f"{parameter} must name at least one of {known}, got {names!r}.")
    for name in names:
        check_choice(parameter, name, known)
    return names


def corrected_t_test(differences, test_over_train):
    """Test whether the mean difference between two estimators is zero, over resampled splits.

    Splits that share rows are correlated. Following Nadeau and Bengio, the variance of the mean
    is taken as (1 / k + n_test / n_train) times that of the k differences, not as 1 / k times.

    Parameters
    ----------
    differences : array-like of shape (k,)
        Of the scores of two estimators in each split.
    test_over_train : float
        Test rows for each training row.

    Returns
    -------
    t : float
        Statistic, of k - 1 degrees of freedom.
    p : float
        Two-sided. 1 where all differences are zero; NaN where they are all the same otherwise, and
        where there are fewer than two, for then nothing can be said of their variance.

    References
    ----------
    Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.
    """
    mean, error = np.mean(differences), _standard_error(differences, test_over_train)
    if not np.any(differences):
        return 0.0, 1.0
    if not error > 0:
        return np.nan, np.nan
    t = mean / error
    return float(t), float(2 * stats.t.sf(abs(t), len(differences) - 1))


def _standard_error(values, test_over_train):
    if len(values) < 2:
        return np.nan
    return np.sqrt(np.var(values, ddof=1) * (1 / len(values) + test_over_train))


def _interval(values, test_over_train):
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf(0.975, len(values) - 1) * _standard_error(values, test_over_train)
    return np.mean(values) - half, np.mean(values) + half


def _holm(p):
    """Adjust p-values for their number, by Holm's step-down method; NaN stays."""
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN is sorted last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1)
    return adjusted


# ---- what compare does, in order -----------------------------------------------------------------

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


def _scorers(scoring):
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
    if inspect.isfunction(scorer) and scorer.__module__ == PairScorer.__module__:
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
    suiting = [name for name, scorer in scorers.items() if _suits(scorer, estimator)]
    if not suiting or (refit is not None and refit not in suiting):
        asked = list(scorers) if refit is None else refit
        raise ValueError(f"{name!r} has no methods for {asked}, which compare pairs.")
    return suiting[0] if refit is None else refit


def _suits(scorer, estimator):
    return not isinstance(scorer, PairScorer) or scorer.suits(estimator)


def _check_rows(X, y, groups):
    """Check that X, y and groups are of one length, and that of the last two none is missing."""
    check_consistent_length(X, y, groups)
    for name, labels in (("y", y), ("groups", groups)):
        pairs.check_no_gaps(name, labels)
    return column_or_1d(y), None if groups is None else column_or_1d(groups)


def _folds(cv, groups):
    """Turn a number of folds into such as keep groups together, where there are groups."""
    together = isinstance(cv, Integral) and groups is not None
    return StratifiedGroupKFold(cv) if together else cv


def _splits(cv, X, y, groups, seed):
    """List the splits, so that they are the same for all."""
    if cv is not None:
        splits = check_cv(_folds(cv, groups), y, classifier=True).split(X, y, groups)
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


def _inner_cv(inner_cv, groups, seed):
    if inner_cv is not None:
        return _folds(inner_cv, groups)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    return kind(3, shuffle=True, random_state=seed)


def _is_search(estimator):
    """Whether it is a search, whose `fit` takes groups; others that refit have no `error_score`."""
    return hasattr(estimator, "refit") and hasattr(estimator, "error_score")


#: What the very same picture on both sides of a split means, by its kind.
_SHARED = {
    "image": "scores are too good: pass `groups` that keep copies of an image in one fold, or "
    "remove them",
    "skeleton": "right where the same few drawings are known in use, too; to be judged by drawings "
    "that were never seen, pass `groups` that keep copies of a drawing in one fold",
}


def _warn_duplicates(X, splits, groups):
    """Warn where the very same image or skeleton is on both sides of a split.

    Where there are groups, the user has said what must stay apart: drawings need not.
    """
    told = []
    for kind, half in zip(pairs.KINDS, pairs.split_rows(X), strict=True):
        if kind == "skeleton" and groups is not None:
            continue
        content, _ = pd.factorize(np.array([_digest(row) for row in half], dtype=object))
        twice = [test[np.isin(content[test], content[train])] for train, test in splits]
        worst = max(twice, key=len)
        if len(worst):
            shown = ", ".join(map(str, worst[:5])) + (", ..." if len(worst) > 5 else "")
            told.append(
                f"{len(worst)} test rows hold the very same {kind} as a training row (rows "
                f"{shown}): {_SHARED[kind]}."
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


class _Scoring:
    """All scores of a fitted estimator, and their parts by case, as `cross_validate` takes them."""

    def __init__(self, scorers, cases):
        self.scorers = scorers
        self.cases = cases

    def __call__(self, estimator, X, y):
        scores = {}
        for name, scorer in self.scorers.items():
            if not _suits(scorer, estimator):
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
