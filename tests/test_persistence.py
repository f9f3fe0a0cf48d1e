import copy
import importlib.util
import json
import os
import pickle
import resource
import stat
import subprocess
import sys
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from skorch import NeuralNet
from torch import nn

import skpair
from skpair import PairEncoder, PairMatcher, matcher_file
from skpair.learning import backbones, schemes, towers
from skpair.rows import layouts
from skpair.storage import sealed

DATA = Path(__file__).parent / "data"
FEW = {"max_epochs": 1, "embedding_dim": 4, "random_state": 0}


class Net(nn.Module):
    """A network of the user's, with a buffer and two layers that share their weights."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3)
        self.third = nn.Conv2d(4, 4, 3)
        self.third.weight = self.second.weight

    def forward(self, x):
        return self.third(self.second(self.norm(self.first(x)))).amax(dim=(2, 3))


class Weighted(nn.Module):
    """A loss of the user's, with a weight that is learned."""

    symmetric = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image, skeleton, y_image, y_skeleton):
        return ((image - skeleton).square().sum(1) * self.weight.exp()).mean()


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    X = rng.normal(size=(24, 8)) + 3 * np.eye(8)[y] + 3 * np.eye(8)[y + 4]
    return X.astype(np.float32), y


@pytest.fixture
def fitted(rows):
    return PairMatcher(**FEW).fit(*rows)


@pytest.fixture(scope="module")
def saved(rows):
    """What the file of a matcher holds: JSON and tensors."""
    content, tensors, _ = matcher_file.describe(PairMatcher(**FEW).fit(*rows))
    return json.dumps(content), tensors


@pytest.fixture
def parts(saved):
    """A copy of it, to be changed."""
    return json.loads(saved[0]), dict(saved[1])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "matcher.skpair"


def reload(matcher, path, **given):
    matcher.save(path)
    loaded = PairMatcher.load(path, **given)
    assert loaded.net_.module_.loss is loaded.loss_ is loaded.net_.criterion_.loss
    return loaded


def assert_same(loaded, fitted, X):
    """Everything that a fitted matcher shows is there again, to the bit."""
    for method in (
        *("predict", "predict_proba", "decision_function", "transform", "embed_skeletons"),
        *("pair_score", "pair_proba", "predict_pairs", "similarity_matrix", "novelty_score"),
        "kneighbors",
    ):
        have, want = getattr(loaded, method)(X), getattr(fitted, method)(X)
        np.testing.assert_array_equal(have, want, err_msg=method)
        assert getattr(have, "dtype", None) == getattr(want, "dtype", None)
    assert loaded.classes_.dtype == fitted.classes_.dtype
    assert [type(c) for c in loaded.classes_] == [type(c) for c in fitted.classes_]
    for name in ("images", "image_cases", "skeletons", "skeleton_cases", "cases"):
        have, want = getattr(loaded.gallery_, name), getattr(fitted.gallery_, name)
        np.testing.assert_array_equal(have, want)
        assert have.dtype == want.dtype
    names = ("classes_", "threshold_", "case_thresholds_", "novelty_threshold_", "temperature_")
    for name in (*names, "history_", "n_iter_", "layout_", "n_features_in_"):
        have, want = getattr(loaded, name), getattr(fitted, name)
        assert type(have) is type(want)
        np.testing.assert_equal(have, want)
    for name in ("feature_names_in_", "calibration_error_"):
        np.testing.assert_equal(getattr(loaded, name, None), getattr(fitted, name, None))
    assert isinstance(loaded.net_, NeuralNet)
    assert loaded.net_.history == fitted.net_.history
    assert shown(loaded) == shown(fitted)
    assert (loaded.encoder_ is None) == (fitted.encoder_ is None)
    if fitted.encoder_ is not None:
        have, want = loaded.encoder_, fitted.encoder_
        assert shown(have) == shown(want)
        assert (have.width_, have.layout_, have.history_) == (
            *(want.width_, want.layout_, want.history_),
        )
        np.testing.assert_equal(getattr(have, "classes_", None), getattr(want, "classes_", None))
        np.testing.assert_array_equal(have.transform(X), want.transform(X))
        for (_, a), (name, b) in zip(
            have.towers_.state_dict().items(), want.towers_.state_dict().items(), strict=True
        ):
            assert torch.equal(a, b) and a.stride() == b.stride(), name


def shown(estimator):
    """Parameters without the objects that compare by identity."""
    parameters = estimator.get_params()
    parameters.pop("encoder", None)
    return {k: type(v) if isinstance(v, nn.Module) else v for k, v in parameters.items()}


