import copy
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skpair import PairEncoder, PairMatcher, split_pairs, stack_pairs
from skpair.inspection import explain, review

# ---- review --------------------------------------------------------------------------------------


def new_matcher(**parameters):
    return PairMatcher(max_epochs=3, random_state=0, **parameters)


@pytest.fixture(scope="module")
def matcher(features):
    return new_matcher().fit(*features)


def flip(y, rows, rng):
    """Give rows another of four labels."""
    labels = y.copy()
    labels[rows] = (y[rows] + rng.integers(1, 4, len(rows))) % 4
    return labels


def test_review_lists_the_most_ambiguous_images_first(matcher, features):
    X, _ = features
    queue = review(matcher, X)
    assert list(queue.columns) == [
        *("case_1", "proba_1", "case_2", "proba_2", "case_3", "proba_3"),
        *("margin", "novelty"),
    ]
    assert sorted(queue.index) == list(range(len(X)))
    assert queue.index.name == "row"
    assert queue["margin"].is_monotonic_increasing
    proba = np.sort(matcher.predict_proba(X[queue.index]), axis=1)[:, ::-1]
    np.testing.assert_allclose(queue[["proba_1", "proba_2", "proba_3"]], proba[:, :3], rtol=1e-4)
    np.testing.assert_allclose(queue["margin"], proba[:, 0] - proba[:, 1], atol=1e-6)
    np.testing.assert_array_equal(queue["case_1"], matcher.predict(X[queue.index]))
    np.testing.assert_allclose(
        queue["novelty"], matcher.novelty_score(X[queue.index]), rtol=1e-4, atol=1e-6
    )


def test_review_scores_labels_by_the_normalised_margin(matcher, features):
    X, y = features
    labels = flip(y, [3, 40], np.random.default_rng(0))
    queue = review(matcher, X, labels)
    assert queue["label_error"].is_monotonic_decreasing
    assert set(queue.index[:2]) == {3, 40}
    np.testing.assert_array_equal(queue["label"], labels[queue.index])
    for row, entry in queue.iterrows():
        proba = matcher.predict_proba(X[[row]])[0]
        own, others = proba[labels[row]], np.delete(proba, labels[row]).max()
        assert entry["label_proba"] == pytest.approx(own, rel=1e-3, abs=1e-6)
        assert entry["label_error"] == pytest.approx((1 + others - own) / 2, rel=1e-3)
        assert (entry["label_error"] > 0.5) == (entry["label"] != entry["case_1"])


def test_images_alone_will_do(matcher, features):
    X, y = features
    pd.testing.assert_frame_equal(review(matcher, X[:, :10], y), review(matcher, X, y))


def test_label_that_the_matcher_does_not_know(matcher, features):
    X, y = features
    labels = y.copy()
    labels[7] = 9
    entry = review(matcher, X, labels).loc[7]
    assert entry["label"] == 9
    assert entry["label_proba"] == 0
    assert entry["label_error"] == pytest.approx((1 + entry["proba_1"]) / 2)


@pytest.mark.parametrize("cv", [None, 3])
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_rows_without_a_label_are_reviewed_without_one(matcher, features, missing, cv):
    X, y = features
    labels = y.astype(object)
    labels[[2, 5, 9]] = missing
    queue = review(matcher, X, labels, cv=cv)
    assert sorted(queue.index[-3:]) == [2, 5, 9]
    assert queue[["label", "label_error", "label_proba"]].iloc[-3:].isna().all(axis=None)
    assert queue[["case_1", "proba_1", "margin", "novelty"]].notna().all(axis=None)
    assert queue["margin"].iloc[-3:].is_monotonic_increasing
    assert queue["case_1"].dtype == int


def test_labels_all_missing(matcher, features):
    X, y = features
    queue = review(matcher, X, np.full(len(y), None))
    pd.testing.assert_frame_equal(
        queue[["case_1", "margin"]], review(matcher, X)[["case_1", "margin"]]
    )


@pytest.mark.parametrize("n_cases, listed", [(1, 1), (4, 4), (9, 4)])
def test_as_many_cases_as_asked_for_and_there_are(matcher, features, n_cases, listed):
    queue = review(matcher, features[0], n_cases=n_cases)
    assert [c for c in queue if c.startswith("case_")] == [f"case_{i + 1}" for i in range(listed)]


