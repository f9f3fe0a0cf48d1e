import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import confusion_matrix, fbeta_score, roc_curve
from sklearn.model_selection import cross_val_predict

from skpair import PairMatcher, split_pairs
from skpair.known.thresholds import PairCounts, best_temperature
from skpair.metrics import (
    coverage_accuracy_curve,
    expected_calibration_error,
    pair_balanced_accuracy,
    pair_scorer,
)
from skpair.rows.reading import image_half


@pytest.fixture(scope="module")
def halves(features):
    X, y = features
    return (X[:80], y[:80]), (X[80:], y[80:])


@pytest.fixture
def matcher(halves):
    (X, y), _ = halves
    return PairMatcher(max_epochs=3, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def scored():
    """Whether 1000 pairs share a case, every tenth, and their scores: they overlap."""
    rng = np.random.default_rng(0)
    same = rng.uniform(size=1000) < 0.1
    return same, rng.beta(2 + 3 * same, 3).astype(np.float32)


# ---- thresholds of scores ------------------------------------------------------------------------


def rates(same, called_same):
    (tn, fp), (fn, tp) = confusion_matrix(same, called_same)
    return tp / (tp + fn), tn / (tn + fp)


def merits(same, called_same):
    tpr, tnr = rates(same, called_same)
    return {
        "balanced_accuracy": (tpr + tnr) / 2,
        "accuracy": (same == called_same).mean(),
        "f_beta": fbeta_score(same, called_same, beta=2),
        "max_tpr": tpr if tnr >= 0.9 else 0,
        "max_tnr": tnr if tpr >= 0.9 else 0,
    }


@pytest.fixture(scope="module")
def every_merit(scored):
    """The merits of every threshold that there could be."""
    same, score = scored
    return [merits(same, score >= threshold) for threshold in np.unique(score)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["balanced_accuracy", "accuracy", "f_beta", "max_tpr", "max_tnr"]
)
def test_no_threshold_is_better(scored, every_merit, strategy):
    same, score = scored
    found = PairCounts().add(same, score).best_threshold(strategy, beta=2, min_rate=0.9)
    best = max(of_one[strategy] for of_one in every_merit)
    assert merits(same, score >= found)[strategy] >= best - 1e-3


def test_the_threshold_is_that_of_the_roc_curve(scored):
    same, score = scored
    false_rate, true_rate, thresholds = roc_curve(same, score)
    expected = thresholds[np.argmax(true_rate - false_rate)]
    assert PairCounts().add(same, score).best_threshold() == pytest.approx(expected, rel=1e-3)


def test_counts_do_not_depend_on_blocks(scored):
    same, score = scored
    whole = PairCounts().add(same, score)
    parts = PairCounts().add(same[:7], score[:7])
    parts.merge(PairCounts().add(same[7:].reshape(-1, 1), score[7:].reshape(-1, 1)))
    np.testing.assert_array_equal(parts.same, whole.same)
    np.testing.assert_array_equal(parts.different, whole.different)
    assert whole.same.sum() == same.sum() and whole.different.sum() == (~same).sum()


def test_scores_of_zero_and_one_have_a_place():
    counts = PairCounts().add(np.array([True, False]), np.array([1.0, 0.0]))
    assert counts.best_threshold() == 1
    slightly_more = np.array([1 + 2e-7, 0.0], np.float32)  # as sums of products come out
    assert PairCounts().add(np.array([True, False]), slightly_more).best_threshold() == 1


def test_a_least_rate_may_be_a_fraction_that_is_reached():
    same, score = np.array([True] + [False] * 10), np.array([0.3, 0.1, 0.2, *np.full(8, 0.4)])
    assert PairCounts().add(same, score).best_threshold("max_tpr", min_rate=0.2) < 0.3


def test_where_nothing_may_be_called_the_same_the_threshold_is_out_of_reach():
    same, score = np.array([True, False]), np.array([0.5, 1.0])
    assert PairCounts().add(same, score).best_threshold("max_tpr", min_rate=1) > 1


# ---- thresholds of the matcher -------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["balanced_accuracy", "accuracy", "f_beta"])
def test_calibrate_threshold_judges_all_pairs_of_the_rows(matcher, halves, strategy):
    _, (X, y) = halves
    assert matcher.calibrate_threshold(X, y, strategy=strategy, beta=2) is matcher
    same, proba = (y[:, None] == y).ravel(), matcher.pair_proba_matrix(X).ravel()
    best = max(merits(same, proba >= threshold)[strategy] for threshold in np.unique(proba)[::50])
    assert merits(same, proba >= matcher.threshold_)[strategy] >= best - 1e-3
    np.testing.assert_array_equal(
        matcher.predict_pairs(X), matcher.pair_proba(X) >= matcher.threshold_
    )


def test_least_rates_are_kept(matcher, halves):
    _, (X, y) = halves
    same, proba = (y[:, None] == y).ravel(), matcher.pair_proba_matrix(X).ravel()
    matcher.calibrate_threshold(X, y, strategy="max_tpr", min_rate=0.99)
    assert rates(same, proba >= matcher.threshold_)[1] >= 0.99
    matcher.calibrate_threshold(X, y, strategy="max_tnr", min_rate=0.99)
    assert rates(same, proba >= matcher.threshold_)[0] >= 0.99


def test_blocks_do_not_change_the_threshold(matcher, halves, monkeypatch):
    _, (X, y) = halves
    whole = matcher.calibrate_threshold(X, y).threshold_
    monkeypatch.setattr("skpair.known.judge._PAIRS_AT_ONCE", 100)
    assert matcher.calibrate_threshold(X, y).threshold_ == whole


def test_images_and_skeletons_may_differ_in_number_and_be_unknown(matcher, halves):
    _, (X, y) = halves
    images, skeletons = split_pairs(X)
    whole = matcher.calibrate_threshold(X, y).threshold_
    assert matcher.calibrate_threshold(images, skeletons, y).threshold_ == whole
    few = matcher.calibrate_threshold(images, skeletons[:9], y, y_skeletons=y[:9])
    proba = matcher.pair_proba_matrix(images, skeletons[:9]).ravel()
    same = (y[:, None] == y[:9]).ravel()
    assert few.threshold_ == PairCounts().add(same, proba).best_threshold()
    unseen = matcher.calibrate_threshold(X, np.array(list("abcd"))[y])
    assert unseen.threshold_ == whole


def test_a_threshold_for_each_case(matcher, halves):
    _, (X, y) = halves
    named = matcher.decision_function(X).argmax(axis=1)
    matcher.calibrate_threshold(X, y, per_case=True)
    overall = matcher.threshold_
    proba, same = matcher.pair_proba_matrix(X), y[:, None] == y
    for case in np.unique(named):
        rows = named == case
        counts = PairCounts().add(same[rows], proba[rows])
        assert matcher.case_thresholds_[case] == counts.best_threshold()
    called = matcher.pair_proba(X) >= matcher.case_thresholds_[named]
    np.testing.assert_array_equal(matcher.predict_pairs(X), called)
    own = pair_scorer(pair_balanced_accuracy)(matcher, X, y)
    by_hand = pair_balanced_accuracy(y, y, proba, threshold=matcher.case_thresholds_[named])
    assert own == by_hand
    assert matcher.calibrate_threshold(X, y).case_thresholds_ is None
    assert matcher.threshold_ == overall


def test_a_case_without_both_kinds_of_pairs_has_the_common_threshold(matcher, halves):
    _, (X, y) = halves
    named = matcher.decision_function(X).argmax(axis=1)
    rows = named != 3  # no image is named so
    matcher.calibrate_threshold(X[rows], y[rows], per_case=True)
    assert matcher.case_thresholds_[3] == matcher.threshold_


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"strategy": "best"}, "strategy='best' is unknown"),
        ({"strategy": "max_tpr"}, "needs min_rate: the least rate of true negatives"),
        ({"strategy": "max_tnr", "min_rate": 2}, r">= 0 and <= 1, got 2"),
        ({"strategy": "f_beta", "beta": 0}, "beta must be > 0"),
        ({"y_skeletons": [0, 1]}, "y_skeletons has 2 cases, but there are 40 skeletons"),
    ],
)
def test_bad_wishes_for_a_threshold(matcher, halves, how, message):
    _, (X, y) = halves
    before = matcher.threshold_
    with pytest.raises(ValueError, match=message):
        matcher.calibrate_threshold(X, y, **how)
    assert matcher.threshold_ == before


