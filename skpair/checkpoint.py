"""Going on with a fit that was broken off: its state, kept in a folder after every epoch."""

import hashlib
import os
from numbers import Integral
from pathlib import Path

import filelock
import joblib
from sklearn.base import BaseEstimator
from torch import nn

from . import memory, training
from .files import pack, read_file, unpack, write_atomically

#: Says whose folder it is.
_OWNER = "fit.safetensors"
_LOCK = ".lock"
_PATTERNS = (_OWNER, _LOCK, "*.state.safetensors", ".skpair-*.tmp")
#: Parameters that a fit may go on with others of.
_FREE = ("checkpoint", "verbose", "memory")


class Checkpoint:
    """The state of one fit: whose it is, and a file for each of its trainings.

    As a context manager: where the fit comes to its end, the files are deleted; where it does
    not, they stay, for the next one. Nothing in them is run.

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
    ValueError
        If the folder holds something else, or the state of a fit of other parameters, cases or
        (found out by `claim`) pictures; or if another fit is using it.
    """

    def __init__(self, folder, estimator, codes):
        self.folder = None if folder is None else Path(folder)
        self.seeds = {}
        if folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint={os.fspath(folder)!r} must be a folder, but is a file.")
        self.folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(set(self.folder.iterdir()) - set(self._files()))
        if foreign:
            raise ValueError(
                f"checkpoint={os.fspath(folder)!r} holds {foreign[0].name!r}, which is no part of "
                "a checkpoint. Give a folder of its own; it need not exist."
            )
        self.lock = filelock.FileLock(self.folder / _LOCK)
        self.identity = {**_digests(estimator), "y": joblib.hash(codes)}

    def __enter__(self):
        """Take hold of the folder."""
        if self.folder is None:
            return self
        try:
            self.lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ValueError(
                f"{self._name()} is in use by another fit. Give each a folder of its own."
            ) from None
        try:
            self._compare(self.identity)
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, kind, error, traceback):
        """Delete the files after a fit that came to its end."""
        if self.folder is None:
            return
        if kind is None:
            for path in self._files():
                path.unlink()
            self.lock.release()
            (self.folder / _LOCK).unlink(missing_ok=True)  # where releasing made it anew
            self.folder.rmdir()
        self.lock.release()

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
        self._compare(self.identity)
        self._write_owner()

    def seed(self, name, random_state):
        """Draw a seed; in a fit that goes on, the one that it began with."""
        if name not in self.seeds:
            self.seeds[name] = training.draw_seed(random_state)
            if "X" in getattr(self, "identity", ()):
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

    def _write_owner(self):
        self.write(_OWNER, {"identity": self.identity, "seeds": self.seeds}, {})

    def _compare(self, identity):
        kept = self.read(_OWNER)
        if kept is None:
            return
        self.seeds = {**kept[0]["seeds"], **self.seeds}
        before = kept[0]["identity"]
        other = sorted(
            name
            for name in before.keys() | identity.keys()
            if before.get(name) != identity.get(name) and (name != "X" or "X" in identity)
        )
        if other:
            raise ValueError(
                f"{self._name()} is of a fit with other values of {', '.join(other)}. Fit with "
                "those to go on with it, delete the folder to begin anew, or give another."
            )

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
        return self.checkpoint.read(self.file)

    def save(self, content, tensors):
        """Replace the state."""
        self.checkpoint.write(self.file, content, tensors)


def _digests(estimator):
    """Tell what decides how a fit ends, by the names of the parameters."""
    from . import __version__

    parameters = estimator.get_params()
    for name, value in parameters.items():
        if name.endswith("callbacks") and value:
            raise ValueError(
                f"checkpoint cannot keep the state of {name}, which are your own. Leave out one "
                "or the other."
            )
    kept = {k: v for k, v in parameters.items() if k.rpartition("__")[2] not in _FREE}
    digests = {name: joblib.hash(_plain(value)) for name, value in kept.items()}
    # seeds by chance are kept beside it; another version, or device, computes otherwise
    return {**digests, "skpair": __version__}


def _plain(value):
    """Bring a parameter to what the same value always has the same hash of."""
    if isinstance(value, nn.Module):
        return memory.fingerprint(value)
    if isinstance(value, BaseEstimator) or not isinstance(value, type) and callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return f"{type(value).__module__}.{name}"
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Integral):
        return int(value)
    plain = value is None or isinstance(value, str | float | tuple | list)
    return value if plain else type(value).__name__  # such as a RandomState