def test_two_cases_and_one_row(features):
    X, y = features
    labels = np.where(y < 2, "few", "many")
    queue = review(new_matcher().fit(X, labels), X[:1], labels[:1])
    assert queue.shape == (1, 9)
    assert queue["margin"].item() == pytest.approx(
        queue["proba_1"].item() - queue["proba_2"].item()
    )


def test_unknown_label_is_no_case_of_the_queue(features):
    X, y = features
    queue = review(new_matcher(unknown_label=-1).fit(X, y), X, y)
    pd.testing.assert_frame_equal(queue, review(new_matcher().fit(X, y), X, y))
    assert (queue["case_1"] >= 0).all()


def test_csv_round_trip(features, tmp_path):
    X, y = features
    labels = pd.Series(np.array(["a, b", "c", "d", 'e"'])[y], dtype=object)
    labels[4] = None
    queue = review(new_matcher(), X, labels, cv=2)
    queue.to_csv(tmp_path / "queue.csv")
    read = pd.read_csv(tmp_path / "queue.csv", index_col="row")
    pd.testing.assert_frame_equal(read, queue, check_dtype=False, rtol=1e-6)


def test_cv_judges_every_row_by_what_others_taught(features):
    X, y = features
    before = new_matcher()
    queue = review(before, X, y, cv=StratifiedKFold(3)).sort_index()
    assert not hasattr(before, "classes_")
    for train, test in StratifiedKFold(3).split(X, y):
        judge = clone(before).fit(X[train], y[train])
        np.testing.assert_array_equal(
            queue["proba_1"].iloc[test], judge.predict_proba(X[test]).max(1)
        )
        np.testing.assert_array_equal(queue["novelty"].iloc[test], judge.novelty_score(X[test]))
    with joblib.parallel_config(backend="threading"):
        pd.testing.assert_frame_equal(
            review(before, X, y, cv=3, n_jobs=2), review(before, X, y, cv=3)
        )


def test_rows_without_a_label_teach_nothing(features):
    X, y = features
    labels = y.astype(float)
    labels[::7] = np.nan
    spoilt = X.copy()
    spoilt[::7] += 1000  # no matcher would be the same that had learned from these
    first, second = (review(new_matcher(), rows, labels, cv=3) for rows in (X, spoilt))
    labelled = first.index[first["label"].notna()]
    pd.testing.assert_frame_equal(first.loc[labelled], second.loc[labelled])


def test_most_wrong_labels_are_in_the_first_tenth(features):
    X, y = features
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(y), 6, replace=False)  # 5 %
    queue = review(PairMatcher(max_epochs=10, random_state=0), X, flip(y, wrong, rng), cv=5)
    assert np.isin(wrong, queue.index[:12]).mean() >= 0.8


def test_cases_with_fewer_rows_than_folds(features):
    X, y = features
    labels = y.copy()
    labels[[0, 1]], labels[2] = 7, 8
    with pytest.warns(UserWarning, match=r"^1 rows are.*a row of \[8\]") as caught:
        queue = review(new_matcher(), X, labels, cv=5)
    assert len(caught) == 1
    assert queue.loc[2, "label_proba"] == 0
    assert (queue.loc[[0, 1], "label_proba"] > 0).all()


def test_a_case_in_one_fold_only_is_told(features):
    X, y = features
    order = np.argsort(y, kind="stable")
    splits = [(np.arange(60, 120), np.arange(60)), (np.arange(60), np.arange(60, 120))]
    with pytest.warns(UserWarning, match=r"^120 rows are.*a row of \[0, 1, 2, 3\]"):
        review(new_matcher(), X[order], (y[order] > 0) * 2 + np.arange(120) % 2, cv=splits)


def test_splits_of_ones_own(features):
    X, y = features
    splits = list(KFold(4).split(X))
    pd.testing.assert_frame_equal(
        review(new_matcher(), X, y, cv=splits), review(new_matcher(), X, y, cv=KFold(4))
    )


