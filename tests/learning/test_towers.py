import copy
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from skpair.learning import augment, backbones, towers
from skpair.learning.augment import Augment
from skpair.learning.backbones import Backbone
from skpair.learning.batches import TrainingRows
from skpair.learning.encoding import measure_batch_norm
from skpair.learning.towers import SmallCNN, Standardize, make_tower
from skpair.rows.halves import ArrayHalf, feature_half
from skpair.rows.layouts import Layout

IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))


def pictures(n=8, channels=1, height=32, width=32, seed=0):
    """A half of uint8 pictures."""
    shape = (channels, height, width)
    source = np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8)
    return ArrayHalf(source, Layout("pixels", shape, (1, height, width)), 0)


def batch(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def no_download(monkeypatch, tmp_path):
    """Torch's hub cache is an empty folder, and nothing comes from the network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


# ---- the small CNN -------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64), (128, 128), (96, 40), (1, 9)])
def test_the_small_cnn_takes_pictures_of_any_size(channels, size):
    tower, width = make_tower("cnn", None, pictures(2, channels, *size))
    assert isinstance(tower, SmallCNN)
    out = tower(batch(3, channels, *size))
    assert out.shape == (3, width) == (3, 128)
    out.sum().backward()
    assert all(p.grad is not None for p in tower.parameters())


def test_the_small_cnn_can_learn():
    torch.manual_seed(0)
    x = 0.3 * batch(24, 1, 24, 32)
    y = torch.arange(24) % 2
    x[y == 1, :, 8:16] += 0.4  # a bar that lies
    x[y == 0, :, :, 12:20] += 0.4  # a bar that stands
    net = nn.Sequential(SmallCNN(1, width=4), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert (net(x).argmax(1) == y).all()


def test_pictures_of_a_batch_do_not_affect_each_other_once_trained():
    tower, _ = make_tower("cnn", None, pictures())
    x = batch(4, 1, 32, 32)
    torch.testing.assert_close(tower(x)[2:3], tower(x[2:3]))


# ---- torchvision's backbones ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, width",
    [
        ("resnet18", 512),
        ("densenet121", 1024),
        ("efficientnet_b0", 1280),
        ("googlenet", 1024),
        ("mnasnet0_5", 1280),
        ("mobilenet_v2", 1280),
        ("mobilenet_v3_small", 1024),
        ("regnet_x_400mf", 400),
        ("shufflenet_v2_x0_5", 1024),
        ("squeezenet1_1", 512),
    ],
)
def test_a_backbone_has_no_head_and_takes_grey_or_colour(name, width):
    tower, found = make_tower(name, None, pictures(2, 1, 40, 36))
    assert found == width
    grey = batch(2, 1, 40, 36)
    with torch.no_grad():
        out = tower(grey)
        assert out.shape == (2, width)
        torch.testing.assert_close(tower(grey.repeat(1, 3, 1, 1)), out)
    thousand = [p for p in tower.parameters() if 1000 in p.shape]
    assert not thousand  # names of ImageNet's classes
    tower.train()
    tower(grey).sum().backward()
    assert all(p.grad is not None for p in tower.parameters())  # every weight is in use


def test_names_are_those_of_classification_networks():
    names = backbones.backbone_names()
    assert {"resnet18", "vit_b_16", "convnext_tiny", "swin_t"} <= set(names)
    assert not {"fcn_resnet50", "fasterrcnn_resnet50_fpn", "r3d_18"} & set(names)
    for name, kind in [("cnn", "cnn"), ("identity", "identity"), ("resnet18", "backbone")]:
        assert towers.check_encoder("image_encoder", name) == kind
    assert towers.check_encoder("image_encoder", nn.Flatten()) == "module"
    for odd in ("resnet19", None, 3, nn.Flatten, ["cnn"]):
        with pytest.raises(ValueError, match="image_encoder=.* is unknown.*'cnn'.*'resnet18'"):
            towers.check_encoder("image_encoder", odd)


@pytest.mark.slow
@pytest.mark.parametrize("name, size", [("vit_b_32", 64), ("alexnet", 32)])
def test_a_size_that_a_network_cannot_take_says_why(name, size):
    message = rf"'{name}' cannot take a batch of shape \(b, 1, {size}, {size}\).*image_size="
    with pytest.raises(ValueError, match=message):
        make_tower(name, None, pictures(2, 1, size, size))


def test_backbones_take_no_feature_rows():
    with pytest.raises(ValueError, match="'resnet18' takes pictures.*3 features a kind"):
        make_tower("resnet18", None, feature_half(np.ones((2, 3)), "image"))


def network(name="resnet18", seed=1, **options):
    torch.manual_seed(seed)
    return torchvision.models.get_model(name, **options)


def cache(name, network):
    """Put a network's weights where torch's hub would have downloaded them."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / url.rpartition("/")[2])


def assert_holds(tower, network):
    expected = network.state_dict()
    found = tower.network.state_dict()
    assert found
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1"])
def test_published_weights_come_from_the_cache_of_torch(weights):
    published = network()
    cache("resnet18", published)
    tower, width = make_tower("resnet18", weights, pictures(2, 3, 48, 48))
    assert_holds(tower, published)
    x = batch(2, 3, 48, 48)
    mean, std = (values[:, None, None] for values in IMAGENET)
    published.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(tower(x), published.eval()((x - mean) / std))
    assert width == 512
    enum = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    assert_holds(Backbone("resnet18", enum), published)


def test_a_network_has_the_normalisation_of_its_weights(monkeypatch):
    own = SimpleNamespace(mean=[0.5, 0.25, 0.125], std=[0.1, 0.2, 0.4])
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights.DEFAULT.value, "transforms", lambda: own
    )
    for weights in (None, "DEFAULT"):
        cache("resnet18", network())
        tower = Backbone("resnet18", weights)
        assert tower.mean.flatten().tolist() == own.mean
        torch.testing.assert_close(tower.std.flatten(), torch.tensor(own.std))