def test_a_threshold_needs_both_kinds_of_pairs(matcher, halves):
    _, (X, y) = halves
    with pytest.raises(ValueError, match="y holds one class only"):
        matcher.calibrate_threshold(X[:5], np.zeros(5, int))
    with pytest.raises(ValueError, match="pairs of one case and pairs of two"):
        matcher.calibrate_threshold(X[:5], np.zeros(5, int), y_skeletons=np.ones(5, int))
    with pytest.raises(ValueError, match="y has 39 cases, but there are 40 images"):
        matcher.calibrate_threshold(X, y[1:])
    with pytest.raises(ValueError, match="missing labels"):
        matcher.calibrate_threshold(X, np.where(y == 0, np.nan, y))
    with pytest.raises(NotFittedError):
        PairMatcher().calibrate_threshold(X, y)


# ---- probabilities -------------------------------------------------------------------------------


def test_the_temperature_that_made_the_labels_is_found():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 5))
    proba = np.exp(scores / 0.3)
    proba /= proba.sum(axis=1, keepdims=True)
    codes = (proba.cumsum(axis=1) > rng.uniform(size=(len(proba), 1))).argmax(axis=1)
    assert best_temperature(scores, codes, start=1.0) == pytest.approx(0.3, rel=0.05)


def test_few_rows_that_are_all_named_rightly_make_nobody_sure():
    scores = np.eye(3)[np.arange(30) % 3]
    found = best_temperature(scores, np.arange(30) % 3, start=1.0)
    confidence = 1 / (1 + 2 * np.exp(-1 / found))
    assert confidence == pytest.approx(31 / 32, rel=1e-3)


