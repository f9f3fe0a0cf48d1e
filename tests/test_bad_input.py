"""What goes wrong is said clearly: what was given, what is expected, what to do."""

import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skpair import PairEncoder, PairMatcher, pair_up, split_pairs, stack_pairs
from skpair.learning import devices, parameters
from skpair.learning.devices import _devices
from skpair.learning.net import DivergenceError


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "npair"}, "loss='npair' is unknown; known are 'n_pair'"),
        ({"loss": None}, "loss=None is unknown"),
        ({"sampler": "uniform"}, "sampler='uniform' is unknown; known are 'balanced', 'natural'"),
        ({"training": "end_to_end"}, "known are 'two_stage', 'joint', 'fine_tune'"),
        ({"similarity": "euclidean"}, "known are 'cosine', 'dot'"),
        ({"gallery": "all"}, "known are 'both', 'skeletons', 'images'"),
        ({"aggregate": "median"}, "known are 'mean', 'max'"),
        ({"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ({"temperature": -1.0}, "temperature must be > 0"),
        ({"temperature": float("inf")}, "temperature must be > 0"),
        ({"embedding_dim": 0}, "embedding_dim must be >= 1, got 0"),
        ({"embedding_dim": 2.5}, "embedding_dim must be an integer, got 2.5"),
        ({"hidden_dims": (8, 0)}, "hidden_dims must be >= 1"),
        ({"hidden_dims": 8}, "hidden_dims must be a tuple of integers, got 8"),
        ({"dropout": 1.0}, "dropout must be >= 0 and < 1"),
        ({"margin": -0.1}, "margin must be >= 0"),
        ({"within_kind": -1.0}, "within_kind must be >= 0"),
        ({"embedding_l2": -1.0}, "embedding_l2 must be >= 0"),
        ({"max_epochs": 0}, "max_epochs must be >= 1"),
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"lr": 0}, "lr must be > 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be >= 0 and < 1"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be >= 1"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"device": "cuda:99"}, "device='cuda:99' is not there. This machine has 'cpu'"),
        ({"device": "meta"}, "device='meta' is not there. This machine has 'cpu'"),
        ({"device": None}, "device must be 'auto', 'cpu' or the like, got None"),
        ({"unknown_label": [1]}, r"unknown_label must be one label or None, got \[1\]"),
        ({"random_state": "a"}, "cannot be used to seed"),
        ({"encoder": "resnet18"}, "encoder must be a PairEncoder or None, got 'resnet18'"),
        ({"encoder": LogisticRegression()}, "encoder must be a PairEncoder or None"),
        ({"encoder": PairEncoder}, "encoder must be a PairEncoder or None"),
        ({"training": "joint"}, "give a PairEncoder"),
        ({"training": "joint", "encoder": PairEncoder(frozen=True)}, "have frozen=True"),
        ({"gallery": "images", "loss": "binary_cross_entropy"}, "compares images with skeletons"),
    ],
)
def test_odd_parameters(features, parameters, message):
    X, y = features
    with pytest.raises((ValueError, TypeError), match=message):
        PairMatcher(**parameters).fit(X, y)


def test_lengths_that_differ(digits, features):
    X, y = digits
    images, skeletons = split_pairs(X)
    for estimator in (PairMatcher(), PairEncoder()):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            estimator.fit(X, y[:-1])
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            estimator.fit(*features[:1], features[1][:-1])
        with pytest.raises(ValueError, match="90 images and 89 skeletons.*pair_up"):
            estimator.fit(images, skeletons[:-1], y)


@pytest.mark.parametrize("encoder", [None, PairEncoder()])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("images", "skeletons", [0, 1]), "images"),
        (("images", "skeletons"), "images"),
        ((Path("images"), Path("skeletons"), [0, 1]), "images"),
        ((["a.png", "b.png"], "skeletons", [0, 1]), "skeletons"),
        ((b"images", b"skeletons", [0, 1]), "images"),
    ],
)
def test_folders_are_no_rows(encoder, given, named):
    for estimator in (PairMatcher(encoder), PairEncoder()):
        with pytest.raises(ValueError, match=rf"One path was given \(.*'{named}'\).*a list of"):
            estimator.fit(*given)


