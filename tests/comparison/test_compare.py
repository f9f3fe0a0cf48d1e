import functools
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import make_moons
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    RandomizedSearchCV,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from skpair import PairEncoder, PairMatcher, pair_up, split_pairs, stack_pairs
from skpair.comparison import (
    Comparison,
    ImageOnly,
    OneHotSkeletons,
    TwoClassifiers,
    compare,
    corrected_t_test,
    encode_splits,
    image_only,
    one_hot_skeletons,
    two_classifiers,
)
from skpair.comparison.compare import _inner_cv
from skpair.comparison.statistics import _holm
from skpair.metrics import pair_average_precision, pair_scorer, recall_at_k

FAST = {"max_epochs": 3, "embedding_dim": 8}


def noise_for_skeletons(X):
    X = X.copy()
    middle = X.shape[1] // 2
    X[:, middle:] = np.random.default_rng(1).normal(size=X[:, middle:].shape)
    return X


# ---- controls ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "control",
    [
        image_only(),
        image_only("lda"),
        two_classifiers(),
        two_classifiers("lda"),
        one_hot_skeletons(PairMatcher(random_state=0)),
    ],
)
def test_controls_name_cases_without_skeletons(features, control):
    X, y = features
    names = np.array(["x", "c", "k", "b"])[y]
    control.fit(X, names)
    assert control.score(X, names) > 0.9
    noisy = noise_for_skeletons(X)
    np.testing.assert_array_equal(control.predict(X), control.predict(noisy))
    np.testing.assert_allclose(control.predict_proba(X), control.predict_proba(noisy))
    np.testing.assert_allclose(control.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("make", [image_only, lambda: one_hot_skeletons(PairMatcher(**FAST))])
def test_controls_learn_without_skeletons(features, make):
    X, y = features
    control, blind = (make(), make())
    if hasattr(control, "matcher"):
        control.matcher.random_state = blind.matcher.random_state = 0
    control.fit(X, y)
    blind.fit(noise_for_skeletons(X), y)
    np.testing.assert_array_equal(control.predict_proba(X), blind.predict_proba(X))


def test_two_classifiers_sum_over_cases(features):
    X, y = features
    control = two_classifiers(LogisticRegression(C=0.1)).fit(X, y)
    middle = X.shape[1] // 2
    p = control.image_classifier_.predict_proba(X[:, :middle])
    q = control.skeleton_classifier_.predict_proba(X[:5, middle:])
    np.testing.assert_array_equal(control.pair_proba_matrix(X, X[:5, middle:]), p @ q.T)
    np.testing.assert_array_equal(control.pair_proba_matrix(X)[:, :5], p @ q.T)
    assert control.image_classifier_[-1].C == 0.1
    assert 0 < control.threshold_ < 1
    assert pair_scorer(pair_average_precision)(control, X, y) > 0.8


CONTROLS = [image_only(), two_classifiers(), one_hot_skeletons(PairMatcher(random_state=0, **FAST))]


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS)
def test_controls_take_images_alone(features, control):
    X, y = features
    middle = X.shape[1] // 2
    control.fit(X, y)
    for method in {"predict", "predict_proba", "decision_function"} & set(dir(control)):
        ask = getattr(control, method)
        np.testing.assert_array_equal(ask(X[:, :middle]), ask(X))
    with pytest.raises(ValueError, match="X has 3 features"):
        control.predict(X[:, :3])


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS)
def test_controls_take_images_alone_by_name_and_without_padding(features, control):
    X, y = features
    images, skeletons = X[:, :7], X[:, 10:]  # padded by three columns
    control.fit(stack_pairs(images, skeletons), y)
    np.testing.assert_array_equal(
        control.predict(images), control.predict(stack_pairs(images, skeletons))
    )
    table = pd.DataFrame(X, columns=[f"column {i}" for i in range(20)])
    control.fit(table, y)
    assert control.feature_names_in_.tolist() == table.columns.tolist()
    np.testing.assert_array_equal(control.predict(table.iloc[:, :10]), control.predict(table))
    with pytest.raises(ValueError, match="feature names should match"):
        control.predict(table.iloc[:, 10:].rename(columns={"column 10": "column 0"}))


def test_image_only_is_its_classifier_on_standardized_images(features):
    X, y = features
    names = np.array(["x", "c", "k", "b"])[y]
    weights = {"x": 1, "c": 2, "k": 3, "b": 4}  # by label: the classifier gets them as they are
    classifier = LogisticRegression(C=0.1, class_weight=weights)
    control = image_only(classifier).fit(X, names)
    alone = make_pipeline(StandardScaler(), classifier).fit(X[:, :10], names)
    assert control.classes_.tolist() == ["b", "c", "k", "x"]
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(
            getattr(control, method)(X), getattr(alone, method)(X[:, :10])
        )


