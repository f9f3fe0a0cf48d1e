"""The dropout that follows the encodings."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skpair import PairEncoder, PairMatcher, split_pairs
from skpair.learning import regularisation
from skpair.learning.regularisation import choose_dropout
from skpair.rows.halves import feature_half


def encodings(n, width, signal, seed=0, n_cases=4):
    """Rows of both kinds around the mean of their case, and their codes."""
    rng = np.random.default_rng(seed)
    codes = np.resize(np.arange(n_cases), n)
    kinds = [
        rng.normal(size=(n, width)) + signal * rng.normal(size=(n_cases, width))[codes]
        for _ in "is"
    ]
    return [kind.astype(np.float32) for kind in kinds], codes


def chosen(*arguments, **more):
    kinds, codes = encodings(*arguments, **more)
    halves = [feature_half(x, kind) for x, kind in zip(kinds, ("image", "skeleton"), strict=True)]
    return choose_dropout(halves, [codes, codes])


def test_wide_encodings_of_few_rows_want_more():
    assert chosen(200, 20, 0.3) < chosen(200, 400, 0.2) <= chosen(100, 400, 0.2)
    assert chosen(400, 400, 0.12) > chosen(400, 400, 0.3)  # the less they say of the cases


def test_it_is_a_share_of_columns():
    for n, width in ((4, 3), (8, 200), (1000, 2)):
        dropout = chosen(n, width, 0.2)
        assert 0.1 <= dropout <= 0.9 and round(dropout * 20) == pytest.approx(dropout * 20)


def test_encodings_that_know_the_rows_are_not_asked():
    assert chosen(120, 50, 3.0) == 0.5
    (images, skeletons), codes = encodings(40, 5, 1.0)
    constant = np.ones_like(images)
    halves = [feature_half(images, "image"), feature_half(constant, "skeleton")]
    assert choose_dropout(halves, [codes, codes]) == 0.5


@pytest.mark.parametrize("width", [6, 90])  # fewer columns than rows, and more
def test_leaving_one_out_by_hand(width):
    (x, _), _ = encodings(60, width, 0.4)
    codes = np.repeat([0, 1, 2], [30, 20, 10])
    closeness, named = regularisation._leave_one_out(x, codes)
    weights = 60 / 3 / np.bincount(codes)[codes]
    target = np.eye(3)[codes] - 1 / 3
    mean = np.average(x, axis=0, weights=weights)
    z = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    for i, odds in enumerate(regularisation._ODDS[::5]):
        told = []
        for row in range(60):
            others = np.arange(60) != row
            ridge = Ridge(60 * odds)  # with an intercept, which is not shrunk
            ridge.fit(z[others], target[others], sample_weight=weights[others])
            told.append(ridge.predict(z[row : row + 1])[0])
        told = np.array(told)
        cosine = (told * target).sum(1)
        cosine /= np.linalg.norm(told, axis=1) * np.linalg.norm(target, axis=1)
        assert closeness[5 * i] == pytest.approx(np.average(cosine, weights=weights), abs=1e-6)
        right = told.argmax(1) == codes
        assert named[5 * i] == pytest.approx(np.average(right, weights=weights), abs=1e-6)


def test_many_rows_are_sampled(monkeypatch):
    monkeypatch.setattr(regularisation, "_ROWS", 100)
    assert 0.1 <= chosen(1000, 50, 0.1, n_cases=7) <= 0.9


def test_it_reaches_the_layers(digits):
    X, y = digits
    encoder = PairEncoder("identity", "identity")
    matcher = PairMatcher(encoder, dropout="auto", max_epochs=1).fit(X, y)
    images, skeletons = (x.reshape(len(x), -1) / 255 for x in split_pairs(X))
    halves = [feature_half(images, "image"), feature_half(skeletons * 255, "skeleton")]
    codes = np.unique(y, return_inverse=True)[1]
    assert matcher.dropout_ == choose_dropout(halves, [codes, codes])
    layers = matcher.layers_.image.modules()
    assert [part.p for part in layers if hasattr(part, "p")] == [matcher.dropout_]
    assert PairMatcher(dropout=0.15, max_epochs=1).fit(images @ np.eye(256), y).dropout_ == 0.15


@pytest.mark.parametrize("dropout", ["automatic", 1.0, -0.1, None, True])
def test_odd_dropouts(features, dropout):
    with pytest.raises((ValueError, TypeError), match="dropout must be"):
        PairMatcher(dropout=dropout).fit(*features)
