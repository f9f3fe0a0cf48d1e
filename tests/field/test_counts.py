"""Tests of skpair.field.counts: shares of cases whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from skpair import PairMatcher
from skpair.field.counts import adjust_priors, estimate_counts


def normal_rows(counts, rng):
    """Rows of two columns, and their cases "a", "b" and "c", whose centres lie apart by about 2."""
    y = np.repeat(list("abc"), counts)
    centres = {"a": (0, 0), "b": (2, 0), "c": (0, 2)}
    return np.array([centres[case] for case in y]) + rng.normal(size=(len(y), 2)), y


@pytest.fixture(scope="module")
def model():
    X, y = normal_rows([3000, 600, 400], np.random.default_rng(0))
    return LogisticRegression().fit(X, y)


PRIOR = [0.75, 0.15, 0.1]


# ---- adjust_priors -------------------------------------------------------------------------------


def test_shares_have_the_greatest_likelihood():
    proba, prior = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]]), np.array([0.3, 0.7])
    shares, adjusted = adjust_priors(proba, prior)

    def loss(share):
        return -np.log(proba / prior @ (share, 1 - share)).sum()

    best = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x
    assert shares == pytest.approx([best, 1 - best], abs=1e-3)
    odds = proba / prior * shares
    np.testing.assert_allclose(adjusted, odds / odds.sum(axis=1, keepdims=True))


def test_certain_probabilities_are_counted_whatever_the_prior():
    proba = np.eye(3)[[0, 0, 0, 1]]
    shares, adjusted = adjust_priors(proba, [0.1, 0.1, 0.8])
    assert shares == pytest.approx([0.75, 0.25, 0])
    np.testing.assert_allclose(adjusted, proba)


def test_what_tells_nothing_keeps_the_prior():
    shares, _ = adjust_priors([[0.6, 0.4]] * 5, [0.6, 0.4])
    assert shares == pytest.approx([0.6, 0.4])


def test_one_row_goes_to_the_case_that_it_speaks_for():
    shares, _ = adjust_priors([[0.6, 0.4]], [0.8, 0.2])  # less of the first than the prior says
    assert shares == pytest.approx([0, 1], abs=0.01)


@pytest.mark.parametrize(
    ("proba", "prior", "message"),
    [
        ([[0.5, 0.6]], [0.5, 0.5], "proba must hold probabilities"),
        ([[1.5, -0.5]], [0.5, 0.5], "proba must hold probabilities"),
        ([[np.nan, 1]], [0.5, 0.5], "proba contains NaN"),
        (np.empty((0, 2)), [0.5, 0.5], "0 sample"),
        ([[0.5, 0.5]], [1, 0], "prior must hold a probability above 0"),
        ([[0.5, 0.5]], [0.5, 0.3, 0.2], "for each of the 2 cases"),
        ([[0.5, 0.5]], [0.5, 0.6], "sum to one"),
        ([[0.5, 0.5]], "uniform", "prior must hold"),
    ],
)
def test_adjust_priors_errors(proba, prior, message):
    with pytest.raises(ValueError, match=message):
        adjust_priors(proba, prior)


# ---- estimate_counts -----------------------------------------------------------------------------


def test_shares_far_from_the_training_are_found(model):
    rng = np.random.default_rng(1)
    X, _ = normal_rows([100, 500, 400], rng)
    table = estimate_counts(model, X, ["s"] * 1000, prior=PRIOR, random_state=0)
    truth = np.array([100, 500, 400])
    error, plain = (np.abs(table[name] - truth).sum() for name in ("count", "named"))
    assert error < plain / 2
    assert ((table["low"] <= truth / 1000) & (truth / 1000 <= table["high"])).all()
    assert table["named"].tolist() == [(model.predict(X) == case).sum() for case in "abc"]


def test_the_table_has_a_row_for_each_sample_and_case(model):
    X, _ = normal_rows([20, 20, 20], np.random.default_rng(2))
    samples = np.array(["net 2", "net 1", "net 2"])[np.arange(60) % 3]
    table = estimate_counts(model, X, samples, prior=PRIOR, n_bootstrap=20, random_state=0)
    columns = ["sample", "case", "images", "named", "count", "share", "low", "high"]
    assert table.columns.tolist() == columns
    assert table["sample"].tolist() == ["net 2"] * 3 + ["net 1"] * 3
    assert table["case"].tolist() == list("abc") * 2
    assert table["images"].tolist() == [40] * 3 + [20] * 3
    np.testing.assert_allclose(table.groupby("sample")["share"].sum(), 1)
    np.testing.assert_allclose(table["count"], table["share"] * table["images"])
    assert ((0 <= table["low"]) & (table["low"] <= table["high"]) & (table["high"] <= 1)).all()


def test_an_absent_case_has_an_interval_from_zero_to_what_may_be_missed(model):
    X = np.tile([[-1.0, -1.0]], (50, 1))  # surely of a
    table = estimate_counts(model, X, ["s"] * 50, prior=PRIOR, random_state=0).set_index("case")
    assert table.loc["c", "low"] == 0
    assert (1 - table.loc["c", "high"]) ** 50 == pytest.approx(0.025, rel=0.05)


def test_intervals_widen_with_confidence_and_narrow_with_images(model):
    rng = np.random.default_rng(3)

    def width(n, confidence):
        X, _ = normal_rows([n, n, n], rng)
        table = estimate_counts(
            model, X, ["s"] * 3 * n, prior=PRIOR, confidence=confidence, random_state=0
        )
        return (table["high"] - table["low"]).mean()

    assert width(100, 0.99) > 1.2 * width(100, 0.8)
    assert width(25, 0.95) > 1.5 * width(400, 0.95)


class Overconfident:
    """A classifier whose probabilities are sharper than its errors allow, and lean to "a"."""

    def __init__(self, model):
        self.model, self.classes_ = model, model.classes_

    def predict_proba(self, X):
        proba = self.model.predict_proba(X) ** 3 * [4, 1, 1]
        return proba / proba.sum(axis=1, keepdims=True)


def test_calibration_repairs_probabilities_that_are_wrong(model):
    rng = np.random.default_rng(4)
    wrong = Overconfident(model)
    X, y = normal_rows([50, 250, 200], rng)
    known = normal_rows([300, 100, 100], rng)
    truth = np.array([50, 250, 200]) / 500

    def estimate(**how):
        return estimate_counts(wrong, X, ["s"] * 500, random_state=0, **how)

    alone, calibrated = estimate(prior=PRIOR), estimate(calibration=known)
    error = [np.abs(table["share"] - truth).sum() for table in (alone, calibrated)]
    assert error[1] < error[0] / 2
    assert ((calibrated["low"] <= truth) & (truth <= calibrated["high"])).all()
    fewer = estimate(calibration=normal_rows([30, 10, 10], rng))
    widths = [(table["high"] - table["low"]).mean() for table in (fewer, calibrated)]
    assert widths[0] > 1.2 * widths[1]  # what few rows leave open is in the interval


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(model):
    rng = np.random.default_rng(5)
    wrong, held = Overconfident(model), []
    for _ in range(15):
        counts = rng.multinomial(150, rng.dirichlet([1, 1, 1]))
        X, _ = normal_rows(counts, rng)
        known = normal_rows([150, 100, 100], rng)
        table = estimate_counts(
            wrong, X, ["s"] * 150, calibration=known, n_bootstrap=60, random_state=0
        )
        held.append((table["low"] <= counts / 150) & (counts / 150 <= table["high"]))
    assert np.mean(held) > 0.85


def test_a_matcher_tells_its_prior(features):
    X, y = features
    matcher = PairMatcher(max_epochs=5, prior=[0.7, 0.1, 0.1, 0.1], random_state=0).fit(X, y)
    samples = ["s"] * len(X)

    def shares(**how):
        return estimate_counts(matcher, X, samples, n_bootstrap=0, **how)["share"].to_numpy()

    expected, _ = adjust_priors(matcher.predict_proba(X), [0.7, 0.1, 0.1, 0.1])
    np.testing.assert_allclose(shares(), expected, atol=1e-3)
    before = shares()
    matcher.prior_ = np.full(4, 0.25)  # changes what probabilities assume, and so no share
    np.testing.assert_allclose(shares(), before, atol=1e-3)
    matcher.prior_ = np.array([0.7, 0.1, 0.1, 0.1])
    matcher.temperature_ = 2 * matcher.temperature_  # as a calibration does: it tempers the prior
    tempered = np.sqrt([0.7, 0.1, 0.1, 0.1])
    expected, _ = adjust_priors(matcher.predict_proba(X), tempered / tempered.sum())
    np.testing.assert_allclose(shares(), expected, atol=1e-3)


def test_the_same_state_gives_the_same_table_and_none_no_intervals(model):
    X, _ = normal_rows([10, 10, 10], np.random.default_rng(6))
    tables = [
        estimate_counts(model, X, [1] * 30, prior=PRIOR, n_bootstrap=10, random_state=1)
        for _ in range(2)
    ]
    pd.testing.assert_frame_equal(*tables)
    bare = estimate_counts(model, X, [1] * 30, prior=PRIOR, n_bootstrap=0)
    assert bare[["low", "high"]].isna().all(axis=None)
    np.testing.assert_allclose(bare["share"], tables[0]["share"])


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({}, ValueError, "LogisticRegression does not tell which frequencies"),
        ({"prior": [0.5, 0.5]}, ValueError, "for each of the 3 cases"),
        ({"samples": [1]}, ValueError, "There are 6 images, but 1 samples"),
        ({"samples": [None] * 6}, ValueError, "samples holds missing labels"),
        ({"prior": PRIOR, "n_bootstrap": -1}, ValueError, "n_bootstrap must be >= 0"),
        ({"prior": PRIOR, "confidence": 1}, ValueError, "confidence must be > 0 and < 1"),
        ({"calibration": (np.zeros((2, 2)), ["a"])}, ValueError, "2 images, but 1 cases"),
        ({"calibration": (np.zeros((1, 2)), ["z"])}, ValueError, "does not know: .*z"),
        ({"calibration": np.zeros((3, 2))}, ValueError, "calibration must be a pair"),
    ],
)
def test_estimate_counts_errors(model, how, error, message):
    how = {"samples": [1] * 6, **how}
    with pytest.raises(error, match=message):
        estimate_counts(model, np.zeros((6, 2)), **how)
