import functools
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpair import PairEncoder, PairMatcher
from skpair.metrics import (
    mean_average_precision_at_r,
    pair_average_precision,
    pair_balanced_accuracy,
    pair_equal_error_rate,
    pair_roc_auc,
    pair_scorer,
    precision_at_1,
    recall_at_k,
)

# Two images of "a", one of "b"; skeletons a, b, b, a.
Y_IMAGES = ["a", "a", "b"]
Y_SKELETONS = ["a", "b", "b", "a"]
SIMILARITY = np.array(
    [
        [0.9, 0.2, 0.1, 0.8],  # a a b b
        [0.6, 0.7, 0.1, 0.5],  # b a a b
        [0.4, 0.3, 0.2, 0.0],  # a b b a
    ]
)


@pytest.fixture
def drawn():
    """Cases of 30 images and 40 skeletons, and their similarities, of 4 unequal cases."""
    rng = np.random.default_rng(0)
    y_images, y_skeletons = (rng.choice(4, n, p=[0.5, 0.3, 0.1, 0.1]) for n in (30, 40))
    same = y_images[:, None] == y_skeletons
    return y_images, y_skeletons, same + rng.normal(size=same.shape)


ALL = [
    pair_average_precision,
    pair_roc_auc,
    pair_equal_error_rate,
    lambda *args, **how: pair_balanced_accuracy(*args, threshold=0.5, **how),
    lambda *args, **how: recall_at_k(*args, 3, **how),
    precision_at_1,
    mean_average_precision_at_r,
]


@pytest.mark.parametrize(
    "metric, reference",
    [(pair_average_precision, average_precision_score), (pair_roc_auc, roc_auc_score)],
)
def test_pairs_are_scored_as_scikit_learn_does(drawn, metric, reference):
    y_images, y_skeletons, similarity = drawn
    same = y_images[:, None] == y_skeletons
    micro = metric(*drawn, average="micro")
    assert micro == reference(same.ravel(), similarity.ravel())
    cases = [y_images == case for case in range(4)]
    by_case = [reference(same[c].ravel(), similarity[c].ravel()) for c in cases]
    table = metric(*drawn, average=None)
    assert table.tolist() == by_case
    assert table.index.tolist() == [0, 1, 2, 3]
    assert metric(*drawn) == np.mean(by_case)


def test_pair_balanced_accuracy_by_hand():
    # "a": of 4 same pairs, 0.9, 0.8 and 0.6 reach 0.6; of 4 different ones, 0.7 does.
    # "b": no pair reaches it.
    table = pair_balanced_accuracy(Y_IMAGES, Y_SKELETONS, SIMILARITY, threshold=0.6, average=None)
    assert table.to_dict() == {"a": 0.75, "b": 0.5}


def test_equal_error_rate_by_hand():
    same = [1, 1, 1, 1, 0, 0, 0, 0]
    score = [8, 7, 6, 3, 5, 4, 2, 1]  # from 5 on, a quarter of each kind is wrong
    y_skeletons = ["a" if s else "b" for s in same]
    assert pair_equal_error_rate(["a"], y_skeletons, [score]) == 0.25
    assert pair_equal_error_rate(["a"], y_skeletons, [same]) == 0.0
    assert pair_equal_error_rate(["a"], y_skeletons, [np.zeros(8)]) == 0.5


def test_retrieval_by_hand():
    given = Y_IMAGES, Y_SKELETONS, SIMILARITY
    assert precision_at_1(*given, average=None).to_dict() == {"a": 0.5, "b": 0.0}
    assert precision_at_1(*given) == 0.25
    assert precision_at_1(*given, average="micro") == 1 / 3
    assert recall_at_k(*given, 2) == 1.0
    # R is 2 everywhere: (1 + 1) / 2, then (0 + 1/2) / 2, then (0 + 1/2) / 2
    by_case = mean_average_precision_at_r(*given, average=None)
    assert by_case.to_dict() == {"a": (1 + 0.25) / 2, "b": 0.25}
    # more answers than there are
    assert recall_at_k(*given, 100) == 1.0


@pytest.mark.parametrize("metric", [precision_at_1, mean_average_precision_at_r])
def test_a_constant_is_no_good_ranking(metric):
    assert metric(Y_IMAGES, Y_SKELETONS, np.zeros((3, 4))) == 0.0


