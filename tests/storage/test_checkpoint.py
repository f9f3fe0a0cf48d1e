import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from skpair import PairEncoder, PairMatcher
from skpair.storage.checkpoint import Stage


class Killed(BaseException):
    """What stands for the end of a process."""


def matcher(layout, folder, **parameters):
    if layout != "features":
        size = 16 if layout == "files" else None  # as the digits are
        parameters.setdefault("encoder", PairEncoder(max_epochs=2, image_size=size))
    return PairMatcher(**{"max_epochs": 4, "random_state": 0, "checkpoint": folder, **parameters})


def weights(fitted):
    parts = [fitted.layers_, fitted.loss_]
    parts += [fitted.encoder_.towers_] if fitted.encoder_ is not None else []
    return [tensor for part in parts for tensor in part.state_dict().values()]


def assert_same(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.equal(a, b)
    assert one.threshold_ == other.threshold_
    np.testing.assert_array_equal(one.gallery_.images, other.gallery_.images)

    def losses(fitted):
        return [epoch["train_loss"] for epoch in fitted.history_]

    assert losses(one) == losses(other)


def break_off(monkeypatch, after):
    """Let the process end just after so many epochs were kept; gives how many were."""
    save, kept = Stage.save, []

    def save_or_die(self, *state):
        if len(kept) == after:
            raise Killed
        kept.append(self.file)
        save(self, *state)

    monkeypatch.setattr(Stage, "save", save_or_die)
    return kept


WAYS = [
    ("features", {}),
    ("features", {"early_stopping": True, "n_iter_no_change": 1, "lr": 0.1, "max_epochs": 9}),
    ("features", {"loss": "binary_cross_entropy", "sampler": "natural", "hidden_dims": (8,)}),
    ("pixels", {}),
    ("pixels", {"training": "joint", "early_stopping": True}),
    ("files", {"training": "fine_tune"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "how"), WAYS)
def test_a_fit_goes_on_wherever_it_was_broken_off(layouts, layout, how, tmp_path, monkeypatch):
    X, y = layouts[layout]
    folder = tmp_path / "state"
    whole = matcher(layout, None, **how).fit(X, y)
    with monkeypatch.context() as patch:
        kept = break_off(patch, after=10_000)
        assert_same(matcher(layout, folder, **how).fit(X, y), whole)
        n_epochs = len(kept)
    assert not folder.exists()
    for after in range(1, n_epochs, max(2, n_epochs // 2)):
        with monkeypatch.context() as patch:
            break_off(patch, after)
            with pytest.raises(Killed):
                matcher(layout, folder, **how).fit(X, y)
        with monkeypatch.context() as patch:
            again = break_off(patch, after=10_000)
            assert_same(matcher(layout, folder, **how).fit(X, y), whole)
            # an epoch that early stopping ended with is the only one to be run twice
            assert len(again) <= n_epochs - after
        assert not folder.exists()


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(3)])
def test_chance_is_kept(features, random_state, tmp_path, monkeypatch):
    X, y = features
    broken = matcher("features", tmp_path / "a", random_state=random_state)
    monkeypatch.setattr("skpair.learning.devices.draw_seed", lambda state: 7)
    whole = clone(broken).fit(X, y)
    with monkeypatch.context() as patch:
        break_off(patch, 2)
        with pytest.raises(Killed):
            broken.fit(X, y)
    monkeypatch.setattr(
        "skpair.learning.devices.draw_seed", lambda state: 8
    )  # as another process does
    assert_same(broken.fit(X, y), whole)


@pytest.mark.slow
def test_killed(tmp_path, features):
    X, y = features
    np.savez(tmp_path / "rows.npz", X=X, y=y)
    folder = tmp_path / "state"
    script = f"""
import numpy as np
from skpair import PairMatcher
rows = np.load({str(tmp_path / "rows.npz")!r})
matcher = PairMatcher(max_epochs=200, random_state=0, checkpoint={str(folder)!r})
matcher.fit(rows["X"], rows["y"])
"""
    for _ in range(2):  # killed twice
        running = subprocess.Popen([sys.executable, "-c", script])
        state = folder / "layers.state.safetensors"
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 120
        while running.poll() is None and time.monotonic() < deadline:
            if state.exists() and state.stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    resumed = PairMatcher(max_epochs=200, random_state=0, checkpoint=folder).fit(X, y)
    assert_same(resumed, PairMatcher(max_epochs=200, random_state=0).fit(X, y))
    assert not folder.exists()


@pytest.fixture
def broken(features, tmp_path, monkeypatch):
    """A folder with the state of a fit of feature rows."""
    with monkeypatch.context() as patch:
        break_off(patch, 2)
        with pytest.raises(Killed):
            matcher("features", tmp_path / "state").fit(*features)
    return tmp_path / "state"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.01}, "lr"),
        ({"random_state": 1}, "random_state"),
        ({"random_state": None}, "random_state"),
        ({"hidden_dims": (4,), "loss": "triplet"}, "hidden_dims, loss"),
        ({"encoder": PairEncoder(max_epochs=1)}, "encoder"),
    ],
)
def test_other_parameters_are_refused(features, broken, change, named):
    X, y = features
    files = sorted(path.name for path in broken.iterdir())
    with pytest.raises(ValueError, match=f"other values of {named}"):
        matcher("features", broken).set_params(**change).fit(X, y)
    assert sorted(path.name for path in broken.iterdir()) == files  # nothing is lost
    matcher("features", str(broken), verbose=0).fit(X, y)