# ---- what is the same ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"hidden_dims": (5, 3), "dropout": 0.0, "similarity": "dot", "max_epochs": 2},
        {"hidden_dims": [5], "early_stopping": True, "gallery": "skeletons", "aggregate": "max"},
        {"loss": "binary_cross_entropy"},
        {"loss": "sigmoid", "lr": np.float64(0.01), "batch_size": np.int64(8)},
        {"loss": "contrastive", "margin": 1.5},
    ],
)
def test_feature_rows_are_named_as_before(rows, path, given):
    X, y = rows
    fitted = PairMatcher(**{**FEW, **given}).fit(X, y)
    assert_same(reload(fitted, path), fitted, X)


@pytest.mark.slow
@pytest.mark.parametrize("training", ["two_stage", "joint", "fine_tune"])
@pytest.mark.parametrize("layout", ["pixels", "files"])
def test_pictures_are_named_as_before(layouts, path, layout, training):
    X, y = layouts[layout]
    encoder = PairEncoder(max_epochs=1, image_size=(14, 12), weight_decay=0.1)
    fitted = PairMatcher(encoder, training=training, **FEW).fit(X[:40], y[:40])
    loaded = reload(fitted, path)
    assert_same(loaded, fitted, X[:40])
    assert not hasattr(loaded.encoder, "towers_")
    assert loaded.encoder.get_params() == encoder.get_params()
    together = training != "two_stage"
    assert isinstance(loaded.net_.module_.encoders.image, nn.Sequential) == together
    if together:
        assert loaded.net_.module_.encoders.image[0] is loaded.encoder_.towers_.image


def test_encoders_of_all_kinds(digits, rows, path):
    X, y = rows
    towers_of_rows = PairMatcher(PairEncoder(max_epochs=1), **FEW).fit(X, y)
    assert_same(reload(towers_of_rows, path), towers_of_rows, X)
    X, y = digits[0][:40], digits[1][:40]
    padded = PairEncoder("identity", "cnn", max_epochs=1)  # towers of different widths
    fitted = PairMatcher(padded, **FEW).fit(X, y)
    assert_same(reload(fitted, path), fitted, X)
    default = PairMatcher(PairEncoder(max_epochs=1), **FEW).fit(X, y).set_params(encoder=None)
    assert_same(reload(default, path), default, X)  # as if it had been the default one
    assert PairMatcher.load(path).encoder is None


@pytest.mark.slow
def test_a_network_of_torchvision_whose_weights_came_from_a_file(digits, path, tmp_path):
    X, y = digits[0][:40], digits[1][:40]
    weights = tmp_path / "weights.pth"
    name = "shufflenet_v2_x0_5"
    torch.save(backbones.Backbone(name).network.state_dict(), weights)
    fitted = PairMatcher(PairEncoder(name, name, weights=weights), **FEW).fit(X, y)
    fitted.save(path)
    weights.unlink()
    loaded = PairMatcher.load(path)
    assert_same(loaded, fitted, X)
    assert loaded.encoder.weights == weights


def test_published_weights_are_not_looked_for_and_shape_their_network():
    with towers.WithoutMemory():
        inputs = [backbones.Backbone("googlenet", w, False) for w in (None, "DEFAULT", "own.pth")]
        assert [backbone.network.transform_input for backbone in inputs] == [False, True, True]
        large = backbones.Backbone("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", filled=False)
        assert large.network.image_size == 384
        regnet = backbones.Backbone("regnet_x_400mf", filled=False)  # computes with its sizes
    for name, tensor in regnet.named_parameters():
        assert tensor.is_meta, name


@pytest.mark.parametrize(
    "labels",
    [
        ["ant", "bee", "wasp"],
        np.array(["ant", "bee", "wasp"], dtype=object),
        np.array(["ant", "bee", "wasp"], dtype="U20"),
        np.array([2, 1, 0], dtype=np.uint8),
        np.array([-(2**60), 0, 2**60]),
        np.array([0.0, 1.0, 2.0], dtype=np.float32),
        [True, False, True],
        ["Ω", "\ud800", 'a"\\\n'],
        pd.Series(["x", "y", "z"], dtype="category"),
    ],
    ids=str,
)
def test_labels_keep_their_type(rows, path, labels):
    X, y = rows
    fitted = PairMatcher(**FEW).fit(X, np.asarray(labels)[y])
    assert_same(reload(fitted, path), fitted, X)