def test_expected_calibration_error_by_hand():
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.35, 0.65]])
    # bins of a half: all four in the upper one; mean confidence 0.7625, three are right
    y = np.array(["a", "b", "b", "b"])
    assert expected_calibration_error(y, proba, n_bins=2) == pytest.approx(0.7625 - 0.75)
    # bins of a tenth: .9, .8, .7 and .65 alone
    expected = (0.1 + 0.8 + 0.3 + 0.35) / 4
    assert expected_calibration_error(y, proba, n_bins=10) == pytest.approx(expected)
    assert expected_calibration_error(["c"], [[1.0, 0]], classes=["a", "b"]) == 1
    with pytest.raises(ValueError, match="give classes=estimator.classes_"):
        expected_calibration_error(["a"], [[1.0, 0]])
    with pytest.raises(ValueError, match="must be probabilities, in 0..1"):
        expected_calibration_error(["a", "b"], [[1.0, 0], [-1, 2]])
    with pytest.raises(ValueError, match="Mix of label input types"):
        expected_calibration_error(["a", "b"], [[1.0, 0], [0, 1]], classes=[0, 1])


@pytest.mark.parametrize("loss", ["n_pair", "binary_cross_entropy"])
def test_calibrated_probabilities(halves, loss):
    (X, y), (held_X, held_y) = halves
    held_y = np.where(np.arange(len(held_y)) % 5, held_y, 0)  # some of them are wrong
    matcher = PairMatcher(loss=loss, prior="uniform", max_epochs=3, random_state=0).fit(X, y)
    named, pairs = matcher.predict(held_X), matcher.pair_proba(held_X)
    before = matcher.predict_proba(held_X)
    assert matcher.calibrate_probabilities(held_X, held_y) is matcher
    after = matcher.predict_proba(held_X)
    rows = np.arange(len(held_y))
    assert np.log(after[rows, held_y]).mean() > np.log(before[rows, held_y]).mean()
    assert set(matcher.calibration_error_) == {"before", "after"}
    assert matcher.calibration_error_["after"] == expected_calibration_error(held_y, after)
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(matcher.predict(held_X), named)
    if loss == "binary_cross_entropy":  # has probabilities of pairs of its own
        np.testing.assert_array_equal(matcher.pair_proba(held_X), pairs)
    else:
        of_case = matcher.gallery_.case_similarity(
            matcher.embed_skeletons(held_X), kinds="both", aggregate="mean", normalize=True
        )
        of_case = softmax(of_case / matcher.temperature_, axis=1)
        np.testing.assert_allclose(matcher.pair_proba(held_X), (after * of_case).sum(1), rtol=1e-5)
    again = matcher.temperature_
    matcher.calibrate_probabilities(held_X, 1 - np.minimum(held_y, 1))  # others in between
    assert matcher.calibrate_probabilities(held_X, held_y).temperature_ == again
    assert not hasattr(matcher.fit(X, y), "calibration_error_")


