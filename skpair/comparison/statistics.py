"""What scores on the same splits say: means, intervals, a test that minds repeated splits."""

import numpy as np
import pandas as pd
from scipy import stats

from ..checks import check_choice


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
