"""Estimate how frequent the cases are in samples, better than by counting the names of images."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax
from sklearn.utils import check_array, check_random_state, column_or_1d

from ..checks import as_labels, check_no_gaps, check_number

#: Where the expectation-maximisation stops: no share changes by more, or after so many rounds.
_TOLERANCE, _MOST_ROUNDS = 1e-5, 1000
_AT_ONCE = 500_000  # probabilities of replicates that are worked on together
_SMALLEST = 1e-12  # probability, whose logarithm is finite
_RIDGE, _MOST_STEPS = 1.0, 100  # of a calibration: what holds it to the probabilities as they are


# ---- what a user calls ---------------------------------------------------------------------------


def estimate_counts(
    matcher,
    X,
    samples,
    *,
    prior=None,
    calibration=None,
    n_bootstrap=200,
    confidence=0.95,
    random_state=None,
):
    """Estimate the share of every case in every sample.

    Who counts the names that a classifier gives, counts its errors, too: frequent cases lend to
    rare ones, and what is more frequent than in the training is found too rarely. The
    probabilities tell more: expectation-maximisation finds the shares that explain them best, see
    `adjust_priors`.

    The intervals are percentiles of bootstrap estimates of the shares in what a sample was drawn
    from. Without `calibration`, only the images are drawn anew: they hold as far as the
    probabilities are right, which those of few training rows seldom are. With `calibration`,
    probabilities are calibrated first (by their sharpness and an offset for every case), and
    the rows for that are drawn anew as well, so that the interval holds what is not known of the
    classifier's errors.

    Parameters
    ----------
    matcher : classifier
        Fitted, with `predict_proba` and `classes_`: a PairMatcher, or another.
    X : array-like or DataFrame
        n images, as `matcher.predict_proba` takes them.
    samples : array-like of shape (n,)
        Which sample each image belongs to.
    prior : array-like of shape (n_cases,), default=None
        The frequencies of `classes_` that the probabilities assume: those of the rows that a
        classifier was fitted to, unless it weights them. None: a PairMatcher's own; with
        `calibration`, those found there.
    calibration : tuple (X, y), default=None
        Images that were not learned, such as those of a sample that was named by hand, and their
        cases: some hundred, from all cases that occur.
    n_bootstrap : int, default=200
        How often rows are drawn anew. 0: no intervals (NaN).
    confidence : float, default=0.95
        Probability that an interval holds the share.
    random_state : int, RandomState or None, default=None
        Decides what is drawn.

    Returns
    -------
    DataFrame
        A row for every sample and case, with `sample`, `case`; `images`, their number in the
        sample; `named`, the number of images for which the case is the most probable one;
        `count`, the estimated number; `share`, of the sample, with the bounds `low` and `high`.

    Raises
    ------
    ValueError
        If lengths differ, a label is missing or is none of `classes_`, `prior` is missing or holds
        no probabilities, or nothing is given.

    See Also
    --------
    adjust_priors : The estimate, from probabilities.

    References
    ----------
    Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori
    Probabilities: A Simple Procedure", Neural Computation 14, 2002.

    Alexandari, Kundaje and Shrikumar, "Maximum Likelihood with Bias-Corrected Calibration is
    Hard-To-Beat at Label Shift Adaptation", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skpair.field.counts import estimate_counts
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["a", "b"], 500)
    >>> X = rng.normal(size=(1000, 1)) + 2 * (y == "b")[:, None]
    >>> model = GaussianNB().fit(X, y)
    >>> sample = np.concatenate([X[:360], X[500:540]])  # 360 of a, 40 of b
    >>> table = estimate_counts(model, sample, [1] * 400, prior=[0.5, 0.5], random_state=0)
    >>> table[["case", "named", "count"]].round().values.tolist()
    [['a', 304, 357.0], ['b', 96, 43.0]]
    """
    check_number("n_bootstrap", n_bootstrap, Integral, 0)
    check_number("confidence", confidence, Real, 0, low_allowed=False, high=1)
    random = check_random_state(random_state)
    classes = np.asarray(matcher.classes_)
    samples = column_or_1d(samples)
    check_no_gaps("samples", samples)
    proba = _predict(matcher, X)
    if len(proba) != len(samples):
        raise ValueError(f"There are {len(proba)} images, but {len(samples)} samples.")
    models = _models(matcher, classes, prior, calibration, n_bootstrap, random)
    tables = [
        _estimate_sample(proba[samples == sample], models, confidence, random).assign(
            sample=sample, case=classes
        )
        for sample in pd.unique(samples)
    ]
    columns = ["sample", "case", "images", "named", "count", "share", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns]


def adjust_priors(proba, prior):
    """Find the shares of the cases that explain probabilities best, and adjust these to them.

    Expectation-maximisation: probabilities divided by the prior that they assume are likelihoods up
    to a factor; times shares, and scaled, they are the probabilities of each image under these
    shares, whose means are better shares.

    Parameters
    ----------
    proba : array-like of shape (n, n_cases)
        Probabilities of the cases, rows that sum to one.
    prior : array-like of shape (n_cases,)
        The frequencies that they assume, above 0, in sum one.

    Returns
    -------
    shares : ndarray of shape (n_cases,)
        Of the greatest likelihood; they sum to one.
    adjusted : ndarray of shape (n, n_cases)
        The probabilities under these shares.

    Raises
    ------
    ValueError
        If the arrays do not hold probabilities, do not fit each other, or are empty.

    References
    ----------
    Saerens, Latinne and Decaestecker, Neural Computation 14, 2002.

    Examples
    --------
    >>> from skpair.field.counts import adjust_priors
    >>> shares, adjusted = adjust_priors([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]], [0.5, 0.5])
    >>> shares.round(3)
    array([0.847, 0.153])
    """
    proba = _check_proba(proba)
    prior = _check_prior(prior, proba.shape[1])
    likelihoods = proba / prior
    shares = _maximise(likelihoods, prior)
    adjusted = likelihoods * shares
    return shares, adjusted / adjusted.sum(axis=1, keepdims=True)


# ---- checks --------------------------------------------------------------------------------------


def _predict(matcher, X):
    return _check_proba(matcher.predict_proba(X))


def _check_proba(proba):
    proba = check_array(proba, dtype=float, input_name="proba")
    if (proba < 0).any() or not np.allclose(proba.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "proba must hold probabilities, rows of numbers of 0 or more that sum to one, such as "
            "predict_proba gives."
        )
    return proba / proba.sum(axis=1, keepdims=True)


def _check_prior(prior, n_cases):
    try:
        values = np.asarray(prior, dtype=float)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.shape != (n_cases,) or not (values > 0).all() or abs(values.sum() - 1) > 1e-4:
        raise ValueError(
            f"prior must hold a probability above 0 for each of the {n_cases} cases, which sum to "
            f"one; got {prior!r}."
        )
    return values / values.sum()


def _assumed_prior(matcher, prior, n_cases):
    """Return the prior that the probabilities of a classifier assume."""
    if prior is not None:
        return _check_prior(prior, n_cases)
    if not hasattr(matcher, "judge_"):
        raise ValueError(
            f"{type(matcher).__name__} does not tell which frequencies its probabilities assume. "
            "Give prior=, those of the cases it was fitted to in the order of classes_, or "
            "calibration=."
        )
    judge = matcher.judge_
    if judge.offsets is None:
        return np.full(n_cases, 1 / n_cases)
    return softmax(judge.offsets.astype(float) / judge.temperature)  # a calibration tempers both


# ---- estimates -----------------------------------------------------------------------------------


def _maximise(likelihoods, shares):
    """Maximise the likelihood of shares (..., n_cases), from a start, by (..., n, n_cases)."""
    for _ in range(_MOST_ROUNDS):
        before = shares
        evidence = (likelihoods @ shares[..., None]).swapaxes(-1, -2)  # (..., 1, n)
        shares = shares * (1 / evidence @ likelihoods)[..., 0, :] / likelihoods.shape[-2]
        if np.abs(shares - before).max() < _TOLERANCE:
            break
    return shares


def _models(matcher, classes, prior, calibration, n_bootstrap, random):
    """Return what turns probabilities into likelihoods: the best, then one for each replicate."""
    if calibration is None:
        prior = _assumed_prior(matcher, prior, len(classes))
        return [lambda proba: proba / prior] * (1 + n_bootstrap)
    if not isinstance(calibration, tuple | list) or len(calibration) != 2:
        raise ValueError(
            "calibration must be a pair (X, y), of images that were not learned and their cases; "
            f"got {type(calibration).__name__}."
        )
    X, y = calibration
    proba = _predict(matcher, X)
    codes = _codes(y, classes, len(proba))
    start = np.concatenate([[1.0], np.zeros(len(classes))])
    best = _fit_calibration(proba, codes, start)
    models = [_calibrated(proba, best)]
    for _ in range(n_bootstrap):
        drawn = random.randint(len(proba), size=len(proba))
        fitted = _fit_calibration(proba[drawn], codes[drawn], best)
        models.append(_calibrated(proba[drawn], fitted))
    return models


def _codes(y, classes, n_rows):
    y = as_labels(y, classes, "the cases of calibration")
    if len(y) != n_rows:
        raise ValueError(f"calibration holds {n_rows} images, but {len(y)} cases.")
    unknown = np.unique(y[~np.isin(y, classes)])
    if len(unknown):
        raise ValueError(f"calibration holds cases that the classifier does not know: {unknown}.")
    order = np.argsort(classes)
    return order[np.searchsorted(classes, y, sorter=order)]


def _fit_calibration(proba, codes, start):
    """Fit the sharpness and the offsets (1 + n_cases,) of calibrated probabilities.

    Newton's method on a convex loss: a general optimiser takes many times as long.
    """
    log_proba = np.log(np.maximum(proba, _SMALLEST))
    true = np.eye(proba.shape[1])[codes]
    neutral = np.concatenate([[1.0], np.zeros(proba.shape[1])])

    def loss(values):
        log_calibrated = log_softmax(values[0] * log_proba + values[1:], axis=1)
        return _RIDGE / 2 * ((values - neutral) ** 2).sum() - (true * log_calibrated).sum()

    values, reached = start, loss(start)
    for _ in range(_MOST_STEPS):
        step = _newton_step(log_proba, true, values, neutral)
        while loss(values - step) > reached and np.abs(step).max() > _TOLERANCE:
            step = step / 2
        values, reached = values - step, loss(values - step)
        if np.abs(step).max() <= _TOLERANCE:
            break
    return values


def _newton_step(log_proba, true, values, neutral):
    """Divide the gradient of the loss of a calibration by its second derivatives."""
    calibrated = softmax(values[0] * log_proba + values[1:], axis=1)
    error, mean = calibrated - true, (calibrated * log_proba).sum(axis=1, keepdims=True)
    gradient = np.concatenate([[(error * log_proba).sum()], error.sum(axis=0)])
    away = calibrated * (log_proba - mean)  # (n, n_cases)
    curvature = _RIDGE * np.eye(len(values))
    curvature[0, 0] += (away * log_proba).sum()
    curvature[0, 1:] = curvature[1:, 0] = away.sum(axis=0)
    curvature[1:, 1:] += np.diag(calibrated.sum(axis=0)) - calibrated.T @ calibrated
    return np.linalg.solve(curvature, gradient + _RIDGE * (values - neutral))


def _calibrated(proba, values):
    """Return what calibrates probabilities and divides them by the prior that they then assume."""

    def calibrate(proba):
        return softmax(values[0] * np.log(np.maximum(proba, _SMALLEST)) + values[1:], axis=1)

    prior = calibrate(proba).mean(axis=0)
    return lambda proba: calibrate(proba) / prior


def _estimate_sample(proba, models, confidence, random):
    """Return the estimates of one sample, a row a case."""
    n, n_cases = proba.shape
    start = np.full(n_cases, 1 / n_cases)
    shares = _maximise(models[0](proba), start)
    start = (start + shares) / 2  # nearer, yet without zeros, which would stay
    drawn, at_once = [np.full((1, n_cases), np.nan)], max(1, _AT_ONCE // proba.size)
    for first in range(1, len(models), at_once):
        some = models[first : first + at_once]
        likelihoods = np.stack([model(proba[random.randint(n, size=n)]) for model in some])
        drawn.append(_maximise(likelihoods, np.tile(start, (len(some), 1))))
    drawn = np.concatenate(drawn[1:] or drawn)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    low = np.where(n * low < 0.5, 0.0, low)  # shares come near to zero, but do not reach it
    # a case of this share is missed by n images that often, and then no drawing anew brings it back
    high = np.maximum(high, 1 - ((1 - confidence) / 2) ** (1 / n))
    return pd.DataFrame(
        {
            "images": n,
            "named": np.bincount(proba.argmax(axis=1), minlength=n_cases),
            "count": n * shares,
            "share": shares,
            "low": low,
            "high": high,
        }
    )
