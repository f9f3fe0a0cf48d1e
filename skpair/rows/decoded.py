"""Pictures that were decoded for a fit, kept until it ends: no file is decoded twice."""

import contextlib
import os
import tempfile
import threading

import numpy as np

#: Bytes that are kept in memory; where there are more, all are kept in a temporary file.
IN_MEMORY = 2**26


class DecodedPictures:
    """Decoded pictures, found by their kind and path; a context manager that forgets them.

    Beyond `IN_MEMORY` bytes they lie in a temporary file without a name (on Windows, one that the
    system deletes with its last handle): it is gone when the process ends, however that happens.
    It is read, not mapped: mapped pages would count as memory of the process, and a full disk would
    kill it. What was read lately, the system's page cache still has.

    Several threads may use it. Forked processes, and what was pickled, do without: they have None,
    or find nothing.
    """

    def __init__(self):
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)
        self._end = 0
        self._places = {}  # by kind and path: where a picture begins, and its shape
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __enter__(self):
        """Begin."""
        return self

    def __exit__(self, *error):
        """Forget all, after errors and interrupts, too."""
        self.close()

    def __reduce__(self):
        """Leave None in the place of what cannot be pickled; files are decoded anew then."""
        return type(None), ()

    def __len__(self):
        """Count the pictures."""
        return len(self._places)

    def find(self, kind, path):
        """Return a picture (C, H, W) as it was kept, uint8; None if it was not."""
        if self._process != os.getpid():  # a fork shares the place in the file, and the lock
            return None
        with self._lock:
            if (kind, path) not in self._places:
                return None
            start, shape = self._places[kind, path]
            picture = np.empty(shape, np.uint8)
            self._file.seek(start)
            self._file.readinto(picture.reshape(-1))
        return picture

    def keep(self, kind, path, picture):
        """Keep a picture (C, H, W), uint8, in the place of one that is there; none once closed.

        Raises
        ------
        OSError
            If there is no room for it in the folder for temporary files.
        """
        if self._process != os.getpid():
            return
        with self._lock:
            if self._file.closed:
                return
            try:
                self._file.seek(self._end)
                self._file.write(np.ascontiguousarray(picture).reshape(-1))
                self._file.flush()  # or a full disk would show up elsewhere
            except OSError as error:
                self._forget()
                raise OSError(
                    f"The {self._end >> 20} MiB of decoded pictures cannot be kept in "
                    f"{tempfile.gettempdir()!r}, the folder for temporary files: "
                    f"{error.strerror}. Make room, or name another folder by the environment "
                    "variable TMPDIR."
                ) from error
            self._places[kind, path] = self._end, picture.shape
            self._end += picture.size

    def close(self):
        """Forget all; nothing is found or kept from now on."""
        with self._lock:
            self._forget()

    def _forget(self):
        self._places.clear()
        with contextlib.suppress(OSError):  # what a full disk did not take is of no use now
            self._file.close()
