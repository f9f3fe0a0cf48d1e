"""Files of pictures: what lies in a folder, which file a name means, and what is no picture."""

import functools
import hashlib
import io
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError

from ..checks import as_file
from ..rows import pictures

#: What systems leave in folders, beside names that begin with a dot or, of office programs, "~$".
_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}
#: How many faults an error lists.
_MOST_LISTED = 50


# ---- what lies in a folder -----------------------------------------------------------------------


def is_litter(name):
    """Whether a file or folder of this name is no one's data, such as ``Thumbs.db``."""
    return name.startswith((".", "~$")) or name.casefold() in _LITTER


def list_files(folder):
    """List all files in a folder and in the folders below, sorted, without litter.

    Parameters
    ----------
    folder : str or path-like
        Links in it are followed, but for those that lead back to where they are.

    Returns
    -------
    list of Path

    Raises
    ------
    OSError
        If the folder, or one below, is missing, is no folder or cannot be listed.
    """
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        place = Path(place)
        folders[:] = [
            name for name in folders if not is_litter(name) and not _leads_back(place / name)
        ]
        found += [place / name for name in names if not is_litter(name)]
    return sorted(found)


def _raise(error):
    raise error


def _leads_back(folder):
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


# ---- which file a name means ---------------------------------------------------------------------


class FileNames:
    """The files of a folder, found by their names as people write them.

    Parameters
    ----------
    folder : str or path-like
        Folders below it belong to it.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self._by_name, self._by_stem = {}, {}
        for path in list_files(folder):
            relative = path.relative_to(self.folder)
            for name in {relative, Path(relative.name)}:
                self._by_name.setdefault(_key(name), []).append(path)
                if has_image_ending(path):
                    self._by_stem.setdefault(_key(name.with_suffix("")), []).append(path)

    def find(self, name):
        """Find the files that a name may mean: none, one or several.

        Parameters
        ----------
        name : str
            Of a file, perhaps without its ending or with other capitals: alone, or with the
            folders on the way from this one. A path from the root of the file system also does.

        Returns
        -------
        list of Path
        """
        name = name.replace("\\", "/")
        direct = self.folder / name
        if os.path.isfile(direct):  # unlike Path.is_file, it takes names of any length
            return [direct]
        key = _key(name)
        found = self._by_name.get(key) or self._by_stem.get(key, [])
        last = name.rpartition("/")[2]
        return [path for path in found if last in (path.name, path.stem)] or found


def plain_text(text):
    """Return text in the one spelling of composed letters that systems write in two."""
    return unicodedata.normalize("NFC", text)


def _key(name):
    return plain_text(Path(name).as_posix()).casefold()


def has_image_ending(path):
    """Whether the ending of a Path is one of files that Pillow opens."""
    return path.suffix.casefold() in _image_endings()


@functools.cache
def _image_endings():
    """List the endings, with their dots, of files that Pillow opens."""
    endings = Image.registered_extensions().items()  # which also loads all formats
    return {ending for ending, kind in endings if kind in Image.OPEN}


# ---- what is no picture --------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What a look at the file of a picture has shown.

    Attributes
    ----------
    fault : {"", "no image", "broken"}
        Why it cannot be used; then the others but `detail` say nothing.
    detail : str
        The reason of the fault in words.
    height, width : int
        In pixels, as stored.
    digest : str
        The same for files of the same bytes.
    more_pages : bool
        Whether other pages follow the one that is read.
    """

    fault: str = ""
    detail: str = ""
    height: int = 0
    width: int = 0
    digest: str = ""
    more_pages: bool = False


def look_at(paths):
    """Open and decode each file once, in threads, to find those that are broken.

    Parameters
    ----------
    paths : list of Path

    Returns
    -------
    list of Look
    """
    looks = []
    for start in range(0, len(paths), 1024):  # bounds what waits in the pool
        looks += pictures.in_threads(_look, paths[start : start + 1024])
    return looks


def _look(path):
    try:
        more_pages = pictures.check_file(path)
        data = as_file(path).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            image.verify()  # checksums, of the formats that have them
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (1, 1))  # JPEG is decoded faster at an eighth of its size
            image.load()
    except UnidentifiedImageError:
        if has_image_ending(path):
            return Look("broken", "it does not begin as an image does")
        return Look("no image", "it is of another kind")
    except Exception as error:  # Pillow's decoders raise many kinds
        return Look("broken", str(error) or type(error).__name__)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Look("", "", height, width, digest, more_pages)


# ---- faults --------------------------------------------------------------------------------------


def fault(file, kind, detail):
    """Describe what is wrong with a file, a row of `as_table`.

    Parameters
    ----------
    file : str or path-like
        Its path, or the name that does not lead to one.
    kind : str
        In a word or two.
    detail : str
        In a sentence, without the name of the file.

    Returns
    -------
    dict of str
    """
    return {"file": os.fspath(file), "fault": kind, "detail": detail}


def as_table(faults):
    """Return a list of faults as a DataFrame."""
    return pd.DataFrame(faults, columns=["file", "fault", "detail"])


def raise_all(faults, what, advice):
    """Raise one ValueError that lists the faults, if there are any.

    Parameters
    ----------
    faults : list of dict
        As `fault` makes them.
    what : str
        Where they are.
    advice : str
        What to do.
    """
    if faults:
        shown = [f"\n    {one['detail']}: {one['file']}" for one in faults[:_MOST_LISTED]]
        rest = len(faults) - _MOST_LISTED
        more = f"\n    ... and {rest} more" if rest > 0 else ""
        raise ValueError(f"{what}: {len(faults)} fault(s).{''.join(shown)}{more}\n{advice}")