@pytest.mark.parametrize("kind", ["image", "skeleton"])
def test_paths_of_bytes_are_refused(kind):
    X = np.array([["a.png", "b.png"]] * 4, dtype=object)
    X[2, int(kind == "skeleton")] = b"c" * 1000
    message = rf"Row 2: {kind} is b'c{{9,14}}\.\.\.c+', but a path is expected.*os\.fsdecode"
    with pytest.raises(ValueError, match=message) as caught:
        PairMatcher().fit(X, [0, 1, 0, 1])
    assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="Row 0: image is b'a', but a path is expected"):
        stack_pairs([b"a"], [b"b"])
    with pytest.raises(ValueError, match="Row 0: image is b'a', but a path is expected"):
        PairMatcher().fit(np.array([[b"a", b"b"]] * 4), [0, 1, 0, 1])


def test_images_and_skeletons_without_cases(digits):
    with pytest.raises(
        ValueError, match=r"y has the shape \(90, 16, 16\).*fit\(X_img, X_skel, y\)"
    ):
        PairMatcher().fit(*split_pairs(digits[0]))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda a, b: (a - b).square().sum().item(), "must give a tensor with one number"),
        (
            lambda a, b: (a - b).square(),
            r"gave one of torch.float32 and shape \(\d+, 64\); average it, as with .mean\(\)\.$",
        ),
        (lambda a, b: (a - b).square().sum().detach(), "must not be detached"),
    ],
)
def test_losses_of_ones_own_that_cannot_teach(features, loss, message):
    class Loss(nn.Module):
        def forward(self, image_emb, skeleton_emb, y_image, y_skeleton):
            return loss(image_emb, skeleton_emb)

    with pytest.raises(TypeError, match=message):
        PairMatcher(loss=Loss()).fit(*features)


def test_a_training_that_diverges(features):
    class Loss(nn.Module):
        def forward(self, image_emb, skeleton_emb, y_image, y_skeleton):
            return (image_emb - skeleton_emb).sum() * float("inf")

    with pytest.raises(DivergenceError, match="diverged: its loss is no longer finite"):
        PairMatcher(loss=Loss()).fit(*features)


@pytest.mark.parametrize(
    "parameters", [{"gallery": "all"}, {"aggregate": "median"}, {"temperature": 0.0}]
)
def test_odd_parameters_set_after_fit(features, parameters):
    X, y = features
    matcher = PairMatcher(max_epochs=1).fit(X, y).set_params(**parameters)
    with pytest.raises(ValueError, match=f"{next(iter(parameters))}"):
        matcher.predict(X)


@pytest.mark.parametrize("layout", ["pixels", "features", "files"])
def test_one_case_only(layouts, layout):
    X, y = layouts[layout]
    for estimator in (PairMatcher(), PairEncoder()):
        with pytest.raises(ValueError, match="one class only.*at least 2 classes"):
            estimator.fit(X, np.zeros(len(y), int))


@pytest.mark.parametrize("layout", ["pixels", "features", "files"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: y + 0.5, "Unknown label type: continuous"),
        (lambda y: np.where(y == 0, np.nan, y), "NaN"),
        (lambda y: np.where(y == 0, None, "a").astype(object), "missing|None"),
        (lambda y: np.array([*y[:-1].tolist(), "a"], dtype=object), "not of one kind"),
        (lambda y: np.stack([y, y], axis=1), "1d array"),
        (lambda y: None, "y to be passed|y is required"),
    ],
)
def test_odd_labels(layouts, layout, labels, message):
    X, y = layouts[layout]
    for estimator in (PairMatcher(max_epochs=1), PairEncoder(max_epochs=1)):
        with pytest.raises((ValueError, TypeError), match=message):
            estimator.fit(X, labels(y))


@pytest.mark.parametrize("dtype", ["string", "str", "category", object, "Float64"])
@pytest.mark.parametrize("layout", ["pixels", "features", "files"])
def test_missing_labels_of_any_table(layouts, layout, dtype):
    X, y = layouts[layout]
    labels = pd.Series(y).astype("string") if dtype != "Float64" else pd.Series(y).astype("Float64")
    labels = labels.mask(np.arange(len(y)) == 7).astype(dtype)
    for estimator in (PairMatcher(max_epochs=1), PairEncoder(max_epochs=1)):
        with pytest.raises(ValueError, match="y holds missing labels, first in row 7"):
            estimator.fit(X, labels)


