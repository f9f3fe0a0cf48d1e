import numpy as np
import pytest

from skpair import PairEncoder, PairMatcher


def wide(n=400, seed=0):
    """Feature rows of twenty columns that tell eight cases, and of 180 that tell nothing."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(2, 8, 20))
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 8
    X = rng.normal(size=(2, n, 100))
    X[:, :, :20] += centres[:, y]
    return np.hstack(X).astype(np.float32), y


def test_thresholds_hold_for_rows_that_were_not_learned():
    X, y = wide()
    unseen, _ = wide(4000, seed=1)
    matcher = PairMatcher(random_state=0).fit(X, y)
    assert matcher.judged_by_ == "rehearsal"
    assert 0 < (matcher.novelty_score(unseen) > matcher.novelty_threshold_).mean() < 0.08


def test_learning_towers_hold_rows_out(digits):
    X, y = digits
    settings = {"max_epochs": 1, "random_state": 0}
    matcher = PairMatcher(PairEncoder(max_epochs=1), **settings).fit(X, y)
    assert matcher.judged_by_ == "held_out"
    assert len(matcher.new_case_images_) == 9  # of fifty, thirty and ten: five, three and one
    assert len(matcher.gallery_.images) == len(np.unique(X[:, 0], axis=0))  # all are known
    whole = PairMatcher(PairEncoder(max_epochs=1), validation_fraction=0, **settings).fit(X, y)
    assert whole.judged_by_ == "training" and whole.new_case_images_ is None
    few = np.concatenate([np.flatnonzero(y == c)[:4] for c in np.unique(y)])
    small = PairMatcher(PairEncoder(max_epochs=1), **settings).fit(X[few], y[few])
    assert small.judged_by_ == "training"  # a tenth of four is none
    frozen = PairEncoder("identity", "identity")
    assert PairMatcher(frozen, **settings).fit(X, y).judged_by_ == "rehearsal"


@pytest.mark.parametrize("n", [2, 3])
def test_too_few_rows_for_a_rehearsal(n):
    X, y = wide(8 * n)
    matcher = PairMatcher(max_epochs=1, random_state=0).fit(X, y)
    assert matcher.judged_by_ == ("training" if n < 3 else "rehearsal")


def test_a_share_of_none_and_early_stopping():
    X, y = wide(80)
    with pytest.raises(ValueError, match="needs a validation_fraction above 0"):
        PairMatcher(validation_fraction=0, early_stopping=True).fit(X, y)
