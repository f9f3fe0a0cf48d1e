"""Images and drawings that were labelled apart, in sets of any size; and pictures that repeat."""

import numpy as np
import pandas as pd
import pytest
from torch import nn

from skpair import PairEncoder, PairMatcher, pair_up, split_pairs, stack_pairs
from skpair.comparison import image_only, two_classifiers

CASES = np.array(["ovoid", "slender", "broad", "curled"])


def one_kind(n, seed, case=None):
    """n feature rows of one kind, and their cases."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.resize(np.arange(4), n))
    return (rng.normal(size=(n, 8)) + 3 * np.eye(8)[codes]).astype(np.float32), CASES[codes]


@pytest.fixture
def more_drawings():
    return *one_kind(30, 0), *one_kind(75, 1)


@pytest.fixture
def more_images():
    return *one_kind(75, 0), *one_kind(30, 1)


def fit(images, y_images, skeletons, y_skeletons, **parameters):
    matcher = PairMatcher(**{"max_epochs": 8, "random_state": 0, **parameters})
    return matcher.fit(images, skeletons, y_images, y_skeletons)


@pytest.mark.parametrize("which", ["more_drawings", "more_images"])
@pytest.mark.parametrize("how", [{}, {"early_stopping": True}, {"sampler": "natural"}])
def test_every_image_and_every_drawing_is_known(which, how, request):
    sets = request.getfixturevalue(which)
    matcher = fit(*sets, **how)
    known = matcher.gallery_
    for kind, (X, y) in (("image", sets[:2]), ("skeleton", sets[2:])):
        assert getattr(known, f"{kind}_ids").tolist() == list(range(len(X)))
        cases = known.cases[getattr(known, f"{kind}_cases")]
        assert cases.tolist() == y.tolist()
    np.testing.assert_allclose(matcher.embed_skeletons(sets[2]), known.skeletons, atol=1e-5)
    assert matcher.score(*one_kind(100, 2)) > 0.8
    assert matcher.n_features_in_ == 16


def test_sets_of_equal_size_that_are_pairs_are_rows(features):
    X, y = features
    images, skeletons = split_pairs(X)
    rows = PairMatcher(max_epochs=3, random_state=0).fit(X, y)
    sets = PairMatcher(max_epochs=3, random_state=0).fit(images, skeletons, y, y)
    np.testing.assert_array_equal(rows.gallery_.images, sets.gallery_.images)
    assert rows.threshold_ == sets.threshold_


@pytest.mark.slow
@pytest.mark.parametrize("training", ["two_stage", "joint", "fine_tune"])
def test_pictures_and_files(digits, files, training):
    (X, y), (table, _) = digits, files
    images, skeletons = split_pairs(X)
    few = np.r_[0:90:3, np.unique(y, return_index=True)[1]]
    sets = images[few], skeletons, y[few], y
    named = table["image"].to_numpy()[few], table["skeleton"].to_numpy(), y[few], y
    for given in (sets, named):
        encoder = PairEncoder(max_epochs=1, image_size=16)
        matcher = PairMatcher(encoder, training=training, max_epochs=2, random_state=0).fit(*given)
        assert len(matcher.gallery_.skeletons) == 90
        assert len(matcher.gallery_.images) == len(np.unique(few))
        assert matcher.predict(given[0][:3]).shape == (3,)
    names = table["skeleton"].tolist()
    assert matcher.gallery_.skeleton_ids.tolist() == names


def test_a_drawing_that_is_dealt_counts_once(more_images):
    X, y = pair_up(*more_images, random_state=0)
    assert len(X) == 75
    matcher = PairMatcher(max_epochs=3, random_state=0).fit(X, y)
    assert len(matcher.gallery_.images) == 75 and len(matcher.gallery_.skeletons) == 30
    _, skeletons = split_pairs(X)
    ids = matcher.gallery_.skeleton_ids
    first = {drawing.tobytes(): row for row, drawing in reversed(list(enumerate(skeletons)))}
    assert ids.tolist() == sorted(first.values())  # the first row of each
    _, found = matcher.kneighbors(X[:5], n_neighbors=30)
    assert all(len(set(row)) == 30 for row in found.tolist())


def test_the_same_drawing_may_be_of_two_cases(more_drawings):
    images, y_images, skeletons, y_skeletons = more_drawings
    twice = np.concatenate([skeletons, skeletons[:1], skeletons[:1]])
    other = CASES[CASES != y_skeletons[0]][0]
    y_twice = np.concatenate([y_skeletons, y_skeletons[:1], [other]])
    known = fit(images, y_images, twice, y_twice).gallery_
    assert len(known.skeletons) == len(skeletons) + 1
    assert known.skeleton_ids.tolist() == [*range(len(skeletons)), len(skeletons) + 1]


class Counting(nn.Module):
    rows = 0

    def forward(self, x):
        Counting.rows += len(x)
        return x.flatten(1)


def test_a_picture_that_repeats_is_encoded_once(digits):
    X, y = digits
    images, skeletons = split_pairs(X)
    X = stack_pairs(images[:40], skeletons[np.resize(np.arange(4), 40)])
    encoder = PairEncoder(Counting(), Counting()).fit(X)
    Counting.rows = 0
    encoded = encoder.transform(X)
    assert Counting.rows == 40 + 4
    np.testing.assert_array_equal(encoded[:4, 256:], encoded[36:, 256:])


def test_few_drawings_are_not_held_out(more_images):
    images, y_images, skeletons, y_skeletons = more_images
    one = np.unique(y_skeletons, return_index=True)[1]
    matcher = fit(images, y_images, skeletons[one], y_skeletons[one], early_stopping=True)
    assert len(matcher.gallery_.skeletons) == 4
    assert "valid_loss" in matcher.history_[-1]
    assert matcher.score(*one_kind(100, 2)) > 0.7


def test_a_case_of_one_kind_only_is_named(more_drawings):
    images, y_images, skeletons, y_skeletons = more_drawings
    lacks = y_images != "broad"
    with pytest.raises(ValueError, match=r"skeletons but no image: \['broad'\].*add_cases"):
        fit(images[lacks], y_images[lacks], skeletons, y_skeletons)
    lacks = y_skeletons != "broad"
    with pytest.raises(ValueError, match=r"images but no skeleton: \['broad'\]"):
        fit(images, y_images, skeletons[lacks], y_skeletons[lacks])
    with pytest.raises(ValueError, match="must be of the kind of the cases, strings"):
        fit(images, y_images, skeletons, np.arange(len(skeletons)))


@pytest.mark.parametrize("change", [lambda y: y[1:], lambda y: np.where(y == y[0], None, y)])
def test_cases_that_do_not_fit(more_drawings, change):
    images, y_images, skeletons, y_skeletons = more_drawings
    with pytest.raises(ValueError, match="y_skel (has 74 cases, but there are 75|holds missing)"):
        fit(images, y_images, skeletons, change(y_skeletons))
    with pytest.raises(ValueError, match="y_img (has 29 cases, but there are 30|holds missing)"):
        fit(images, change(y_images), skeletons, y_skeletons)
    with pytest.raises(TypeError, match=r"fit\(X_img, X_skel, y_img, y_skel\), but 5 positional"):
        PairMatcher().fit(*more_drawings, None)


def test_nothing_given(more_drawings):
    images, y_images, skeletons, y_skeletons = more_drawings
    with pytest.raises(ValueError, match="There are 0 skeletons"):
        fit(images, y_images, skeletons[:0], y_skeletons[:0])
    with pytest.raises(ValueError, match="y_skel is None: give the case of each of the skeletons"):
        fit(images, y_images, skeletons, None)


def test_thresholds_of_two_sets(more_drawings):
    matcher = fit(*more_drawings)
    images, y_images, skeletons, y_skeletons = more_drawings
    images = 1.01 * images  # those of fit are refused
    matcher.calibrate_threshold(images, skeletons, y_images, y_skeletons)
    threshold = matcher.threshold_
    matcher.calibrate_threshold(images, skeletons, y_images, y_skeletons=y_skeletons)
    assert matcher.threshold_ == threshold


def test_what_is_known_is_kept_in_files(more_drawings, tmp_path):
    matcher = fit(*more_drawings)
    matcher.save(tmp_path / "matcher")
    loaded = PairMatcher.load(tmp_path / "matcher")
    assert loaded.gallery_.skeleton_ids.tolist() == matcher.gallery_.skeleton_ids.tolist()
    np.testing.assert_array_equal(
        loaded.predict(more_drawings[0]), matcher.predict(more_drawings[0])
    )


def test_a_checkpoint_knows_both_sets(more_drawings, tmp_path, monkeypatch):
    from skpair.storage.checkpoint import Stage

    def fail(self, *state):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "save", fail)
        with pytest.raises(KeyboardInterrupt):
            fit(*more_drawings, checkpoint=tmp_path / "state")
    *others, y_skeletons = more_drawings
    with pytest.raises(ValueError, match="other values of y"):
        fit(*others, np.roll(y_skeletons, 1), checkpoint=tmp_path / "state")
    again = fit(*more_drawings, checkpoint=tmp_path / "state")
    np.testing.assert_array_equal(again.gallery_.images, fit(*more_drawings).gallery_.images)


def test_tables_of_two_sets(more_drawings):
    images, y_images, skeletons, y_skeletons = more_drawings
    plain = fit(*more_drawings)
    frames = fit(
        pd.DataFrame(images), pd.Series(y_images), pd.DataFrame(skeletons), pd.Series(y_skeletons)
    )
    np.testing.assert_array_equal(plain.gallery_.skeletons, frames.gallery_.skeletons)


def test_an_encoder_learns_from_two_sets(digits):
    X, y = digits
    images, skeletons = split_pairs(X)
    encoder = PairEncoder(max_epochs=1, random_state=0)
    encoder.fit(images[:60], skeletons, y[:60], y)
    assert encoder.classes_.tolist() == np.unique(y).tolist()
    assert encoder.encode_skeletons(skeletons).shape == (90, 128)


# ---- pair_up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["more_drawings", "more_images"])
def test_pair_up_uses_all(which, request):
    sets = request.getfixturevalue(which)
    images, y_images, skeletons, y_skeletons = sets
    X, y, image_rows, skeleton_rows = pair_up(*sets, random_state=0, return_rows=True)
    np.testing.assert_array_equal(X, stack_pairs(images[image_rows], skeletons[skeleton_rows]))
    assert y.tolist() == y_images[image_rows].tolist() == y_skeletons[skeleton_rows].tolist()
    assert image_rows[: len(images)].tolist() == list(range(len(images)))
    for case in CASES:
        n_images, n_skeletons = (y_images == case).sum(), (y_skeletons == case).sum()
        assert (y == case).sum() == max(n_images, n_skeletons)
        for rows, n in ((image_rows, n_images), (skeleton_rows, n_skeletons)):
            times = np.unique(rows[y == case], return_counts=True)[1]
            assert len(times) == n and np.ptp(times) <= 1


def test_pair_up_leaves_no_case_out(more_drawings):
    images, y_images, skeletons, y_skeletons = more_drawings
    lacks = y_images != "broad"
    with pytest.raises(ValueError, match=r"skeletons but no image: \['broad'\]"):
        pair_up(images[lacks], y_images[lacks], skeletons, y_skeletons)


@pytest.mark.parametrize("which", ["more_drawings", "more_images"])
def test_controls_learn_from_each_row_of_two_sets_once(which, request):
    images, y_images, skeletons, y_skeletons = request.getfixturevalue(which)
    control = two_classifiers("lda").fit(images, skeletons, y_images, y_skeletons)
    X, y = pair_up(images, y_images, skeletons, y_skeletons, random_state=0)
    dealt = two_classifiers("lda").fit(X, y)
    alone = image_only("lda").fit(stack_pairs(images, images), y_images)
    np.testing.assert_allclose(control.predict_proba(X), alone.predict_proba(X), atol=1e-6)
    of_dealt = image_only("lda").fit(X, y)  # its copies of images count once, too
    np.testing.assert_allclose(of_dealt.predict_proba(X), alone.predict_proba(X), atol=1e-5)
    assert control.image_classifier_.classes_.tolist() == sorted(CASES)
    new, y_new = one_kind(40, 3)
    expected = alone.predict_proba(new) @ control.skeleton_classifier_.predict_proba(skeletons).T
    np.testing.assert_allclose(control.pair_proba_matrix(new, skeletons), expected, atol=1e-6)
    np.testing.assert_allclose(
        control.pair_proba_matrix(new, skeletons),
        dealt.pair_proba_matrix(new, skeletons),
        atol=1e-5,
    )
    same = y_new[:, None] == y_skeletons
    assert (expected[same] > control.threshold_).mean() > 0.6
    assert (expected[~same] < control.threshold_).mean() > 0.8
    with pytest.raises(ValueError, match="slender"):
        two_classifiers().fit(
            images,
            skeletons[y_skeletons != "slender"],
            y_images,
            y_skeletons[y_skeletons != "slender"],
        )


@pytest.mark.parametrize(
    ("y_images", "y_skeletons", "message"),
    [
        ([0, 0, 1, np.nan], [0, 1, np.nan], "y_images holds missing labels, first in row 3"),
        ([0, 0, 1, 1], list("001"), "y_skeletons must be of the kind of the cases, whole numbers"),
        (["a", "a", None, "b"], ["a", "b", "b"], "y_images holds missing labels, first in row 2"),
        ([0, 0, 1, 1], [0, 1], "y_skeletons must hold a case for each of the 3 skeletons"),
        (None, [0, 1, 1], "y_images must hold a case for each of the 4 images"),
        ([0, 0, 2, 1], [0, 1, 1], "images but no skeleton: .2."),
    ],
)
def test_pair_up_refuses_labels_that_do_not_fit(y_images, y_skeletons, message):
    with pytest.raises(ValueError, match=message):
        pair_up(np.ones((4, 3)), y_images, np.ones((3, 3)), y_skeletons)


def test_pair_up_refuses_nothing_and_takes_one_case():
    with pytest.raises(ValueError, match="3 images and 0 skeletons"):
        pair_up(np.ones((3, 2)), [1, 1, 1], np.ones((0, 2)), [])
    X, y = pair_up(np.ones((3, 2)), ["a"] * 3, np.ones((1, 2)), ["a"])
    assert X.shape == (3, 4) and y.tolist() == ["a"] * 3


def test_a_blank_drawing_of_two_sets_is_told_once():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, 8, 8), dtype=np.uint8)
    drawings = (rng.random((4, 8, 8)) < 0.3).astype(np.uint8)
    drawings[1] = 0
    with pytest.warns(UserWarning, match=r"blank in 1 row\(s\): 1\."):
        PairEncoder(max_epochs=1).fit(images, drawings, np.arange(12) % 2, [0, 1, 0, 1])