def test_numbers_beyond_float32(features):
    X, y = features
    with pytest.raises(ValueError, match="infinity or a value too large for dtype"):
        PairMatcher().fit(X.astype(float) * 1e300, y)  # and no warning of numpy's


def test_pictures_without_a_side(digits):
    X, y = digits
    with pytest.raises(ValueError, match=r"shape \(90, 2, 0, 16\), but rows of pixels"):
        PairMatcher().fit(X[:, :, :0], y)


def test_a_column_that_is_there_twice(files):
    X, y = files
    twice = pd.concat([X, X[["image"]]], axis=1)
    matcher = PairMatcher(PairEncoder(frozen=True, image_size=16), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="the column 'image' is there more than once"):
        matcher.predict(twice)
    with pytest.raises(ValueError, match="(?s)unique column names.*'image' 2 times"):
        matcher.fit(twice, y)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(digits, value):
    X, y = digits
    X = X / 255.0
    X[3, 0, 2, 2] = value
    for estimator in (PairMatcher(), PairEncoder()):
        with pytest.raises(ValueError, match="NaN|infinity"):
            estimator.fit(X, y)


def test_pixels_out_of_range(digits):
    X, y = digits
    with pytest.raises(ValueError, match=r"must lie in 0..1, but these lie in 0.0..255.0"):
        PairMatcher().fit(X.astype(float), y)
    with pytest.raises(ValueError, match="must lie in 0..255"):
        PairMatcher().fit(X.astype(int) - 1, y)


def test_an_empty_skeleton_is_named(digits):
    X, y = digits
    X = X.copy()
    X[[2, 5], -1] = 0
    with pytest.warns(UserWarning, match=r"blank in 2 row\(s\): 2, 5"):
        PairMatcher(PairEncoder(max_epochs=1), max_epochs=1).fit(X, y)


def test_wrong_channels_and_sizes(digits):
    X, y = digits
    with pytest.raises(ValueError, match="2 or 4"):
        PairMatcher().fit(np.repeat(X, 3, axis=1), y)
    matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"\(1, 12, 16\).*was fitted on \(1, 16, 16\).*image_size"):
        matcher.predict(X[:, :, 2:-2])
    colour = np.repeat(X[:, :1], 3, axis=1)
    np.testing.assert_array_equal(matcher.predict(colour), matcher.predict(X))


def test_strings_for_pixels(digits):
    X, y = digits
    with pytest.raises(ValueError, match="must be numbers"):
        PairMatcher().fit(X.astype(str), y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ask",
    [
        lambda m, X, y: m.predict(X),
        lambda m, X, y: m.predict_proba(X),
        lambda m, X, y: m.decision_function(X),
        lambda m, X, y: m.transform(X),
        lambda m, X, y: m.kneighbors(X),
        lambda m, X, y: m.novelty_score(X),
        lambda m, X, y: m.embed_skeletons(X),
        lambda m, X, y: m.pair_score(X),
        lambda m, X, y: m.pair_proba(X),
        lambda m, X, y: m.pair_proba_matrix(X),
        lambda m, X, y: m.similarity_matrix(X),
        lambda m, X, y: m.predict_pairs(X),
        lambda m, X, y: m.add_cases(X, y + 9),
        lambda m, X, y: m.calibrate_threshold(X, y),
        lambda m, X, y: m.calibrate_probabilities(X, y),
        lambda m, X, y: m.calibrate_novelty(X),
    ],
)
@pytest.mark.parametrize("value", [1e21, 1e30, 3e38])  # finite, but no length is
def test_rows_whose_embeddings_are_no_numbers_are_named(features, ask, value):
    X, y = features
    matcher = PairMatcher(max_epochs=1, unknown_label=-1, random_state=0).fit(X, y)
    before = matcher.__dict__.copy()
    bad = X[:6].copy()
    bad[[3, 5]] = value
    with pytest.raises(ValueError, match="Row 3: the network makes numbers of its .* not finite"):
        ask(matcher, bad, y[:6])
    for name, value in matcher.__dict__.items():
        assert value is before[name]


