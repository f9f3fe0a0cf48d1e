"""The rows of a training, as batches on a device."""

import math
import threading

import numpy as np
import torch

#: Largest size of feature rows that are copied for a training on a CPU, which is faster then.
_COPIED_BYTES = 2**26


def to_tensor(batch, device):
    """Move a batch as read to a device; 8-bit pixels become floats in 0..1."""
    # by way of a flat array, strides are always the same, also along axes of length one: which
    # algorithm torch takes, and so the last bits, depend on them
    flat = np.require(batch, requirements=["C", "W"]).reshape(-1)
    return to_floats(torch.from_numpy(flat).view(batch.shape).to(device))


def to_floats(tensor):
    """Turn 8-bit pixels into floats in 0..1."""
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor


class TrainingRows(torch.utils.data.Dataset):
    """The rows of a training; iterating gives the batches of an epoch.

    Parameters
    ----------
    halves : list of Half
        The images, the skeletons, or both.
    y : ndarray of shape (n,), int
        Codes of the cases.
    batches : iterable
        Gives `(image_rows, skeleton_rows)` of each step, anew for each epoch.
    device : str
        Where the batches go.
    augment : callable or None
        Applied to each kind of a batch.
    cancelled : threading.Event or None
        Ends the training when set.
    """

    def __init__(self, halves, y, batches, device, augment=None, cancelled=None):
        self.halves = {half.kind: half for half in halves}
        self.layout = halves[0].layout
        self.y = torch.as_tensor(y)
        self.batches = batches
        self.device = device
        self.augment = augment or (lambda x: x)
        self.cancelled = cancelled or threading.Event()
        self.held = {}  # by kind, rows that stay on the device
        self.resident = _fits(halves, device)

    def __len__(self):
        """Count the rows."""
        return len(self.y)

    def __iter__(self):
        """Yield the batches of an epoch: the kinds by name, and the codes."""
        steps = list(self.batches)
        y = self.y.to(self.device)
        rows = torch.from_numpy(np.stack([images for images, _ in steps])).to(self.device)
        streams = {
            kind: self._stream(half, [step[kind == "skeleton"] for step in steps])
            for kind, half in self.halves.items()
        }
        for images in rows:
            if self.cancelled.is_set():
                raise KeyboardInterrupt
            yield {kind: self.augment(next(s)) for kind, s in streams.items()}, y[images]

    def _stream(self, half, steps):
        """Yield the batches of one kind, on the device."""
        if not self.resident:
            for batch in half.stream(steps):
                yield to_tensor(batch, self.device)
            return
        if half.kind not in self.held:
            whole = half.read(slice(None))
            self.held[half.kind] = torch.from_numpy(whole).to(self.device)
        for rows in torch.from_numpy(np.stack(steps)).to(self.device):
            yield to_floats(self.held[half.kind][rows])


def _fits(halves, device):
    """Whether the device may hold the rows as a whole: then no batch is gathered by numpy."""
    if any(half.layout == "files" for half in halves):
        return False
    size = sum(4 * len(half) * math.prod(half.shape) for half in halves)
    if torch.device(device).type == "cuda":
        return size < torch.cuda.mem_get_info(device)[0] / 2
    return halves[0].layout == "features" and size < _COPIED_BYTES
