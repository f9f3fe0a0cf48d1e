"""Going on with a fit that was broken off: its state, kept in a folder after every epoch."""

import contextlib
import enum
import hashlib
import json
import os
from numbers import Real
from pathlib import Path

import filelock
import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ..learning import devices
from ..learning.net import DivergenceError
from .fingerprints import describe_function, fingerprint
from .sealed import (
    describe_history,
    pack,
    read_file,
    read_history,
    unpack,
    write_atomically,
)

#: Says whose folder it is.
_OWNER = "fit.safetensors"
_LOCK = ".lock"
_PATTERNS = ("*.state.safetensors", ".skpair-*.tmp", _OWNER, _LOCK)
#: Parameters that do not change what is learned.
_FREE = (
    "checkpoint",
    "verbose",
    "memory",
    "callbacks",
    "gallery",
    "aggregate",
    "prior",
    "unknown_label",
)


class Checkpoint:
    """The state of one fit: whose it is, and a file for each of its trainings.

    As a context manager: where the fit comes to its end, or can come to none, the files are
    deleted; else they stay, for the next one. Nothing in them is run.

    Parameters
    ----------
    folder : str, path-like or None
        Made where it does not exist. None: nothing is kept.
    estimator : PairMatcher
        Whose fit it is.
    codes : ndarray of shape (n,)
        Codes of the cases.

    Raises
    ------
    TypeError
        If `folder` is no path.
    ValueError
        If the folder holds something else, or the state of a fit of other parameters, cases or
        (found out by `claim`) pictures; or if another fit is using it.
    """

    def __init__(self, folder, estimator, codes):
        self.folder = None
        self.seeds = {}
        if folder is None:
            return
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise TypeError(f"checkpoint must be the path of a folder or None, got {folder!r}.")
        self.folder = Path(folder)
        self.identity = {**_digests(estimator), "y": joblib.hash(codes)}

    def __enter__(self):
        """Take hold of the folder."""
        if self.folder is None:
            return self
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise ValueError(f"{self._name()} must be a folder, but is a file or a dead link.")
        self.folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(set(self.folder.iterdir()) - set(self._files()))
        if foreign:
            raise ValueError(
                f"{self._name()} holds {foreign[0].name!r}, which is no part of a checkpoint. Give "
                "a folder of its own; it need not exist."
            )
        self.lock = filelock.FileLock(self.folder / _LOCK)
        try:
            self.lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ValueError(
                f"{self._name()} is in use by another fit. Give each a folder of its own."
            ) from None
        try:
            self._compare()
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, kind, error, traceback):
        """Delete the files after a fit that came to its end; what is learned is never lost."""
        if self.folder is None:
            return
        ended = kind is None or issubclass(kind, DivergenceError)
        files = [path for path in self._files() if path.name != _LOCK]  # the owner last
        if ended:
            for path in files:
                with contextlib.suppress(OSError):
                    path.unlink()
        self.lock.release()
        if ended or not files:
            with contextlib.suppress(OSError):  # a mount point, or what others put there, stays
                (self.folder / _LOCK).unlink(missing_ok=True)
                self.folder.rmdir()

    def claim(self, halves):
        """Compare the rows that the fit learns from with those of the state, and write them down.

        Parameters
        ----------
        halves : iterable of Half
            The images and the skeletons.
        """
        if self.folder is None:
            return
        digest = hashlib.sha256()
        for half in halves:
            digest.update(repr(half.reading()).encode())
            for content in half.contents():
                digest.update(content)
        self.identity["X"] = digest.hexdigest()
        self._compare()
        self._write_owner()

    def seed(self, name, random_state):
        """Draw a seed; in a fit that goes on, the one that it began with."""
        if name not in self.seeds:
            self.seeds[name] = devices.draw_seed(random_state)
            if self.folder is not None and "X" in self.identity:
                self._write_owner()
        return self.seeds[name]

    def stage(self, name):
        """Give the place for the state of one training; None where nothing is kept."""
        return None if self.folder is None else Stage(self, f"{name}.state.safetensors")

    def read(self, file):
        """Read one of the files: its content and tensors, or None if it is not there."""
        try:
            return unpack(read_file(self.folder / file), "checkpoint")
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(
                f"The file {file!r} of {self._name()} cannot be read: {error}. Delete the folder "
                "to begin anew."
            ) from error

    def write(self, file, content, tensors):
        """Write one of the files."""
        write_atomically(self.folder / file, pack("checkpoint", content, tensors))

    @property
    def owner(self):
        """Digest of all that a state belongs to."""
        whole = json.dumps([self.identity, self.seeds], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def refuse(self, what):
        """Raise for a state that belongs to another fit."""
        raise ValueError(
            f"{self._name()} is of a fit with other values of {what}. Fit with those to go on with "
            "it, delete the folder to begin anew, or give another."
        )

    def _write_owner(self):
        self.write(_OWNER, {"identity": self.identity, "seeds": self.seeds}, {})

    def _compare(self):
        kept = self.read(_OWNER)
        if kept is None:
            return
        self.seeds = {**kept[0]["seeds"], **self.seeds}
        before, now = kept[0]["identity"], self.identity
        other = [
            name
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name) and (name != "X" or "X" in now)
        ]
        if other:
            self.refuse(", ".join(other))

    def _files(self):
        return [path for pattern in _PATTERNS for path in self.folder.glob(pattern)]

    def _name(self):
        return f"checkpoint={os.fspath(self.folder)!r}"