@pytest.mark.parametrize("metric", ALL)
def test_directions_mirror_each_other(drawn, metric):
    y_images, y_skeletons, similarity = drawn
    there = metric(y_images, y_skeletons, similarity, direction="skeleton_to_image")
    back = metric(y_skeletons, y_images, similarity.T)
    assert there == back
    assert there != metric(y_images, y_skeletons, similarity)


@pytest.mark.parametrize("metric", ALL)
def test_only_the_order_of_rows_and_the_names_of_cases_change(drawn, metric):
    y_images, y_skeletons, similarity = drawn
    rows, columns = np.random.default_rng(1).permutation(30), np.arange(40)[::-1]
    names = np.array(["x", "c", "k", "b"])
    renamed = names[y_images[rows]], names[y_skeletons[columns]], similarity[rows][:, columns]
    assert metric(*renamed) == pytest.approx(metric(*drawn), rel=1e-12)


@pytest.mark.parametrize("metric", ALL)
def test_a_case_without_a_match_has_no_score(drawn, metric):
    y_images, y_skeletons, similarity = drawn
    y_skeletons = np.where(y_skeletons == 3, 2, y_skeletons)
    table = metric(y_images, y_skeletons, similarity, average=None)
    assert np.flatnonzero(table.isna()).tolist() == [3]
    assert metric(y_images, y_skeletons, similarity) == table[:3].mean()


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("average", ["macro", "micro"])
def test_undefined_everywhere_is_said(metric, average):
    with pytest.warns(UndefinedMetricWarning, match="undefined"):
        assert np.isnan(metric(["a", "a"], ["a"], [[1.0], [2.0]], average=average))


