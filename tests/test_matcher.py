import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpair import PairEncoder, PairMatcher, split_pairs, stack_pairs
from skpair.losses import LOSSES

LAYOUTS = ("pixels", "features", "files")


def quick(layout, **parameters):
    """A matcher that trains for a moment, with a `max_epochs` of its own for the towers."""
    if layout != "features":
        size = 16 if layout == "files" else None  # as the digits are
        parameters.setdefault("encoder", PairEncoder(max_epochs=2, image_size=size))
    return PairMatcher(**{"max_epochs": 5, "random_state": 0, **parameters})


def swap_skeletons(layout, X):
    """Replace the skeletons by noise, or by files that do not exist."""
    rng = np.random.default_rng(1)
    if layout == "files":
        return X.assign(skeleton=[f"missing_{i}.png" for i in range(len(X))])
    X = X.copy()
    if layout == "pixels":
        X[:, -1] = rng.integers(2, size=X[:, -1].shape) * 255
    else:
        X[:, X.shape[1] // 2 :] = rng.normal(size=(len(X), X.shape[1] - X.shape[1] // 2))
    return X


def images_alone(layout, X):
    if layout == "files":
        return X[["image"]]
    return split_pairs(X)[0]


def skeletons_alone(layout, X):
    if layout == "files":
        return X[["skeleton"]]
    return split_pairs(X)[1]


@pytest.fixture(scope="module")
def fitted(features):
    X, y = features
    return PairMatcher(prior="uniform", random_state=0).fit(X, y)


@pytest.mark.slow
def test_the_cases_are_learned(features):
    X, y = features
    train, test = slice(0, 80), slice(80, None)
    for gallery in ("both", "skeletons", "images"):
        matcher = PairMatcher(gallery=gallery, random_state=0).fit(X[train], y[train])
        assert balanced_accuracy_score(y[test], matcher.predict(X[test])) > 0.9
        same = (y[test][:, None] == y[test]).ravel()
        for matrix in (matcher.pair_proba_matrix(X[test]), matcher.similarity_matrix(X[test])):
            assert roc_auc_score(same, matrix.ravel()) > 0.95


def test_nothing_is_learned_from_shuffled_cases(features):
    X, y = features
    wrong = np.random.default_rng(0).permutation(y)
    matcher = PairMatcher(random_state=0).fit(X[:80], wrong[:80])
    assert balanced_accuracy_score(wrong[80:], matcher.predict(X[80:])) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_every_loss_learns(features, loss, similarity):
    X, y = features
    matcher = PairMatcher(loss=loss, similarity=similarity, random_state=0).fit(X[:80], y[:80])
    assert balanced_accuracy_score(y[80:], matcher.predict(X[80:])) > 0.8
    proba = matcher.predict_proba(X[80:])
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(matcher.classes_[proba.argmax(axis=1)], matcher.predict(X[80:]))
    pair_proba = matcher.pair_proba_matrix(X[80:])
    assert pair_proba.min() >= 0 and pair_proba.max() <= 1 + 1e-6
    same = y[80:][:, None] == y[80:]
    assert roc_auc_score(same.ravel(), pair_proba.ravel()) > 0.9


def test_a_loss_of_ones_own_is_called_as_documented(features):
    X, y = features

    class Recorded(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, image_emb, skeleton_emb, y_image, y_skeleton):
            assert image_emb.shape == skeleton_emb.shape == (len(y_image), 8)
            assert torch.equal(y_image, y_skeleton)
            return (self.scale * (image_emb - skeleton_emb)).square().sum(1).mean()

    loss = Recorded()
    matcher = PairMatcher(loss=loss, embedding_dim=8, max_epochs=2, random_state=0).fit(X, y)
    assert loss.scale.item() == 1  # the user's own is left alone
    assert matcher.loss_.scale.item() != 1
    assert matcher.predict(X).shape == y.shape


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", ["two_stage", "joint", "fine_tune"])
def test_predict_never_looks_at_skeletons(layouts, layout, training):
    X, y = layouts[layout]
    if layout == "features" and training != "two_stage":
        matcher = quick(layout, training=training, encoder=PairEncoder(max_epochs=2))
    else:
        matcher = quick(layout, training=training)
    matcher.fit(X, y)
    noisy = swap_skeletons(layout, X)
    for gallery in ("both", "skeletons", "images"):
        matcher.set_params(gallery=gallery)
        for method in ("predict", "predict_proba", "decision_function", "transform"):
            expected = getattr(matcher, method)(X)
            np.testing.assert_array_equal(getattr(matcher, method)(noisy), expected)
            alone = getattr(matcher, method)(images_alone(layout, X))
            np.testing.assert_array_equal(alone, expected)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_call_forms_agree(layouts, layout):
    X, y = layouts[layout]
    images, skeletons = split_pairs(X)
    one = quick(layout).fit(X, y)
    two = quick(layout).fit(images, skeletons, y)
    np.testing.assert_array_equal(one.transform(X), two.transform(X))
    for method in ("pair_score", "pair_proba", "predict_pairs", "similarity_matrix"):
        given = getattr(one, method)(images_alone(layout, X), skeletons_alone(layout, X))
        np.testing.assert_array_equal(getattr(one, method)(X), given)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pair_methods_fit_together(layouts, layout):
    X, y = layouts[layout]
    matcher = quick(layout).fit(X, y)
    images, skeletons = images_alone(layout, X), skeletons_alone(layout, X)
    matrix = matcher.similarity_matrix(images[:7], skeletons[:5])
    expected = matcher.transform(X)[:7] @ matcher.embed_skeletons(skeletons)[:5].T
    np.testing.assert_allclose(matrix, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        matcher.pair_score(X), np.diag(matcher.similarity_matrix(X)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        matcher.pair_proba(X), np.diag(matcher.pair_proba_matrix(X)), rtol=1e-4, atol=1e-6
    )
    decided = matcher.predict_pairs(X)
    assert decided.dtype == bool
    np.testing.assert_array_equal(decided, matcher.pair_proba(X) >= matcher.threshold_)


@pytest.mark.slow
def test_pair_proba_is_the_chance_of_a_shared_case(fitted, features):
    X, _ = features
    expected = fitted.predict_proba(X)[:5] @ fitted.predict_proba(X[:, :10])[:3].T
    given = fitted.pair_proba_matrix(X[:5, :10], X[:3, 10:])
    assert given.shape == expected.shape == (5, 3)
    # with a gallery of skeletons alone, and skeletons as queries, the case of each is its softmax
    scores = fitted.embed_skeletons(X[:3]) @ prototypes(fitted).T
    skeleton = softmax(scores / fitted.temperature)
    np.testing.assert_allclose(
        given, fitted.predict_proba(X)[:5] @ skeleton.T, rtol=1e-4, atol=1e-6
    )


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def prototypes(matcher):
    """Normalised mean over both kinds of the normalised mean example of each case."""
    total = 0
    for known, cases in (
        (matcher.gallery_.images, matcher.gallery_.image_cases),
        (matcher.gallery_.skeletons, matcher.gallery_.skeleton_cases),
    ):
        means = np.stack([known[cases == c].mean(axis=0) for c in range(len(matcher.classes_))])
        total = total + means / np.linalg.norm(means, axis=1, keepdims=True)
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def test_decision_is_the_similarity_to_the_mean_known_example(fitted, features):
    X, _ = features
    expected = fitted.transform(X) @ prototypes(fitted).T
    np.testing.assert_allclose(fitted.decision_function(X), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fitted.predict_proba(X), softmax(expected / 0.1), rtol=1e-3)


def test_max_compares_with_the_most_similar_example(features):
    X, y = features
    matcher = PairMatcher(aggregate="max", gallery="skeletons", prior="uniform", max_epochs=3).fit(
        X, y
    )
    similarity = matcher.similarity_matrix(X)
    expected = np.stack([similarity[:, y == c].max(axis=1) for c in range(4)], axis=1)
    np.testing.assert_allclose(matcher.decision_function(X), expected, rtol=1e-4, atol=1e-6)


def test_kneighbors_are_the_most_similar_known_skeletons(fitted, features):
    X, y = features
    scores, indices = fitted.kneighbors(X[:6], n_neighbors=3)
    similarity = fitted.similarity_matrix(X[:6], X)
    np.testing.assert_allclose(scores, -np.sort(-similarity, axis=1)[:, :3], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        np.take_along_axis(similarity, indices, 1), scores, rtol=1e-4, atol=1e-6
    )
    with pytest.raises(ValueError, match="n_neighbors must be >= 1 and <= 120"):
        fitted.kneighbors(X, n_neighbors=121)


def test_embeddings_are_unit_vectors_under_the_cosine(features):
    X, y = features
    cosine = PairMatcher(max_epochs=2).fit(X, y)
    np.testing.assert_allclose(np.linalg.norm(cosine.transform(X), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(cosine.embed_skeletons(X), axis=1), 1, rtol=1e-5)
    dot = PairMatcher(similarity="dot", max_epochs=2).fit(X, y)
    assert np.ptp(np.linalg.norm(dot.transform(X), axis=1)) > 0.01


@pytest.mark.slow
def test_embedding_l2_shortens_embeddings(features):
    X, y = features
    length = [
        np.linalg.norm(
            PairMatcher(similarity="dot", embedding_l2=l2, random_state=0).fit(X, y).transform(X)
        )
        for l2 in (0.0, 1.0)
    ]
    assert length[1] < 0.8 * length[0]


def test_two_cases_decide_by_one_number(features):
    X, y = features
    two = y < 2
    matcher = PairMatcher(random_state=0).fit(X[two], np.array(["a", "b"])[y[two]])
    decision = matcher.decision_function(X)
    assert decision.shape == (len(X),)
    np.testing.assert_array_equal(matcher.predict(X), np.where(decision > 0, "b", "a"))
    np.testing.assert_array_equal(matcher.predict_proba(X)[:, 1] > 0.5, decision > 0)


@pytest.mark.slow
def test_scale_of_features_does_not_matter(features):
    X, y = features
    odd = X * np.geomspace(1e-3, 1e3, X.shape[1]) + np.linspace(-100, 100, X.shape[1])
    plain = PairMatcher(random_state=0).fit(X, y)
    scaled = PairMatcher(random_state=0).fit(odd, y)
    assert np.mean(plain.predict(X) == scaled.predict(odd)) > 0.97


def test_balanced_sampling_finds_rare_cases(features):
    X, y = features
    rng = np.random.default_rng(0)
    X = X + 2.5 * rng.normal(size=X.shape)
    recall = {}
    for sampler in ("balanced", "natural"):
        matcher = PairMatcher(sampler=sampler, gallery="skeletons", random_state=0)
        matcher.fit(X[::2], y[::2])
        recall[sampler] = balanced_accuracy_score(y[1::2], matcher.predict(X[1::2]))
    assert recall["balanced"] > 0.4
    assert recall["balanced"] >= recall["natural"] - 0.05


def test_early_stopping_holds_rows_out_and_goes_back_to_the_best(features):
    X, y = features
    rng = np.random.default_rng(0)
    X = X + 3 * rng.normal(size=X.shape).astype(np.float32)  # hard: it overfits soon
    matcher = PairMatcher(
        early_stopping=True, n_iter_no_change=3, lr=0.03, dropout=0.0, random_state=0
    ).fit(X, y)
    losses = np.array(matcher.history_[:, "valid_loss"])
    assert matcher.n_iter_ == len(losses) < matcher.max_epochs
    assert losses.argmin() == len(losses) - 1 - 3
    assert 0 <= matcher.threshold_ <= 1
    assert len(matcher.gallery_.images) == len(X)


def test_early_stopping_restores_the_loss_too(features):
    X, y = features
    matcher = PairMatcher(
        loss="binary_cross_entropy", early_stopping=True, n_iter_no_change=1, lr=0.1, random_state=0
    ).fit(X, y)
    assert matcher.n_iter_ < matcher.max_epochs
    in_net = dict(matcher.net_.module_.loss.named_parameters())
    for name, parameter in matcher.loss_.named_parameters():
        assert torch.equal(parameter, in_net[name])


def test_a_case_with_one_row_works(features):
    X, y = features
    rows = np.concatenate([np.flatnonzero(y < 3), np.flatnonzero(y == 3)[:1]])
    matcher = PairMatcher(max_epochs=10, random_state=0).fit(X[rows], y[rows])
    assert matcher.classes_.tolist() == [0, 1, 2, 3]
    assert matcher.predict(X[rows[-1:]]) == 3
    with pytest.warns(UserWarning, match=r"one row only.*\[3\]"):
        PairMatcher(max_epochs=2, early_stopping=True, random_state=0).fit(X[rows], y[rows])


def test_one_row_can_be_asked(fitted, features):
    X, _ = features
    assert fitted.predict(X[:1]).shape == (1,)
    assert fitted.pair_proba(X[:1]).shape == (1,)
    np.testing.assert_allclose(fitted.transform(X[:1]), fitted.transform(X)[:1], rtol=1e-4)


def test_second_fit_starts_afresh(features):
    X, y = features
    once = PairMatcher(max_epochs=5, random_state=0).fit(X, y)
    twice = PairMatcher(max_epochs=5, random_state=0).fit(X[:, :8], y % 2).fit(X, y)
    np.testing.assert_array_equal(once.transform(X), twice.transform(X))
    assert twice.classes_.tolist() == [0, 1, 2, 3]


def test_matcher_equals_the_pipeline_of_its_parts(digits):
    from sklearn.pipeline import make_pipeline

    X, y = digits
    encoder = PairEncoder(max_epochs=3, random_state=0)
    settings = {"max_epochs": 5, "validation_fraction": 0, "random_state": 0}
    whole = PairMatcher(encoder, **settings).fit(X, y)
    parts = make_pipeline(encoder, PairMatcher(**settings)).fit(X, y)
    np.testing.assert_array_equal(whole.transform(X), parts.transform(X))
    np.testing.assert_array_equal(whole.predict_proba(X), parts.predict_proba(X))
    assert whole.threshold_ == parts[-1].threshold_


@pytest.mark.slow
def test_encoder_takes_the_random_state_of_the_matcher(digits):
    X, y = digits
    given = PairMatcher(PairEncoder(max_epochs=2, random_state=0), max_epochs=2, random_state=0)
    taken = clone(given).set_params(encoder__random_state=None)
    expected = given.fit(X, y).transform(X)
    np.testing.assert_array_equal(taken.fit(X, y).transform(X), expected)
    assert taken.encoder.random_state is None  # what was given stays as it is
    own = clone(given).set_params(encoder__random_state=1)
    assert not np.array_equal(own.fit(X, y).transform(X), expected)


@pytest.mark.slow
def test_fine_tuning_goes_on_from_two_stages(digits):
    X, y = digits
    parameters = {"encoder": PairEncoder(max_epochs=4), "max_epochs": 3, "random_state": 0}
    two_stage = PairMatcher(**parameters).fit(X, y)
    fine = PairMatcher(training="fine_tune", **parameters).fit(X, y)
    joint = PairMatcher(training="joint", **parameters).fit(X, y)
    first = [next(m.encoder_.towers_.parameters()).detach() for m in (two_stage, fine, joint)]
    assert not torch.equal(first[0], first[1])
    # a small step away from where two stages ended; joint training starts elsewhere
    assert (first[0] - first[1]).abs().max() < (first[0] - first[2]).abs().max()
    assert fine.n_iter_ == 2 and joint.n_iter_ == 4 and two_stage.n_iter_ == 3


@pytest.mark.slow
def test_joint_training_learns_towers_together(digits):
    X, y = digits
    encoder = PairEncoder(max_epochs=15, augment=None)
    joint = PairMatcher(encoder, training="joint", random_state=0).fit(X[:60], y[:60])
    assert balanced_accuracy_score(y[60:], joint.predict(X[60:])) > 0.6
    assert joint.encoder_.frozen == "auto"


def test_towers_of_different_widths(digits):
    X, y = digits

    class Narrow(nn.Module):
        def forward(self, x):
            return x.mean(dim=3).flatten(1)  # (b, 16)

    encoder = PairEncoder("cnn", Narrow(), max_epochs=2, random_state=0)
    for training in ("two_stage", "joint"):
        matcher = PairMatcher(encoder, training=training, max_epochs=2, random_state=0).fit(X, y)
        assert matcher.pair_proba(X).shape == (len(X),)
    encoded = matcher.encoder_.transform(X)
    assert not encoded[:, encoded.shape[1] // 2 + 16 :].any()


def test_rgb_images(digits):
    X, y = digits
    images, skeletons = split_pairs(X)
    colour = np.stack([images, images // 2, 255 - images], axis=-1)
    matcher = quick("pixels").fit(colour, skeletons, y)
    assert matcher.layout_.image_shape == (3, 16, 16)
    np.testing.assert_array_equal(
        matcher.predict(colour), matcher.predict(stack_pairs(colour, skeletons))
    )


def test_features_with_an_encoder(features):
    X, y = features
    matcher = PairMatcher(PairEncoder(max_epochs=5), max_epochs=10, random_state=0)
    matcher.fit(X[:80], y[:80])
    assert matcher.encoder_.transform(X).shape == (len(X), 128)
    assert balanced_accuracy_score(y[80:], matcher.predict(X[80:])) > 0.8


def test_verbose_shows_a_progress_bar(features, capfd):
    X, y = features
    PairMatcher(max_epochs=2, verbose=1).fit(X, y)
    out, err = capfd.readouterr()
    assert "train_loss" in out and "%" in err
    PairMatcher(max_epochs=2).fit(X, y)
    assert capfd.readouterr() == ("", "")


def test_callbacks_are_called(features):
    from skorch.callbacks import Callback

    class Count(Callback):
        epochs = 0

        def on_epoch_end(self, net, **kwargs):
            self.epochs += 1

    X, y = features
    count = Count()
    PairMatcher(max_epochs=3, callbacks=[count]).fit(X, y)
    assert count.epochs == 3


def test_a_callback_of_ones_own_may_stop_the_training(features):
    from skorch.callbacks import EarlyStopping

    X, y = features
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=0.5, sink=lambda _: None)
    assert PairMatcher(max_epochs=100, callbacks=[stop]).fit(X, y).n_iter_ < 100


def test_a_callback_that_ends_a_training_says_so(features):
    from skorch.callbacks import Callback

    from skpair.learning import StopTraining

    class Stop(Callback):
        def __init__(self, how):
            self.how = how

        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == self.how["after"]:
                raise self.how["error"]

    X, y = features
    how = {"after": 2, "error": StopTraining}
    matcher = PairMatcher(max_epochs=5, callbacks=[Stop(how)])
    assert matcher.fit(X, y).n_iter_ == 2
    how["error"] = KeyboardInterrupt  # as Ctrl-C, in a refit, a clone and a search
    for estimator in (matcher, clone(matcher), GridSearchCV(matcher, {"lr": [0.1]}, cv=2)):
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X, y)
    with pytest.raises(NotFittedError):
        matcher.predict(X)


@pytest.mark.parametrize("callbacks", [3, [3], "no", int, [("a", 3)]])
def test_what_is_no_callback(features, callbacks):
    for estimator in (PairMatcher(callbacks=callbacks), PairEncoder(callbacks=callbacks)):
        with pytest.raises(TypeError, match="callbacks must be a list of skorch callbacks or None"):
            estimator.fit(*features)


def test_one_callback_is_no_list_of_them(features):
    from skorch.callbacks import Callback

    with pytest.raises(TypeError, match=r"callbacks must be a list .* not one: \[<.*Callback"):
        PairMatcher(callbacks=Callback()).fit(*features)


@pytest.mark.parametrize(
    ("y", "how", "message"),
    [
        (["a", "a", "a"], {}, "one class only"),
        (["a", "b", "b"], {"unknown_label": "b"}, "is one of the cases"),
        (["a", "b", "b"], {"early_stopping": True}, "too few repeat a case"),
        (["a", "b"], {}, "inconsistent numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:These cases have one row only")
def test_what_is_cheap_to_check_comes_before_the_pictures(y, how, message):
    X = np.full((3, 2), "missing.png", dtype=object)
    with pytest.raises(ValueError, match=message):
        PairMatcher(**how).fit(X, y)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_of_unequal_numbers_are_refused(layouts, layout):
    X, y = layouts[layout]
    matcher = quick(layout, max_epochs=1).fit(X, y)
    images, skeletons = images_alone(layout, X), skeletons_alone(layout, X)
    for method in ("pair_score", "pair_proba", "predict_pairs"):
        with pytest.raises(ValueError, match="5 images and 1 skeletons"):
            getattr(matcher, method)(images[:5], skeletons[:1])
        with pytest.raises(TypeError, match="3 positional arguments"):
            getattr(matcher, method)(images, skeletons, skeletons)
    for method in ("pair_score", "pair_proba", "predict_pairs", "similarity_matrix"):
        with pytest.raises(ValueError):
            getattr(matcher, method)(images)  # no skeletons at all


def test_joint_training_takes_the_batches_of_the_encoder(digits):
    X, y = digits
    encoder = PairEncoder(max_epochs=1, batch_size=15)
    joint = PairMatcher(encoder, training="joint", batch_size=60, random_state=0).fit(X, y)
    assert joint.history_[-1, "batches", 0, "train_batch_size"] == 15


@pytest.mark.slow
def test_early_stopping_with_an_encoder_keeps_the_rows_held_out_from_it(files, tmp_path):
    X, y = files
    matcher = PairMatcher(PairEncoder(max_epochs=1), early_stopping=True, random_state=0)
    for row in (5, 59):
        broken = X.copy()
        broken.loc[row, "image"] = str(tmp_path / "missing.png")
        with pytest.raises(OSError, match=f"Row {row}: the image file"):
            matcher.fit(broken, y)
    matcher.fit(X, y)
    assert len(matcher.gallery_.images) == len(X)


def test_thresholds_of_many_rows_see_every_case(features):
    X, y = features
    y = np.where(np.arange(1200) < 1198, 0, 1)
    X = np.tile(X, (10, 1))
    assert 0 <= PairMatcher(max_epochs=1, random_state=0).fit(X, y).threshold_ <= 1
