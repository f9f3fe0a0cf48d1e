"""What networks make of rows, batch by batch."""

import copy
import math

import numpy as np
import torch
from torch import nn

from ..rows.progress import progress_bar
from .batches import to_tensor
from .devices import autocast

#: Pixels that a CPU encodes at once (eight pictures at least): with more, what networks compute
#: leaves its caches.
_PIXELS_AT_ONCE = 2**18


def encode(module, half, batch_size, device, precision="float32", verbose=0):
    """Send every row of `half` through `module`: (n, d) float32 on the CPU, all finite."""
    with progress_bar("encoding", half.kind, len(half), verbose) as tell:
        return _encode(module, half, batch_size, device, precision, tell)


def _encode(module, half, batch_size, device, precision, tell):
    at_once = batch_size
    if device != "cpu":
        # fitted modules rest on the CPU, so that they can be loaded where there is no GPU
        module = copy.deepcopy(module).to(device)
    else:
        at_once = max(8, _PIXELS_AT_ONCE // math.prod(half.shape[1:]))
        if len(half) > at_once:
            # Linux's malloc hands memory back after every layer, to ask for it again, until it has
            # seen a piece freed that is as large as this
            torch.empty(31 * 2**20, dtype=torch.uint8)
    encoded, done = None, 0
    with torch.inference_mode(), autocast(device, precision):
        for batch in half.batches(batch_size):
            for start in range(0, len(batch), at_once):
                part = to_tensor(batch[start : start + at_once], device)
                output = module(part).float().cpu().numpy()
                check_finite(output, half.kind, half.rows[done : done + len(output)])
                if encoded is None:
                    # whole, once: small arrays kept between large ones would tear memory to pieces
                    encoded = np.empty((len(half), output.shape[1]), np.float32)
                encoded[done : done + len(output)] = output
                done += len(output)
            tell(len(batch))
    return encoded


def check_finite(encoded, kind, rows):
    """Raise unless what a network made of some rows is finite.

    Parameters
    ----------
    encoded : ndarray of shape (n, d)
        What it made.
    kind : {"image", "skeleton"}
        Of what.
    rows : ndarray of shape (n,), int
        Where the user finds them.
    """
    odd = ~np.isfinite(encoded).all(axis=1)
    if odd.any():
        raise ValueError(
            f"Row {rows[np.argmax(odd)]}: the network makes numbers of its {kind} that are not "
            "finite (NaN or infinite). Look at that row for values that are far too large, or at "
            "a network of your own."
        )


def measure_batch_norm(module, half, batch_size, device):
    """Take the statistics of batch normalisation again, on clean rows in equal batches.

    Those of the training are of augmented pictures, which differ from what `encode` will see.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    module.to(device).eval()  # but for the normalisation, all works as it will in use
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    parts = np.array_split(np.arange(len(half)), max(1, len(half) // batch_size))
    with torch.no_grad():
        for batch in half.stream(parts):
            module(to_tensor(batch, device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.cpu().eval()