@pytest.mark.parametrize("cv", [ShuffleSplit(2, random_state=0), [(range(60), range(60, 90))]])
def test_test_parts_must_hold_every_row_once(features, cv):
    with pytest.raises(ValueError, match="every row once, but they hold row"):
        review(new_matcher(), *features, cv=cv)


def test_pipelines_searches_and_files(files):
    X, y = files
    encoder = PairEncoder("identity", "identity", image_size=16)  # at 8, drawings are alike
    nested = new_matcher(encoder=encoder)
    pipeline = make_pipeline(encoder, new_matcher())
    queue = review(nested, X, y, cv=2)
    pd.testing.assert_frame_equal(review(pipeline, X, y, cv=2), queue)
    assert queue["proba_1"].nunique() > 10
    search = GridSearchCV(pipeline, {"pairmatcher__lr": [0.003]}, cv=2).fit(X, y)
    pd.testing.assert_frame_equal(review(search, X, y), review(nested.fit(X, y), X["image"], y))


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        ({"cv": 3}, ValueError, "cv needs y"),
        ({"n_cases": 0}, ValueError, "n_cases must be >= 1"),
        ({"n_cases": 2.0}, TypeError, "n_cases must be an integer"),
        ({"y": [0, 1]}, ValueError, "inconsistent numbers of samples"),
        ({"y": ["0"] * 120}, ValueError, "y must be of the kind of the cases"),
    ],
)
def test_what_review_refuses(matcher, features, parameters, error, message):
    with pytest.raises(error, match=message):
        review(matcher, features[0], **parameters)


def test_review_asks_for_a_matcher(features):
    X, y = features
    with pytest.raises(TypeError, match="ends in a PairMatcher, got LogisticRegression"):
        review(LogisticRegression(max_iter=1000).fit(X, y), X, y)
    with pytest.raises(NotFittedError):
        review(PairMatcher(), X)


# ---- explain -------------------------------------------------------------------------------------

SIZE = 24
MARKS = [(4, 4), (4, 15), (15, 9)]  # where the square of each case is, in image and skeleton


