"""One kind (the images, or the skeletons) of every row, read batch by batch."""

import copy
import hashlib
import os

import numpy as np
import pandas as pd

from ..checks import as_file
from . import pictures
from .layouts import KINDS, Layout
from .progress import progress_bar
from .sizes import resize_images, resize_ink


def feature_half(features, kind):
    """Return features (n, p) of one kind, such as the encodings of images, as a `Half`."""
    shape = features.shape[1:]
    return ArrayHalf(features, Layout("features", shape, shape), KINDS.index(kind))


class Half:
    """One kind (images or skeletons) of every row, read batch by batch.

    Its two kinds, of arrays and of files, have `stream(row_batches)`, which yields `read(rows)` for
    each of them; `contents()`, which yields bytes that tell each row from others; `keys()`, quicker
    to get, for rows of one half; `names()`, a list of str, or None; and `check_files()`.

    Attributes
    ----------
    layout : {"pixels", "features", "files"}
    kind : {"image", "skeleton"}
    shape : tuple of int
        Of one row as read: (C, H, W), (1, H, W) or (p,).
    rows : ndarray of shape (n,)
        Which rows of the source belong to this half.
    """

    def __init__(self, source, layout, index):
        self.source = source
        self.layout = layout.name
        self.kind = KINDS[index]
        self.shape = layout.shapes[index]
        self.look = layout.look
        self.rows = np.arange(len(source))

    def reading(self):
        """Tell how a row becomes what `read` gives; what it is itself tell `contents`."""
        return self.layout, self.kind, self.shape, self.look

    def __len__(self):
        """Return the number of rows."""
        return len(self.rows)

    def take(self, rows):
        """Return a subset (slice, int or bool array); nothing is read or copied."""
        subset = copy.copy(self)
        subset.rows = self.rows[rows]
        return subset

    def afresh(self):
        """Return the same rows, read from where they lie; for rows in memory, these."""
        return self

    def followed_by(self, other):
        """Join the rows of another half of the same layout and kind, copying both."""
        joined = copy.copy(self)
        joined.source = np.concatenate([self.source[self.rows], other.source[other.rows]])
        joined.rows = np.arange(len(joined.source))
        return joined

    def distinct(self):
        """Find rows that are the same.

        Returns
        -------
        first : ndarray of shape (k,), int
            The first row of each that differs from those before.
        inverse : ndarray of shape (n,), int
            Which of them each row is.
        """
        keys = np.empty(len(self), dtype=object)
        keys[:] = list(self.keys())
        inverse, _ = pd.factorize(keys)  # by first appearance
        return np.unique(inverse, return_index=True)[1], inverse

    def read(self, rows):
        """Return some rows (slice or int array): (b, *shape).

        uint8 of 0..255 (skeletons: 0 or 255), float32 of 0..1 (skeletons: 0 or 1) where pixels
        are floats, and any float32 for features.
        """
        return next(self.stream([rows]))

    def batches(self, batch_size):
        """Yield all rows in order, `batch_size` at a time."""
        starts = range(0, len(self), batch_size)
        return self.stream(slice(start, start + batch_size) for start in starts)


class ArrayHalf(Half):
    """Pixels or features in memory (or in a memory map): a view until a batch is read."""

    def stream(self, row_batches):
        """Yield `read(rows)` for each of the row selections."""
        for rows in row_batches:
            batch = np.asarray(self.source[self.rows[rows]])  # a copy, also of memory maps
            if self.layout == "features":
                yield batch.astype(np.float32, copy=False)
            elif self.kind == "image":
                yield resize_images(pictures.plain_pixels(batch), self.shape[1:], self.look.resize)
            else:
                ink = resize_ink(batch != 0, self.shape[1:], self.look.resize)
                yield pictures.plain_pixels(ink.astype(float) if batch.dtype.kind == "f" else ink)

    def reading(self):
        """Tell how a row becomes what `read` gives."""
        dtype = self.source.dtype
        kept = dtype.kind == "f" if self._is_ink() else dtype.str
        return *super().reading(), kept, self.source.shape[1:]

    def contents(self):
        """Yield the bytes of each row; ink is ink, whatever its number."""
        for row in self.rows:
            row = self.source[row] != 0 if self._is_ink() else self.source[row]
            yield np.ascontiguousarray(row).reshape(-1).view(np.uint8)

    def keys(self):
        """Yield what is the same for rows that are the same."""
        for content in self.contents():
            yield hashlib.blake2b(content, digest_size=16).digest()

    def _is_ink(self):
        return self.layout == "pixels" and self.kind == "skeleton"

    def check_files(self):
        """Return no paths: there are no files."""
        return []

    def names(self):
        """Return None: rows in memory have no names."""
        return None


