import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from skpair import PairEncoder, split_pairs


class Mean(nn.Module):
    """Mean brightness of columns and rows."""

    def forward(self, x):
        return torch.cat([x.mean(dim=(1, 2)), x.mean(dim=(1, 3))], dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pixels", "features", "files"])
def test_halves_are_the_columns_of_transform(layouts, layout):
    X, y = layouts[layout]
    encoder = PairEncoder(max_epochs=1, random_state=0).fit(X, y)
    encoded = encoder.transform(X)
    assert encoded.dtype == np.float32
    assert encoded.shape == (len(X), 2 * encoder.width_)
    assert len(encoder.get_feature_names_out()) == encoded.shape[1]
    np.testing.assert_array_equal(encoder.encode_images(X), encoded[:, : encoder.width_])
    np.testing.assert_array_equal(encoder.encode_skeletons(X), encoded[:, encoder.width_ :])
    images, skeletons = split_pairs(X)
    np.testing.assert_array_equal(encoder.encode_images(images), encoded[:, : encoder.width_])
    np.testing.assert_array_equal(encoder.transform(images, skeletons), encoded)


@pytest.mark.slow
def test_training_makes_encodings_that_tell_the_cases(digits):
    X, y = digits
    encoder = PairEncoder(max_epochs=15, random_state=0).fit(X[:60], y[:60])
    for encode in (encoder.encode_images, encoder.encode_skeletons):
        named = LogisticRegression(max_iter=1000).fit(encode(X[:60]), y[:60])
        assert balanced_accuracy_score(y[60:], named.predict(encode(X[60:]))) > 0.8
    for history in encoder.history_.values():
        losses = history[:, "train_loss"]
        assert losses[-1] < 0.7 * losses[0]


def test_files_are_encoded_as_pixels(digits, files):
    X, y = digits
    paths, _ = files
    encoder = PairEncoder(frozen=True, image_size=16, random_state=0)
    pixels = encoder.fit_transform(X)
    np.testing.assert_allclose(encoder.fit_transform(paths), pixels, rtol=1e-4, atol=1e-5)


def test_frozen_towers_need_no_cases_and_stay_as_they_are(digits):
    X, _ = digits
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    encoder = PairEncoder(module, Mean(), random_state=0)
    assert not encoder.__sklearn_tags__().target_tags.required
    encoder.fit(X)
    assert encoder.history_ == {}
    for state in (module.state_dict(), encoder.towers_.image.state_dict()):
        assert all(torch.equal(state[k], before[k]) for k in before)
    assert encoder.towers_.image is not module


def test_a_given_module_is_trained_when_asked(digits):
    X, y = digits
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    before = module[1].weight.detach().clone()
    encoder = PairEncoder(module, "cnn", frozen=False, max_epochs=1).fit(X, y)
    assert torch.equal(module[1].weight, before)
    trained = encoder.towers_.image[0][1].weight  # padded to the width of the other tower
    assert not torch.equal(trained, before)


def test_one_tower_frozen_the_other_trained(digits):
    X, y = digits
    encoder = PairEncoder(Mean(), "cnn", max_epochs=2, random_state=0)
    assert encoder.__sklearn_tags__().target_tags.required
    encoder.fit(X, y)
    expected = Mean()(torch.from_numpy(X[:, :1]).float() / 255).numpy()
    np.testing.assert_allclose(encoder.encode_images(X)[:, :32], expected, rtol=1e-5)
    assert list(encoder.history_) == ["skeleton"]
    assert len(encoder.history_["skeleton"]) == 2


def test_identity_hands_features_on(features):
    X, _ = features
    encoder = PairEncoder("identity", "identity").fit(X)
    np.testing.assert_array_equal(encoder.transform(X), X)


def test_image_size_resizes(digits):
    X, y = digits
    encoder = PairEncoder("identity", "identity", image_size=(8, 4)).fit(X)
    assert encoder.transform(X).shape == (len(X), 2 * 8 * 4)
    larger = np.repeat(np.repeat(X, 2, axis=2), 2, axis=3)
    assert encoder.transform(larger).shape == (len(X), 2 * 8 * 4)


def test_augmentation_changes_the_training_alone(digits):
    X, y = digits
    seen = []

    def augment(batch):
        seen.append((batch.shape, batch.min().item(), batch.max().item()))
        return batch

    encoder = PairEncoder(max_epochs=1, augment=augment, random_state=0).fit(X, y)
    calls = len(seen)
    assert calls == sum(len(history[-1]["batches"]) for history in encoder.history_.values())
    assert all(low >= 0 and high <= 1 for _, low, high in seen)
    encoder.transform(X)
    assert len(seen) == calls


def test_batch_norm_is_measured_on_clean_rows(digits):
    X, y = digits
    encoder = PairEncoder(max_epochs=2, random_state=0).fit(X, y)
    norm = encoder.towers_.image.layers[1]
    encoder.towers_.image.layers[0].double()
    stem = encoder.towers_.image.layers[0](torch.from_numpy(X[:, :1]).double() / 255)
    np.testing.assert_allclose(norm.running_mean, stem.mean(dim=(0, 2, 3)).detach(), rtol=1e-3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_encoder": "resnet17"}, "image_encoder='resnet17' is unknown.*'resnet18'"),
        ({"skeleton_encoder": 3}, "skeleton_encoder=3 is unknown"),
        ({"sampler": "random"}, "sampler='random' is unknown; known are 'balanced', 'natural'"),
        ({"frozen": "yes"}, "frozen must be True, False or 'auto'"),
        ({"weights": "DEFAULT"}, "weights='DEFAULT' is for torchvision networks"),
        ({"augment": "strong"}, "augment must be 'auto', None or a callable"),
        ({"ink": "blue"}, "ink must be one of"),
        ({"image_size": 0}, "image_size must be a positive int"),
        ({"max_epochs": 0}, "max_epochs must be >= 1"),
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"lr": float("nan")}, "lr must be > 0"),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0"),
        ({"device": "abacus"}, "device='abacus' is not 'auto' or a device of torch"),
    ],
)
def test_odd_parameters_are_refused(digits, parameters, message):
    X, y = digits
    with pytest.raises(ValueError, match=message):
        PairEncoder(**parameters).fit(X, y)


