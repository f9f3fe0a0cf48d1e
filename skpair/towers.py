"""Networks that encode one kind: a small CNN, torchvision backbones, a small MLP, identity."""

import copy
import functools
import os
import re
import urllib.error

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from .paths import as_file


class SmallCNN(nn.Module):
    """A small residual CNN for images of some 32 to 128 pixels.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    width : int
        Channels after the stem; each of three further stages doubles them.
    """

    def __init__(self, in_channels, width=16):
        super().__init__()
        channels = [width, 2 * width, 4 * width, 8 * width]
        layers = [
            nn.Conv2d(in_channels, width, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        for before, after in zip(channels, channels[1:], strict=False):
            layers.append(ResidualBlock(before, after, stride=2))
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def forward(self, x):  # (b, C, H, W)
        """Encode a batch."""
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        return x.mean(dim=(2, 3))  # (b, 8 * width)


class ResidualBlock(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(before, after, 1, bias=False),
                nn.BatchNorm2d(after),
            )

    def forward(self, x):
        """Apply the block."""
        y = F.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return F.relu(y + self.shortcut(x))


class Standardize(nn.Module):
    """Subtract a mean and divide by a scale, both found beforehand.

    Parameters
    ----------
    features : int
        Number of columns.
    """

    def __init__(self, features):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def measure(self, x):
        """Take mean and scale from the rows of `x`, of shape (n, features)."""
        x = x.double()
        self.mean.copy_(x.mean(0))
        scale = x.std(0, correction=0)
        # a column that is constant up to float32 rounding carries nothing: let it be about zero
        largest = x.abs().amax(0)
        constant = scale <= 1e-6 * largest
        self.scale.copy_(torch.where(constant, largest.clamp(min=1), scale))
        return self

    def forward(self, x):  # (b, features)
        """Standardize a batch."""
        return (x - self.mean) / self.scale


class Backbone(nn.Module):
    """A torchvision classification network without its head, with its own normalisation.

    Grey pictures are repeated for the three channels that the network wants. Pictures keep their
    size: resizing is the business of whoever reads them.

    Parameters
    ----------
    name : str
        A name of `torchvision.models`.
    weights : None, str or path
        None: random weights. "DEFAULT" or another name of the network's published weights: they
        are downloaded once, into torch's hub cache. A path: a state dict of the network.
    filled : bool
        False gives the network that would hold the weights, and neither looks for them nor
        downloads them.
    """

    def __init__(self, name, weights=None, filled=True):
        super().__init__()
        known = torchvision.models.get_model_weights(name)
        published, path = _find_weights(name, known, weights, must_exist=filled)
        extra = {}
        if name in ("googlenet", "inception_v3"):
            # they warn unless told how to start; what was learnt elsewhere has another input range
            extra = {"init_weights": weights is None, "transform_input": weights is not None}
        if name.startswith("vit_") and published:
            extra = {"image_size": published.meta["min_size"][0]}  # which they take from weights
        if not filled:
            published = path = None
        try:
            self.network = torchvision.models.get_model(name, weights=published, **extra)
        except urllib.error.URLError as error:
            raise OSError(
                f"The weights {published.url} could not be downloaded ({error}). Put the file into "
                f"{os.path.join(torch.hub.get_dir(), 'checkpoints')}, or give its path."
            ) from error
        head = _remove_heads(self.network, name)
        if path is not None:
            _load_state_dict(self.network, path, name, head)
        preset = (published or known.DEFAULT).transforms()
        self.register_buffer("mean", torch.tensor(preset.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(preset.std)[:, None, None])
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def forward(self, x):  # (b, 1 or 3, H, W)
        """Encode a batch."""
        return self.network((x.expand(-1, 3, -1, -1) - self.mean) / self.std)


def _find_weights(name, known, weights, *, must_exist=True):
    """Tell published weights, by name, from a file: gives one of them and None."""
    if weights is None:
        return None, None
    given = str(weights)
    if not must_exist:
        return known.__members__.get(given.rpartition(".")[2]), given
    if os.path.isfile(given):
        return None, given
    if isinstance(weights, os.PathLike) or re.search(r"[/\\]|\.pth?$", given):
        as_file(given, f": weights={given!r} must be one")
        raise FileNotFoundError(f"The file weights={given!r} does not exist.")
    family, _, version = given.rpartition(".")
    if family not in ("", known.__name__) or version not in known.__members__:
        names = ", ".join(["DEFAULT", *(weights.name for weights in known)])
        raise ValueError(
            f"weights={weights!r} is neither a file nor a name of published weights for {name!r}; "
            f"known names: {names}."
        )
    return known[version], None


def _remove_heads(network, name):
    """Put an identity in the place of the last layer; give the name of that layer."""
    for auxiliary in {"aux1", "aux2", "AuxLogits"} & dict(network.named_children()).keys():
        setattr(network, auxiliary, None)  # heads half way up, that only help to train
        network.aux_logits = False
    for head in ("fc", "classifier", "heads", "head"):
        module = getattr(network, head, None)
        if isinstance(module, nn.Linear):
            setattr(network, head, nn.Identity())
            return head
        if isinstance(module, nn.Sequential):
            last = [k for k, m in module.named_children() if isinstance(m, nn.Linear | nn.Conv2d)]
            setattr(module, last[-1], nn.Identity())
            return f"{head}.{last[-1]}"
    raise ValueError(f"The head of {name!r} was not found: pass the network as an nn.Module.")


def _load_state_dict(network, path, name, head):
    """Load all but the heads, whose number of classes may be any."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for key in list(state):  # the published files of DenseNets have old names
            new = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
            state[new] = state.pop(key)
        missing, unexpected = network.load_state_dict(state, strict=False)
    except Exception as error:
        raise ValueError(f"weights={path!r} holds no state dict of {name!r}: {error}") from error
    heads = (f"{head}.", "aux1.", "aux2.", "AuxLogits.")
    unexpected = [key for key in unexpected if not key.startswith(heads)]
    if missing or unexpected:
        raise ValueError(
            f"weights={path!r} is a state dict of another network than {name!r}: "
            f"missing {missing[:3]}, unexpected {unexpected[:3]}."
        )


def backbone_names():
    """Names of torchvision's classification networks."""
    return torchvision.models.list_models(module=torchvision.models)


def check_encoder(name, encoder):
    """Check a parameter that names a tower.

    Returns
    -------
    {"module", "cnn", "identity", "backbone"}
    """
    if isinstance(encoder, nn.Module):
        return "module"
    if isinstance(encoder, str):
        if encoder in ("cnn", "identity"):
            return encoder
        if encoder in backbone_names():
            return "backbone"
    raise ValueError(
        f"{name}={encoder!r} is unknown: expected an nn.Module or one of 'cnn', 'identity', "
        f"{', '.join(map(repr, backbone_names()))}."
    )


def make_tower(encoder, weights, half, recall=None):
    """Make the network that encodes one kind.

    Parameters
    ----------
    encoder : {"cnn", "identity"}, a name of a torchvision network, or nn.Module
        What to make; a module is copied.
    weights : None, str or path
        See `Backbone`.
    half : Half
        What is to be encoded: its shape, and for feature rows the values to standardize by.
    recall : callable or None
        Called as ``recall(tower, measure)``, gives the width, by ``measure()`` if it is not known.

    Returns
    -------
    tower : nn.Module
        Takes a batch of `half`, gives (b, width).
    width : int
        Number of columns that it gives.
    """
    tower = _new_tower(encoder, weights, half.layout, half.shape)
    if isinstance(encoder, str) and encoder == "cnn" and half.layout == "features":
        tower[0].measure(torch.from_numpy(half.read(slice(None))))
    measure = functools.partial(_width, tower.eval(), encoder, half.shape)
    return tower, measure() if recall is None else recall(tower, measure)


def empty_tower(encoder, weights, layout, shape):
    """Make the network of `make_tower`, for a state that it once had.

    Nothing is learned, drawn or read, and a network that is given by name takes no memory (torch
    calls its device "meta").

    Parameters
    ----------
    encoder, weights
        As `make_tower` has them.
    layout : {"pixels", "features", "files"}
        What is encoded.
    shape : tuple of int
        Shape of one row of it.

    Returns
    -------
    tower : nn.Module
    width : int
    """
    if isinstance(encoder, nn.Module):
        tower = _new_tower(encoder, weights, layout, shape)
        return tower, _width(tower.eval(), encoder, shape)
    with WithoutMemory():
        tower = _new_tower(encoder, weights, layout, shape, filled=False).to("meta")
        return tower, _width(tower.eval(), encoder, shape)


class WithoutMemory(TorchFunctionMode):
    """Make tensors that have a shape but neither memory nor numbers.

    Under ``torch.device("meta")`` the networks that compute with tensors how large they shall be
    could not be made.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Send what layers start from to torch's device "meta"."""
        kwargs = kwargs or {}
        if function in (torch.empty, torch.zeros, torch.ones):
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


def _new_tower(encoder, weights, layout, shape, filled=True):
    if isinstance(encoder, nn.Module):
        return copy.deepcopy(encoder).cpu()
    if encoder == "identity":
        return nn.Flatten()
    if encoder == "cnn" and layout == "features":
        return nn.Sequential(Standardize(shape[0]), fully_connected(shape[0], (128,), 64))
    if encoder == "cnn":
        return SmallCNN(shape[0])
    if layout == "features":
        raise ValueError(
            f"The encoder {encoder!r} takes pictures, but X holds rows of {shape[0]} features a "
            "kind; use 'cnn' (a small MLP for feature rows), 'identity' or an nn.Module."
        )
    return Backbone(encoder, weights, filled)


def _width(tower, encoder, shape):
    """Find by trial how many columns a tower gives."""
    name = type(encoder).__name__ if isinstance(encoder, nn.Module) else repr(encoder)
    given = f"(b, {', '.join(map(str, shape))})"
    with torch.no_grad():
        try:
            output = tower(torch.zeros(2, *shape))
        except Exception as error:
            advice = " PairEncoder(image_size=...) resizes pictures." if len(shape) > 1 else ""
            raise ValueError(
                f"The encoder {name} cannot take a batch of shape {given}: {error}.{advice}"
            ) from error
    if not isinstance(output, torch.Tensor) or output.ndim != 2 or len(output) != 2:
        got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ValueError(
            f"An encoder must turn a batch of shape {given} into a tensor of shape (b, width); "
            f"{name} gave {got} for b = 2."
        )
    return output.shape[1]


class Dropout(nn.Module):
    """Dropout as torch has it, several times faster on a CPU: one draw decides on four numbers.

    Parameters
    ----------
    p : float
        Probability with which a number becomes zero in training, kept to 16 bits.
    """

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        """Drop numbers of a batch, and scale those that stay so that the mean is the same."""
        if not self.training:
            return x
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        draws.random_(-(2**63), None)  # all bits, the sign as well
        sixteen_bits = draws.view(torch.int16)[: x.numel()].view(x.shape)
        return x * (sixteen_bits >= round(self.p * 2**16) - 2**15) / (1 - self.p)

    def extra_repr(self):
        """Show the probability."""
        return f"p={self.p}"


def fully_connected(in_features, hidden_dims, out_features, dropout=0.0):
    """Stack linear layers with ReLU between them and dropout before the last."""
    layers = []
    for width in hidden_dims:
        layers += [nn.Linear(in_features, width), nn.ReLU(inplace=True)]
        in_features = width
    if dropout:
        layers.append(Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(in_features, out_features))


class Augment(nn.Module):
    """Random rotation, flip, scale and shift of every picture of a batch.

    Pictures are continued by reflection, so that no border appears that clean pictures lack.

    Parameters
    ----------
    degrees : float
        Largest rotation, either way.
    scale : float
        Largest relative change of size.
    shift : float
        Largest shift, as a fraction of the side.
    flip : float
        Probability of a mirror image.
    generator : torch.Generator or None
        Source of chance, on the CPU; None takes torch's global one.
    """

    def __init__(self, degrees=30.0, scale=0.15, shift=0.08, flip=0.5, generator=None):
        super().__init__()
        self.generator = generator
        self.degrees = degrees
        self.scale = scale
        self.shift = shift
        self.flip = flip

    def forward(self, x):  # (b, C, H, W) float
        """Augment a batch."""
        n = len(x)
        chance = torch.rand(5, n, generator=self.generator).to(x.device)
        uniform = chance[:4] * 2 - 1
        angle = uniform[0] * self.degrees * torch.pi / 180
        zoom = 1 + uniform[1] * self.scale
        flip = torch.where(chance[4] < self.flip, -1.0, 1.0)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        shift_x, shift_y = uniform[2:4] * self.shift * 2  # the grid runs from -1 to 1
        aspect = x.shape[2] / x.shape[3]  # both ways, so a rotation must mind the sides
        theta = torch.stack(
            [
                torch.stack([cos * flip, -sin * aspect, shift_x], 1),
                torch.stack([sin * flip / aspect, cos, shift_y], 1),
            ],
            dim=1,
        )  # (b, 2, 3)
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def make_augment(augment, layout, seed=0):
    """Turn the parameter `augment` into a callable on batches, or None."""
    if isinstance(augment, str) and augment == "auto":
        generator = torch.Generator().manual_seed(seed)
        return None if layout == "features" else Augment(generator=generator)
    if augment is None or callable(augment):
        return augment
    raise ValueError(f"augment must be 'auto', None or a callable on batches, got {augment!r}.")


class DualEncoder(nn.Module):
    """Two networks side by side, one a kind.

    Parameters
    ----------
    image, skeleton : nn.Module
        The networks.
    """

    def __init__(self, image, skeleton):
        super().__init__()
        self.image = image
        self.skeleton = skeleton

    @classmethod
    def of_equal_width(cls, image, image_width, skeleton, skeleton_width):
        """Pad the narrower network's output with zeros."""
        width = max(image_width, skeleton_width)
        return cls(_padded(image, width - image_width), _padded(skeleton, width - skeleton_width))

    def followed_by(self, other):
        """Send what these two networks give through two others, in one module."""
        return DualEncoder(
            nn.Sequential(self.image, other.image), nn.Sequential(self.skeleton, other.skeleton)
        )

    def forward(self, image, skeleton):
        """Encode a batch of both kinds."""
        return self.image(image), self.skeleton(skeleton)


def _padded(tower, n_columns):
    return nn.Sequential(tower, nn.ConstantPad1d((0, n_columns), 0.0)) if n_columns else tower


class Classifier(nn.Module):
    """A tower and a head that names the case: the first stage of the method.

    Parameters
    ----------
    tower : nn.Module
        Gives (b, width).
    width : int
        Columns of the tower.
    n_cases : int
        Number of cases.
    """

    def __init__(self, tower, width, n_cases):
        super().__init__()
        self.tower = tower
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, n_cases))

    def forward(self, image=None, skeleton=None):
        """Give the logits of a batch of the tower's kind: (b, n_cases)."""
        return self.head(self.tower(image if skeleton is None else skeleton))


class Projection(nn.Module):
    """The fully connected layer of one kind: encodings -> embeddings.

    Parameters
    ----------
    in_features : int
        Columns of the encodings.
    embedding_dim : int
        Columns of the embeddings.
    hidden_dims : tuple of int
        Units of hidden layers, for more than one fully connected layer.
    dropout : float
        Probability of dropping an input of the last layer in training.
    normalize : bool
        Scale embeddings to length one, so that dot products are cosines.
    """

    def __init__(self, in_features, embedding_dim, hidden_dims=(), dropout=0.0, normalize=True):
        super().__init__()
        self.standardize = Standardize(in_features)
        self.layers = fully_connected(in_features, hidden_dims, embedding_dim, dropout)
        self.normalize = normalize

    def forward(self, x):  # (b, in_features)
        """Embed a batch: (b, embedding_dim)."""
        x = self.layers(self.standardize(x))
        return F.normalize(x, dim=1) if self.normalize else x
