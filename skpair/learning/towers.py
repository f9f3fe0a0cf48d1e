"""Networks: towers that encode pictures or feature rows, and the layers that compare them."""

import copy
import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from .backbones import Backbone, backbone_names


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