def test_calibrated_thresholds_and_added_cases(rows, path):
    X, y = rows
    fitted = PairMatcher(unknown_label=-1, **FEW).fit(X, y)
    others = 1.01 * X
    fitted.calibrate_threshold(others, y, per_case=True).calibrate_probabilities(others, y)
    fitted.calibrate_novelty(others, false_alarm=0.2)
    fitted.add_cases(X[:2], [9, 9]).remove_cases([1]).calibrate_new_cases(others, false_alarm=0.3)
    loaded = reload(fitted, path)
    assert_same(loaded, fitted, X)
    np.testing.assert_array_equal(loaded.new_case_offsets_, fitted.new_case_offsets_)
    for matcher in (loaded, fitted):
        assert matcher.add_cases(X[2:4], [5, 5]).classes_.tolist() == [0, 2, 5, 9]
    assert loaded.new_case_offsets_[[2, 3]].all() and not loaded.new_case_offsets_[:2].any()
    assert_same(loaded, fitted, X)


def test_names_of_columns_and_the_type_of_output(rows, path):
    X = pd.DataFrame(rows[0], columns=[f"c{i}" for i in range(8)])
    fitted = PairMatcher(**FEW).set_output(transform="pandas").fit(X, rows[1])
    loaded = reload(fitted, path)
    pd.testing.assert_frame_equal(loaded.transform(X), fitted.transform(X))
    assert loaded.feature_names_in_.tolist() == list(X.columns)
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(X.rename(columns={"c0": "other"}))


def test_parameters_set_after_fit_are_kept_and_change_nothing_that_was_learned(fitted, rows, path):
    fitted.set_params(embedding_dim=9, hidden_dims=(3,), similarity="dot", loss="triplet")
    fitted.set_params(temperature=0.5, dropout=0.0, gallery="images")
    loaded = reload(fitted, path)
    assert_same(loaded, fitted, rows[0])
    assert loaded.fit(*rows).transform(rows[0]).shape == (24, 9)