@pytest.mark.parametrize("control", [image_only(LinearSVC()), image_only()])
def test_image_only_has_the_methods_of_its_classifier(features, control):
    X, y = features
    has_proba = isinstance(control.classifier, LogisticRegression)
    assert hasattr(control, "predict_proba") == has_proba
    control.fit(X, y)
    assert hasattr(control, "predict_proba") == has_proba
    assert control.decision_function(X).shape == (120, 4)
    assert image_only(LinearSVC()).fit(X, y == 0).decision_function(X).shape == (120,)
    assert not hasattr(image_only(RandomForestClassifier()), "decision_function")


@pytest.mark.parametrize("make", [image_only, two_classifiers])
def test_the_strength_of_the_controls_is_searched(features, make):
    X, y = features
    search = GridSearchCV(
        make(), {"classifier__C": [1e-6, 0.01]}, scoring="balanced_accuracy", cv=2
    )
    assert search.fit(X, y).best_params_ == {"classifier__C": 0.01}


@pytest.mark.parametrize("control", [ImageOnly(), TwoClassifiers(), OneHotSkeletons()])
def test_parameters_of_what_is_not_given(control):
    (name, *_) = control.get_params(deep=False)
    with pytest.raises(ValueError, match=f"{name}__lr cannot be set: .*=None.* Give a .* first"):
        control.set_params(**{f"{name}__lr": 1})


@pytest.mark.slow
@pytest.mark.parametrize("make", [image_only, two_classifiers])
def test_controls_do_not_mind_the_output_setting(features, make):
    X, y = features
    expected = make().fit(X, y).predict(X)
    with config_context(transform_output="pandas"):
        control = make().fit(X, y)
        np.testing.assert_array_equal(control.predict(X), expected)
    np.testing.assert_array_equal(control.predict(X), expected)


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_want_encodings(digits, control):
    with pytest.raises(ValueError, match="pixels.*put a PairEncoder before it"):
        control.fit(*digits)
    with pytest.raises(ValueError, match="files.*put a PairEncoder before it"):
        control.fit(np.array([["missing.png", "missing.png"]] * 2), [0, 1])


@pytest.mark.parametrize(
    "control, method",
    [
        (image_only(), "predict"),
        (image_only(), "predict_proba"),
        (image_only(), "decision_function"),
        (two_classifiers(), "predict"),
        (two_classifiers(), "predict_proba"),
        (two_classifiers(), "pair_proba_matrix"),
        (one_hot_skeletons(), "predict"),
        (one_hot_skeletons(), "predict_proba"),
    ],
)
def test_controls_that_are_not_fitted(features, control, method):
    with pytest.raises(NotFittedError):
        getattr(control, method)(features[0])


def test_two_classifiers_need_probabilities(features):
    with pytest.raises(TypeError, match="must have predict_proba, got LinearSVC"):
        two_classifiers(LinearSVC()).fit(*features)


