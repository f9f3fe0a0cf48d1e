import copy
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skpair import PairEncoder, PairMatcher, split_pairs


@pytest.fixture(scope="module")
def original(features):
    X, y = features
    known = y != 3
    names = np.array(["a", "b", "c", "bb"])[y]
    return PairMatcher(max_epochs=10, random_state=0).fit(X[known], names[known])


@pytest.fixture
def matcher(original):
    return copy.deepcopy(original)


def unseen(features):
    X, y = features
    return X[y == 3]


@pytest.fixture(scope="module")
def related():
    """240 feature rows of forty cases, whose skeletons resemble the images: 2 x 6 columns."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 40
    kinds = [2 * rng.normal(size=(40, 6))] * 2
    X = np.hstack([centres[y] + 0.3 * rng.normal(size=(240, 6)) for centres in kinds])
    return X.astype(np.float32), y


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["n_pair", "binary_cross_entropy"])
@pytest.mark.parametrize("gallery", ["both", "skeletons"])
@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_all_that_is_named_follows(related, loss, gallery, aggregate):
    X, y = related
    known = y != 4
    matcher = PairMatcher(
        loss=loss, gallery=gallery, aggregate=aggregate, max_epochs=20, random_state=0
    ).fit(X[known], y[known])
    skeletons = matcher.embed_skeletons(X[~known])
    weights = copy.deepcopy(matcher.layers_.state_dict())
    old, matched = matcher.decision_function(X), matcher.pair_score(X)
    assert matcher.add_cases(split_pairs(X)[1][~known], np.full(6, 4)) is matcher
    np.testing.assert_array_equal(matcher.classes_, np.arange(40))  # sorted
    scores = matcher.decision_function(X)
    np.testing.assert_allclose(scores[:, matcher.classes_ != 4], old, rtol=1e-5, atol=1e-6)
    assert matcher.predict_proba(X).shape == (len(X), 40)
    if gallery == "skeletons":  # with "both", the old cases are known by images, which is nearer
        assert (matcher.predict(X[~known]) == 4).mean() > 0.8
    assert (matcher.predict(X[known]) == y[known]).mean() > 0.8
    assert 0 < matcher.pair_proba(X).max() <= 1 + 1e-6
    np.testing.assert_array_equal(matcher.pair_score(X), matched)
    np.testing.assert_array_equal(matcher.gallery_.skeletons[known.sum() :], skeletons)
    for name, weight in matcher.layers_.state_dict().items():
        assert (weight == weights[name]).all()


def test_the_gallery_can_be_read(matcher, features):
    new = unseen(features)
    matcher.add_cases(new, ["bb"] * len(new))
    known = matcher.gallery_
    assert known.cases.tolist() == matcher.classes_.tolist() == ["a", "b", "bb", "c"]
    assert known.counts.tolist() == [[60, 60], [30, 30], [0, 10], [20, 20]]
    assert (known.cases[known.skeleton_cases[-len(new) :]] == "bb").all()
    assert repr(known) == "Gallery(4 cases, 1 of them new, 110 images, 120 skeletons)"
    scores, rows = matcher.kneighbors(new, len(known.skeletons))
    np.testing.assert_array_equal(np.sort(rows), np.tile(np.arange(120), (len(new), 1)))
    added = matcher.similarity_matrix(new)  # of the drawings that joined last
    np.testing.assert_allclose(
        np.take_along_axis(scores, rows.argsort(), axis=1)[:, 110:], added, rtol=1e-5, atol=1e-6
    )


def test_the_gallery_says_which_rows_are_known(matcher, features):
    new = unseen(features)
    assert matcher.gallery_.image_ids.tolist() == list(range(110))
    matcher.add_cases(new[:2], ["d", "d"])
    matcher.add_cases(new[2:4], ["e", "e"], ids=["sketch", np.int8(7)])
    matcher.add_cases(new[4:5], ["f"])
    added = [110, 111, "sketch", 7, 112]
    assert matcher.gallery_.skeleton_ids.tolist() == [*range(110), *added]
    kept = np.flatnonzero(matcher.gallery_.cases[matcher.gallery_.skeleton_cases[:110]] != "a")
    matcher.remove_cases(["a", "d"])
    assert matcher.gallery_.skeleton_ids.tolist() == [*kept, "sketch", 7, 112]
    assert matcher.gallery_.image_ids.tolist() == kept.tolist()
    for ids, message in (([1], "There are 1 ids, but 2"), ([1.5, 2], "int or str, got 1.5")):
        with pytest.raises(ValueError, match=message):
            matcher.add_cases(new[:2], ["g", "g"], ids=ids)
    assert "g" not in matcher.classes_


@pytest.mark.slow
@pytest.mark.parametrize("early_stopping", [False, True])
def test_known_files_are_named_by_their_paths(files, tmp_path, early_stopping):
    X, y = files
    encoder = PairEncoder(image_size=16, max_epochs=1)
    matcher = PairMatcher(encoder, max_epochs=1, early_stopping=early_stopping, random_state=0)
    matcher.fit(X, y).add_cases([Path(X["skeleton"][3]), X["skeleton"][4]], [7, 7])
    names = [*X["skeleton"], X["skeleton"][3], X["skeleton"][4]]
    assert matcher.gallery_.skeleton_ids.tolist() == names
    assert matcher.gallery_.image_ids.tolist() == X["image"].tolist()
    matcher.save(tmp_path / "matcher")
    loaded = PairMatcher.load(tmp_path / "matcher").remove_cases([0])
    gone = np.append(y == 0, [False, False])
    assert loaded.gallery_.skeleton_ids.tolist() == np.array(names)[~gone].tolist()
    _, rows = loaded.kneighbors(X[:5], 2)
    for row, found in enumerate(loaded.gallery_.skeleton_ids[rows]):
        for path, score in zip(found, loaded.kneighbors(X[:5], 2)[0][row], strict=True):
            pair = pd.DataFrame({"image": [X["image"][row]], "skeleton": [path]})
            np.testing.assert_allclose(loaded.pair_score(pair), score, rtol=1e-4, atol=1e-5)


def test_new_drawings_that_are_like_known_ones_are_told(matcher, features, monkeypatch):
    known = matcher.gallery_
    case = known.skeletons[known.skeleton_cases == 0].mean(axis=0)
    case /= np.linalg.norm(case)
    aside = np.linalg.svd(np.stack([case, case]))[2][1:5]  # four directions across it

    def around(centre):
        rows = centre + 0.5 * np.concatenate([aside, -aside])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        monkeypatch.setattr(matcher, "embed_halves", lambda half: [rows.astype(np.float32)])
        return unseen(features)[:8]

    with pytest.warns(UserWarning, match="8 drawings of the new case 'd' can hardly .* of 'a'"):
        matcher.add_cases(around(case), ["d"] * 8)
    matcher.remove_cases("d").add_cases(around(-case), ["e"] * 8)  # a case of its own: no warning


def test_more_drawings_of_a_known_case(matcher, features):
    new = unseen(features)
    before = matcher.decision_function(new)
    matcher.add_cases(new, ["b"] * len(new))
    np.testing.assert_array_equal(matcher.classes_, ["a", "b", "c"])
    after = matcher.decision_function(new)
    np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert after[:, 1].mean() > before[:, 1].mean()


def test_what_was_added_can_be_removed(matcher, original, features):
    X, _ = features
    new = unseen(features)
    matcher.add_cases(new, ["bb"] * len(new)).remove_cases(["bb"])
    np.testing.assert_array_equal(matcher.decision_function(X), original.decision_function(X))
    matcher.remove_cases("b")
    np.testing.assert_array_equal(matcher.classes_, ["a", "c"])
    assert set(matcher.predict(X)) == {"a", "c"}
    assert matcher.decision_function(X).shape == (len(X),)  # two cases, as scikit-learn has it
    assert matcher.predict_proba(X).shape == (len(X), 2)
    assert matcher.gallery_.counts.tolist() == [[60, 60], [20, 20]]


def test_copies_are_their_own(matcher, features):
    new = unseen(features)
    shallow = copy.copy(matcher)
    shallow.add_cases(new, ["bb"] * len(new))
    assert len(matcher.classes_) == 3 and len(matcher.gallery_.skeletons) == 110
    restored = pickle.loads(pickle.dumps(shallow))
    np.testing.assert_array_equal(restored.predict(new), shallow.predict(new))
    np.testing.assert_array_equal(restored.classes_, shallow.classes_)


def test_a_later_fit_starts_afresh(matcher, features):
    X, y = features
    matcher.add_cases(X[:1], ["z"]).fit(X, y)
    np.testing.assert_array_equal(matcher.classes_, [0, 1, 2, 3])
    assert len(matcher.gallery_.skeletons) == len(X)


def test_thresholds_by_case_follow(matcher, features):
    X, y = features
    names = np.array(["a", "b", "c", "bb"])[y]
    matcher.calibrate_threshold(1.01 * X, names, per_case=True)
    a, b, c = matcher.case_thresholds_
    matcher.add_cases(X[:1], ["bb"])
    np.testing.assert_array_equal(matcher.case_thresholds_, [a, b, matcher.threshold_, c])
    assert matcher.predict_pairs(X).shape == (len(X),)
    matcher.remove_cases(["a"])
    np.testing.assert_array_equal(matcher.case_thresholds_, [b, matcher.threshold_, c])


def test_pictures_join_too(digits):
    X, y = digits
    known = y != 4
    matcher = PairMatcher(PairEncoder(max_epochs=2), max_epochs=3, random_state=0)
    matcher.fit(X[known], y[known])
    matcher.add_cases(split_pairs(X)[1][~known], y[~known])
    np.testing.assert_array_equal(matcher.classes_, [0, 1, 4])
    np.testing.assert_array_equal(matcher.encoder_.classes_, [0, 1])  # the training is untouched
    assert matcher.predict_proba(X).shape == (len(X), 3)


def test_new_labels_of_other_widths_and_kinds(features):
    X, y = features
    short = PairMatcher(max_epochs=1, random_state=0).fit(X, np.array(["a", "b", "c", "d"])[y])
    short.add_cases(X[:1], ["a much longer name"])
    assert "a much longer name" in short.classes_
    small = PairMatcher(max_epochs=1, random_state=0).fit(X, y.astype(np.uint8))
    np.testing.assert_array_equal(
        small.add_cases(X[:2], [1000, 4.0]).classes_, [0, 1, 2, 3, 4, 1000]
    )
    assert small.classes_.dtype.kind == "i"


def test_labels_keep_all_their_digits(features):
    X, y = features
    big = np.uint64(2**63) + y.astype(np.uint64)
    matcher = PairMatcher(max_epochs=1, random_state=0).fit(X, big)
    matcher.add_cases(X[:1], [7])
    assert matcher.classes_.tolist() == [7, *range(2**63, 2**63 + 4)]
    with pytest.raises(ValueError, match="no integer type holds together"):
        matcher.add_cases(X[:1], [-7])


def test_booleans_of_a_nullable_column(features):
    X, y = features
    matcher = PairMatcher(max_epochs=1, random_state=0).fit(X, y > 0)
    matcher.add_cases(X[:2], pd.Series([True, False], dtype="boolean"))
    assert matcher.classes_.tolist() == [False, True]
    assert matcher.gallery_.counts.sum() == 2 * len(X) + 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], "y must be of the kind of the cases, strings, such as 'a'"),
        ([None], "missing labels"),
        (["bb", "bb"], "inconsistent numbers"),
        ([["bb", "b"]], "1d array"),
    ],
)
def test_bad_new_cases_change_nothing(matcher, features, labels, message):
    X, _ = features
    with pytest.raises(ValueError, match=message):
        matcher.add_cases(X[:1], labels)
    assert len(matcher.classes_) == 3 and len(matcher.gallery_.skeletons) == 110


def test_bad_removals_change_nothing(matcher, original):
    with pytest.raises(ValueError, match=r"There is no case \['z'\]; known are \['a', 'b', 'c'\]"):
        matcher.remove_cases(["a", "z"])
    with pytest.raises(ValueError, match="At least 2 cases must remain"):
        matcher.remove_cases(["a", "b"])
    with pytest.raises(ValueError, match="of the kind of the cases"):
        matcher.remove_cases([0])
    assert len(matcher.classes_) == 3
    with pytest.raises(NotFittedError):
        PairMatcher().remove_cases(["a"])
    with pytest.raises(NotFittedError):
        PairMatcher().add_cases(np.ones((1, 2)), ["a"])


def test_a_new_case_cannot_be_named_by_images_alone(matcher, features):
    X, _ = features
    matcher.set_params(gallery="images")
    with pytest.raises(ValueError, match=r"set_params\(gallery='both'\)"):
        matcher.add_cases(X[:1], ["bb"])
    matcher.add_cases(X[:1], ["a"])  # a known case may have more drawings
    matcher.set_params(gallery="both").add_cases(X[:1], ["bb"]).set_params(gallery="images")
    with pytest.raises(ValueError, match=r"none is known: \['bb'\]. Take gallery='both'"):
        matcher.predict(X)


def test_the_unknown_label_is_no_case(matcher, features):
    X, _ = features
    matcher.set_params(unknown_label="zz")
    with pytest.raises(ValueError, match="'zz' is the unknown_label"):
        matcher.add_cases(X[:1], ["zz"])
    matcher.add_cases(X[:1], ["bb"])
    matcher.set_params(unknown_label="bb")
    with pytest.raises(ValueError, match="is one of the cases"):
        matcher.predict(X)


# ---- named by a few drawings ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=["n_pair", "binary_cross_entropy"])
def extended(request, related):
    """A matcher of 38 cases; images of them that it has not seen, and rows of two new cases."""
    X, y = related
    known = y > 1
    matcher = PairMatcher(loss=request.param, max_epochs=20, random_state=0).fit(X[known], y[known])
    rng = np.random.default_rng(1)
    held_out = X[known] + 0.3 * rng.normal(size=X[known].shape).astype(np.float32)
    return matcher, held_out, {case: X[y == case] for case in (0, 1)}


def fresh(extended):
    return copy.deepcopy(extended[0]), *extended[1:]


@pytest.mark.parametrize("false_alarm", [0.0, 0.1, 0.25])
def test_an_added_case_takes_as_many_known_images_as_it_may(extended, false_alarm):
    matcher, held_out, new = fresh(extended)
    matcher.add_cases(new[0], [0] * 6)
    offset = np.float32(matcher.new_case_offset_)  # by the rehearsal
    assert offset > 0 and matcher.new_case_offsets_.tolist() == [offset, *[0] * 38]
    assert matcher.calibrate_new_cases(held_out, false_alarm=false_alarm) is matcher
    allowed = int(false_alarm * len(held_out))
    assert (matcher.predict(held_out) == 0).sum() == allowed
    matcher.new_case_offsets_[0] += 1e-3 + 2e-6  # the largest: a bit more takes another
    lead = np.sort(matcher.judge_.lead_of_known(matcher.embed_images(held_out))[:, 0])
    assert lead[allowed] < matcher.new_case_offsets_[0]


def test_images_of_a_new_case_are_found(extended):
    matcher, held_out, new = fresh(extended)
    matcher.calibrate_new_cases(held_out, false_alarm=0.1)
    assert matcher.new_case_offsets_ is None  # there is none yet
    matcher.add_cases(new[0], [0] * 6)
    first = matcher.new_case_offsets_[0]
    matcher.add_cases(new[1], [1] * 6)
    assert matcher.new_case_offsets_[0] == first and matcher.new_case_offsets_[1] > 0
    found = [(matcher.predict(rows) == case).mean() for case, rows in new.items()]
    assert min(found) > 0.6
    for rows in (held_out, *new.values()):
        proba = matcher.predict_proba(rows)
        np.testing.assert_array_equal(matcher.classes_[proba.argmax(axis=1)], matcher.predict(rows))
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert "40 cases, 2 of them new" in repr(matcher.gallery_)


def test_a_rehearsal_raises_what_is_added(related):
    X, y = related
    known = y > 1
    settings = {"max_epochs": 20, "random_state": 0}
    matcher = PairMatcher(**settings).fit(X[known], y[known])
    assert matcher.judged_by_ == "rehearsal" and matcher.new_case_images_ is None
    plain = PairMatcher(**settings, validation_fraction=0).fit(X[known], y[known])
    assert plain.judged_by_ == "training" and plain.new_case_offset_ is None
    np.testing.assert_array_equal(matcher.decision_function(X), plain.decision_function(X))
    found = []
    for each in (matcher, plain):
        each.add_cases(X[y == 0], [0] * 6)
        found.append((each.predict(X[y == 0]) == 0).mean())
    assert plain.new_case_offsets_.tolist() == [0] * 39
    assert found[0] >= found[1] and found[0] > 0.6
    assert (matcher.predict(X[known]) == y[known]).mean() > 0.8


def test_what_was_added_leaves_nothing_behind(extended):
    matcher, held_out, new = fresh(extended)
    before = matcher.decision_function(held_out), matcher.novelty_score(held_out)
    matcher.calibrate_new_cases(held_out).add_cases(new[0], [0] * 6).remove_cases([0])
    assert matcher.new_case_offsets_ is None
    np.testing.assert_array_equal(matcher.decision_function(held_out), before[0])
    np.testing.assert_array_equal(matcher.novelty_score(held_out), before[1])
    known = matcher.classes_[0]
    matcher.add_cases(new[0], [known] * 6)  # more drawings of a case that has images
    assert matcher.new_case_offsets_ is None


def test_known_cases_that_went_and_come_back_by_drawings_are_new(extended):
    matcher, held_out, new = fresh(extended)
    case = matcher.classes_[5]
    matcher.calibrate_new_cases(held_out).remove_cases([case])
    matcher.add_cases(new[0], [case] * 6)
    assert np.flatnonzero(matcher.new_case_offsets_).tolist() == [5]


def test_what_an_added_case_explains_is_not_unknown(extended):
    matcher, held_out, new = fresh(extended)
    matcher.set_params(unknown_label=-1).calibrate_novelty(held_out)
    before = matcher.novelty_score(new[0])
    matcher.add_cases(new[0], [0] * 6).calibrate_new_cases(held_out)
    assert (matcher.novelty_score(new[0]) <= before + 1e-6).all()
    assert (matcher.predict(new[0]) == 0).mean() > 0.6


def test_offsets_are_of_one_fit_and_survive_a_pickle(extended, related):
    matcher, held_out, new = fresh(extended)
    matcher.calibrate_new_cases(held_out).add_cases(new[0], [0] * 6)
    again = pickle.loads(pickle.dumps(matcher))
    np.testing.assert_array_equal(
        again.decision_function(held_out), matcher.decision_function(held_out)
    )
    X, y = related
    again.set_params(max_epochs=1).fit(X, y)
    assert again.new_case_offsets_ is again.new_case_images_ is None


@pytest.mark.parametrize("false_alarm", [1.0, -0.1, "0.1", None, np.nan])
def test_odd_false_alarms(extended, false_alarm):
    matcher, held_out, _ = extended
    with pytest.raises((ValueError, TypeError), match="false_alarm must be"):
        matcher.calibrate_new_cases(held_out, false_alarm=false_alarm)


def test_calibrations_refuse_images_that_are_known(extended, related):
    matcher, held_out, _ = fresh(extended)
    X, y = related
    X, y = X[y > 1], y[y > 1]
    held_out = np.concatenate([X[3:5], held_out])
    message = r"2 of 230 images are known from fit \(rows 0, 1\)"
    with pytest.raises(ValueError, match=message):
        matcher.calibrate_new_cases(held_out)
    with pytest.raises(ValueError, match=message):
        matcher.calibrate_novelty(held_out)
    with pytest.raises(ValueError, match=message):
        matcher.calibrate_probabilities(held_out, np.append(y[3:5], y))
    with pytest.raises(ValueError, match=message):
        matcher.calibrate_threshold(held_out, np.append(y[3:5], y))
    with pytest.raises(NotFittedError):
        PairMatcher().calibrate_new_cases(held_out)


def test_images_held_out_raise_what_is_added(related):
    X, y = related
    known = y > 1
    matcher = PairMatcher(early_stopping=True, validation_fraction=0.4, random_state=0)
    matcher.fit(X[known], y[known])
    assert len(matcher.new_case_images_) == 91 and matcher.new_case_false_alarm_ == 0.1
    matcher.add_cases(X[y == 0], [0] * 6)
    assert matcher.new_case_offsets_[0] > 0
    lead = matcher.judge_.lead_of_known(matcher.new_case_images_)[:, 0]
    assert (lead < matcher.new_case_offsets_[0]).sum() == 9
