"""The classifiers of the controls: what they choose, and what they hold for equally frequent."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpair.comparison import ImageOnly, TwoClassifiers, image_only, two_classifiers
from skpair.comparison.classifiers import (
    C_GRID,
    BalancedLogisticRegression,
    FlatDiscriminantAnalysis,
    _inner_folds,
)

MAKERS = [image_only, two_classifiers, ImageOnly, TwoClassifiers]


def rows_of_cases(n_rows, n_columns=12, shift=1.0):
    """Draw rows around a mean a case: X of shape (n, n_columns), y of shape (n,)."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(len(n_rows)), n_rows)
    means = rng.normal(size=(len(n_rows), n_columns)) * shift
    return means[y] + rng.normal(size=(len(y), n_columns)), y


def chosen(control):
    """Return the C of the images, and of the skeletons where it has a classifier of them."""
    names = ("classifier_", "image_classifier_", "skeleton_classifier_")
    return [getattr(control, name)[-1].C_ for name in names if hasattr(control, name)]


# ---- logistic regression -------------------------------------------------------------------------


def balanced_log_likelihood(classifier, X, y):
    p = classifier.predict_proba(X)[np.arange(len(y)), y]
    return np.mean([np.log(p[y == case]).mean() for case in np.unique(y)])


@pytest.mark.slow
def test_c_is_the_best_of_the_grid_on_rows_held_out():
    X, y = make_classification(
        300, 60, n_informative=6, n_classes=3, flip_y=0.1, weights=[0.75, 0.2], random_state=1
    )
    X = StandardScaler().fit_transform(X)
    by_case, by_row = (
        [
            cross_val_score(
                BalancedLogisticRegression(C), X, y, cv=_inner_folds(X, y), scoring=scoring
            ).mean()
            for C in C_GRID[2:11]
        ]
        for scoring in (balanced_log_likelihood, "neg_log_loss")
    )
    assert BalancedLogisticRegression().fit(X, y).C_ == C_GRID[2:11][np.argmax(by_case)]
    assert np.argmax(by_case) < np.argmax(by_row)  # rare cases have their say


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
def test_the_refitted_model_is_logistic_regression_with_that_c(make):
    X, y = rows_of_cases([40, 20, 10])
    control = make().fit(X, y)
    plain = LogisticRegression(C=chosen(control)[0], class_weight="balanced", tol=1e-8)
    expected = make_pipeline(StandardScaler(), plain).fit(X[:, :6], y).predict_proba(X[:, :6])
    assert_allclose(control.predict_proba(X), expected, atol=0.01)


def test_each_kind_gets_its_own_c():
    images, y = rows_of_cases([40, 40, 20], n_columns=6, shift=5.0)
    noise = np.random.default_rng(1).normal(size=images.shape)
    for_images, for_noise = chosen(two_classifiers().fit(np.hstack([images, noise]), y))
    assert for_noise < 0.01 < for_images
    assert chosen(image_only().fit(np.hstack([images, noise]), y)) == [for_images]


def test_the_choice_is_not_drawn_at_random_nor_bound_to_the_order_of_rows():
    X, y = rows_of_cases([30, 20, 10], shift=0.3)
    order = np.random.default_rng(2).permutation(len(y))
    first, second = (image_only().fit(X, y) for _ in range(2))
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert chosen(image_only().fit(X[order], y[order])) == chosen(first)


def test_copies_of_a_row_stay_in_one_fold():
    X, y = rows_of_cases([12, 12, 12], n_columns=60, shift=0.0)
    alone = chosen(image_only().fit(X, y))
    copies = np.repeat(np.arange(len(y)), 6)
    assert chosen(image_only().fit(X[copies], y[copies])) == alone
    assert alone[0] <= 1e-4  # noise; with copies in other folds it would be learned by heart


@pytest.mark.parametrize("rarest", [2, 3])
@pytest.mark.parametrize("make", [image_only, two_classifiers])
def test_few_rows_of_a_case_make_fewer_folds(make, rarest):
    X, y = rows_of_cases([30, 20, rarest], shift=3.0)
    control = make().fit(X, y)
    assert set(chosen(control)) <= set(C_GRID)
    assert min(chosen(control)) > 0.01
    assert control.score(X, y) > 0.9


@pytest.mark.parametrize("n_rows", [[30, 20, 1], [1, 1], [1, 1, 1, 1]])
@pytest.mark.parametrize("make", MAKERS)
def test_a_case_of_one_row_takes_the_fixed_c(make, n_rows):
    X, y = rows_of_cases(n_rows, shift=3.0)
    control = make().fit(X, y)
    assert set(chosen(control)) == {0.01}
    assert control.predict_proba(X).shape == (len(y), len(n_rows))


