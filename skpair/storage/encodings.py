"""Encodings that are kept: every distinct picture goes through a frozen tower once."""

import contextlib
import errno
import hashlib
import os
import sqlite3
import warnings
from numbers import Integral
from pathlib import Path

import filelock
import joblib
import numpy as np

from ..checks import as_file, check_number

#: Name of the store in its folder.
_FILE = "encodings.sqlite"
#: Rows that are encoded before they are stored: what a killed process loses at most.
_ROWS_AT_ONCE = 4096
#: Keys in one question; SQLite takes some 32,000.
_KEYS_AT_ONCE = 1000


#: What an entry holds; the older it is, the smaller its age.
_TABLE = (
    "CREATE TABLE IF NOT EXISTS encodings "
    "(age INTEGER PRIMARY KEY, key BLOB UNIQUE, checksum BLOB, value BLOB)"
)
#: Numbers of errors that mean that no room is left.
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Codes of SQLite that mean that another does not let go.
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class EncodingCache:
    """A folder that keeps encodings, shared by fits, workers and later runs.

    An encoding is found by its content: the values of the row (or the bytes of the file), how it
    is read, the network with its weights and settings, the code of the methods of classes of your
    own, and the versions of skpair and torch. So a picture, a weight or an architecture that has
    changed is never answered from the cache. Not seen is code elsewhere that such methods call
    (functions, globals, objects that are attributes) and hooks: `clear` the cache when that has
    changed.

    Entries are written in transactions, by one process at a time: a killed process leaves nothing
    half written, and two workers do not encode the same row. The folder must be on a local disk.

    Parameters
    ----------
    folder : str or path-like
        Where to keep them; made where it does not exist. To clear the cache, call `clear`; where
        nobody uses it, the folder can be deleted as well.
    max_bytes : int, default=10 * 2**30
        Size of the stored encodings from which on the oldest make room for new ones, with a
        warning.

    Examples
    --------
    >>> from skpair import PairEncoder
    >>> from skpair.storage import EncodingCache
    >>> encoder = PairEncoder("resnet18", "resnet18", frozen=True, random_state=0,
    ...                       memory=EncodingCache("encodings", max_bytes=2**30))
    """

    def __init__(self, folder, max_bytes=10 * 2**30):
        if not isinstance(folder, str | os.PathLike):
            raise TypeError(f"folder must be a str or a path, got {folder!r}.")
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
        """Forget all encodings, also where the store is damaged; whoever uses it goes on."""
        with self._explained():
            if not os.path.lexists(self.folder / _FILE):
                return
            try:
                # not by deleting the file, which others may have open
                with contextlib.closing(self._connect(isolation_level=None)) as database:
                    database.execute("PRAGMA secure_delete = OFF")  # or it is written once more
                    database.executescript(
                        f"BEGIN IMMEDIATE; DROP TABLE IF EXISTS encodings; {_TABLE}; COMMIT; VACUUM"
                    )
            except sqlite3.Error as error:
                if _cause(error) in _IN_USE:
                    raise
                # it is damaged, or the disk so full that nothing can be deleted in it
                for name in (_FILE + "-journal", _FILE):
                    (self.folder / name).unlink(missing_ok=True)

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
            Of the network, see `fingerprints.fingerprint`.
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
                    rows = half.take(np.array([first[key] for key in part])).afresh()
                    new = dict(zip(part, map(bytes, encode(rows)), strict=True))
                    known |= new
                    # a file may have been replaced since its key was taken
                    now = {_digest(fingerprint, content) for content in rows.contents()}
                    self._store({key: value for key, value in new.items() if key in now})
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
            with contextlib.closing(self._connect()) as database, database:
                database.execute("PRAGMA page_size = 32768")  # holds several rows; for a new file
                database.execute(_TABLE)
                yield database

    def _connect(self, **how):
        return sqlite3.connect(as_file(self.folder / _FILE), timeout=300, **how)

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            folder, reason = os.fspath(self.folder), str(error).rstrip(".")
            advice, number = self._advice(error)
            raised = OSError(f"The cache in {folder!r} cannot be used: {reason}. {advice}")
            raised.errno = number
            raise raised from error

    def _advice(self, error):
        """Tell what to do about an error, and its number in `errno`, if that is known."""
        cause, number = _cause(error), getattr(error, "errno", None)
        if cause == sqlite3.SQLITE_FULL or number in _FULL:
            number = number or errno.ENOSPC
            return f"{os.strerror(number)}: make room, or give a folder on another disk.", number
        if cause == sqlite3.SQLITE_IOERR:
            name = error.sqlite_errorname
            return f"Its disk is over a quota, not local, or failing ({name}).", number
        if cause in _IN_USE:
            return "Another process has kept it for minutes.", number
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            return "It must be a folder, but is a file or a dead link.", number
        if number or cause in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return "It must be writable.", number
        return f"If its {_FILE} is damaged, clear it: what it held is computed again.", number

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
            pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            if database.execute(pages).fetchone()[0] <= self.max_bytes:
                return  # the whole file is no larger: no need to add up
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


def _digest(fingerprint, content):
    return hashlib.blake2b(content, key=fingerprint, digest_size=20).digest()


def _checksum(key, value):
    return hashlib.blake2b(value, key=key, digest_size=8).digest()


def _cause(error):
    """Give the code of an error of SQLite without what it adds to it; 0 for other errors."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
