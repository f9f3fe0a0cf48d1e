"""The dropout that follows the encodings."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skpair import PairEncoder, PairMatcher, split_pairs
from skpair.learning import regularisation
from skpair.learning.regularisation import OF_LEARNED, choose_dropout
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


@pytest.mark.parametrize("n_cases", [2, 4])
def test_wide_encodings_want_more(n_cases):
    assert chosen(200, 20, 0.3, n_cases=n_cases) < chosen(200, 400, 0.08, n_cases=n_cases)


def test_it_is_a_share_of_columns():
    for n, width in ((4, 3), (8, 200), (1000, 2)):
        dropout = chosen(n, width, 0.2)
        assert 0.1 <= dropout <= 0.9 and round(dropout * 20) == pytest.approx(dropout * 20)


def test_encodings_that_know_the_rows_are_not_asked():
    assert chosen(120, 50, 3.0) == OF_LEARNED


def halves_of(images, skeletons):
    return [feature_half(images, "image"), feature_half(skeletons, "skeleton")]


def test_a_kind_of_which_nothing_can_be_told_has_no_part():
    (images, skeletons), codes = encodings(60, 90, 0.3)
    both = choose_dropout(halves_of(images, images), [codes, codes])
    one_each = np.unique(codes, return_index=True)[1]
    alone = choose_dropout(halves_of(images, skeletons[one_each]), [codes, codes[one_each]])
    constant = choose_dropout(halves_of(images, np.ones_like(images)), [codes, codes])
    assert both == alone == constant
    few = [images[one_each], skeletons[one_each]]
    assert choose_dropout(halves_of(*few), [codes[one_each]] * 2) == OF_LEARNED


def test_units_do_not_matter():
    (images, skeletons), codes = encodings(80, 30, 0.3)
    before = choose_dropout(halves_of(images, skeletons), [codes, codes])
    images[:, 0] *= 1e8
    assert choose_dropout(halves_of(images, skeletons), [codes, codes]) == before


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
            of_others = np.average(target[others], axis=0, weights=weights[others])
            told.append(ridge.predict(z[row : row + 1])[0] - of_others)
        told = np.array(told)
        norms = [np.average((y**2).sum(1), weights=weights) for y in (told, target)]
        cosine = np.average((told * target).sum(1), weights=weights) / np.sqrt(np.prod(norms))
        assert closeness[5 * i] == pytest.approx(cosine, abs=1e-6)
        right = told.argmax(1) == codes
        assert named[5 * i] == pytest.approx(np.average(right, weights=weights), abs=1e-6)


def test_many_rows_are_sampled(monkeypatch):
    monkeypatch.setattr(regularisation, "_ROWS", 100)
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [1, 2, 97, 900]))
    counts = np.bincount(codes[regularisation._sample(codes)])
    assert counts[:2].tolist() == [1, 2] and 9 <= counts[2] <= 12 and 88 <= counts[3] <= 92
    assert 0.1 <= chosen(1000, 50, 0.1, n_cases=7) <= 0.9


@pytest.mark.parametrize("training", ["two_stage", "joint", "fine_tune"])
def test_an_encoder_that_learns_is_not_asked(digits, training):
    encoder = PairEncoder(max_epochs=1)
    matcher = PairMatcher(encoder, training=training, dropout="auto", max_epochs=1)
    assert matcher.fit(*digits).dropout_ == OF_LEARNED


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
    with pytest.raises((ValueError, TypeError), match="dropout(='automatic' is unknown| must be)"):
        PairMatcher(dropout=dropout).fit(*features)