def test_a_case_of_copies_only_takes_the_fixed_c():
    X, y = rows_of_cases([30, 1], shift=3.0)
    copies = np.r_[np.arange(30), [30] * 9]
    assert chosen(image_only().fit(X[copies], y[copies])) == [0.01]


@pytest.mark.slow
@pytest.mark.parametrize("make", [image_only, two_classifiers])
def test_a_given_c_is_not_chosen(make):
    X, y = rows_of_cases([30, 20, 10])
    control = make().set_params(classifier__C=0.5).fit(X, y)
    assert set(chosen(control)) == {0.5}
    search = GridSearchCV(make(), {"classifier__C": ["auto", 1e-9]}, cv=2).fit(X, y)
    assert search.best_params_ == {"classifier__C": "auto"}
    with pytest.raises(ValueError, match="C='best' is unknown; known are 'auto' or a number"):
        make().set_params(classifier__C="best").fit(X, y)


# ---- linear discriminant analysis ----------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [[60, 20, 4], [60, 6]])
@pytest.mark.parametrize("make", MAKERS)
def test_lda_is_that_of_scikit_learn_with_a_flat_prior(make, n_rows):
    X, y = rows_of_cases(n_rows)
    flat = np.full(len(n_rows), 1 / len(n_rows))
    plain = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=flat)
    expected = make_pipeline(StandardScaler(), plain).fit(X[:, :6], y).predict_proba(X[:, :6])
    assert_allclose(make("lda").fit(X, y).predict_proba(X), expected, atol=1e-6)


def test_the_prior_of_lda_follows_the_cases_of_fit():
    control = image_only("lda")
    for n_rows in ([60, 20, 4], [9, 90]):
        control.fit(*rows_of_cases(n_rows))
        assert_allclose(control.classifier_[-1].priors_, [1 / len(n_rows)] * len(n_rows), rtol=1e-6)


def test_frequency_does_not_move_lda():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [900, 100])
    X = rng.normal(size=(1000, 4)) + 0.5 * y[:, None]
    named = image_only("lda").fit(X, y).predict(X)
    assert abs((named[y == 0] == 0).mean() - (named[y == 1] == 1).mean()) < 0.15


@pytest.mark.parametrize("make", [image_only, two_classifiers])
def test_lda_takes_cases_of_one_row(make):
    X, y = rows_of_cases([30, 20, 1], shift=3.0)
    control = make("lda").fit(X, y)
    assert control.predict(X)[-1] == 2
    with pytest.raises(ValueError, match="more than the number of classes"):
        make("lda").fit(*rows_of_cases([1, 1, 1]))


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LDA", "logistic", ""])
def test_unknown_names_of_classifiers(name):
    X, y = rows_of_cases([10, 10])
    message = re.escape(f"classifier={name!r} is unknown; known are 'lda', None or a classifier.")
    for make in (image_only, two_classifiers):
        with pytest.raises(ValueError, match=message):
            make(name)
    for control in (ImageOnly(name), TwoClassifiers(name)):
        with pytest.raises(ValueError, match=message):
            control.fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("make", [image_only, two_classifiers])
def test_classifiers_can_be_searched(make):
    X, y = rows_of_cases([30, 30, 30], shift=0.5)
    search = GridSearchCV(make(), {"classifier": [None, "lda"]}, cv=2, scoring="neg_log_loss")
    losses = -search.fit(X, y).cv_results_["mean_test_score"]
    assert len(set(losses)) == 2
    assert max(losses) < log_loss(y, np.full((len(y), 3), 1 / 3))


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("classifier", [None, "lda"])
def test_clones_learn_the_same(make, classifier):
    X, y = rows_of_cases([20, 10])
    control = make(classifier).fit(X, y)
    assert_array_equal(clone(control).fit(X, y).predict_proba(X), control.predict_proba(X))


@pytest.mark.parametrize("n_cases", [2, 4])
def test_cases_of_one_row_do_not_make_lda_surer(n_cases):
    rng = np.random.default_rng(0)
    y = np.concatenate([np.zeros(40, int), np.arange(1, n_cases)])
    X = rng.normal(size=(len(y), 5)) + 2 * np.eye(5)[y]
    fitted = FlatDiscriminantAnalysis().fit(X, y)
    alone = FlatDiscriminantAnalysis().fit(
        np.concatenate([X[:40], X[:40] + 1]), np.repeat([0, 1], 40)
    )
    assert_allclose(fitted.covariance_, alone.covariance_, rtol=1e-6)
    distance = X[:, None] - fitted.means_
    inverse = np.linalg.inv(fitted.covariance_)
    expected = np.exp(-0.5 * np.einsum("ncp,pq,ncq->nc", distance, inverse, distance))
    expected /= expected.sum(axis=1, keepdims=True)
    assert_allclose(fitted.predict_proba(X), expected, atol=1e-6)