def test_weights_that_cannot_be_downloaded_say_where_to_put_them():
    with pytest.raises(OSError, match=r"resnet18-.*\.pth could not be downloaded.*checkpoints"):
        Backbone("resnet18", "DEFAULT")


@pytest.mark.parametrize("classes", [1000, 5])
@pytest.mark.parametrize("to", [str, Path])
def test_weights_from_a_file(tmp_path, classes, to):
    mine = network("squeezenet1_1", num_classes=classes)
    torch.save(mine.state_dict(), tmp_path / "mine.pth")
    tower, _ = make_tower("squeezenet1_1", to(tmp_path / "mine.pth"), pictures())
    assert_holds(tower, mine)
    torch.testing.assert_close(tower.mean.flatten(), IMAGENET[0])


def test_weights_from_a_file_without_its_head(tmp_path):
    mine = network()
    torch.save(
        {k: v for k, v in mine.state_dict().items() if not k.startswith("fc.")}, tmp_path / "bare"
    )
    assert_holds(Backbone("resnet18", tmp_path / "bare"), mine)


def test_files_of_dense_networks_have_old_names(tmp_path):
    mine = network("densenet121")
    old = {
        k.replace("norm1", "norm.1").replace("conv2", "conv.2") if "denselayer" in k else k: v
        for k, v in mine.state_dict().items()
    }
    assert old.keys() != mine.state_dict().keys()
    torch.save(old, tmp_path / "old.pth")
    assert_holds(Backbone("densenet121", tmp_path / "old.pth"), mine)


@pytest.mark.slow
@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_heads_are_dropped_and_the_input_is_scaled_as_published(tmp_path, auxiliary):
    published = network("googlenet", init_weights=False, aux_logits=True)
    cache("googlenet", published)
    state = published.state_dict()
    torch.save(
        {k: v for k, v in state.items() if auxiliary or not k.startswith("aux")}, tmp_path / "w.pt"
    )
    x = batch(2, 3, 64, 64)
    expected = network("googlenet", weights="DEFAULT").eval()
    expected.fc = nn.Identity()
    mean, std = (values[:, None, None] for values in IMAGENET)
    for weights in ("DEFAULT", tmp_path / "w.pt"):
        tower, _ = make_tower("googlenet", weights, pictures(2, 3, 64, 64))
        assert_holds(tower, published)
        with torch.no_grad():
            torch.testing.assert_close(tower(x), expected((x - mean) / std))
        assert isinstance(tower.train()(x), torch.Tensor)


