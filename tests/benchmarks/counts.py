"""Shares of cases in samples whose frequencies are far from those of the training.

    python tests/benchmarks/counts.py [seed ...]

A matcher learns few, noisy digits, of which 0 is frequent and 9 is rare; samples of other digits
are drawn by frequencies at random. Prints the mean absolute error of the shares by counting names
and by `estimate_counts`, with and without rows for the calibration; how often the intervals hold
the shares that are in the samples, and those they were drawn by; and, where QuaPy is installed,
the errors of its methods on the same probabilities.
"""

import sys
import time

import numpy as np

from skpair import PairMatcher
from skpair.datasets import load_digit_pairs
from skpair.field.counts import estimate_counts

_ESTIMATES = ("share", "low", "high")
N_SAMPLES, N_IMAGES, NOISE = 60, 200, 0.4


def split_digits(seed):
    """Return noisy features and digits: to learn, to calibrate with, and to draw samples from."""
    rng = np.random.default_rng(seed)
    X, y = load_digit_pairs(image_size=16, random_state=seed, return_X_y=True)
    X = X.reshape(len(X), 2, 256) / 255.0
    X = X + NOISE * rng.normal(size=X.shape) * (np.arange(2) == 0)[:, None]
    rows = rng.permutation(len(X))
    learned, named, others = np.split(rows, [800, 1100])
    rare = rng.random(len(learned)) < 1 / (1 + y[learned])  # 0 is frequent, 9 is rare
    parts = learned[rare], named, others
    return [(X[part].reshape(len(part), -1), y[part]) for part in parts]


def draw_samples(y, n_cases, rng):
    """Return the rows of samples (k, n), and the shares (k, n_cases) they are drawn by."""
    drawn_by = rng.dirichlet(np.full(n_cases, 0.5), size=N_SAMPLES)
    of_case = [np.flatnonzero(y == case) for case in range(n_cases)]
    rows = [
        [rng.choice(of_case[case]) for case in rng.choice(n_cases, N_IMAGES, p=shares)]
        for shares in drawn_by
    ]
    return np.array(rows), drawn_by


def with_quapy(matcher, proba, calibration, samples, truth):
    """Print the errors of QuaPy's methods on probabilities."""
    try:
        from quapy.method.aggregative import EMQ, PACC, KDEyML
    except ImportError:
        print("QuaPy is not installed.")
        return
    for method in (
        EMQ(matcher, fit_classifier=False, exact_train_prev=False),
        PACC(matcher, fit_classifier=False),
        KDEyML(matcher, fit_classifier=False),
    ):
        method.aggregation_fit(*calibration)
        found = np.array([method.aggregate(proba[rows]) for rows in samples])
        print(f"QuaPy {type(method).__name__:11s}: error {np.abs(found - truth).mean():.4f}")


def judge(what, table, truth, drawn_by, seconds):
    """Print the errors and the coverage of one estimate."""
    named = (table["named"] / table["images"]).to_numpy().reshape(truth.shape)
    share, low, high = (table[name].to_numpy().reshape(truth.shape) for name in _ESTIMATES)
    plain, error = np.abs(named - truth).mean(), np.abs(share - truth).mean()
    held = [((low <= shares) & (shares <= high)).mean() for shares in (truth, drawn_by)]
    print(
        f"{what:17s}: error {error:.4f}, {error / plain:.2f} of that of counting names "
        f"({plain:.4f}); intervals hold {held[0]:.3f} (drawn by: {held[1]:.3f}); {seconds:.0f} s",
        flush=True,
    )


def main(seed):
    """Print the figures of one split."""
    learned, calibration, (X, y) = split_digits(seed)
    matcher = PairMatcher(max_epochs=30, random_state=seed).fit(*learned)
    n_cases = len(matcher.classes_)
    samples, drawn_by = draw_samples(y, n_cases, np.random.default_rng(seed))
    truth = np.array([np.bincount(y[rows], minlength=n_cases) for rows in samples]) / N_IMAGES
    names = np.repeat(np.arange(N_SAMPLES), N_IMAGES)
    print(f"seed {seed}: accuracy {matcher.score(X, y):.3f}, {N_SAMPLES} samples of {N_IMAGES}")
    for what, given in (("alone", None), ("with calibration", calibration)):
        started = time.perf_counter()
        table = estimate_counts(
            matcher, X[samples.ravel()], names, calibration=given, random_state=seed
        )
        judge(what, table, truth, drawn_by, time.perf_counter() - started)
    known = matcher.predict_proba(calibration[0]).astype(float), calibration[1]
    with_quapy(matcher, matcher.predict_proba(X).astype(float), known, samples, truth)


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:] or range(3)):
        main(seed)
