"""Encodings that are kept: every distinct picture goes through a frozen tower once."""

import contextlib
import hashlib
import inspect
import os
import sqlite3
import warnings
from numbers import Integral
from pathlib import Path

import filelock
import joblib
import numpy as np
import torch
from torch import nn

from .training import check_number

#: Rows that are encoded before they are stored: what a killed process loses at most.
_ROWS_AT_ONCE = 4096
#: Keys in one question; SQLite takes some 32,000.
_KEYS_AT_ONCE = 1000


class EncodingCache:
    """A folder that keeps encodings, shared by fits, workers and later runs.

    An encoding is found by its content: the values of the row (or the bytes of the file), how it
    is read, the network with its weights, and the versions of skpair and torch. So a picture, a
    weight or an architecture that has changed is never answered from the cache. Entries are
    written in transactions, by one process at a time: a killed process leaves nothing half
    written, and two workers do not encode the same row. The folder must be on a local disk.

    Parameters
    ----------
    folder : str or path-like
        Where to keep them; made where it does not exist. To clear the cache, call `clear` or
        delete the folder.
    max_bytes : int, default=10 * 2**30
        Size of the stored encodings from which on the oldest make room for new ones, with a
        warning.

    Examples
    --------
    >>> from skpair import PairEncoder
    >>> from skpair.memory import EncodingCache
    >>> encoder = PairEncoder("resnet18", "resnet18", frozen=True, random_state=0,
    ...                       memory=EncodingCache("encodings", max_bytes=2**30))
    """

    def __init__(self, folder, max_bytes=10 * 2**30):
        check_number("max_bytes", max_bytes, Integral, 0, low_allowed=False)
        if not os.fspath(folder):
            raise ValueError("memory, the folder of a cache, must not be an empty string.")
        self.folder = Path(folder)
        self.max_bytes = max_bytes

    def __repr__(self):
        """Spell the call that makes it."""
        return f"EncodingCache({os.fspath(self.folder)!r}, max_bytes={self.max_bytes})"

    def __len__(self):
        """Count the entries: encodings, and for each network its width."""
        with self._database() as database:
            return database.execute("SELECT count(*) FROM encodings").fetchone()[0]

    def clear(self):
        """Forget all encodings."""
        with self._database() as database:
            database.execute("DELETE FROM encodings")

    def width(self, fingerprint, measure):
        """Give the columns of a network's encodings, by ``measure()`` if they are not known."""
        key = _digest(fingerprint, b"width")
        known = self._find([key])
        if not known:
            known = {key: np.array([measure()], np.float32).tobytes()}
            self._store(known)
        return int(np.frombuffer(known[key], np.float32)[0])

    def encode(self, fingerprint, half, encode):
        """Encode every row of `half`; only distinct rows that are not known are computed.

        Parameters
        ----------
        fingerprint : bytes
            Of the network, see `fingerprint`.
        half : Half
            Images or skeletons.
        encode : callable
            Turns a part of `half` into (n, d) float32.

        Returns
        -------
        ndarray of shape (n, d), float32
        """
        keys = [_digest(fingerprint, content) for content in half.contents()]
        first = {}  # the first row of each distinct content
        for row, key in enumerate(keys):
            first.setdefault(key, row)
        known = self._find(list(first))
        if len(known) < len(first):
            with self._lock():
                known |= self._find([key for key in first if key not in known])  # by others
                missing = [key for key in first if key not in known]
                for start in range(0, len(missing), _ROWS_AT_ONCE):
                    part = missing[start : start + _ROWS_AT_ONCE]
                    encodings = encode(half.take(np.array([first[key] for key in part])))
                    new = dict(zip(part, map(bytes, encodings), strict=True))
                    self._store(new)
                    known |= new
        encodings = np.frombuffer(b"".join(known[key] for key in first), np.float32)
        place = {key: i for i, key in enumerate(first)}
        return encodings.reshape(len(first), -1)[[place[key] for key in keys]]

    @contextlib.contextmanager
    def _lock(self):
        """Keep other processes and threads out; the system lets go of it with a process."""
        lock = filelock.FileLock(self.folder / "lock")
        with self._explained():
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _database(self):
        """Open the database for one transaction; the folder and the table are made if needed."""
        with self._explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / "encodings.sqlite"
            with contextlib.closing(sqlite3.connect(path, timeout=300)) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS encodings "
                    "(age INTEGER PRIMARY KEY, key BLOB UNIQUE, checksum BLOB, value BLOB)"
                )
                yield database

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OSError(
                f"The folder of the cache, memory={os.fspath(self.folder)!r}, cannot be used: "
                f"{error}. It must be writable; if its encodings.sqlite is damaged, delete it: "
                "what it held is computed again."
            ) from error

    def _find(self, keys):
        """Look keys up: a dict of those that are there and whole."""
        found = {}
        with self._database() as database:
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                part = keys[start : start + _KEYS_AT_ONCE]
                asked = ", ".join("?" * len(part))
                rows = database.execute(
                    f"SELECT key, checksum, value FROM encodings WHERE key IN ({asked})", part
                )
                found |= {key: value for key, sum_, value in rows if sum_ == _checksum(key, value)}
        return found

    def _store(self, entries):
        """Write entries, and let the oldest go where there are too many."""
        rows = [(key, _checksum(key, value), value) for key, value in entries.items()]
        with self._database() as database:
            database.executemany(
                "INSERT OR REPLACE INTO encodings (key, checksum, value) VALUES (?, ?, ?)", rows
            )
            size = "SELECT coalesce(sum(length(value)), 0) FROM encodings"
            excess = database.execute(size).fetchone()[0] - self.max_bytes
            if excess <= 0:
                return
            dropped = database.execute(
                "DELETE FROM encodings WHERE age IN (SELECT age FROM (SELECT age, "
                "sum(length(value)) OVER (ORDER BY age) - length(value) AS before FROM encodings) "
                "WHERE before < ?)",
                (excess,),
            ).rowcount
        warnings.warn(
            f"{self!r} is full: its {dropped} oldest encodings were dropped. Give it more "
            "max_bytes, or encodings will be computed more than once.",
            stacklevel=2,
        )