# ---- compare -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compare(features):
    X, y = features
    result = compare(
        {
            "n_pair": PairMatcher(**FAST),
            "again": PairMatcher(**FAST),
            "image_only": image_only(),
            "guess": DummyClassifier(),
        },
        X,
        y,
        random_state=0,
    )
    assert repr(result) == "Comparison(4 estimators, 10 splits)"
    assert result.scores.columns.tolist() == ["estimator", "split", "seed", "metric", "score"]
    counts = result.scores.value_counts(["estimator", "metric"])
    assert set(counts) == {10}
    pairs = result.scores.query("metric == 'pair_average_precision'")["estimator"]
    assert set(pairs) == {"n_pair", "again"}
    assert set(result.fits["n_train"]) == set(result.fits["n_test"]) == {60}

    summary = result.summary()
    guessed = summary.loc[("balanced_accuracy", "guess")]
    assert guessed["mean"] == 0.25 and guessed["low"] == guessed["high"] == 0.25
    known = summary.loc[("balanced_accuracy", "image_only")]
    assert known["mean"] > 0.8
    learnt = summary.loc[("balanced_accuracy", "n_pair")]
    assert learnt["low"] < learnt["mean"] < learnt["high"]

    test = result.test("n_pair")
    itself = test.xs("again", level="estimator")
    assert (itself["difference"] == 0).all() and (itself["p_holm"] == 1).all()
    assert test.loc[("balanced_accuracy", "guess"), "p_holm"] < 1e-3
    assert test.loc[("balanced_accuracy", "guess"), "difference"] > 0.5
    assert len(test) == 2 * 3 + 1  # no pairs but those of "again"
    assert (test["p_holm"] >= test["p"]).all()
    one = result.test("n_pair", "balanced_accuracy")
    assert one.index.get_level_values("metric").unique() == ["balanced_accuracy"]
    family = result.test("n_pair", "balanced_accuracy", ["guess", "n_pair"])
    assert family.index.tolist() == [("balanced_accuracy", "guess")]
    assert family["p_holm"].item() == family["p"].item() == test["p"].loc[family.index].item()
    with pytest.raises(ValueError, match="against='nobody' is unknown"):
        result.test("n_pair", against=["nobody"])
    with pytest.raises(ValueError, match="reference='nobody' is unknown; known are 'n_pair'"):
        result.test("nobody")
    with pytest.raises(ValueError, match="metrics='accuracy' is unknown"):
        result.test("n_pair", ["accuracy"])

    by_case = result.by_case()
    assert by_case.loc["balanced_accuracy", "n"].tolist() == [30, 15, 10, 5]
    assert by_case.loc["balanced_accuracy", "guess"].tolist() == [1, 0, 0, 0]
    assert by_case.loc["pair_average_precision", "guess"].isna().all()
    means = by_case.groupby(level="metric")["n_pair"].mean()
    assert means["balanced_accuracy"] == pytest.approx(
        summary.loc[("balanced_accuracy", "n_pair"), "mean"]
    )
    assert means["pair_average_precision"] == pytest.approx(
        summary.loc[("pair_average_precision", "n_pair"), "mean"]
    )


@pytest.mark.slow
def test_scores_are_those_of_cross_validation(features):
    X, y = features
    cv = StratifiedKFold(3)
    result = compare({"a": image_only()}, X, y, cv=cv, scoring=["accuracy", "balanced_accuracy"])
    for metric in ("accuracy", "balanced_accuracy"):
        scores = result.scores.query("metric == @metric")["score"]
        assert (
            scores.tolist() == cross_val_score(image_only(), X, y, cv=cv, scoring=metric).tolist()
        )
    recall = result.case_scores.query("split == 0")["score"]
    train, test = next(cv.split(X, y))
    named = image_only().fit(X[train], y[train]).predict(X[test])
    assert recall.tolist() == recall_score(y[test], named, average=None).tolist()


@pytest.mark.slow
def test_a_case_that_is_in_no_test_rows_has_no_score(features):
    X, y = features
    rows = np.arange(len(y))
    rare = y == 3
    cv = [(rows[::2], rows[1::2][~rare[1::2]]), (rows[1::2], rows[::2])]
    result = compare({"a": two_classifiers()}, X, y, cv=cv, scoring="pair_average_precision")
    scores = result.case_scores.pivot(index="split", columns="case", values="score")
    assert np.isnan(scores.loc[0, 3]) and scores.notna().sum().sum() == 7
    assert result.by_case().loc[("pair_average_precision", 3), "a"] == scores.loc[1, 3]
    expected = scores.mean(axis=1)  # over the cases that are there
    np.testing.assert_allclose(result.scores["score"], expected)


@pytest.mark.slow
def test_seeds_are_shared_and_averaged(features):
    X, y = features
    pair = {"a": PairMatcher(**FAST), "b": make_pipeline(PairMatcher(**FAST))}
    result = compare(pair, X, y, cv=2, n_seeds=3, scoring="balanced_accuracy", random_state=0)
    table = result.scores.pivot(index=["split", "seed"], columns="estimator", values="score")
    assert (table["a"] == table["b"]).all()
    assert table["a"].nunique() > 2
    mean = result.summary().loc[("balanced_accuracy", "a")]
    assert mean["n_splits"] == 2 and mean["mean"] == pytest.approx(table["a"].mean())
    again = compare(pair, X, y, cv=2, n_seeds=3, scoring="balanced_accuracy", random_state=0)
    pd.testing.assert_frame_equal(result.scores, again.scores)
    assert pair["a"].random_state is None