@pytest.mark.slow
def test_files_that_hold_something_else_say_so(tmp_path):
    files = {
        "other.pth": network("squeezenet1_1").state_dict(),
        "nested.pth": {"state_dict": network().state_dict()},
        "whole.pth": network(),
        "tensor.pth": torch.ones(3),
        "deeper.pth": network("resnet34").state_dict(),
        "part.pth": {k: v for k, v in network().state_dict().items() if "layer4" not in k},
        "nothing.pth": {},
    }
    for name, what in files.items():
        torch.save(what, tmp_path / name)
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").touch()
    for name in [*files, "text.pth", "empty.pth"]:
        with pytest.raises(ValueError, match=rf"{name}' (holds no|is a) state dict of .*resnet18"):
            Backbone("resnet18", tmp_path / name)
    state = network().state_dict()
    torch.save(state | {"conv1.weight": torch.ones(64, 1, 7, 7)}, tmp_path / "grey.pth")
    with pytest.raises(ValueError, match="(?s)holds no state dict of 'resnet18'.*conv1.weight"):
        Backbone("resnet18", tmp_path / "grey.pth")


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_of_a_file_of_weights_is_run(tmp_path):
    torch.save(network().state_dict() | {"trap": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        Backbone("resnet18", tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("weights", ["default", "IMAGENET1K_V3", "Other_Weights.DEFAULT", "", 3])
def test_unknown_weights_are_told_the_known_ones(weights):
    with pytest.raises(ValueError, match=r"nor a name.*'resnet18'.*DEFAULT, IMAGENET1K_V1\."):
        Backbone("resnet18", weights)
    with pytest.raises(ValueError, match="IMAGENET1K_V1, IMAGENET1K_V2"):
        Backbone("resnet50", "IMAGENET21K")


@pytest.mark.parametrize("weights", ["mine.pth", "mine.pt", "weights/mine", Path("mine"), "a\\b"])
def test_a_missing_file_of_weights_is_named(weights):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Backbone("resnet18", weights)


# ---- modules and identity ------------------------------------------------------------------------


def test_a_module_is_copied():
    mine = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5))
    mine.train()
    with torch.no_grad():
        mine[3](torch.zeros(2, 4 * 30 * 30))
    before = copy.deepcopy(mine.state_dict())
    tower, width = make_tower(mine, None, pictures())
    assert width == 5
    tower.train()(batch(4, 1, 32, 32)).sum().backward()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.zero_()
    assert mine.training
    for key, tensor in mine.state_dict().items():
        torch.testing.assert_close(tensor, before[key], rtol=0, atol=0)
    assert all(p.grad is None for p in mine.parameters())


def test_layers_that_find_their_width_themselves_are_welcome():
    tower, width = make_tower(
        nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), None, pictures(2, 1, 6, 5)
    )
    assert width == 3
    assert tower(batch(2, 1, 6, 5)).shape == (2, 3)