def test_picture_networks_do_not_take_features(features):
    X, y = features
    with pytest.raises(ValueError, match="'resnet18' takes pictures, but X holds rows of 10"):
        PairEncoder("resnet18").fit(X, y)


def test_a_module_that_cannot_take_the_pictures_is_named(digits):
    X, y = digits
    with pytest.raises(ValueError, match=r"cannot take a batch of shape \(b, 1, 16, 16\)"):
        PairEncoder(nn.Linear(3, 4)).fit(X, y)
    with pytest.raises(ValueError, match=r"gave \(2, 1, 16, 16\)"):
        PairEncoder(nn.Identity()).fit(X, y)


def test_cases_are_needed_unless_frozen(digits):
    X, _ = digits
    with pytest.raises(ValueError, match="requires y to be passed"):
        PairEncoder().fit(X)
    assert PairEncoder(frozen=True).fit(X).transform(X).shape[0] == len(X)


@pytest.mark.slow
def test_bfloat16_is_close_and_learns(digits):
    X, y = digits
    exact, rough = (
        PairEncoder(frozen=True, precision=precision, random_state=0).fit_transform(X)
        for precision in ("float32", "bfloat16")
    )
    assert rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()
    encoder = PairEncoder(max_epochs=15, precision="bfloat16", random_state=0).fit(X[:60], y[:60])
    named = LogisticRegression(max_iter=1000).fit(encoder.encode_images(X[:60]), y[:60])
    assert balanced_accuracy_score(y[60:], named.predict(encoder.encode_images(X[60:]))) > 0.8
    assert all(p.dtype == torch.float32 for p in encoder.towers_.parameters())


def test_on_a_cpu_auto_is_float32(digits):
    X, y = digits
    same = [
        PairEncoder(max_epochs=1, precision=precision, random_state=0).fit(X, y).transform(X)
        for precision in ("auto", "float32")
    ]
    np.testing.assert_array_equal(*same)
    with pytest.raises(ValueError, match="precision='float16' is unknown"):
        PairEncoder(precision="float16").fit(X, y)