def test_the_seed_of_numpy_is_left_alone(features):
    before = np.random.get_state()[1].tolist()
    compare({"a": image_only()}, *features, cv=2)
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.slow
def test_search_is_nested(features):
    X, y = features
    grid = {"temperature": [0.1, 1e6]}
    result = compare(
        {"searched": (PairMatcher(**FAST), grid), "fixed": PairMatcher(**FAST)},
        X,
        y,
        cv=2,
        scoring=["balanced_accuracy", "pair_average_precision"],
        refit="pair_average_precision",
        random_state=0,
    )
    assert result.fits["params"].tolist() == [{"temperature": 0.1}] * 2 + [{}] * 2
    scores = result.scores.pivot(index=["split", "metric"], columns="estimator", values="score")
    assert (scores["searched"] == scores["fixed"]).all()


class RowsSeen(DummyClassifier):
    """Notes the rows that it is fitted on, and those that it is asked about."""

    fits = []
    asked = []

    def __init__(self, strategy="prior", tag=0):
        super().__init__(strategy=strategy)
        self.tag = tag

    def fit(self, X, y):
        RowsSeen.fits.append(set(X[:, 0].astype(int)))
        return super().fit(X, y)

    def predict(self, X):
        RowsSeen.asked.append(set(X[:, 0].astype(int)))
        return super().predict(X)


def test_search_sees_no_test_row():
    y = np.tile([0, 1], 30)
    X = np.stack([np.arange(60), np.random.default_rng(0).normal(size=60)], axis=1)
    train, test = np.arange(40), np.arange(40, 60)
    RowsSeen.fits.clear()
    RowsSeen.asked.clear()
    searched = {"a": (RowsSeen(), {"tag": [0, 1]})}
    compare(searched, X, y, cv=[(train, test)], scoring="accuracy")
    assert len(RowsSeen.fits) == 2 * 3 + 1
    assert all(seen <= set(train) for seen in RowsSeen.fits)
    assert set(test) in RowsSeen.asked
    assert all(seen <= set(train) for seen in RowsSeen.asked if seen != set(test))


@pytest.mark.filterwarnings("ignore:Only .* splits differ")
@pytest.mark.parametrize("cv", [None, LeaveOneGroupOut()])
def test_groups_stay_together_in_both_loops(cv):
    y = np.tile([0, 1], 30)
    groups = np.repeat(np.arange(6), 10)
    X = np.stack([np.arange(60), np.random.default_rng(0).normal(size=60)], axis=1)
    RowsSeen.fits.clear()
    compare(
        {"a": (RowsSeen(), {"tag": [0, 1]})},
        X,
        y,
        cv=cv,
        groups=groups,
        scoring="accuracy",
        inner_cv=None if cv is None else LeaveOneGroupOut(),
        random_state=0,
    )
    assert len(RowsSeen.fits) > 10
    for seen in RowsSeen.fits:
        for group in range(6):
            together = set(np.flatnonzero(groups == group))
            assert together <= seen or not together & seen