def test_calibrated_probabilities_set_the_threshold_anew(halves):
    (X, y), (held_X, held_y) = halves
    matcher = PairMatcher(prior="uniform", max_epochs=3, random_state=0).fit(X, y)
    matcher.calibrate_threshold(held_X, held_y, per_case=True)
    matcher.threshold_ = 0.123
    matcher.calibrate_probabilities(held_X, np.where(np.arange(len(held_y)) % 5, held_y, 0))
    assert matcher.pair_temperature_ == matcher.temperature_ != matcher.temperature
    assert matcher.case_thresholds_ is None
    proba = matcher.pair_proba_matrix(held_X, X[:, 10:])  # with the skeletons of fit
    same = np.where(np.arange(len(held_y)) % 5, held_y, 0)[:, None] == y[None]
    expected = PairCounts().add(same, proba).best_threshold()
    assert matcher.threshold_ == pytest.approx(expected, rel=1e-3)


def test_rows_that_lack_a_case_leave_classes_alone(matcher, halves):
    _, (X, y) = halves
    matcher.calibrate_probabilities(X[y != 3], y[y != 3])
    np.testing.assert_array_equal(matcher.classes_, [0, 1, 2, 3])
    assert matcher.predict_proba(X).shape == (40, 4)
    with pytest.raises(ValueError, match=r"not known: \[7\]"):
        matcher.calibrate_probabilities(X, np.where(y == 3, 7, y))
    with pytest.raises(ValueError, match="of the kind of the cases"):
        matcher.calibrate_probabilities(X, y.astype(str))
    with pytest.raises(ValueError, match="inconsistent numbers"):
        matcher.calibrate_probabilities(X, y[1:])


# ---- unknown cases -------------------------------------------------------------------------------


def test_curve_of_coverage_and_accuracy_by_hand():
    coverage, accuracy, thresholds = coverage_accuracy_curve(
        [0, 0, 1, 1], [0, 1, 1, 0], [0.1, 0.3, 0.3, 0.9]
    )
    np.testing.assert_allclose(coverage, [0.25, 0.75, 1])
    np.testing.assert_allclose(accuracy, [1, 2 / 3, 0.5])
    np.testing.assert_allclose(thresholds, [0.1, 0.3, 0.9])
    with pytest.raises(ValueError, match="NaN"):
        coverage_accuracy_curve([0], [0], [np.nan])
    with pytest.raises(ValueError, match="Mix of label input types"):
        coverage_accuracy_curve([0, 1], ["0", "1"], [0.1, 0.2])


def with_labels(kind, y):
    return {
        "int": y,
        "uint8": y.astype(np.uint8),
        "str": np.array(["a", "bc", "d", "e"])[y],
        "object": np.array(["a", "bc", "d", "e"], dtype=object)[y],
        "pandas": pd.Series(["a", "bc", "d", "e"], dtype="string").loc[y],
        "float": y.astype(float),
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "unknown"),
    [
        ("int", -1),
        ("int", np.int64(-1)),
        ("uint8", -1),
        ("float", -1.0),
        ("str", "none of these"),
        ("object", "none of these"),
        ("pandas", "none of these"),
    ],
)
def test_far_images_are_unknown(halves, kind, unknown):
    (X, y), (held_X, _) = halves
    known = y != 3
    matcher = PairMatcher(max_epochs=5, unknown_label=unknown, random_state=0)
    matcher.fit(X[known], with_labels(kind, y)[known]).calibrate_novelty(held_X[:20])
    named = matcher.predict(X[known])
    assert set(named) <= {unknown, *matcher.classes_}
    assert unknown not in matcher.classes_
    far = matcher.novelty_score(X) > matcher.novelty_threshold_
    np.testing.assert_array_equal(matcher.predict(X) == unknown, far)
    matcher.novelty_threshold_ = -np.inf
    assert set(matcher.predict(X)) == {unknown}
    matcher.set_params(unknown_label=None)
    assert set(matcher.predict(X)) <= set(matcher.classes_)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_fit_sets_a_threshold_from_examples_other_than_the_row_itself(features, early_stopping):
    X, y = features
    matcher = PairMatcher(early_stopping=early_stopping, max_epochs=5, random_state=0).fit(X, y)
    assert matcher.novelty_threshold_ > 1e-3  # an image is no news to itself
    assert matcher.judge_.novelty(matcher.embed_images(X)).max() < 1e-3


