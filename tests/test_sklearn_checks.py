"""All of scikit-learn's own checks, with no expected failure."""

import pytest
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skpair import PairEncoder, PairMatcher
from skpair.comparison import image_only, one_hot_skeletons, two_classifiers


@pytest.mark.slow
@parametrize_with_checks(
    [
        PairMatcher(),
        PairMatcher(PairEncoder(max_epochs=2), max_epochs=2),
        PairEncoder(),
        PairEncoder(frozen=True),
        image_only(),
        image_only("lda"),
        image_only(LinearSVC()),
        two_classifiers(),
        two_classifiers("lda"),
        one_hot_skeletons(PairMatcher(max_epochs=5, random_state=0)),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


def test_scikit_learn_yields_its_checks():
    n_checks = {
        estimator: sum(1 for _ in estimator_checks_generator(estimator))
        for estimator in (PairMatcher(), PairEncoder(), PairEncoder(frozen=True))
    }
    assert min(n_checks.values()) >= 46
    assert max(n_checks.values()) >= 55