def test_dot_products_that_overflow_are_named(features):
    X, y = features
    matcher = PairMatcher(similarity="dot", max_epochs=1, random_state=0).fit(X, y)
    bad = X[:6].copy()
    bad[4] = 1e30  # an embedding is finite, its square is not
    with pytest.raises(ValueError, match="Row 4: the network makes numbers of its image"):
        matcher.pair_score(bad)


class NoNumbersFrom(nn.Module):
    """A tower that gives NaN for bright pictures."""

    def forward(self, x):
        x = x.flatten(1)
        return torch.where(x.mean(1, keepdim=True) > 0.9, torch.nan, x)


def test_a_tower_that_gives_no_numbers_is_named(digits):
    X, y = digits
    encoder = PairEncoder(NoNumbersFrom(), "identity")
    matcher = PairMatcher(encoder, max_epochs=1, random_state=0).fit(X, y)
    bad = X[:5].copy()
    bad[2, 0] = 255
    for ask in (matcher.predict, matcher.encoder_.transform, matcher.pair_score):
        with pytest.raises(ValueError, match="Row 2: the network makes numbers of its image"):
            ask(bad)
    worse = X.copy()
    worse[2, 0] = 255
    for estimator in (matcher, PairEncoder(NoNumbersFrom(), "identity")):
        with pytest.raises(ValueError, match="Row 2: the network makes numbers of its image"):
            estimator.fit(worse, y).transform(worse)


class NoGradient(torch.autograd.Function):
    """Hands a loss on, and gives NaN as its gradient from some step on."""

    calls = 0

    @staticmethod
    def forward(context, loss):
        return loss.clone()

    @staticmethod
    def backward(context, gradient):
        NoGradient.calls += 1
        return gradient * (torch.nan if NoGradient.calls >= 8 else 1)


class BreaksInTheLastStep(nn.Module):
    def forward(self, image_emb, skeleton_emb, y_image, y_skeleton):
        return NoGradient.apply((image_emb - skeleton_emb).square().mean())


@pytest.mark.parametrize("early_stopping", [False, True])
def test_weights_that_are_no_numbers_at_the_end(features, early_stopping, monkeypatch):
    monkeypatch.setattr(NoGradient, "calls", 0)
    matcher = PairMatcher(
        loss=BreaksInTheLastStep(), max_epochs=1, within_kind=0, early_stopping=early_stopping
    )
    with pytest.raises(DivergenceError, match="diverged: its weights are no longer finite"):
        matcher.fit(*features)  # 8 steps: every loss is a number
    assert NoGradient.calls == 8
    with pytest.raises(NotFittedError):
        check_is_fitted(matcher)


@pytest.mark.parametrize("name", ["image_encoder__x", "memory__x", "augment__x", "weights__x"])
def test_parameters_of_what_has_none_in_an_encoder(name):
    with pytest.raises(ValueError, match=f"^{name} cannot be set: .* has no parameters of its own"):
        PairEncoder().set_params(**{name: 1})
    with pytest.raises(ValueError, match=f"^{name} cannot be set: .* has no parameters of its own"):
        PairMatcher(PairEncoder()).set_params(**{f"encoder__{name}": 1})


def test_the_cpu_is_taken_without_a_look_at_others(features, monkeypatch):
    def refuse():
        raise AssertionError("asked for devices")

    monkeypatch.setattr(devices, "_devices", refuse)
    PairMatcher(device="cpu", max_epochs=1).fit(*features).predict(features[0])


@pytest.mark.parametrize("name", ["encoder__lr", "loss__margin", "callbacks__patience"])
def test_parameters_of_what_has_none(features, name):
    advice = "PairMatcher(PairEncoder())" if name.startswith("encoder") else "no parameters"
    with pytest.raises(ValueError, match=f"{name} cannot be set: .*{re.escape(advice)}"):
        PairMatcher().set_params(**{name: 0.1})
    search = GridSearchCV(PairMatcher(max_epochs=1), {name: [0.1]}, error_score="raise")
    with pytest.raises(ValueError, match=f"{name} cannot be set"):
        search.fit(*features)
    both = PairMatcher().set_params(encoder=PairEncoder(), encoder__lr=0.1)
    assert both.encoder.lr == 0.1
    with pytest.raises(ValueError, match="Invalid parameter 'unknown'"):
        PairMatcher().set_params(unknown__lr=0.1)