@pytest.mark.parametrize(
    ("loss", "gallery"),
    [("n_pair", "both"), ("n_pair", "skeletons"), ("n_pair", "images")]
    + [("binary_cross_entropy", "both")],
)
def test_novelty_is_the_distance_to_the_nearest_known_example(halves, loss, gallery):
    (X, y), (held_X, _) = halves
    matcher = PairMatcher(loss=loss, gallery=gallery, max_epochs=1, random_state=0).fit(X, y)
    images, known = matcher.transform(held_X), matcher.gallery_
    if loss == "n_pair":
        kinds = ["images", "skeletons"] if gallery == "both" else [gallery]
        examples = np.concatenate([getattr(known, kind) for kind in kinds])
        nearest = (images @ examples.T).max(axis=1)
    else:
        nearest = matcher.pair_proba_matrix(held_X, split_pairs(X)[1]).max(axis=1)
    foreign = matcher.judge_.foreign(image_half(matcher, held_X))
    expected = np.maximum(1 - nearest, foreign)
    np.testing.assert_allclose(matcher.novelty_score(held_X), expected, atol=1e-6)
    matcher.familiar_ = {}  # as of a file of an earlier version
    np.testing.assert_allclose(matcher.novelty_score(held_X), 1 - nearest, atol=1e-6)


@pytest.mark.parametrize("false_alarm", [0, 0.05, 0.3])
def test_false_alarms_are_as_few_as_wished(matcher, halves, false_alarm):
    _, (X, _) = halves
    matcher.calibrate_novelty(X, false_alarm=false_alarm)
    share = (matcher.novelty_score(X) > matcher.novelty_threshold_).mean()
    assert false_alarm - 1 / len(X) < share <= false_alarm
    threshold = matcher.novelty_threshold_
    assert matcher.calibrate_novelty(X, coverage=1 - false_alarm).novelty_threshold_ == threshold


@pytest.mark.parametrize(
    "how", [{"false_alarm": 1}, {"false_alarm": -0.1}, {"coverage": 0}, {"coverage": 1.1}]
)
def test_bad_wishes_for_novelty(matcher, halves, how):
    with pytest.raises(ValueError, match="must be"):
        matcher.calibrate_novelty(halves[1][0], **how)


@pytest.mark.parametrize(
    ("kind", "unknown", "message"),
    [
        ("int", "none", "unknown_label must be of the kind of the cases, whole numbers"),
        ("int", 0.5, "unknown_label must be of the kind"),
        ("int", True, "unknown_label must be of the kind"),
        ("str", -1, "unknown_label must be of the kind of the cases, strings"),
        ("int", 2, "unknown_label=2 is one of the cases"),
        ("str", "bc", "unknown_label='bc' is one of the cases"),
        ("str", float("nan"), "unknown_label holds missing labels"),
    ],
)
def test_an_unknown_label_is_of_the_kind_of_the_cases_but_none(halves, kind, unknown, message):
    (X, y), _ = halves
    matcher = PairMatcher(unknown_label=unknown, max_epochs=1)
    with pytest.raises(ValueError, match=message):
        matcher.fit(X, with_labels(kind, y))


def test_a_matcher_that_abstains_is_cross_validated(features):
    X, y = features
    matcher = PairMatcher(max_epochs=2, unknown_label=-1, random_state=0)
    named = cross_val_predict(matcher, X, y, cv=2)
    assert set(named) <= {-1, *y}
    assert clone(matcher).unknown_label == -1