@pytest.mark.filterwarnings("ignore:Only .* splits differ")
def test_groups_go_along_with_the_encodings():
    y = np.tile([0, 1], 30)
    groups = np.repeat(list("abcdef"), 10)
    X = np.stack([np.arange(60), np.random.default_rng(0).normal(size=60)], axis=1)
    encoded = encode_splits(PairEncoder("identity", "identity"), X, y, groups=groups)
    np.testing.assert_array_equal(encoded.groups, groups[encoded.X[:, 0].astype(int)])
    RowsSeen.fits.clear()
    compare({"a": (RowsSeen(), {"tag": [0, 1]})}, **encoded, scoring="accuracy")
    assert len(RowsSeen.fits) == len(encoded.cv) * (2 * 3 + 1)
    for seen in RowsSeen.fits:
        for group in range(6):
            together = set(range(10 * group, 10 * group + 10))
            assert together <= seen or not together & seen
    assert encode_splits(PairEncoder("identity", "identity"), X, y).groups is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "entry",
    [
        one_hot_skeletons(),
        (two_classifiers(), {"classifier": [RandomForestClassifier(5)]}),
        (two_classifiers(), [{"classifier": [RandomForestClassifier(5)]}]),
    ],
)
def test_seeds_reach_every_part(features, entry):
    X, y = features
    X = X + np.random.default_rng(0).normal(size=X.shape) * 5
    same, again, other = (
        compare({"a": entry}, X, y, cv=2, scoring=log_loss_scorer, random_state=seed).scores
        for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(same, again)
    assert (same["score"] != other["score"]).all()


def log_loss_scorer(estimator, X, y):
    return estimator.predict_proba(X)[:, 0].astype(float).sum()


@pytest.mark.slow
def test_each_is_searched_by_what_it_has(features):
    X, y = features
    result = compare(
        {"m": (PairMatcher(**FAST), {"temperature": [0.1, 1e6]}), "blind": image_only()},
        X,
        y,
        cv=2,
        refit="pair_average_precision",
        random_state=0,
    )
    assert result.fits["params"].tolist() == [{"temperature": 0.1}] * 2 + [{}] * 2


def test_missing_values_are_for_the_estimators_to_judge(features):
    X, y = features
    X = X.copy()
    X[3, 2] = np.nan
    imputing = make_pipeline(SimpleImputer(), image_only())
    assert compare({"a": imputing}, X, y, cv=2).scores["score"].notna().all()


@pytest.mark.slow
@pytest.mark.parametrize("form", [list, np.array, lambda rows: np.isin(np.arange(120), rows)])
def test_splits_of_any_form(features, form):
    even, odd = np.arange(0, 120, 2), np.arange(1, 120, 2)
    plain = compare({"a": image_only()}, *features, cv=[(even, odd)])
    formed = compare({"a": image_only()}, *features, cv=[(form(even), form(odd))])
    pd.testing.assert_frame_equal(plain.scores, formed.scores)


def test_splits_that_repeat_are_taken_once(features):
    X, y = features
    split = np.arange(0, 120, 2), np.arange(1, 120, 2)
    with pytest.warns(UserWarning, match="Only 1 of 3 splits differ"):
        result = compare({"a": image_only()}, X, y, cv=[split] * 3)
    assert len(result.fits) == 1
    two_groups = np.arange(120) % 2  # can be parted in one way only
    with pytest.warns(UserWarning, match="Only 2 of 10 splits differ"):
        encoded = encode_splits(PairEncoder("identity", "identity"), X, y, groups=two_groups)
    assert len(encoded.cv) == 2


def test_only_rows_of_pairs_are_encoded(features):
    for encoder in (PairMatcher(), "cnn", LogisticRegression()):
        with pytest.raises(TypeError, match="encoder must turn rows of pairs into feature rows"):
            encode_splits(encoder, *features)


@pytest.mark.slow
def test_the_estimator_that_fails_is_named(features):
    with pytest.raises(ValueError) as raised:
        compare({"good": image_only(), "bad": image_only(LogisticRegression(C=-1))}, *features)
    assert raised.value.__notes__ == ["This was raised for the estimator 'bad'."]


def test_a_search_tells_what_it_chose(features):
    search = GridSearchCV(PairMatcher(**FAST), {"temperature": [0.1]}, cv=2)
    result = compare({"a": search}, *features, cv=2)
    assert result.fits["params"].tolist() == [{"temperature": 0.1}] * 2


@pytest.mark.slow
def test_what_refits_is_not_always_a_search(features):
    X, y = features
    tuned = TunedThresholdClassifierCV(image_only(), cv=2)
    result = compare({"a": tuned}, X, y == 0, cv=2, scoring="balanced_accuracy")
    assert result.fits["params"].tolist() == [{}, {}]


@pytest.mark.slow
def test_workers_give_the_same(features):
    X, y = features
    pair = {"a": PairMatcher(**FAST), "b": (two_classifiers(), {"classifier": [None]})}
    alone, workers = (compare(pair, X, y, cv=2, random_state=0, n_jobs=n) for n in (None, 2))
    pd.testing.assert_frame_equal(alone.scores, workers.scores)


@pytest.mark.slow
def test_plot(features):
    result = compare({"a": image_only(), "b": two_classifiers()}, *features, random_state=0)
    figure = result.plot()
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["balanced accuracy", "f1 macro", "pair average precision"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "b"]
    assert len(result.plot(["f1_macro"]).axes) == 1
    with pytest.raises(ValueError, match="metrics='accuracy' is unknown"):
        result.plot(["accuracy"])
    with pytest.raises(ValueError, match="metrics must name at least one"):
        result.plot([])
    assert len(result.test("a", "f1_macro", against="b")) == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"estimators": {}}, "dict of names"),
        ({"estimators": [PairMatcher()]}, "dict of names"),
        ({"estimators": {1: PairMatcher()}}, "dict of names"),
        ({"estimators": {"a": PairMatcher}}, "'a' must be an estimator or"),
        ({"estimators": {"a": (PairMatcher(), {}, 3)}}, "'a' must be an estimator or"),
        ({"scoring": "precision_of_pairs"}, "is no scorer of scikit-learn and none of"),
        ({"scoring": []}, "scoring must be"),
        ({"refit": "accuracy"}, "refit='accuracy' is unknown"),
        ({"n_seeds": 0}, "n_seeds must be >= 1"),
        ({"groups": [1, 2]}, "inconsistent numbers"),
        ({"cv": 1}, "at least one train/test split"),
        ({"cv": []}, "gives no split"),
        ({"cv": [([0, 1, 2], [])]}, "cv: split 0 has 3 training, 0 test rows"),
        ({"cv": [([0.5], [1])]}, r"cv: split 0 must be \(train, test\)"),
        ({"scoring": 5}, "scoring must be"),
        ({"scoring": pair_average_precision}, r"is a metric.*pair_scorer\(pair_average_prec"),
        ({"groups": np.ones((120, 2))}, "1d array"),
        (
            {"estimators": {"a": image_only()}, "scoring": "pair_roc_auc"},
            "'a' has no methods for .*pair_roc_auc",
        ),
    ],
)
def test_bad_input(features, changes, message):
    X, y = features
    with pytest.raises(ValueError, match=message):
        compare(**{"estimators": {"a": PairMatcher(**FAST)}, "X": X, "y": y, **changes})