@pytest.mark.parametrize("name", [p.stem for p in sorted(DATA.glob("*.skpair"))])
def test_files_of_earlier_versions(name):
    with np.load(DATA / f"{name}.npz") as kept:
        X, loaded = kept["X"], PairMatcher.load(DATA / f"{name}.skpair")
        for method in ("predict", "predict_pairs"):
            np.testing.assert_array_equal(getattr(loaded, method)(X), kept[method])
        for method in ("predict_proba", "transform", "pair_proba"):
            np.testing.assert_allclose(getattr(loaded, method)(X), kept[method], atol=1e-5)
        np.testing.assert_allclose(loaded.novelty_score(X), kept["novelty"], atol=1e-5)
        known = loaded.transform(X) @ loaded.gallery_.skeletons.T
        expected = np.take_along_axis(known, kept["neighbors"], axis=1)  # of equal ones, any
        np.testing.assert_allclose(loaded.kneighbors(X, 2)[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", [p.stem for p in sorted(DATA.glob("*.skpair"))])
def test_what_later_versions_add_takes_its_default(name, path, monkeypatch):
    class Later(PairMatcher):
        def __init__(self, encoder=None, *, curriculum=0.5, **others):
            super().__init__(encoder, **others)
            self.curriculum = curriculum

        @classmethod
        def _get_param_names(cls):
            return sorted([*PairMatcher._get_param_names(), "curriculum"])

    @dataclass(frozen=True)
    class LaterLayout(layouts.Layout):
        mean: float = 0.25

    monkeypatch.setattr(layouts, "Layout", LaterLayout)
    monkeypatch.setattr(schemes, "SHAPING", (*schemes.SHAPING, "curriculum"))
    loaded = Later.load(DATA / f"{name}.skpair")
    assert loaded.curriculum == loaded.learned_with_["curriculum"] == 0.5
    assert loaded.layout_.mean == 0.25
    with np.load(DATA / f"{name}.npz") as kept:
        np.testing.assert_array_equal(loaded.predict(kept["X"]), kept["predict"])
    loaded.set_params(curriculum=0.75).save(path)
    again = Later.load(path)
    assert (again.curriculum, again.learned_with_["curriculum"]) == (0.75, 0.5)


def test_there_are_files_of_this_format():
    names = [p.stem for p in DATA.glob(f"*_format{sealed.FORMAT}.skpair")]
    assert {name.split("_")[0] for name in names} == {"features", "pixels"}


# ---- what a loaded matcher can do ----------------------------------------------------------------


def test_a_loaded_matcher_lives_on(fitted, rows, path):
    X, y = rows
    loaded = reload(fitted, path)
    assert_same(pickle.loads(pickle.dumps(loaded)), fitted, X)
    assert_same(copy.deepcopy(loaded), fitted, X)
    again = clone(loaded)
    with pytest.raises(NotFittedError):
        again.predict(X)
    np.testing.assert_array_equal(again.fit(X, y).transform(X), fitted.transform(X))
    np.testing.assert_array_equal(loaded.fit(X, y).transform(X), fitted.transform(X))
    assert_same(reload(loaded, path), loaded, X)


def test_the_same_matcher_gives_the_same_bytes(rows, path):
    fitted = PairMatcher(PairEncoder(max_epochs=1), loss="sigmoid", **FEW).fit(*rows)
    loaded = reload(fitted, path)
    first = path.read_bytes()
    loaded.predict(rows[0])
    loaded.save(path)
    assert path.read_bytes() == first


def test_in_a_pipeline(rows, path):
    X, y = rows
    pipeline = make_pipeline(PairEncoder(max_epochs=1, random_state=0), PairMatcher(**FEW))
    pipeline.fit(X, y)
    loaded = reload(pipeline[-1], path)
    np.testing.assert_array_equal(
        make_pipeline(pipeline[0], loaded).predict(X), pipeline.predict(X)
    )


def test_device_moves_all_of_it(rows, path):
    fitted = PairMatcher(PairEncoder(max_epochs=1), device="auto", **FEW).fit(*rows)
    loaded = reload(fitted, path, device="cpu")
    assert loaded.device == loaded.encoder.device == loaded.encoder_.device == "cpu"
    with pytest.raises(ValueError, match="no_device"):
        PairMatcher.load(path, device="no_device")


def test_loading_leaves_the_generators_alone(fitted, path):
    fitted.save(path)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    PairMatcher.load(path)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_a_subclass_loads_itself(rows, path):
    class Own(PairMatcher):
        pass

    Own(**FEW).fit(*rows).save(path)
    assert type(Own.load(path)) is Own


# ---- modules of the user's, and what is left out -------------------------------------------------


def test_modules_of_ones_own_come_with_load(digits, path):
    X, y = digits[0][:40], digits[1][:40]
    encoder = PairEncoder(Net(), "cnn", frozen=False, max_epochs=1)
    fitted = PairMatcher(encoder, loss=Weighted(), **FEW).fit(X, y)
    torch.manual_seed(1)
    net, loss = Net(), Weighted()
    before = copy.deepcopy(net.state_dict())
    loaded = reload(fitted, path, encoder__image_encoder=net, loss=loss)
    assert_same(loaded, fitted, X)
    assert loaded.encoder.image_encoder is net and loaded.loss is loss
    assert loaded.loss_ is not loss
    for name, tensor in net.state_dict().items():  # as in fit, what was given stays as it is
        assert torch.equal(tensor, before[name])
    message = r"encoder__image_encoder \(a 'Net'\), loss \(a 'Weighted'\)"
    with pytest.raises(ValueError, match=message):
        PairMatcher.load(path)
    with pytest.raises(ValueError, match="do not fit a Weighted"):
        other = Weighted()
        other.more = nn.Linear(2, 2)
        PairMatcher.load(path, encoder__image_encoder=Net(), loss=other)
    with pytest.raises(ValueError, match=r"towers.image.\* do not fit a Sequential"):
        flat = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
        PairMatcher.load(path, encoder__image_encoder=flat, loss=Weighted())
    with pytest.raises(ValueError, match="loss must be an instance of nn.Module, got 'n_pair'"):
        PairMatcher.load(path, encoder__image_encoder=Net(), loss="n_pair")
    with pytest.raises(ValueError, match="Net cannot take a batch"):
        PairMatcher.load(path, encoder__image_encoder=Net().double(), loss=Weighted())


def test_lazy_layers_and_weight_norm(digits, path):
    def make():
        return nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)),
            nn.Flatten(),
            nn.LazyLinear(5),
        )

    X, y = digits[0][:40], digits[1][:40]
    with warnings.catch_warnings(action="ignore"):  # torch says that lazy layers are new
        given = {"encoder__image_encoder": make(), "encoder__skeleton_encoder": make()}
        encoder = PairEncoder(*given.values(), frozen=False, max_epochs=1)
        fitted = PairMatcher(encoder, **FEW).fit(X, y)
        given = {name: make() for name in given}
    assert_same(reload(fitted, path, **given), fitted, X)