def test_other_data_are_refused(features, broken):
    X, y = features
    with pytest.raises(ValueError, match="other values of X"):
        matcher("features", broken).fit(X + 1e-3, y)
    with pytest.raises(ValueError, match="other values of y"):
        matcher("features", broken).fit(X, np.roll(y, 1))
    matcher("features", broken).fit(X, y)


def test_files_are_known_by_what_is_in_them(files, tmp_path, monkeypatch):
    import shutil

    X, y = files
    X = X.assign(image=[shutil.copy(path, tmp_path) for path in X["image"]])
    folder = tmp_path / "state"
    with monkeypatch.context() as patch:
        break_off(patch, 2)
        with pytest.raises(Killed):
            matcher("files", folder).fit(X, y)
    shutil.copy(X["image"][1], X["image"][0])
    with pytest.raises(ValueError, match="other values of X"):
        matcher("files", folder).fit(X, y)


def test_only_one_fit_at_a_time(features, tmp_path, monkeypatch):
    X, y = features
    inside, done = threading.Event(), threading.Event()
    save = Stage.save

    def wait(self, *state):
        save(self, *state)
        inside.set()
        assert done.wait(60)

    monkeypatch.setattr(Stage, "save", wait)
    first = threading.Thread(target=matcher("features", tmp_path / "state").fit, args=(X, y))
    first.start()
    assert inside.wait(60)
    with pytest.raises(ValueError, match="in use by another fit"):
        matcher("features", tmp_path / "state").fit(X, y)
    done.set()
    first.join()
    assert not (tmp_path / "state").exists()


def test_a_damaged_state_is_named(features, broken):
    X, y = features
    state = broken / "layers.state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"'layers.state.safetensors'.*Delete the folder"):
        matcher("features", broken).fit(X, y)


def test_what_is_left_of_a_write_is_no_hindrance(features, broken):
    (broken / ".skpair-0123abcd-0123456789abcdef.tmp").write_bytes(b"half")
    matcher("features", broken).fit(*features)
    assert not broken.exists()


def test_a_state_without_its_owner_is_refused(features, broken):
    X, y = features
    (broken / "fit.safetensors").unlink()
    with pytest.raises(ValueError, match="other values of what 'layers.state.safetensors'"):
        matcher("features", broken, lr=0.01).fit(X, y)


def test_the_owner_is_deleted_last(features, tmp_path, monkeypatch):
    deleted, unlink = [], type(tmp_path).unlink

    def record(path, **how):
        deleted.append(path.name)
        unlink(path, **how)

    monkeypatch.setattr(type(tmp_path), "unlink", record)
    matcher("features", tmp_path / "state").fit(*features)
    own = [name for name in deleted if name.endswith(".safetensors")]
    assert own == ["layers.state.safetensors", "fit.safetensors"]


