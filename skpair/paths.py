"""What may be opened: a path of a pipe would be waited for, and one of a device never ends."""

import contextlib
import os
import stat
from pathlib import Path


def as_file(path, more=""):
    """Turn into a Path what is a file or missing; folders, pipes and devices raise.

    Parameters
    ----------
    path : str or path-like
        Links are followed; a loop of them raises, too.
    more : str, default=""
        What the message says beyond "is not a file".

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If it is something else than a file; IsADirectoryError for a folder.
    """
    path = Path(path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it is missing
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = IsADirectoryError if stat.S_ISDIR(mode) else OSError
            raise kind(f"{os.fspath(path)!r} is not a file{more}.")
    return path