NOT_THERE = [d for d in ("cuda", "mps", "xpu") if f"{d}:0" not in _devices()]


@pytest.mark.parametrize("device", [*NOT_THERE, "cuda:99", "meta", "abacus"])
def test_devices_that_are_not_there(features, device, tmp_path):
    X, y = features
    matcher = PairMatcher(max_epochs=1).fit(X, y)
    matcher.save(tmp_path / "m")
    for ask in (
        lambda: PairMatcher.load(tmp_path / "m", device=device),
        lambda: clone(matcher).set_params(device=device).fit(X, y),
        lambda: matcher.set_params(device=device).predict(X),
        lambda: PairEncoder(frozen=True, device=device).fit(X),
    ):
        with pytest.raises(ValueError, match=f"^device='{device}' is not"):
            ask()


def test_a_file_from_another_machine_says_its_device(digits, tmp_path, monkeypatch):
    X, y = digits
    encoder = PairEncoder(max_epochs=1, device="cpu:0")
    PairMatcher(encoder, max_epochs=1, device="cpu:0").fit(X, y).save(tmp_path / "m")
    there = devices.resolve_device

    def none_of_these(device):
        if device == "cpu:0":
            raise ValueError(f"device={device!r} is not there")
        return there(device)

    monkeypatch.setattr(parameters, "resolve_device", none_of_these)
    with pytest.raises(ValueError, match="'.*m' cannot be loaded: device='cpu:0' is not there"):
        PairMatcher.load(tmp_path / "m")
    loaded = PairMatcher.load(tmp_path / "m", device="cpu")
    assert loaded.device == loaded.encoder.device == loaded.encoder_.device == "cpu"
    assert loaded.predict(X).shape == y.shape


def test_labels_that_look_alike(features):
    X, y = features
    message = r"\[' B', 'b'\]; \['A', 'a'\]\."
    for estimator in (PairMatcher(max_epochs=1), PairMatcher(PairEncoder(max_epochs=1))):
        labels = np.array(["a ", "a", "A", "b"])[y]
        with pytest.warns(UserWarning, match=r"\['A', 'a', 'a '\].*one label") as caught:
            estimator.set_params(max_epochs=1).fit(X, labels)
        assert len(caught) == 1 and caught[0].filename == __file__
        assert estimator.classes_.tolist() == ["A", "a", "a ", "b"]
    with pytest.warns(UserWarning, match=message) as caught:
        PairEncoder(max_epochs=1).fit(X, np.array([" B", "a", "A", "b"])[y])
    assert len(caught) == 1 and caught[0].filename == __file__
    matcher = PairMatcher(max_epochs=1).fit(X, np.array(["a", "c", "d", "b"])[y])
    with pytest.warns(UserWarning, match=r"\['C', 'c'\]") as caught:
        matcher.add_cases(X[:2], ["C", "e"])
    assert len(caught) == 1 and caught[0].filename == __file__
    matcher.add_cases(X[:2], ["C", "f"])  # of what is known it has warned


def test_no_rows(digits, features):
    for X, y in (digits, features):
        matcher = PairMatcher(PairEncoder(frozen=True), max_epochs=1).fit(X, y)
        for ask in (
            lambda X=X, y=y: PairMatcher().fit(X[:0], y[:0]),
            lambda: PairMatcher().fit([], []),
            lambda m=matcher: m.predict([]),
            lambda m=matcher, X=X: m.predict(X[:0]),
            lambda m=matcher: m.embed_skeletons([]),
            lambda m=matcher: m.pair_score([]),
            lambda m=matcher: m.predict_pairs([], []),
        ):
            with pytest.raises(ValueError, match=r"Found 0 sample\(s\) .*a minimum of 1"):
                ask()
        with pytest.raises(ValueError, match="0 images"):
            stack_pairs(X[:0, :1], X[:0, -1:])