def test_a_module_whose_state_is_no_tensor_cannot_be_saved(digits, path):
    class Extra(Net):
        def get_extra_state(self):
            return {"code": print}

        def set_extra_state(self, state):
            pass

    fitted = PairMatcher(PairEncoder(Extra(), "identity"), **FEW).fit(
        digits[0][:40], digits[1][:40]
    )
    with pytest.raises(ValueError, match="cannot be saved: the state '.*_extra_state'"):
        fitted.save(path)
    assert not path.exists()


def test_an_encoder_of_another_class_cannot_be_saved(rows, path):
    class Own(PairEncoder):
        pass

    fitted = PairMatcher(Own(max_epochs=1), **FEW).fit(*rows)
    with pytest.raises(ValueError, match="Own"):
        fitted.save(path)


@pytest.mark.slow
def test_what_only_a_training_needs_is_left_out(digits, path, tmp_path):
    from skorch.callbacks import EpochScoring, LRScheduler

    X, y = digits[0][:40], digits[1][:40]
    encoder = PairEncoder(max_epochs=1, augment=torch.neg, memory=tmp_path / "cache")
    given = {**FEW, "random_state": np.random.RandomState(0)}
    scoring = EpochScoring(lambda net, X, y: np.float32(0.5), name="half", on_train=True)
    fitted = PairMatcher(encoder, callbacks=[("half", scoring)], **given).fit(X, y)
    fitted.save(path)
    names = "callbacks, encoder__augment, encoder__memory, random_state"
    loaded = PairMatcher.load(path)  # silently: it may be for naming only
    assert loaded.left_out_ == names.split(", ")
    with pytest.warns(UserWarning, match="does not hold"), pytest.raises(ValueError):
        loaded.fit(X, y[:-1])
    with pytest.warns(UserWarning, match=f"does not hold {names}, which") as caught:
        loaded.fit(X, y).fit(X, y)
    assert len(caught) == 1 and caught[0].filename == __file__
    loaded = PairMatcher.load(path)
    loaded.save(path)  # which forgets nothing
    loaded = PairMatcher.load(path)
    assert loaded.left_out_ == names.split(", ")
    assert loaded.callbacks is loaded.random_state is loaded.encoder_.memory is None
    assert loaded.encoder_.augment == "auto"
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.history_ == fitted.history_
    more = {"encoder__augment": torch.neg, "encoder__memory": None, "random_state": 3}
    loaded = PairMatcher.load(path, callbacks=[LRScheduler()], **more)
    assert loaded.encoder.augment is loaded.encoder_.augment is torch.neg
    assert loaded.random_state == 3
    with pytest.raises(ValueError, match="lr was given, but load takes only .*'callbacks'"):
        PairMatcher.load(path, lr=0.1)


def test_what_shaped_a_matcher_is_never_left_out(rows, path):
    fitted = PairMatcher(margin=Fraction(1, 2), **FEW).fit(*rows)
    with pytest.raises(ValueError, match=r"cannot be saved: no JSON holds margin=Fraction\(1, 2\)"):
        fitted.save(path)
    assert not path.exists()


def test_a_threshold_of_ones_own(fitted, path, rows):
    fitted.threshold_ = np.float32(0.25)
    assert reload(fitted, path).threshold_ == 0.25


# ---- writing -------------------------------------------------------------------------------------


def test_before_fit(path):
    with pytest.raises(NotFittedError):
        PairMatcher().save(path)
    assert not path.exists()