@pytest.mark.parametrize(
    "given, message",
    [
        ((["a", "b"], ["a"], [[1.0, 2.0]]), r"\(2, 1\).*\(1, 2\)"),
        ((["a"], ["a", "b"], [[1.0, np.nan]]), "NaN"),
        (([["a", "b"]], ["a", "b"], [[1.0, 2.0]]), "1d array"),
        (([0, 1], ["0", "1"], np.eye(2)), "Mix of label input types"),
        (([0.0, np.nan], [0.0, 1.0], np.eye(2)), "y_images holds missing labels, first in row 1"),
        ((["a", "b"], [None, "a"], np.eye(2)), "y_skeletons holds missing labels, first in row 0"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(ValueError, match=message):
        pair_average_precision(*given)


def test_bad_parameters():
    given = Y_IMAGES, Y_SKELETONS, SIMILARITY
    with pytest.raises(ValueError, match="average='weighted' is unknown.*'macro', 'micro', or No"):
        pair_roc_auc(*given, average="weighted")
    with pytest.raises(ValueError, match="direction='back'"):
        pair_roc_auc(*given, direction="back")
    with pytest.raises(ValueError, match="k must be >= 1"):
        recall_at_k(*given, 0)
    with pytest.raises(TypeError, match="k must be an integer"):
        recall_at_k(*given, 1.5)
    with pytest.raises(ValueError, match="response='logits'"):
        pair_scorer(pair_roc_auc, response="logits")
    with pytest.raises(TypeError, match="metric must be a function"):
        pair_scorer("pair_roc_auc")
    with pytest.raises(TypeError, match="must be given by name"):
        pair_scorer(functools.partial(pair_roc_auc, Y_IMAGES))
    with pytest.raises(ValueError, match="threshold must be .*nan"):
        pair_balanced_accuracy(*given, threshold=np.nan)
    with pytest.raises(TypeError, match="threshold must be a number"):
        pair_balanced_accuracy(*given, threshold=None)
    with pytest.raises(ValueError, match="needs a threshold"):
        pair_scorer(pair_balanced_accuracy, response="similarity")


# ---- scorers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(features):
    X, y = features
    return PairMatcher(max_epochs=5, random_state=0).fit(X, y), X, y


def test_scorer_is_the_metric_of_all_pairs(fitted):
    matcher, X, y = fitted
    proba, similarity = matcher.pair_proba_matrix(X), matcher.similarity_matrix(X)
    assert pair_scorer(pair_roc_auc)(matcher, X, y) == pair_roc_auc(y, y, proba)
    raw = pair_scorer(pair_roc_auc, response="similarity", average="micro")
    assert raw(matcher, X, y) == pair_roc_auc(y, y, similarity, average="micro")
    at_2 = pair_scorer(recall_at_k, k=2)
    assert at_2(matcher, X, y) == recall_at_k(y, y, proba, 2)


def test_scorer_takes_any_function_of_three_arrays(fitted):
    matcher, X, y = fitted
    largest = pair_scorer(lambda y_images, y_skeletons, similarity: similarity.max())
    assert largest(matcher, X, y) == matcher.pair_proba_matrix(X).max()
    assert largest.with_cases(matcher, X, y) == (largest(matcher, X, y), None)


def test_balanced_accuracy_is_at_the_threshold_of_the_estimator(fitted):
    matcher, X, y = fitted
    proba = matcher.pair_proba_matrix(X)
    own = pair_balanced_accuracy(y, y, proba, threshold=matcher.threshold_)
    assert pair_scorer(pair_balanced_accuracy)(matcher, X, y) == own
    other = pair_scorer(pair_balanced_accuracy, threshold=2.0)
    assert other(matcher, X, y) == 0.5


def test_equal_error_rate_is_scored_negative(fitted):
    matcher, X, y = fitted
    rate = pair_equal_error_rate(y, y, matcher.pair_proba_matrix(X))
    assert 0 < rate < 0.5
    assert pair_scorer(pair_equal_error_rate)(matcher, X, y) == -rate
    assert pair_scorer(functools.partial(pair_equal_error_rate))(matcher, X, y) == -rate


def test_scorer_unwraps_partial_functions(fitted):
    partial = pair_scorer(functools.partial(recall_at_k, k=2, average="micro"), k=3)
    assert repr(partial) == repr(pair_scorer(recall_at_k, k=3, average="micro"))
    assert partial(*fitted) == pair_scorer(recall_at_k, k=3, average="micro")(*fitted)


def test_scorer_by_case_minds_the_default_of_the_metric(fitted):
    def over_pairs(y_images, y_skeletons, similarity, average="micro"):
        return pair_roc_auc(y_images, y_skeletons, similarity, average=average)

    score, cases = pair_scorer(over_pairs).with_cases(*fitted)
    assert score == pair_scorer(pair_roc_auc, average="micro")(*fitted) != cases.mean()


@pytest.mark.slow
def test_scorer_unwraps_searches_and_pipelines(digits):
    X, y = digits
    pipeline = make_pipeline(
        PairEncoder(max_epochs=1, random_state=0),
        "passthrough",
        StandardScaler(),
        PairMatcher(max_epochs=2, random_state=0),
    )
    scorer = pair_scorer(pair_average_precision)
    grid = {"pairmatcher__temperature": [0.1, 0.3]}
    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=2, error_score="raise").fit(X, y)
    best = search.best_estimator_
    encodings = best[0].transform(X)
    expected = pair_average_precision(
        y, y, best[-1].pair_proba_matrix(best[2].transform(encodings))
    )
    assert scorer(search, X, y) == scorer(best, X, y) == expected
    assert scorer.suits(search)
    assert scorer.suits(GridSearchCV(pipeline, grid))
    nested = make_pipeline(best[0], best[1:])
    assert scorer(nested, X, y) == expected


def test_scorer_asks_for_an_estimator_that_compares_pairs(features):
    X, y = features
    scorer = pair_scorer(pair_roc_auc)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    assert not scorer.suits(classifier)
    with pytest.raises(TypeError, match="the method pair_proba_matrix, as PairMatcher has it"):
        scorer(classifier, X, y)


def test_scorer_by_case(fitted):
    matcher, X, y = fitted
    score, by_case = pair_scorer(pair_average_precision).with_cases(matcher, X, y)
    proba = matcher.pair_proba_matrix(X)
    pd.testing.assert_series_equal(by_case, pair_average_precision(y, y, proba, average=None))
    assert score == pytest.approx(pair_average_precision(y, y, proba), rel=1e-12)
    micro = pair_scorer(pair_average_precision, average="micro")
    assert micro.with_cases(matcher, X, y)[0] == pair_average_precision(
        y, y, proba, average="micro"
    )


def test_scorer_is_pickled(fitted):
    scorer = pair_scorer(recall_at_k, k=3)
    again = pickle.loads(pickle.dumps(scorer))
    assert again(*fitted) == scorer(*fitted)
    assert repr(again) == "pair_scorer(recall_at_k, response='pair_proba', k=3)"