class FileHalf(Half):
    """Files, decoded in threads when a batch is read; once, where `kept` keeps what they hold."""

    def __init__(self, source, layout, index, kept=None):
        super().__init__(source, layout, index)
        self.kept = kept

    def stream(self, row_batches):
        """Yield `read(rows)` for each of the row selections, decoding one selection ahead."""
        ahead = None
        for rows in row_batches:
            following = pictures.in_threads(self._decode, self.rows[rows])
            if ahead is not None:
                yield self._stack(ahead)
            ahead = following
        if ahead is not None:
            yield self._stack(ahead)

    def names(self):
        """Return the path of each row, a str."""
        return [os.fspath(path) for path in self.source[self.rows]]

    def keys(self):
        """Give what is the same for rows that are the same: their paths."""
        return self.names()

    def afresh(self):
        """Return the same rows, read from their files as these are now."""
        fresh = copy.copy(self)
        fresh.kept = None
        return fresh

    def check_files(self):
        """Raise where a file is missing or is no image; pixels are not decoded.

        Returns the paths of those that hold more pages than the first, which is read.
        """
        more = self.ask_files(lambda row: self._open(row, pictures.check_file))
        return self.take(more).names()

    def ask_files(self, question, verbose=0):
        """Ask `question(row)`, a bool, once for each different file: (n,) answers.

        With `verbose`, a progress bar counts the files, which the question decodes.
        """
        answers, files = self._ask_each(question, verbose)
        return np.array(answers, dtype=bool)[files]

    def contents(self):
        """Give a digest of the file of each row; each different file is read once."""
        digests, files = self._ask_each(self._content)
        return [digests[file] for file in files]

    def _ask_each(self, question, verbose=0):
        """Ask once for each different file: a list of answers, and which one each row has."""
        first, files = self.distinct()
        rows, answers = self.rows[first], []
        with progress_bar("decoding", self.kind, len(rows), verbose) as done:
            for start in range(0, len(rows), 1024):  # bounds what waits in the pool
                for answer in pictures.in_threads(question, rows[start : start + 1024]):
                    answers.append(answer)
                    done(1)
        return answers, files

    def _content(self, row):
        return self._open(row, lambda path: hashlib.sha256(as_file(path).read_bytes()).digest())

    def longer_sides(self):
        """Give the longer side of each different file, in pixels: a list of int."""
        return self._ask_each(lambda row: max(self._open(row, pictures.size_of_file)))[0]

    def has_colour(self, row):
        """Whether the channels of an image differ."""
        picture = self._look(row, (None, *self.shape[1:]))
        return bool(np.ptp(picture, axis=0).any())

    def is_blank(self, row):
        """Whether all pixels are 0: a skeleton has no ink."""
        return not self._decode(row).any()

    def _stack(self, decoded):
        decoded = list(decoded)
        return np.stack(decoded) if decoded else np.empty((0, *self.shape), np.uint8)

    def _decode(self, row):
        """Give what a file holds, in the shape of the half."""
        return np.broadcast_to(self._look(row, self.shape), self.shape)

    def _look(self, row, shape):
        """Give what a file holds, kept or decoded; an image of three channels may come as one."""
        if self.kept is None:
            return self._decode_file(row, shape)
        path = os.fspath(self.source[row])
        picture = self.kept.find(self.kind, path)
        if picture is None or (shape[0] == 1 and len(picture) == 3):
            picture = self._decode_file(row, shape)
            self.kept.keep(self.kind, path, picture)
        return picture

    def _decode_file(self, row, shape):
        decode = pictures.decode_image if self.kind == "image" else pictures.decode_skeleton
        return self._open(row, decode, shape, self.look)

    def _open(self, row, read, *how):
        path = self.source[row]
        where = f"Row {row}: the {self.kind} file {os.fspath(path)!r}"
        try:
            return read(path, *how)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where} does not exist.") from error
        except Exception as error:  # Pillow's decoders raise many kinds
            raise OSError(f"{where} cannot be read as an image: {error}") from error