class Stage:
    """Where the state of one training of a fit is kept.

    Parameters
    ----------
    checkpoint : Checkpoint
        What it belongs to.
    file : str
        Its name in the folder.
    """

    def __init__(self, checkpoint, file):
        self.checkpoint = checkpoint
        self.file = file

    def load(self):
        """Give the content and the tensors of the last epoch; None before the first."""
        state = self.checkpoint.read(self.file)
        if state is None:
            return None
        content, tensors = state
        if content["owner"] != self.checkpoint.owner:
            self.checkpoint.refuse(f"what {self.file!r} was learned from (or lacks {_OWNER!r})")
        # as a tensor: a long history is no header
        history = json.loads(tensors.pop("history").numpy().tobytes())
        content["history"] = read_history({"history": history}, "history")
        return content, tensors

    def save(self, content, tensors):
        """Replace the state."""
        history = json.dumps(describe_history(content["history"])).encode()
        tensors = tensors | {"history": torch.frombuffer(bytearray(history), dtype=torch.uint8)}
        content = content | {"history": None, "owner": self.checkpoint.owner}
        self.checkpoint.write(self.file, content, tensors)


def _digests(estimator):
    """Tell what decides how a fit ends, by the names of the parameters."""
    from .. import __version__

    parameters = estimator.get_params()
    for name, value in parameters.items():
        if name.endswith("callbacks") and value:
            raise ValueError(
                f"checkpoint cannot keep the state of {name}, which are your own. Leave out one "
                "or the other."
            )
    kept = {k: v for k, v in parameters.items() if k.rpartition("__")[2] not in _FREE}
    for name in kept:
        if name.rpartition("__")[2] == "device":
            kept[name] = devices.resolve_device(kept[name])
    digests = {name: joblib.hash(_plain(value)) for name, value in kept.items()}
    # another version computes otherwise
    return {**digests, "skpair": __version__, "torch": torch.__version__}


def _plain(value):
    """Bring a parameter to what the same value always has the same hash of."""
    if isinstance(value, nn.Module):
        return fingerprint(value)
    if isinstance(value, np.random.RandomState):
        return "RandomState"  # what it gave is kept: the seeds
    if isinstance(value, BaseEstimator):
        return type(value).__qualname__  # its parameters count for themselves
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)  # of weights, perhaps: then it is what is in it that counts
        return read_file(path) if os.path.isfile(path) else path
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return float(value)
    if callable(value):
        return describe_function(value)
    return list(value) if isinstance(value, tuple) else value