@pytest.mark.slow
def test_nothing_to_test(features):
    result = compare({"a": image_only(), "b": two_classifiers()}, *features, random_state=0)
    with pytest.raises(ValueError, match="nothing to test 'b' against"):
        result.test("b", "pair_average_precision")
    with pytest.raises(ValueError, match="nothing to test 'a' against"):
        result.test("a", against=["a"])


def test_one_split_has_no_test(features):
    X, y = features
    half = np.arange(60)
    result = compare({"a": image_only(), "b": two_classifiers()}, X, y, cv=[(half, half + 60)])
    assert result.summary()["low"].isna().all()
    with pytest.raises(ValueError, match="at least two splits"):
        result.test("a")


@pytest.mark.slow
@pytest.mark.parametrize(
    "scoring, name",
    [
        (pair_scorer(recall_at_k, k=2), "recall_at_k"),
        ({"first two": pair_scorer(recall_at_k, k=2)}, "first two"),
        (pair_scorer(functools.partial(recall_at_k, k=2)), "recall_at_k"),
        (lambda estimator, X, y: 0.5, "score"),
    ],
)
def test_scorers_of_any_kind(features, scoring, name):
    result = compare({"a": two_classifiers()}, *features, cv=2, scoring=scoring)
    assert result.scores["metric"].unique().tolist() == [name]


# ---- leaks ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_planted_leak_is_warned_of(digits, files):
    X, y = digits
    X = X.copy()
    same = np.flatnonzero(y == 0)[[0, -1]]
    cv = StratifiedKFold(2)
    X[same[0], 0] = X[same[1], 0]  # the photo, not the skeleton
    classify = {"a": make_pipeline(Columns(), LogisticRegression())}
    with pytest.warns(UserWarning, match=rf"1 test rows hold the very same image.*{same[0]}"):
        compare(classify, X, y, cv=cv, scoring="accuracy")
    table, y = files
    table = table.copy()
    table.loc[same[1], "skeleton"] = copied(table.loc[same[0], "skeleton"])
    with pytest.warns(UserWarning, match="1 test rows hold the very same skeleton"):
        compare(classify, table, y, cv=cv, scoring="accuracy")


def test_shared_drawings_are_told_apart_from_shared_photographs(digits):
    images, skeletons = split_pairs(digits[0])
    y = digits[1]
    drawings = [np.flatnonzero(y == case)[0] for case in np.unique(y)]
    X, y = pair_up(images, y, skeletons[drawings], y[drawings])
    encoder = PairEncoder(frozen=True, random_state=0)
    with pytest.warns(UserWarning, match="very same skeleton.*known in use") as caught:
        encoded = encode_splits(encoder, X, y, cv=2)
        compare({"a": image_only()}, **encoded, scoring="accuracy")
    assert len(caught) == 1 and "very same image" not in str(caught[0].message)
    encode_splits(encoder, X, y, cv=2, groups=np.arange(len(y)))  # of specimens
    X[y == 0] = X[y == 0][0]
    with pytest.warns(UserWarning, match="same image.*too good.*same skeleton") as caught:
        encoded = encode_splits(encoder, X, y, cv=2)
    assert len(caught) == 1
    with pytest.raises(ValueError, match="duplicates='never' is unknown"):
        compare({"a": image_only()}, *digits, duplicates="never")


