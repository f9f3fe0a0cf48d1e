"""From scores to decisions: thresholds of pairs, temperatures of probabilities.

Plain functions on arrays: what the scores come from is not known here.
"""

from numbers import Real

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ..checks import check_choice, check_number

#: Share of the logarithm of the empirical prior in "auto": enough for the many images of frequent
#: cases, not so much that rare ones are no longer named.
_SHARE = 0.25

STRATEGIES = ("balanced_accuracy", "accuracy", "f_beta", "max_tpr", "max_tnr")

#: The lower bits of a float32 that a histogram of scores does not tell apart: what remains is
#: exact to one part in 8192, with a million bins between 0 and 1.
_DROPPED_BITS = 10
_ONE = int(np.float32(1).view(np.uint32)) >> _DROPPED_BITS


class PairCounts:
    """How many pairs of one case, and of two, have each score in 0..1.

    The counts take the same memory for any number of pairs. Scores are told apart to one part in
    8192; the rates at the thresholds in question are exact.

    Attributes
    ----------
    same, different : ndarray of shape (n_bins,), int
        Pairs by score, from 0 up to 1.
    """

    def __init__(self):
        self.same = np.zeros(_ONE + 1, np.int64)
        self.different = np.zeros(_ONE + 1, np.int64)

    def add(self, same, scores):
        """Count pairs.

        Parameters
        ----------
        same : ndarray of bool
            Whether each pair shares a case.
        scores : ndarray of the same shape, float
            In 0..1, higher for pairs that are more alike.

        Returns
        -------
        self : PairCounts
        """
        # floats of one sign are ordered as the integers of the same bits
        scores = np.ascontiguousarray(scores, np.float32)
        bins = np.minimum(scores.view(np.uint32) >> _DROPPED_BITS, _ONE)
        self.same += np.bincount(bins[same], minlength=_ONE + 1)
        self.different += np.bincount(bins[~same], minlength=_ONE + 1)
        return self

    def merge(self, other):
        """Take over the counts of others."""
        self.same += other.same
        self.different += other.different

    def both_kinds(self):
        """Whether pairs of one case and pairs of two are among them."""
        return bool(self.same.any() and self.different.any())

    def best_threshold(self, strategy="balanced_accuracy", beta=1.0, min_rate=None):
        """Find the score from which on to call pairs the same.

        Parameters
        ----------
        strategy : {"balanced_accuracy", "accuracy", "f_beta", "max_tpr", "max_tnr"}
            What is to be as high as possible, see `PairMatcher.calibrate_threshold`.
        beta : float
            Of the strategy "f_beta".
        min_rate : float or None
            Of the strategies "max_tpr" and "max_tnr".

        Returns
        -------
        float
            The highest of the best. A little above 1 if no pair is to be called the same.
        """
        bins = np.flatnonzero(self.same + self.different)[::-1]
        n_same, n_different = self.same.sum(), self.different.sum()
        # by falling threshold; at last, the one that no score reaches
        true_positives = np.append(self.same[bins].cumsum(), 0)
        false_positives = np.append(self.different[bins].cumsum(), 0)
        true_rate = true_positives / n_same
        true_negative_rate = (n_different - false_positives) / n_different
        if strategy == "balanced_accuracy":
            merit = true_rate + true_negative_rate
        elif strategy == "accuracy":
            merit = true_positives - false_positives
        elif strategy == "f_beta":
            called_same = true_positives + false_positives
            merit = (1 + beta**2) * true_positives / (beta**2 * n_same + called_same)
        elif strategy == "max_tpr":
            merit = np.where(true_negative_rate >= min_rate, true_rate, -1)
        else:
            merit = np.where(true_rate >= min_rate, true_negative_rate, -1)
        bins = np.append(bins, _ONE + 1)
        best = np.uint32(bins[np.argmax(merit)] << _DROPPED_BITS)
        return float(best.view(np.float32))


def check_strategy(strategy, beta, min_rate):
    """Check what a threshold is asked for."""
    check_choice("strategy", strategy, STRATEGIES)
    if strategy == "f_beta":
        check_number("beta", beta, Real, 0, low_allowed=False)
    if strategy in ("max_tpr", "max_tnr"):
        other = {"max_tpr": "negatives", "max_tnr": "positives"}[strategy]
        if min_rate is None:
            raise ValueError(
                f"strategy={strategy!r} needs min_rate: the least rate of true {other}, in 0..1."
            )
        check_number("min_rate", min_rate, Real, 0, high=1, high_allowed=True)


def best_novelty_threshold(novelty, false_alarm):
    """Find the novelty above which an image is unknown.

    Parameters
    ----------
    novelty : ndarray of shape (n,), float
        Of images of known cases.
    false_alarm : float
        Largest fraction of them to lie above, in [0, 1).

    Returns
    -------
    float
    """
    return float(np.sort(novelty)[len(novelty) - 1 - count_allowed(false_alarm, len(novelty))])


def count_allowed(share, n):
    """Count how many of n rows are no more than a share of them, in [0, 1)."""
    return int(share * n + 1e-9)  # 0.29 * 100 is a little less than 29


def as_prior(prior, counts):
    """Turn the parameter `prior` into probabilities.

    Parameters
    ----------
    prior : {"auto", "uniform", "empirical"} or array-like of shape (n_cases,)
        As a PairMatcher has it.
    counts : ndarray of shape (n_cases,), int
        Images of each case.

    Returns
    -------
    ndarray of shape (n_cases,), float
    """
    if isinstance(prior, str):
        share = {"uniform": 0.0, "auto": _SHARE, "empirical": 1.0}[prior]
        prior = (counts / counts.sum()) ** share
    prior = np.asarray(prior, float)
    return prior / prior.sum()


def best_temperature(scores, codes, start):
    """Find the temperature under which the true cases are most probable.

    Platt's targets, a little below 1 for the true case and above 0 for the others, keep it finite
    where few rows are all named rightly.

    Parameters
    ----------
    scores : ndarray of shape (n, n_cases), float
        What a softmax turns into probabilities, after division by the temperature.
    codes : ndarray of shape (n,), int
        The true cases.
    start : float
        The result lies within a factor of 100 of it.

    Returns
    -------
    float

    References
    ----------
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized
    Likelihood Methods", 1999.
    """
    n, n_cases = scores.shape
    targets = np.full((n, n_cases), 1 / (n + 2) / (n_cases - 1))
    targets[np.arange(n), codes] = (n + 1) / (n + 2)
    scores = scores.astype(float)

    def surprise(log_factor):
        log_proba = log_softmax(scores / (start * np.exp(log_factor)), axis=1)
        return -(targets * log_proba).sum(axis=1).mean()

    widest = np.log(100)
    found = minimize_scalar(surprise, bounds=(-widest, widest), method="bounded")
    return float(start * np.exp(found.x))
