"""On a GPU, where there is one."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from skpair import PairEncoder, PairMatcher
from skpair.inspection import explain
from skpair.learning import batches, devices
from skpair.storage.checkpoint import Stage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def matcher(**parameters):
    encoder = PairEncoder(max_epochs=10, precision=parameters.get("precision", "auto"))
    return PairMatcher(encoder, random_state=0, **parameters)


def test_auto_takes_the_gpu_and_bfloat16_for_pictures():
    assert devices.resolve_device("auto") == "cuda"
    free = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    assert devices.resolve_precision("auto", "cuda", "pixels") == free
    assert devices.resolve_precision("auto", "cuda", "features") == "float32"


@pytest.mark.parametrize("layout", ["pixels", "files"])
@pytest.mark.parametrize("scheme", ["two_stage", "joint", "fine_tune"])
def test_it_learns_from_pictures(layouts, layout, scheme):
    X, y = layouts[layout]
    fitted = matcher(training=scheme).fit(X[:60], y[:60])
    assert balanced_accuracy_score(y[60:], fitted.predict(X[60:])) > 0.7
    assert np.isfinite(fitted.pair_proba(X)).all()


def test_the_computation_agrees_with_that_of_the_cpu(layouts):
    for layout, (X, y) in layouts.items():
        given = {"precision": "float32"}
        if layout == "features":
            fitted = PairMatcher(random_state=0, device="cpu", **given).fit(X, y)
        else:
            fitted = matcher(device="cpu", **given).fit(X, y)
        embedded, names = [], []
        for device in ("cpu", "cuda"):
            fitted.set_params(device=device)
            if layout != "features":
                fitted.encoder_.set_params(device=device)
            embedded.append(fitted.transform(X))
            names.append(fitted.predict(X))
        np.testing.assert_allclose(*embedded, atol=1e-2)  # tensor cores, TF32
        np.testing.assert_array_equal(*names)


def test_bfloat16_changes_digits_not_names(digits):
    X, y = digits
    fitted = matcher(precision="float32").fit(X, y)
    exact, names = fitted.transform(X), fitted.predict(X)
    fitted.encoder_.precision = fitted.precision = "bfloat16"
    rough = fitted.transform(X)
    assert rough.dtype == np.float32
    assert (rough != exact).any()
    np.testing.assert_allclose(rough, exact, atol=0.1)
    assert np.mean(fitted.predict(X) == names) > 0.95


@pytest.mark.parametrize("kind", ["pickle", "file"])
def test_what_was_fitted_there_is_loaded_without_a_gpu(digits, tmp_path, kind):
    X, y = digits
    fitted = matcher(training="fine_tune").fit(X, y)
    path = tmp_path / "matcher"
    np.save(tmp_path / "X.npy", X)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(fitted))
        load = f"pickle.load(open({str(path)!r}, 'rb'))"
    else:
        fitted.save(path)
        load = f"PairMatcher.load({str(path)!r})"
    code = (
        "import pickle, torch, numpy; from skpair import PairMatcher\n"
        "assert not torch.cuda.is_available()\n"
        f"print(*{load}.predict(numpy.load({str(tmp_path / 'X.npy')!r})))"
    )
    blind = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    names = subprocess.run(
        [sys.executable, "-c", code], env=blind, check=True, capture_output=True, text=True
    ).stdout
    agreement = np.mean(np.array(names.split(), int) == fitted.predict(X))
    assert agreement > 0.95  # bfloat16 there, float32 here


def test_the_rows_of_a_training_stay_on_the_gpu(features, monkeypatch):
    X, y = features
    held = []
    stream = batches.TrainingRows._stream

    def watched(self, half, steps):
        for batch in stream(self, half, steps):
            held.append(self.held[half.kind].device.type)
            yield batch

    monkeypatch.setattr(batches.TrainingRows, "_stream", watched)
    PairMatcher(max_epochs=2, random_state=0).fit(X, y)
    assert set(held) == {"cuda"}


def test_the_same_seed_gives_the_same_names(digits):
    X, y = digits
    names = [matcher().fit(X, y).predict(X) for _ in range(2)]
    assert np.mean(names[0] == names[1]) > 0.95  # sums on a GPU have no fixed order
    state = torch.cuda.get_rng_state()
    matcher().fit(X, y)
    assert (torch.cuda.get_rng_state() == state).all()


def test_explain_agrees_with_the_cpu(digits):
    X, y = digits
    fitted = matcher(precision="float32").fit(X, y)
    maps = []
    for device in ("cpu", "cuda"):
        fitted.set_params(device=device)
        explanation = explain(fitted, X[:8])
        maps.append(np.stack([explanation.image_maps, explanation.skeleton_maps]))
    assert np.abs(maps[0] - maps[1]).max() < 0.05 * np.abs(maps[0]).max()  # TF32
    assert all(p.device.type == "cpu" for p in fitted.layers_.parameters())


def test_a_fit_goes_on(digits, tmp_path, monkeypatch):
    X, y = digits
    whole = matcher(max_epochs=4).fit(X, y)
    save, kept = Stage.save, []

    def save_or_die(self, *state):
        if len(kept) == 22:  # of 2 x 10 + 4
            raise KeyboardInterrupt
        kept.append(self.file)
        save(self, *state)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "save", save_or_die)
        with pytest.raises(KeyboardInterrupt):
            matcher(max_epochs=4, checkpoint=tmp_path / "state").fit(X, y)
    with pytest.raises(ValueError, match="other values of device"):
        matcher(max_epochs=4, checkpoint=tmp_path / "state", device="cpu").fit(X, y)
    resumed = matcher(max_epochs=4, checkpoint=tmp_path / "state").fit(X, y)
    # not to the bit: sums on a GPU come in any order
    np.testing.assert_allclose(resumed.transform(X), whole.transform(X), atol=0.1)