class Sums(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return self.form(x)


@pytest.mark.parametrize(
    "form, message",
    [
        (
            lambda x: x,
            r"of shape \(b, 1, 32, 32\) into .* \(b, width\); Sums gave \(2, 1, 32, 32\)",
        ),
        (lambda x: x.sum((1, 2, 3)), r"Sums gave \(2,\) for b = 2"),
        (lambda x: x[:1].flatten(1), r"Sums gave \(1, 1024\)"),
        (lambda x: (x, x), "Sums gave tuple"),
        (lambda x: x.flatten(1) @ torch.ones(3, 3), "Sums cannot take .*multiplied.*image_size"),
    ],
)
def test_modules_that_do_not_encode_say_what_they_gave(form, message):
    with pytest.raises(ValueError, match=message):
        make_tower(Sums(form), None, pictures())


def test_advice_for_feature_rows_does_not_speak_of_pictures():
    with pytest.raises(ValueError, match=r"shape \(b, 3\)") as caught:
        make_tower(nn.Linear(4, 2), None, feature_half(np.ones((5, 3)), "image"))
    assert "image_size" not in str(caught.value)


def test_identity_hands_the_values_on():
    rows = np.random.RandomState(0).normal(size=(5, 3)).astype(np.float32)
    tower, width = make_tower("identity", None, feature_half(rows, "image"))
    assert width == 3
    torch.testing.assert_close(tower(torch.from_numpy(rows)), torch.from_numpy(rows))
    tower, width = make_tower("identity", None, pictures(2, 1, 4, 6))
    assert width == 24
    x = batch(2, 1, 4, 6)
    torch.testing.assert_close(tower(x), x.reshape(2, 24))


def test_cnn_is_a_small_mlp_on_feature_rows():
    rows = np.random.RandomState(0).normal(50, 9, size=(200, 3)).astype(np.float32)
    tower, width = make_tower("cnn", None, feature_half(rows, "image"))
    x = torch.from_numpy(rows)
    assert tower(x).shape == (200, width) == (200, 64)
    standard = tower[0](x)
    torch.testing.assert_close(standard.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(3))


def test_the_narrower_tower_is_padded():
    dual = towers.DualEncoder.of_equal_width(nn.Linear(4, 2), 2, nn.Linear(3, 5), 5)
    image, skeleton = dual(torch.ones(2, 4), torch.ones(2, 3))
    assert image.shape == skeleton.shape == (2, 5)
    assert (image[:, 2:] == 0).all()
    assert (image[:, :2] != 0).all()


def test_a_classifier_takes_the_kind_that_it_is_given():
    classifier = towers.Classifier(nn.Linear(4, 5), 5, 7).eval()
    x = batch(6, 4)
    assert classifier(image=x).shape == (6, 7)
    assert torch.equal(classifier(skeleton=x), classifier(image=x))


# ---- Standardize ---------------------------------------------------------------------------------


def standardized(x):
    x = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    return Standardize(x.shape[1]).measure(x)(x)


@pytest.mark.parametrize("scale", [1e-18, 1e-6, 1.0, 1e6, 1e18, 1e37])
@pytest.mark.parametrize("mean", [0, 1, -100])
def test_columns_of_any_scale_become_standard(scale, mean):
    x = np.random.RandomState(0).normal(mean, 1, size=(500, 2)) * scale
    z = standardized(x if mean != -100 or scale < 1e37 else x / 100)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_large_means_do_not_eat_the_spread():
    x = (1e5 + np.random.RandomState(0).normal(size=(1000, 1))).astype(np.float32)
    expected = (x.astype(float) - x.astype(float).mean()) / x.astype(float).std()
    # numbers near 1e5 are 0.008 apart, and so is the mean; what lies between must be exact
    found = standardized(x).numpy()
    np.testing.assert_allclose(found - found.mean(), expected, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=0.005)


@pytest.mark.parametrize("value", [0, 1e-30, 0.1, -3.3, 1e7, 1e30])
def test_constant_columns_stay_finite_and_small(value):
    x = torch.full((50, 2), value)
    x[:, 1] = torch.arange(50.0)
    layer = Standardize(2).measure(x)
    assert (layer(x)[:, 0].abs() < 1e-6).all()
    others = layer(torch.tensor([[value + 1.0, 0.0]]))
    assert others[0, 0].abs() <= 1.001  # new rows are not blown up either


def test_rounding_noise_is_not_blown_up():
    x = 1e9 + 64 * torch.randint(-3, 4, (100, 1), generator=torch.Generator().manual_seed(0))
    assert standardized(x).abs().max() < 3
    jitter = torch.full((100, 1), 0.1)
    jitter[::3] = torch.nextafter(jitter[0], torch.tensor(1.0))
    assert standardized(jitter).abs().max() < 1e-6


def test_one_row_can_be_standardized():
    assert (standardized([[3.0, 0.0]]) == 0).all()


def test_statistics_are_part_of_the_state():
    layer = Standardize(2).measure(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert {k: v.tolist() for k, v in layer.state_dict().items()} == {
        "mean": [2, 4],
        "scale": [1, 2],
    }
    assert not list(layer.parameters())


# ---- projection ----------------------------------------------------------------------------------


def test_projections_have_unit_length_where_asked_for():
    x = 5 * batch(7, 6)
    unit = towers.Projection(6, 4)(x)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(7))
    assert unit.shape == (7, 4)
    free = towers.Projection(6, 4, hidden_dims=(8, 9), dropout=0.5, normalize=False)
    widths = [m.out_features for m in free.layers if isinstance(m, nn.Linear)]
    assert widths == [8, 9, 4]
    assert isinstance(free.layers[-2], towers.Dropout)
    assert (free.eval()(x) == free(x)).all()
    assert (free.train()(x) != free(x)).any()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_is_that_of_torch(p):
    dropout = towers.Dropout(p)
    x = torch.full((1001, 403), 2.0, requires_grad=True)  # a number that four does not divide
    dropped = dropout(x)
    assert dropped.unique().tolist() == pytest.approx([0, 2 / (1 - p)])
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach() / 2)
    gone = (dropped == 0).float()
    spread = (p * (1 - p)) ** 0.5  # of one draw
    assert gone.mean().item() == pytest.approx(p, abs=5 * spread / x.numel() ** 0.5)
    # neither the rows nor any of the four numbers of a draw differ, nor are they related
    quarters = gone.view(-1)[: x.numel() // 4 * 4].view(-1, 4)
    for means in (gone.mean(1), gone.mean(0), quarters.mean(0)):
        n = x.numel() / len(means)
        assert (means - p).abs().max() < 5 * spread / n**0.5
    others = torch.corrcoef(quarters.T) - torch.eye(4)
    assert others.abs().max() < 5 / len(quarters) ** 0.5
    assert (dropout.eval()(x) == x).all()


# ---- augmentation --------------------------------------------------------------------------------

STILL = {"degrees": 0, "scale": 0, "shift": 0, "flip": 0}


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("shape", [(5, 1, 32, 32), (4, 3, 33, 47)])
def test_nothing_changes_at_zero_strength(shape):
    x = batch(*shape)
    torch.testing.assert_close(Augment(**STILL)(x), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(64, 1, 32, 32), (9, 3, 33, 47), (1, 1, 8, 8)])