def test_what_is_learned_is_not_lost_with_the_folder(features, tmp_path, monkeypatch):
    save = Stage.save

    def with_guest(self, *state):
        save(self, *state)
        (tmp_path / "state" / ".DS_Store").touch()

    monkeypatch.setattr(Stage, "save", with_guest)
    fitted = matcher("features", tmp_path / "state").fit(*features)
    assert fitted.predict(features[0]).shape == features[1].shape
    assert [path.name for path in (tmp_path / "state").iterdir()] == [".DS_Store"]


def test_a_fit_that_diverged_leaves_nothing(features, tmp_path):
    with pytest.raises(ValueError, match="diverged"):
        matcher("features", tmp_path / "state", lr=1e20, similarity="dot").fit(*features)
    assert not (tmp_path / "state").exists()


def test_verbose_may_change(features, broken, capsys):
    assert_same(
        matcher("features", broken, verbose=1).fit(*features),
        matcher("features", None).fit(*features),
    )
    assert "train_loss" in capsys.readouterr().out


def shifted(x, by):
    return x + by


def adds(constant):
    return lambda x: x + constant


class Adds:
    def __init__(self, constant):
        self.constant = constant

    def to(self, x):
        return x + self.constant

    __call__ = to


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (partial(shifted, by=0), partial(shifted, by=0.1)),
        (lambda x: x + 0.1, lambda x: x + 0.2),
        (adds(0.1), adds(0.2)),
        (Adds(0.1).to, Adds(0.2).to),
        (Adds(0.1), Adds(0.2)),
        (nn.Hardtanh(0, 1), nn.Hardtanh(0, 0.5)),
    ],
)
def test_functions_count_by_what_they_do(digits, before, after, tmp_path, monkeypatch):
    def fit(augment):
        encoder = PairEncoder(max_epochs=2, augment=augment)
        return matcher("pixels", tmp_path / "state", encoder=encoder, max_epochs=1).fit(*digits)

    with monkeypatch.context() as patch:
        break_off(patch, 2)
        with pytest.raises(Killed):
            fit(before)
    with pytest.raises(ValueError, match="other values of encoder__augment"):
        fit(after)
    fit(before)


def test_numbers_count_by_their_value(features, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        break_off(patch, 2)
        with pytest.raises(Killed):
            matcher("features", tmp_path / "state", lr=np.float64(0.003)).fit(*features)
    matcher("features", tmp_path / "state", lr=0.003, gallery="images").fit(*features)


@pytest.mark.parametrize("folder", [5, True, "", ["a"]])
def test_a_checkpoint_is_a_path(features, folder):
    with pytest.raises(TypeError, match="checkpoint must be the path of a folder or None"):
        matcher("features", folder).fit(*features)


def test_folders_of_others_are_left_alone(features, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'thesis.txt', which is no part of a checkpoint"):
        matcher("features", tmp_path).fit(*features)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match="must be a folder, but is a file"):
        matcher("features", tmp_path / "thesis.txt").fit(*features)
    for target in ("nowhere", "link"):  # the second leads to itself
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match="must be a folder, but is a file or a dead link"):
            matcher("features", tmp_path / "link").fit(*features)


def test_callbacks_cannot_be_kept(features, tmp_path):
    with pytest.raises(ValueError, match="cannot keep the state of callbacks"):
        matcher("features", tmp_path / "state", callbacks=[Callback()]).fit(*features)
    assert not (tmp_path / "state").exists()


def test_bad_rows_leave_no_folder(features, tmp_path):
    X, y = features
    with pytest.raises(ValueError, match="NaN"):
        matcher("features", tmp_path / "state").fit(np.full_like(X, np.nan), y)
    with pytest.raises(FileNotFoundError):
        matcher("files", tmp_path / "state").fit([["a.png", "b.png"]] * len(y), y)
    assert not (tmp_path / "state").exists()