def test_the_path(fitted, tmp_path):
    fitted.save(str(tmp_path / "no suffix"))
    PairMatcher.load(str(tmp_path / "no suffix"))
    with pytest.raises(FileNotFoundError, match="The folder '.*missing' is not there"):
        fitted.save(tmp_path / "missing" / "matcher")
    with pytest.raises(OSError, match=str(tmp_path)):
        fitted.save(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "no suffix")
    fitted.set_params(lr=0.5).save(tmp_path / "link")
    assert PairMatcher.load(tmp_path / "no suffix").lr == 0.5
    assert {p.name for p in tmp_path.iterdir()} == {"link", "no suffix"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_whole(fitted, path, monkeypatch, error, step):
    fitted.save(path)
    before = path.read_bytes()

    def fail(*args):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error), match=f"{path}|^$"):
        fitted.set_params(lr=0.5).save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_permissions_of_an_old_file_stay(fitted, path):
    path.touch()
    path.chmod(0o600)
    fitted.save(path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_what_is_no_file_is_not_replaced(fitted, path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="is not a file, and is not replaced by one"):
        fitted.save(path)
    assert path.is_fifo()


def test_permissions_are_those_of_any_new_file(fitted, path):
    before = os.umask(0o027)
    try:
        fitted.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# ---- files that are not to be loaded -------------------------------------------------------------


def test_files_that_are_none(fitted, path, tmp_path):
    fitted.save(path)
    whole = path.read_bytes()
    with pytest.raises(FileNotFoundError, match="none"):
        PairMatcher.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError, match="not a file"):
        PairMatcher.load(tmp_path)
    with pytest.raises(OSError, match="'/dev/zero' is not a file"):
        PairMatcher.load("/dev/zero")
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    torch.save({"a": torch.ones(1)}, path)
    zipped = path.read_bytes()
    foreign = sealed.safetensors.torch.save({"a": torch.ones(1)})
    checkpoint = sealed.pack("checkpoint", {}, {})
    for data, message in (
        (b"", "damaged, truncated or foreign"),
        (b"{}", "damaged, truncated or foreign"),
        (whole[:5], "damaged, truncated or foreign"),
        (whole[:-10], "damaged, truncated or foreign"),
        (whole + b"x", "damaged, truncated or foreign"),
        (b"\xff" * 100, "damaged, truncated or foreign"),
        (bytes(flipped), "checksum"),
        (pickle.dumps(fitted), "a pickle"),
        (zipped, "a pickle or a file of torch.save"),
        (foreign, "not written by skpair"),
        (checkpoint, "holds a checkpoint, not a PairMatcher"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"'{path}' cannot be loaded: it.*{message}"):
            PairMatcher.load(path)


def test_a_newer_format_asks_for_an_update(parts, path, monkeypatch):
    monkeypatch.setattr(sealed, "FORMAT", 2)
    path.write_bytes(sealed.pack("PairMatcher", *parts))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 2, but this version .* knows 1: update skpair"):
        PairMatcher.load(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("parameters.curriculum", 1),
        ("fitted_with.curriculum", 1),
        ("parameters.encoder", {"curriculum": 1}),
        ("parameters.loss", "circle"),
        ("layout.mean", 0.5),
        ("prototypes", 3),
    ],
)
@pytest.mark.parametrize("version", ["0.1.1.dev0", "1.10", "0.1.0", "0.0.9", "x"])
def test_what_a_later_version_wrote_is_said_to_be_later(
    parts, path, monkeypatch, place, value, version
):
    content, tensors = parts
    where, _, name = place.rpartition(".")
    (content[where] if where else content)[name] = value
    monkeypatch.setattr(skpair, "__version__", version)
    path.write_bytes(sealed.pack("PairMatcher", content, tensors))
    monkeypatch.setattr(skpair, "__version__", "0.1.0")
    with pytest.raises(ValueError, match="cannot be loaded: .*(unknown|circle)") as caught:
        PairMatcher.load(path)
    advice = f"It was written by skpair {version}, this is 0.1.0: update skpair."
    assert str(caught.value).endswith(advice) == (version in ("0.1.1.dev0", "1.10"))
    assert ("written by" in str(caught.value)) == (version in ("0.1.1.dev0", "1.10"))
    with pytest.raises(ValueError, match=r"Use set_params afterwards\.$"):
        PairMatcher.load(path, lr=0.5)  # which no update would help


def test_what_a_later_version_wrote_is_read_where_all_of_it_is_known(fitted, path, monkeypatch):
    monkeypatch.setattr(skpair, "__version__", "9.0")
    fitted.save(path)
    monkeypatch.undo()
    assert PairMatcher.load(path).max_epochs == 1