@pytest.mark.slow
@pytest.mark.parametrize("function", ["compare", "encode_splits"])
def test_a_number_of_folds_keeps_groups_together(features, function):
    X, y = features
    groups = np.random.default_rng(0).permutation(np.arange(len(y)) // 3)
    if function == "compare":
        seen = StratifiedGroupKFold(3).split(X, y, groups)
        result = compare({"a": image_only()}, X, y, cv=3, groups=groups, scoring="accuracy")
        assert result.fits["n_test"].tolist() == [len(test) for _, test in seen]
        return
    encoded = encode_splits(PairEncoder(frozen=True), X, y, cv=3, groups=groups)
    assert len(encoded.cv) == 3
    for train, test in encoded.cv:
        assert not set(encoded.groups[train]) & set(encoded.groups[test])


@pytest.mark.parametrize("kind", ["numbers", "text", "object"])
def test_missing_groups_are_refused(features, kind):
    X, y = features
    groups = pd.Series(np.arange(len(y)) // 3, dtype=float)
    groups = groups if kind == "numbers" else groups.astype(str)
    groups = groups.astype(object) if kind == "object" else groups
    groups = groups.mask(np.arange(len(y)) >= 5)
    for ask in (
        lambda: compare({"a": image_only()}, X, y, cv=2, groups=groups),
        lambda: encode_splits(PairEncoder(frozen=True), X, y, groups=groups),
    ):
        with pytest.raises(ValueError, match="groups holds missing labels, first in row 5"):
            ask()


def test_a_number_of_inner_folds_keeps_groups_together(features):
    X, y = features
    groups = np.random.default_rng(0).permutation(np.arange(len(y)) // 3)
    together = _inner_cv(3, groups, 0)
    for train, test in together.split(X, y, groups):
        assert not set(groups[train]) & set(groups[test])
    assert _inner_cv(3, None, 0) == 3


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(RowsSeen(), {"tag": [0, 1]}, cv=StratifiedGroupKFold(3)),
        RandomizedSearchCV(RowsSeen(), {"tag": [0, 1]}, n_iter=2, cv=StratifiedGroupKFold(3)),
    ],
)
def test_a_search_among_the_estimators_gets_the_groups(search):
    y = np.tile([0, 1], 30)
    groups = np.repeat(np.arange(12), 5)
    X = np.stack([np.arange(60), np.random.default_rng(0).normal(size=60)], axis=1)
    RowsSeen.fits.clear()
    compare({"a": search}, X, y, cv=2, groups=groups, scoring="accuracy", random_state=0)
    assert len(RowsSeen.fits) == 2 * (2 * 3 + 1)
    for seen in RowsSeen.fits:
        for group in range(12):
            together = set(np.flatnonzero(groups == group))
            assert together <= seen or not together & seen


def test_a_search_that_ignores_the_groups_is_warned_of(features):
    X, y = features
    groups = np.arange(len(y)) // 3
    search = GridSearchCV(image_only(), {"classifier__C": [0.01]}, cv=2)
    with pytest.warns(UserWarning, match="groups parameter is ignored by StratifiedKFold"):
        compare({"a": search}, X, y, cv=2, groups=groups, scoring="accuracy")


@pytest.mark.slow
def test_what_refits_without_a_search_gets_no_groups(features):
    X, y = features
    tuned = TunedThresholdClassifierCV(image_only(), cv=2)
    groups = np.arange(len(y)) // 3
    result = compare({"a": tuned}, X, y == 0, cv=2, groups=groups, scoring="accuracy")
    assert len(result.fits) == 2


@pytest.mark.slow
def test_groups_that_hold_the_leak_calm_the_warning(features):
    X, y = features
    X = np.concatenate([X, X])
    groups = np.tile(np.arange(120), 2)
    compare({"a": image_only()}, X, np.tile(y, 2), groups=groups, scoring="accuracy")
    with pytest.warns(UserWarning, match="the very same"):
        compare({"a": image_only()}, X, np.tile(y, 2), scoring="accuracy")


@pytest.mark.slow
def test_a_missing_file_is_named_with_its_row(files):
    table, y = files
    table = table.assign(image=["nowhere.png", *table["image"][1:]])
    matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=1)
    with pytest.raises(FileNotFoundError, match="Row 0: the image file 'nowhere.png'"):
        compare({"a": matcher}, table, y, cv=2, scoring="accuracy")