def make_cache(memory):
    """Turn the parameter `memory` into an EncodingCache, or None."""
    if memory is None or isinstance(memory, EncodingCache):
        return memory
    if isinstance(memory, joblib.Memory):
        # where Memory.clear looks, too
        return memory.store_backend and EncodingCache(Path(memory.store_backend.location, "skpair"))
    if isinstance(memory, str | os.PathLike):
        return EncodingCache(memory)
    raise TypeError(
        f"memory must be None, a folder, a joblib.Memory or an EncodingCache, got {memory!r}."
    )


def fingerprint(module, *context):
    """Digest all that an encoding depends on but the row itself.

    Parameters
    ----------
    module : nn.Module
        The network: its structure, code, settings, weights and buffers count.
    *context
        How rows are read and computed; each with a `repr` that tells it.

    Returns
    -------
    bytes
    """
    from . import __version__

    digest = hashlib.sha256()  # the fastest of hashlib where processors compute it themselves
    digest.update(repr((__version__, torch.__version__, *context)).encode())
    seen = set()
    for name, part in module.named_modules():
        digest.update(name.encode() + _code(type(part), seen))
        settings = {k: v for k, v in part.__getstate__().items() if not _says_nothing(k, v)}
        for value in settings.values():
            digest.update(_code(value if inspect.isfunction(value) else type(value), seen))
        try:
            digest.update(joblib.hash(settings).encode())
        except Exception as error:  # whatever pickling them raises
            raise ValueError(
                f"memory needs a network that can be pickled, but {type(part).__name__} cannot: "
                f"{error}. Give memory=None, or a network without lambdas and open files."
            ) from error
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()


#: Attributes of a module that are digested in their own way, or say nothing of what it does.
_NO_SETTINGS = {"_parameters", "_buffers", "_modules", "training"}
#: What every module holds: its hooks, none.
_PLAIN = vars(nn.Module())


def _says_nothing(name, value):
    return name in _NO_SETTINGS or (name in _PLAIN and value == _PLAIN[name])


def _code(value, seen):
    """Give what a function or a class does, with the user's code that it refers to, as bytes."""
    value = getattr(value, "fget", getattr(value, "__func__", value))  # properties, methods
    if inspect.iscode(value):
        inner = [_code(c, seen) if inspect.iscode(c) else repr(c).encode() for c in value.co_consts]
        return b"".join([value.co_code, repr(value.co_names).encode(), *inner])
    if inspect.isclass(value):
        name = f"{value.__module__}.{value.__qualname__} ".encode()
        members = [m for base in value.__mro__ if _is_users(base) for m in vars(base).values()]
        parts = members if value not in seen else []
    elif inspect.isfunction(value):
        name = value.__qualname__.encode()
        parts = _referred(value) if value not in seen and _is_users(value) else []
    else:
        simple = isinstance(value, int | float | complex | str | bytes | tuple | None)
        return repr(value).encode() if simple else b""
    seen.add(value)
    return name + b"".join(_code(part, seen) for part in parts)


def _is_users(value):
    """Whether code is of nobody whose version is known."""
    package = (value.__module__ or "").split(".")[0]
    return package not in ("builtins", "torch", "torchvision", "skpair", "numpy")


def _referred(function):
    """Yield the code of a function, its defaults, and the globals that it names."""
    yield function.__code__
    yield function.__defaults__
    codes = [function.__code__]
    for code in codes:
        codes += filter(inspect.iscode, code.co_consts)
        yield from (function.__globals__[n] for n in code.co_names if n in function.__globals__)


def _digest(fingerprint, content):
    return hashlib.blake2b(content, key=fingerprint, digest_size=20).digest()


def _checksum(key, value):
    return hashlib.blake2b(value, key=key, digest_size=8).digest()