LABELS = {"dtype": "<i8", "values": [0, 1, 2]}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("parameters.lr", "0.1", "lr must be a number"),
        ("parameters.lr", float("nan"), "lr must be > 0"),
        ("parameters.lr", 10**400, "too large"),
        ("parameters.max_epochs", "10", "max_epochs must be an integer"),
        ("parameters.other", 1, "unknown ones: .'other'"),
        ("parameters.hidden_dims", {"tuple": ["3"]}, "hidden_dims must be an integer"),
        ("parameters.hidden_dims", {"set": [3]}, "no value of a parameter"),
        ("parameters.callbacks", ["x"], "callbacks is never taken from a file"),
        ("parameters.checkpoint", "/tmp/x", "checkpoint is never taken from a file"),
        ("parameters.early_stopping", "yes", "early_stopping must be True or False"),
        ("parameters.verbose", "x", "verbose must be an integer"),
        ("parameters.device", "nowhere", "device='nowhere'"),
        ("parameters.random_state", "x", "random"),
        ("parameters.unknown_label", 1, "is one of the cases"),
        ("parameters.encoder", "x", "encoder must be dict"),
        ("parameters.encoder", {"memory": "/etc"}, "memory is never taken"),
        ("parameters.encoder", {"image_encoder": "os.system"}, "image_encoder='os.system'"),
        ("parameters.encoder", {"image_size": -1}, "image_size must be a positive int"),
        ("parameters.encoder", {"augment": "x"}, "augment must be"),
        ("parameters.encoder", {"ink": "red"}, "ink must be"),
        ("fitted_with.embedding_dim", 2**62, "gallery.images must hold"),
        ("fitted_with.hidden_dims", {"tuple": [2**62]}, "hidden_dims=.* do not fit"),
        ("fitted_with.hidden_dims", {"tuple": [1] * 100_000}, "hidden_dims=.* do not fit"),
        ("fitted_with.hidden_dims", {"tuple": [3]}, r"layers.\* do not fit"),
        ("fitted_with.loss", "binary_cross_entropy", r"loss.\* do not fit"),
        ("fitted_with.training", "joint", "has no towers"),
        ("fitted_with.similarity", None, "similarity"),
        ("fitted_with", ..., "fitted_with is missing"),
        ("fitted_with.lr", 0.1, "fitted_with holds unknown ones: .'lr'"),
        ("fitted_with.other", 1, "fitted_with holds unknown ones: .'other'"),
        ("classes", ..., "classes is missing"),
        ("classes", {**LABELS, "values": [0, 2, 1]}, "not sorted"),
        ("classes", {**LABELS, "values": [0, 1, 1]}, "not sorted"),
        ("classes", {**LABELS, "values": [0]}, "too few"),
        ("classes", {**LABELS, "values": [0, 1, "2"]}, "not of the type"),
        ("classes", {**LABELS, "values": [0, 1, 2**63]}, "too large"),
        ("classes", {**LABELS, "values": [0, 1]}, "no positions in the classes"),
        ("classes", {**LABELS, "values": [0, 1, 2, 3]}, "lacks examples of a case"),
        ("classes", {"dtype": "<U99999999", "values": ["a", "b", "c"]}, "too much memory"),
        ("classes", {"dtype": "<U1", "values": ["a", "b", "cc"]}, "do not fit into"),
        ("classes", {"dtype": "i8,i8", "values": []}, "not of the type"),
        ("classes", {"dtype": "|O", "values": ["a", 1, 2]}, "not supported between"),
        ("gallery.images", 3, "gallery must hold 24 as images"),
        ("threshold", float("nan"), "threshold is nan"),
        ("threshold", 1, "threshold must be float"),
        ("threshold", "0.5", "threshold must be float"),
        ("novelty_threshold", float("inf"), "must be finite"),
        ("temperature", 0.0, "above 0"),
        ("calibration_error", {"before": "x"}, "before must be float"),
        ("layout.name", "files", "is no layout"),
        ("layout.image_shape", [2**40], "shapes must hold integers"),
        ("layout.image_shape", 4, "shapes must hold integers"),
        ("layout.other", 4, "layout holds unknown ones: .'other'"),
        ("layout.name", ..., "missing .* 'name'"),
        ("other", 4, "its content holds unknown ones: .'other'"),
        ("gallery.other", 4, "gallery holds unknown ones: .'other'"),
        ("layout.used_columns", [9, 9], "is no layout"),
        ("layout.ink", "red", "ink must be one of"),
        ("layout.resizes", 1, "is no layout"),
        ("n_features_in", 2**40, "is no layout"),
        ("feature_names_in", ["a"], "feature_names_in must hold"),
        ("encoder", {}, "parameters is missing"),
        ("modules", {"loss": 3}, "must be names"),
        ("left_out", "x", "left_out must be list"),
        ("history", [{}], "batches is missing"),
        ("history", [3], "history must hold epochs"),
        ("output", "xml", "output='xml' is unknown"),
    ],
)
def test_hostile_headers(parts, path, place, value, message):
    content, tensors = parts
    where, _, name = place.rpartition(".")
    fields = content[where] if where else content
    if value is ...:
        del fields[name]
    else:
        fields[name] = value
    path.write_bytes(sealed.pack("PairMatcher", content, tensors))
    with pytest.raises(ValueError, match=f"'{path}' cannot be loaded: .*{message}"):
        PairMatcher.load(path)


