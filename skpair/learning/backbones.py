"""torchvision's classification networks, without their heads."""

import os
import re
import urllib.error

import torch
import torchvision
from torch import nn

from ..checks import as_file


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
