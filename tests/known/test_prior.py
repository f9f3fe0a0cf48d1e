"""How frequent the cases are taken to be when an image is named."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.base import clone

from skpair import PairMatcher
from skpair.comparison import compare


@pytest.fixture(scope="module")
def blurred(features):
    """The rows, so noisy that cases are mixed up: 60, 30, 20 and 10 of each."""
    X, y = features
    return X + np.random.default_rng(0).normal(size=X.shape).astype(np.float32) * 3, y


def fit(rows, **parameters):
    return PairMatcher(**{"max_epochs": 5, "random_state": 0, **parameters}).fit(*rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prior", "share"),
    [
        ("uniform", 0),
        ("auto", 0.25),
        ("empirical", 1),
        (np.array([60, 30, 20, 10]) / 120, 1),
        ([0.5, 0.25, 1 / 6, 1 / 12], 1),
    ],
)
@pytest.mark.parametrize("loss", ["n_pair", "binary_cross_entropy"])
def test_what_is_decided(blurred, prior, share, loss):
    X, y = blurred
    plain, matcher = fit(blurred, loss=loss, prior="uniform"), fit(blurred, loss=loss, prior=prior)
    expected = (np.bincount(y) / len(y)) ** share
    np.testing.assert_allclose(matcher.prior_, expected / expected.sum(), rtol=1e-12)
    likelihood = plain.predict_proba(X)
    posterior = likelihood * matcher.prior_
    posterior /= posterior.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(matcher.predict_proba(X), posterior, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(matcher.predict(X), posterior.argmax(axis=1))
    np.testing.assert_array_equal(matcher.decision_function(X).argmax(axis=1), matcher.predict(X))
    # pairs, novelty and similarities have none
    for method in ("pair_proba", "predict_pairs", "novelty_score", "transform", "pair_score"):
        np.testing.assert_array_equal(getattr(matcher, method)(X), getattr(plain, method)(X))
    assert (matcher.predict(X) == 0).sum() >= (plain.predict(X) == 0).sum()


def test_probabilities_are_a_softmax_of_decisions(blurred):
    matcher = fit(blurred, prior="empirical")
    X, _ = blurred
    expected = softmax(matcher.decision_function(X) / matcher.temperature_, axis=1)
    np.testing.assert_allclose(matcher.predict_proba(X), expected, rtol=1e-4, atol=1e-7)


def test_a_calibration_changes_no_name(blurred):
    X, y = blurred
    matcher = fit(blurred, prior="empirical")
    named = matcher.predict(X)
    matcher.calibrate_probabilities(1.01 * X, y)
    assert matcher.temperature_ != 0.1
    np.testing.assert_array_equal(matcher.predict(X), named)


def test_two_cases(features):
    X, y = (part[features[1] < 2] for part in features)
    matcher = fit((X, y), prior=[0.9, 0.1])
    plain = fit((X, y), prior="uniform")
    shift = 0.1 * np.log(0.1 / 0.9)
    expected = plain.decision_function(X) + shift
    np.testing.assert_allclose(matcher.decision_function(X), expected, atol=1e-5)


def test_cases_that_come_and_go(blurred):
    X, _ = blurred
    matcher = fit(blurred, prior="empirical").add_cases(X[:3], [7, 7, 7])
    middle = (60 * 30 * 20 * 10) ** 0.25
    np.testing.assert_allclose(matcher.prior_, np.array([60, 30, 20, 10, middle]) / (120 + middle))
    matcher.remove_cases([0])
    np.testing.assert_allclose(matcher.prior_, np.array([30, 20, 10, middle]) / (60 + middle))
    assert matcher.predict_proba(X).shape == (len(X), 4)


def test_a_flat_prior_stays_flat(features):
    X, y = features
    plain = PairMatcher(prior="uniform", max_epochs=1, random_state=0).fit(X, y)
    for n in range(1, 12):  # the mean of equal numbers may be another
        plain.add_cases(X[:1], [100 + n])
        assert plain.judge_.offsets is None


def test_pairs_have_a_temperature_of_their_own(blurred):
    X, y = blurred
    plain, matcher = (
        fit(blurred, prior=p).calibrate_probabilities(1.01 * X, y) for p in ("uniform", "empirical")
    )
    assert matcher.pair_temperature_ == plain.pair_temperature_ != matcher.temperature_
    np.testing.assert_array_equal(matcher.pair_proba(X), plain.pair_proba(X))


@pytest.mark.parametrize(
    "prior", ["auto", "empirical", [0.4, 0.3, 0.2, 0.1], np.array([0.4, 0.3, 0.2, 0.1])]
)
def test_files_keep_it(blurred, prior, tmp_path):
    X, _ = blurred
    matcher = fit(blurred, prior=prior)
    matcher.save(tmp_path / "matcher")
    loaded = PairMatcher.load(tmp_path / "matcher")
    np.testing.assert_array_equal(loaded.prior_, matcher.prior_)
    assert loaded.dropout_ == matcher.dropout_
    assert np.array_equal(loaded.prior, prior) and not loaded.left_out_
    np.testing.assert_array_equal(loaded.predict_proba(X), matcher.predict_proba(X))


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("flat", "prior='flat' is unknown"),
        ([0.5, 0.5], "prior holds 2 numbers, but there are 4 cases"),
        ([0.7, 0.1, 0.1, 0.2], "sum to one"),
        ([1.0, 0.0, 0.0, 0.0], "above 0"),
        ([np.nan] * 4, "above 0"),
        (0.5, "a probability above 0 for each case"),
        (None, "a probability above 0 for each case"),
        (["a"] * 4, "a probability above 0 for each case"),
    ],
)
def test_odd_priors(features, prior, message):
    with pytest.raises(ValueError, match=message):
        PairMatcher(prior=prior).fit(*features)


def test_it_is_searched_and_cloned(features):
    X, y = features
    grid = {"prior": ["uniform", "empirical"], "dropout": ["auto", 0.2]}
    result = compare({"n_pair": (PairMatcher(max_epochs=1), grid)}, X, y, cv=2, random_state=0)
    assert set(result.fits["params"].iloc[0]) == {"prior", "dropout"}
    assert clone(PairMatcher(prior="empirical")).prior == "empirical"


def test_a_prior_that_is_set_later(blurred, tmp_path):
    X, _ = blurred
    matcher = fit(blurred, prior=pd.Series([0.4, 0.3, 0.2, 0.1]))
    expected = matcher.predict_proba(X)
    for prior in ([0.4, 0.3, 0.2, 0.1], pd.Series([0.4, 0.3, 0.2, 0.1], index=list("abcd"))):
        matcher.prior_ = prior
        np.testing.assert_array_equal(matcher.predict_proba(X), expected)
        matcher.save(tmp_path / "matcher")
        loaded = PairMatcher.load(tmp_path / "matcher")
        assert np.array_equal(loaded.prior, matcher.prior) and not loaded.left_out_
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    for prior in ([0.5, 0.5], [np.nan, 0.5, 0.3, 0.2], [-0.1, 0.6, 0.3, 0.2], None, [1.0]):
        matcher.prior_ = prior
        with pytest.raises(ValueError, match="prior (holds|must be)"):
            matcher.predict(X)