def with_value(value):
    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gallery.images", None, "gallery.images is missing"),
        ("gallery.images", with_value(float("nan")), "must hold finite"),
        ("gallery.images", torch.Tensor.double, "must hold finite"),
        ("gallery.images", torch.Tensor.bfloat16, "must hold finite"),
        ("gallery.images", torch.Tensor.flatten, "must hold finite"),
        ("gallery.image_cases", with_value(-1), "no positions"),
        ("gallery.image_cases", with_value(3), "no positions"),
        ("gallery.skeleton_cases", lambda t: t[1:], "must hold finite"),
        ("layers.image.layers.1.weight", lambda t: t[1:], "layers.1.weight"),
        ("layers.image.layers.1.weight", torch.Tensor.double, "layers.1.weight"),
        ("layers.image.standardize.scale", None, "standardize.scale"),
        ("towers.image.x", lambda _: torch.ones(1), "belong to nothing"),
        ("case_thresholds", lambda _: torch.ones(3), "torch.float64"),
    ],
)
def test_hostile_tensors(parts, path, name, change, message):
    content, tensors = parts
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors.get(name))
    path.write_bytes(sealed.pack("PairMatcher", content, tensors))
    with pytest.raises(ValueError, match=f"cannot be loaded: .*{message}"):
        PairMatcher.load(path)


def test_nesting_and_size_of_the_header_are_bounded(fitted, parts, path, monkeypatch):
    content, tensors = parts
    content["parameters"]["hidden_dims"] = "HERE"
    text = sealed.pack("PairMatcher", content, tensors)
    deep = b"[" * 5000 + b"]" * 5000
    length = int.from_bytes(text[:8], "little")
    header = text[8 : 8 + length].replace(b'\\"HERE\\"', deep)
    path.write_bytes(len(header).to_bytes(8, "little") + header + text[8 + length :])
    with pytest.raises(ValueError, match="cannot be loaded"):
        PairMatcher.load(path)
    monkeypatch.setattr(sealed, "_MAX_HEADER", 1000)
    with pytest.raises(ValueError, match="most of it the history"):
        fitted.save(path)
    path.write_bytes(text)
    with pytest.raises(ValueError, match="a header of .* bytes"):
        PairMatcher.load(path)
    inner = json.loads(text[8 : 8 + length])["__metadata__"]["skpair"]
    monkeypatch.setattr(sealed, "_MAX_HEADER", len(inner) - 1)
    with pytest.raises(ValueError, match="header takes .* more than"):
        PairMatcher.load(path)
    monkeypatch.undo()
    monkeypatch.setattr(sealed, "_MAX_TENSORS", 3)
    with pytest.raises(ValueError, match="tensors"):
        PairMatcher.load(path)


def test_a_file_does_not_make_networks_that_it_does_not_hold(digits, path):
    X, y = digits[0][:40], digits[1][:40]
    fitted = PairMatcher(PairEncoder(max_epochs=1), **FEW).fit(X, y)
    content, tensors, _ = matcher_file.describe(fitted)
    content["encoder"]["parameters"]["image_encoder"] = "regnet_y_128gf"  # 2.6 GB
    path.write_bytes(sealed.pack("PairMatcher", content, tensors))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"towers.image.\* do not fit a Backbone"):
        PairMatcher.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # in KiB


@pytest.mark.slow
def test_loading_runs_nothing_and_needs_no_pickle(fitted, rows, path):
    fitted.save(path)
    code = (
        "import sys, pickle, torch\n"
        "from skpair import PairMatcher\n"
        "def refuse(*args, **kwargs): raise AssertionError('pickle')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse\n"
        "events = 'pickle.find_class', 'exec', 'compile', 'subprocess.Popen', 'socket.connect'\n"
        "sys.addaudithook(lambda event, args: refuse() if event in events else None)\n"
        f"matcher = PairMatcher.load({str(path)!r})\n"
        "print(*matcher.classes_, matcher.threshold_)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*map(str, fitted.classes_), str(fitted.threshold_)]


@pytest.mark.slow
def test_two_hundred_mutations(path):
    script = Path(__file__).parent / "benchmarks" / "fuzz_files.py"
    spec = importlib.util.spec_from_file_location("fuzz_files", script)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    outcomes = [fuzz.try_model(index, path) for index in range(200)]
    assert sum(outcome.startswith("ValueError") for outcome in outcomes) > 150
    assert any(outcome == "loaded as what it says" for outcome in outcomes)