@pytest.fixture(scope="module")
def marked():
    """Noise with a square that tells the case by its place, and decoys that say nothing."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    images = rng.integers(100, 140, size=(90, SIZE, SIZE)).astype(np.uint8)
    skeletons = np.zeros_like(images)
    images[:, 10:13, 1:4] = rng.integers(180, 255, size=(90, 1, 1))
    for row, case in enumerate(y):
        top, left = MARKS[case]
        images[row, top : top + 5, left : left + 5] = 230
        skeletons[row, top + 2, left : left + 5] = 1
        skeletons[row, 22, rng.integers(0, 8) : rng.integers(12, SIZE)] = 1
    return stack_pairs(images, skeletons), y


@pytest.fixture(scope="module")
def judges(marked):
    """Matchers that know the marks, by their training and loss."""
    encoder = PairEncoder(max_epochs=4, augment=None, random_state=0)
    return {
        (training, loss): PairMatcher(
            encoder, training=training, loss=loss, max_epochs=10, random_state=0
        ).fit(*marked)
        for training, loss in (
            ("two_stage", "n_pair"),
            ("joint", "n_pair"),
            ("two_stage", "binary_cross_entropy"),
        )
    }


@pytest.fixture(scope="module")
def judge(judges):
    return judges["two_stage", "n_pair"]


WAYS = [("two_stage", "n_pair"), ("joint", "n_pair"), ("two_stage", "binary_cross_entropy")]


def shares(explanation, X, y):
    """The share of each kind of map in the marks, and what it would be by chance."""
    in_image, in_skeleton = np.zeros((2, len(X), SIZE, SIZE), dtype=bool)
    for row, case in enumerate(y):
        top, left = MARKS[case]
        in_image[row, top : top + 5, left : left + 5] = True
        in_skeleton[row, top + 2, left : left + 5] = True
    images, skeletons = np.abs(explanation.image_maps), np.abs(explanation.skeleton_maps)
    ink = X[:, 1] > 0
    assert not skeletons[~ink].any()  # only ink can speak
    return (
        (images[in_image].sum() / images.sum(), in_image.mean()),
        (skeletons[in_skeleton].sum() / skeletons.sum(), in_skeleton.sum() / ink.sum()),
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_what_decides_lights_up(judges, marked, way):
    X, y = (part[:12] for part in marked)
    (image, image_chance), (skeleton, skeleton_chance) = shares(explain(judges[way], X), X, y)
    assert image > 8 * image_chance
    assert skeleton > 1.5 * skeleton_chance


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_maps_sum_to_what_the_score_gains(judges, marked, way):
    X = marked[0][:6]
    explanation = explain(judges[way], X, n_steps=150)
    np.testing.assert_allclose(explanation.scores, judges[way].pair_score(X), atol=1e-5)
    assert np.abs(explanation.scores - explanation.without_image).min() > 0.1
    for maps, without in (
        (explanation.image_maps, explanation.without_image),
        (explanation.skeleton_maps, explanation.without_skeleton),
    ):
        assert maps.dtype == np.float32
        gains = explanation.scores - without
        np.testing.assert_allclose(maps.sum(axis=(1, 2)), gains, atol=0.03 * np.abs(gains).max())


@pytest.mark.slow
def test_scores_without_a_kind_are_those_of_empty_pictures(judge, marked):
    X = marked[0][:3]
    images, skeletons = split_pairs(X)
    explanation = explain(judge, X, n_steps=1)
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1
    )
    shade = np.sort(border, axis=1)[:, (border.shape[1] - 1) // 2]
    empty = np.broadcast_to(shade[:, None, None], images.shape)
    blank = X.copy()
    blank[:, 1] = 0
    np.testing.assert_allclose(
        explanation.without_image, judge.pair_score(stack_pairs(empty, skeletons)), atol=1e-5
    )
    np.testing.assert_allclose(explanation.without_skeleton, judge.pair_score(blank), atol=1e-5)
    np.testing.assert_allclose(explanation.images, X[:, :1] / np.float32(255))
    np.testing.assert_array_equal(explanation.skeletons, skeletons)


def test_maps_depend_on_what_was_learned(judge, marked):
    """Adebayo et al. 2018: with weights by chance, the maps are others."""
    X, y = (part[:12] for part in marked)
    stranger = copy.deepcopy(judge)
    for seed, module in enumerate((stranger.encoder_.towers_, stranger.layers_)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for layer in module.modules():
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()
    learned, random = explain(judge, X), explain(stranger, X)
    for kind in ("image_maps", "skeleton_maps"):
        both = [getattr(e, kind)[marked[0][:12, 1] > 0] for e in (learned, random)]
        assert abs(np.corrcoef(both)[0, 1]) < 0.5
    assert shares(random, X, y)[0][0] < 0.7 * shares(learned, X, y)[0][0]


def state(matcher):
    modules = matcher.encoder_.towers_, matcher.layers_, matcher.loss_, matcher.net_.module_
    return [
        (name, tensor.clone(), tensor.requires_grad, tensor.grad)
        for module in modules
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
    ], [m.training for module in modules for m in module.modules()]


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_explain_leaves_everything_as_it_was(judges, marked, guard):
    X = marked[0][:2]
    judge = judges["joint", "n_pair"]
    judge.layers_.train()  # whatever the user has done with it
    before, rng = state(judge), torch.get_rng_state()
    with guard():
        enabled = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        explanation = explain(judge, X)
        assert enabled == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    after = state(judge)
    assert before[1] == after[1]
    for (name, old, asked, grad), (_, new, asks, has) in zip(before[0], after[0], strict=True):
        assert torch.equal(old, new), name
        assert (asked, grad) == (asks, has)
    assert torch.equal(rng, torch.get_rng_state())
    judge.layers_.eval()
    np.testing.assert_array_equal(explanation.image_maps, explain(judge, X).image_maps)


@pytest.mark.parametrize("batch_size, n_steps", [(2, 5), (7, 3), (64, 5)])
def test_any_batch_size_gives_the_same_maps(judge, marked, batch_size, n_steps):
    X = marked[0][:5]
    other = copy.deepcopy(judge)
    other.encoder_.batch_size = batch_size
    maps = explain(other, X, n_steps=n_steps).image_maps
    one_by_one = [explain(judge, X[[row]], n_steps=n_steps).image_maps[0] for row in range(5)]
    np.testing.assert_allclose(maps, one_by_one, atol=1e-5)


def test_call_forms_and_pipelines(digits):
    X, y = digits
    steps = PairEncoder(frozen=True, random_state=0), new_matcher()
    matcher = new_matcher(encoder=steps[0]).fit(X, y)
    maps = explain(matcher, X[:3]).image_maps
    images, skeletons = split_pairs(X[:3])
    np.testing.assert_array_equal(explain(matcher, images, skeletons).image_maps, maps)
    pipeline = make_pipeline("passthrough", *steps).fit(X, y)
    np.testing.assert_allclose(explain(pipeline, X[:3]).image_maps, maps, atol=1e-6)
    search = GridSearchCV(pipeline, {"pairmatcher__lr": [0.003]}, cv=2).fit(X, y)
    np.testing.assert_allclose(explain(search, X[:3]).image_maps, maps, atol=1e-6)
    _, known = matcher.kneighbors(images, 1)
    drawings = split_pairs(X)[1][known[:, 0]]
    np.testing.assert_allclose(
        explain(matcher, images, drawings).scores, matcher.kneighbors(images, 1)[0][:, 0], atol=1e-5
    )


def test_files_and_colour(files, marked):
    X, y = files
    encoder = PairEncoder(frozen=True, random_state=0, image_size=(16, 20))
    explanation = explain(new_matcher(encoder=encoder).fit(X, y), X[:2], n_steps=2)
    assert explanation.image_maps.shape == explanation.skeleton_maps.shape == (2, 16, 20)
    X, y = marked
    X = np.concatenate([X[:, :1] // 2, X[:, :1], X], axis=1)  # RGB
    matcher = new_matcher(encoder=PairEncoder(frozen=True, random_state=0)).fit(X, y)
    explanation = explain(matcher, X[:2], n_steps=2)
    assert explanation.image_maps.shape == (2, SIZE, SIZE)
    assert explanation.images.shape == (2, 3, SIZE, SIZE)
    assert len(explanation.plot().axes) == 8


def test_networks_that_change_their_input_in_place(digits):
    X, y = digits
    tower = nn.Sequential(nn.Threshold(0.5, 0, inplace=True), nn.Flatten())
    matcher = new_matcher(encoder=PairEncoder(tower, tower)).fit(X, y)
    explanation = explain(matcher, X[:2], n_steps=2)
    np.testing.assert_allclose(explanation.images, X[:2, :1] / np.float32(255))
    np.testing.assert_allclose(explanation.scores, matcher.pair_score(X[:2]), atol=1e-5)


def test_plot(judge, marked):
    explanation = explain(judge, marked[0][:2], n_steps=2)
    figure = explanation.plot()
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 8
    assert titles[0] == f"score {explanation.scores[0]:.2f}"
    assert titles[3].endswith("by the skeleton")
    assert repr(explanation) == "Explanation(2 pairs of 24 x 24 pixels)"


def test_what_explain_refuses(judge, matcher, features, digits, marked, monkeypatch):
    X, y = features
    with pytest.raises(ValueError, match="needs pictures, and a PairEncoder"):
        explain(matcher, X)
    small = new_matcher(encoder=PairEncoder(max_epochs=1)).fit(X, y)
    with pytest.raises(ValueError, match="fitted on feature rows"):
        explain(small, X)
    scaled = make_pipeline(PairEncoder(frozen=True), StandardScaler(), new_matcher())
    with pytest.raises(ValueError, match="the one step before the layers"):
        explain(scaled.fit(*digits), digits[0])
    with pytest.raises(TypeError, match="asks for a PairMatcher"):
        explain(LogisticRegression(), X)
    with pytest.raises(NotFittedError):
        explain(PairMatcher(), X)
    with pytest.raises(ValueError, match="n_steps must be >= 1"):
        explain(judge, marked[0], n_steps=0)
    with pytest.raises(ValueError, match="There are 2 images and 3 skeletons"):
        explain(judge, marked[0][:2, 0], marked[0][:3, 1])
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"pip install 'skpair\[explain\]'"):
        explain(judge, marked[0])