def test_a_case_without_a_drawing():
    with pytest.raises(ValueError, match=r"images but no skeleton: \['b'\]"):
        pair_up(["1.png", "2.png"], ["a", "b"], ["A.png"], ["a"])


def test_another_layout_than_in_fit(digits, features, files):
    matcher = PairMatcher(max_epochs=1).fit(*features)
    with pytest.raises(ValueError, match="pixels"):
        matcher.predict(digits[0])
    with pytest.raises(ValueError, match="files"):
        matcher.predict(files[0])


@pytest.mark.parametrize(
    "method",
    [
        "predict",
        "predict_proba",
        "decision_function",
        "transform",
        "embed_skeletons",
        "pair_score",
        "pair_proba",
        "pair_proba_matrix",
        "predict_pairs",
        "similarity_matrix",
        "kneighbors",
    ],
)
def test_not_fitted(features, method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(PairMatcher(), method)(features[0])


def test_sample_weight_is_refused(features):
    X, y = features
    weight = np.ones(len(y))
    with pytest.raises(TypeError, match="sample_weight"):
        PairMatcher().fit(X, y, sample_weight=weight)
    with pytest.raises(TypeError, match="sample_weight is not supported"):
        PairMatcher().fit(X[:, :10], X[:, 10:], y, y, weight)


@pytest.mark.parametrize("kind", ["image", "skeleton"])
def test_bad_files_are_named_before_the_training(files, tmp_path, kind):
    X, y = files
    good = Path(X[kind][7]).read_bytes()
    truncated, text = tmp_path / "truncated.png", tmp_path / "text.png"
    truncated.write_bytes(good[: len(good) // 2])
    text.write_text("no image")
    for bad in (tmp_path / "missing.png", truncated, text):
        broken = X.copy()
        broken.loc[7, kind] = str(bad)
        for estimator in (PairMatcher(), PairEncoder(frozen=True)):
            with pytest.raises(OSError, match=rf"Row 7: the {kind} file '.*{bad.name}'"):
                estimator.fit(broken, y)
        fitted = PairEncoder(frozen=True).fit(X)
        with pytest.raises(OSError, match=rf"Row 7: the {kind} file '.*{bad.name}'"):
            fitted.transform(broken)


@pytest.fixture
def ctrl_c_is_heard():
    """Shells start background jobs deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_soon():
    """Press Ctrl-C once the main thread is inside a training."""
    from skpair.learning import devices

    def press():
        deadline = time.monotonic() + 60
        while devices._RNG_LOCK.acquire(blocking=False):  # nobody trains yet
            devices._RNG_LOCK.release()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize("refit", [False, True])
def test_ctrl_c_leaves_fit_and_leaves_the_estimator_unfitted(features, refit):
    X, y = features
    # the towers of a default encoder learn in threads, those of the other in the main one
    for estimator in (PairMatcher(), PairEncoder(), PairEncoder(augment=lambda batch: batch)):
        if refit:
            estimator.set_params(max_epochs=1).fit(X, y)
        estimator.set_params(max_epochs=10**6)
        thread = interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X, y)
        thread.join()
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_ends_a_grid_search(features):
    X, y = features
    search = GridSearchCV(PairMatcher(max_epochs=10**6), {"lr": [0.001, 0.01]}, cv=2)
    thread = interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    thread.join()
    assert not hasattr(search, "best_params_")


def test_no_files(files):
    paths, _ = files
    encoder = PairEncoder(frozen=True, image_size=16, random_state=0).fit(paths)
    for X in (paths[:0], paths[:0].to_numpy()):
        with pytest.raises(ValueError, match="Found 0 sample"):
            encoder.transform(X)
    with pytest.raises(ValueError, match="Found 0 sample"):
        encoder.encode_images(paths[["image"]][:0])


def test_one_picture_without_its_axis(digits):
    X, y = digits
    matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"One picture alone needs an axis before it: X\[None\]"):
        matcher.predict(X[0, 0])
    colour = np.repeat(X[:1, 0], 3, axis=0)  # (3, H, W), taken for three grey ones of this size
    with pytest.raises(ValueError, match=r"One image alone needs an axis before it: image\[None\]"):
        matcher.predict(np.moveaxis(colour, 0, 2))