def test_shape_and_range_are_kept(shape):
    x = batch(*shape)
    out = Augment()(x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert x.min() - 1e-6 <= out.min() <= out.max() <= x.max() + 1e-6
    assert (out - x).abs().mean() > 0.05


@pytest.mark.parametrize("strength", [1, 4])
def test_no_border_appears(strength):
    grey = torch.full((32, 1, 24, 40), 0.7)
    out = Augment(30 * strength, 0.15 * strength, 0.08 * strength)(grey)
    torch.testing.assert_close(out, grey)


def test_half_of_the_pictures_are_mirrored():
    x = batch(400, 1, 6, 8)
    out = Augment(**STILL | {"flip": 0.5})(x)
    mirrored = (out - x.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    kept = (out - x).abs().amax((1, 2, 3)) < 1e-4
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


def line_angles(pictures):
    """The direction of each picture's ink, in degrees of -90..90, from its second moments."""
    rows, columns = torch.meshgrid(
        *(torch.arange(s) - (s - 1) / 2 for s in pictures.shape[2:]), indexing="ij"
    )
    weight = pictures[:, 0] / pictures[:, 0].sum((1, 2), keepdim=True)
    rows = rows - (weight * rows).sum((1, 2), keepdim=True)
    columns = columns - (weight * columns).sum((1, 2), keepdim=True)
    xx, yy, xy = ((weight * m).sum((1, 2)) for m in (columns**2, rows**2, rows * columns))
    return torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2), xx, yy


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (128, 64)])
def test_pictures_turn_without_being_sheared(size):
    height, width = size
    x = torch.zeros(300, 1, *size)
    x[:, :, height // 2 - 1 : height // 2 + 1, width // 2 - 16 : width // 2 + 16] = 1  # 2 x 32
    angles, xx, yy = line_angles(Augment(**STILL | {"degrees": 30})(x))
    assert angles.abs().max() < 30.5
    assert angles.min() < -25
    assert angles.max() > 25
    assert angles.mean().abs() < 4
    # the length of the line does not depend on its direction, whatever the shape of the picture
    torch.testing.assert_close((xx + yy).sqrt(), torch.full((300,), 9.26), atol=0.15, rtol=0)


def test_pictures_shrink_and_grow():
    x = torch.zeros(300, 1, 64, 64)
    x[:, :, 24:40, 24:40] = 1
    side = Augment(**STILL | {"scale": 0.25})(x).sum((1, 2, 3)).sqrt() / 16
    assert 1 / 1.25 - 0.01 < side.min() < 0.85
    assert 1.2 < side.max() < 1 / 0.75 + 0.01


def test_pictures_move_by_a_fraction_of_their_sides():
    x = torch.zeros(300, 1, 50, 100)
    x[:, :, 20:30, 45:55] = 1
    out = Augment(**STILL | {"shift": 0.1})(x)[:, 0]
    ink = out.sum((1, 2))
    down = (out.sum(2) * torch.arange(50)).sum(1) / ink - 24.5
    right = (out.sum(1) * torch.arange(100)).sum(1) / ink - 49.5
    assert 4 < down.abs().max() < 5.01
    assert 8 < right.abs().max() < 10.01
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.2  # independently


def test_every_picture_of_a_batch_and_both_kinds_change_in_their_own_way():
    one = batch(1, 1, 16, 16).expand(6, -1, -1, -1)
    out = Augment()(one)
    assert all((out[i] - out[j]).abs().max() > 0.01 for i in range(6) for j in range(i))
    same = (one.numpy() * 255).astype(np.uint8)
    layout = Layout("pixels", (1, 16, 16), (1, 16, 16))
    halves = [ArrayHalf(same, layout, 0), ArrayHalf(same, layout, 0)]
    halves[1].kind = "skeleton"  # the same pictures as images and as skeletons
    rows = TrainingRows(halves, np.zeros(6), [(np.arange(6), np.arange(6))], "cpu", Augment())
    [(x, _)] = list(rows)
    assert ((x["image"] - x["skeleton"]).abs().amax((1, 2, 3)) > 0.01).all()


def test_the_parameter_augment():
    assert isinstance(augment.make_augment("auto", "pixels"), Augment)
    assert isinstance(augment.make_augment("auto", "files"), Augment)
    assert augment.make_augment("auto", "features") is None
    assert augment.make_augment(None, "pixels") is None
    assert augment.make_augment(torch.neg, "features") is torch.neg
    for odd in ("strong", True, 3):
        with pytest.raises(ValueError, match="'auto', None or a callable"):
            augment.make_augment(odd, "pixels")


# ---- statistics of batch normalisation -----------------------------------------------------------


@pytest.mark.parametrize("n", [16, 17, 31])
def test_batch_norm_is_measured_on_clean_rows(n):
    half = pictures(n)
    tower = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())
    tower[0].running_mean.fill_(77)
    momentum = tower[0].momentum
    measure_batch_norm(tower, half, 16, "cpu")
    clean = torch.from_numpy(half.read(slice(None))) / 255
    torch.testing.assert_close(tower[0].running_mean, clean.mean((0, 2, 3)), atol=1e-3, rtol=0)
    torch.testing.assert_close(tower[0].running_var, clean.var((0, 2, 3)), atol=1e-3, rtol=0)
    assert not tower.training
    assert tower[0].momentum == momentum