class Columns(TransformerMixin, BaseEstimator):
    """Turns rows of any layout into two columns."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return np.arange(2 * len(X)).reshape(-1, 2)


def copied(path):
    copy = os.path.join(os.path.dirname(path), "copy.png")
    with open(path, "rb") as source, open(copy, "wb") as target:
        target.write(source.read())
    return copy


# ---- encodings by split --------------------------------------------------------------------------


class Centre(TransformerMixin, BaseEstimator):
    """Takes the mean of the rows of `fit` away, and notes its seed."""

    seeds = []

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        Centre.seeds.append(self.random_state)
        self.mean_ = X.mean(axis=0)
        return self

    def transform(self, X):
        return X - self.mean_


@pytest.mark.slow
def test_encoders_learn_from_training_rows_only(features):
    X, y = features
    Centre.seeds.clear()
    cv = StratifiedKFold(3)
    encoded = encode_splits(Centre(), X, y, cv=cv, random_state=0)
    assert encoded.X.shape == (3 * 120, 20)
    assert len(set(Centre.seeds)) == 3
    for (train, test), (own_train, own_test) in zip(encoded.cv, cv.split(X, y), strict=True):
        mean = X[own_train].mean(axis=0)
        np.testing.assert_array_equal(encoded.X[train], X[own_train] - mean)
        np.testing.assert_array_equal(encoded.X[test], X[own_test] - mean)
        np.testing.assert_array_equal(encoded.y[test], y[own_test])
    result = compare({"a": image_only()}, **encoded)
    assert result.fits["n_test"].tolist() == [40] * 3


# ---- statistics ----------------------------------------------------------------------------------


def test_corrected_t_test_agrees_with_scikit_learns_example():
    """ "Statistical comparison of models using grid search" of its documentation."""
    X, y = make_moons(noise=0.352, random_state=1, n_samples=100)
    cv = RepeatedStratifiedKFold(n_splits=10, n_repeats=10, random_state=0)
    rbf, linear = (
        cross_val_score(SVC(kernel=kernel, random_state=0), X, y, scoring="roc_auc", cv=cv)
        for kernel in ("rbf", "linear")
    )
    t, p = corrected_t_test(rbf - linear, 10 / 90)
    assert round(t, 3) == 0.750
    assert round(p / 2, 3) == 0.227  # there, it is one-sided
    assert corrected_t_test(linear - rbf, 10 / 90) == (-t, p)


def test_tables_are_corrected_for_shared_rows():
    """Four splits of 30 training and 10 test rows; differences of 0, 1, 1, 2: mean 1, variance 2/3.

    So the squared standard error is 2/3 * (1/4 + 10/30), and 3.182 the quantile of 3 degrees.
    """
    scores = {"a": [3.0, 4.0, 5.0, 7.0], "b": [3.0, 3.0, 4.0, 5.0]}
    rows = [(n, i, 0, "m", x) for n, values in scores.items() for i, x in enumerate(values)]
    fits = [(n, i, 0, 30, 10, 1.0, {}) for n in scores for i in range(4)]
    result = Comparison(
        pd.DataFrame(rows, columns=["estimator", "split", "seed", "metric", "score"]),
        None,
        pd.DataFrame(
            fits,
            columns=["estimator", "split", "seed", "n_train", "n_test", "fit_time", "params"],
        ),
    )
    error = np.sqrt(2 / 3 * (1 / 4 + 1 / 3))
    tested = result.test("a").loc["m", "b"]
    assert tested["difference"] == 1
    assert np.isclose(tested["t"], 1 / error)
    assert np.isclose(tested["p"], 2 * stats.t.sf(1 / error, 3))
    np.testing.assert_allclose(
        [tested["low"], tested["high"]], [1 - 3.182 * error, 1 + 3.182 * error], rtol=1e-3
    )
    of_b = np.sqrt(np.var([3, 3, 4, 5], ddof=1) * (1 / 4 + 1 / 3))
    row = result.summary().loc["m", "b"]
    np.testing.assert_allclose(
        row[["mean", "low", "high"]].astype(float),
        [3.75, 3.75 - 3.182 * of_b, 3.75 + 3.182 * of_b],
        rtol=1e-3,
    )


def test_corrected_t_test_of_no_variance():
    assert corrected_t_test([0.0, 0.0, 0.0], 1.0) == (0.0, 1.0)
    assert np.isnan(corrected_t_test([0.5, 0.5, 0.5], 1.0)).all()
    assert np.isnan(corrected_t_test([0.5], 1.0)).all()


def test_holm_by_hand():
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.6])
    np.testing.assert_allclose(_holm(p), [0.04, 0.09, np.nan, 0.09, 0.6])
    np.testing.assert_allclose(_holm(np.array([0.5, 0.9])), [1.0, 1.0])
