"""Exact search: the rows of a gallery with the highest dot products, block by block."""

from numbers import Integral

import numpy as np
import torch

from .training import check_number

#: Rows of the gallery in a chunk: of most chunks, only the highest score is looked at.
_CHUNK = 32
#: Scores in a block: few enough for a processor's cache.
_SCORES = 2**21
#: Queries in a block, at most.
_QUERIES = 512
#: Numbers that are read at once, at most.
_NUMBERS = 2**22


def top_k(queries, gallery, k):
    """Find for each query the `k` rows of the gallery with the highest dot product.

    The search is exact. Beside what is given and what is returned it takes less than 256 MB of
    memory, for any number of queries and rows, and `k` up to a million.

    Parameters
    ----------
    queries : array-like of shape (n, d)
        Embeddings to search with; computed with as float32.
    gallery : array-like of shape (m, d)
        Embeddings to search in: an array, a memory map, or whatever has a shape and gives arrays
        when it is sliced. It is read block by block, and never copied as a whole.
    k : int
        How many rows to find; of a gallery of fewer rows, all are given.

    Returns
    -------
    scores : ndarray of shape (n, min(k, m)), float32
        The highest first.
    indices : ndarray of shape (n, min(k, m)), int64
        Rows of `gallery`; of equal scores the lower one first.

    Raises
    ------
    ValueError
        If shapes do not go together, `k` is less than 1, or a score is not a number (NaN).

    Notes
    -----
    Of each block of scores, the maximum over every 32 rows of the gallery is taken first. Only
    where it exceeds the lowest of the `k` scores that a query has so far are the 32 looked at. What
    is found is collected, and sorted whenever there is as much of it as there are results.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair.search import top_k
    >>> top_k([[1.0, 0.0]], np.array([[0.5, 1.0], [2.0, 0.0], [1.0, 3.0]]), k=2)
    (array([[2., 1.]], dtype=float32), array([[1, 2]]))
    """
    check_number("k", k, Integral, 1)
    queries, gallery = (x if hasattr(x, "shape") else np.asarray(x) for x in (queries, gallery))
    shapes = tuple(queries.shape), tuple(gallery.shape)
    if [len(shape) for shape in shapes] != [2, 2] or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "queries and gallery must be of the shapes (n, d) and (m, d), got "
            f"{shapes[0]} and {shapes[1]}."
        )
    (n, d), m = shapes[0], shapes[1][0]
    k = min(int(k), m)
    scores, indices = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
    # the first block of the gallery gives k results
    least = -(-max(k, _SCORES // _QUERIES) // _CHUNK) * _CHUNK
    step = max(1, min(_QUERIES, _SCORES // least, _NUMBERS // max(1, d)))
    for start in range(0, n if k else 0, step):
        part = slice(start, start + step)
        with torch.inference_mode():
            scores[part], indices[part] = _search(_read(queries, part), gallery, k, least)
    return scores, indices


def _read(x, rows):
    """Read rows as a float32 tensor; torch wants them writable, so read-only ones are copied."""
    return torch.from_numpy(np.require(x[rows], np.float32, ["C", "W"]))


def _search(queries, gallery, k, least):
    """Find the best of one block of queries: scores and indices, (n, k)."""
    n, m = len(queries), gallery.shape[0]
    columns = queries.T.contiguous()  # (d, n)
    n_rows = max(least, _SCORES // n // _CHUNK * _CHUNK)
    block = torch.empty(min(n_rows, -(-m // _CHUNK) * _CHUNK), n)
    best = None
    for start in range(0, m, n_rows):
        scores = _multiply(gallery, start, columns, block)  # (rows, n)
        chunks = scores.view(-1, _CHUNK, n)
        maxima = chunks.amax(1)  # (chunks, n)
        if best is None:
            best = _Best(*_best_of_block(scores, maxima, k))
            continue
        # what is not a number is no less than anything
        chunk, query = (maxima <= best.least).logical_not_().nonzero().unbind(1)  # (hits,) each
        if len(chunk) > 4 * n * k:  # in a gallery that is sorted: collecting would not pay
            found, rows = _best_of_block(scores, maxima, k)
            query = torch.arange(n).repeat_interleave(found.shape[1])
            best.add(query, found.flatten(), rows.flatten() + start)
        else:
            found = chunks[chunk, :, query]  # (hits, _CHUNK)
            hit, row = (found <= best.least[query, None]).logical_not_().nonzero().unbind(1)
            best.add(query[hit], found[hit, row], chunk[hit] * _CHUNK + row + start)
    return best.sort()


def _multiply(gallery, start, columns, block):
    """Compare rows from `start` on with the queries, into `block`; chunks are filled up."""
    d, n = columns.shape
    stop = min(start + len(block), gallery.shape[0])
    at_once = max(1, _NUMBERS // max(1, d))
    for first in range(start, stop, at_once):
        last = min(first + at_once, stop)
        torch.mm(
            _read(gallery, slice(first, last)), columns, out=block[first - start : last - start]
        )
    n_whole = -(-(stop - start) // _CHUNK) * _CHUNK
    if n_whole > stop - start:
        block[stop - start : n_whole] = -torch.inf
    return block[:n_whole]


def _rows_of(chunks):
    """Give the rows of chunks: (..., _CHUNK)."""
    return chunks[..., None] * _CHUNK + torch.arange(_CHUNK)


def _best_of_block(scores, maxima, k):
    """Find the k best rows of a block, which lie in the k chunks of the highest maxima.

    Sorting is stable: of equal ones the lower row comes first. Gives scores and rows, (n, k).
    """
    chunks = maxima.T.sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
    rows = _rows_of(chunks).flatten(1)
    candidates = scores[rows, torch.arange(len(rows))[:, None]]
    found, order = candidates.sort(dim=1, descending=True, stable=True)
    return found[:, :k], rows.gather(1, order[:, :k])


class _Best:
    """The k best rows of each query so far, and what was found since."""

    def __init__(self, scores, rows):
        _check_numbers(scores)
        self.scores = scores  # (n, k)
        self.rows = rows
        self.least = scores[:, -1].contiguous()  # what a better score exceeds: (n,)
        self.found = []
        self.n_found = 0

    def add(self, query, scores, rows):
        """Collect rows of a later block."""
        _check_numbers(scores)
        self.found.append((query, scores, rows))
        self.n_found += len(scores)
        if self.n_found >= self.scores.numel():
            self.sort()

    def sort(self):
        """Take what was found among the best: scores and rows, (n, k)."""
        n, k = self.scores.shape
        query = torch.arange(n).repeat_interleave(k)
        parts = [(query, self.scores.flatten(), self.rows.flatten()), *self.found]
        query, scores, rows = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
        order = np.lexsort((rows, -scores, query))
        counts = np.bincount(query)
        best = order[(np.cumsum(counts) - counts)[:, None] + np.arange(k)]  # (n, k)
        self.scores, self.rows = torch.from_numpy(scores[best]), torch.from_numpy(rows[best])
        self.least = self.scores[:, -1].contiguous()
        self.found, self.n_found = [], 0
        return self.scores, self.rows


def _check_numbers(scores):
    if scores.isnan().any():
        raise ValueError("A score is not a number: queries or gallery hold NaN or infinity.")
