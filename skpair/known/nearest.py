"""Exact search: the rows of a gallery with the highest dot products, block by block."""

from numbers import Integral

import numpy as np
import torch

from ..checks import check_number

#: Rows of the gallery in a chunk: of most chunks, only the highest score is looked at.
_CHUNK = 32
#: Scores in a block: few enough for a processor's cache.
_SCORES = 2**21
#: Queries in a block, at most.
_QUERIES = 512
#: Results that are collected at once, of all queries of a block.
_RESULTS = 2**20
#: Numbers that are read at once, at most.
_NUMBERS = 2**22
#: Rows that a key can tell apart, see `_keys`.
_ROWS = 2**32
#: A block in which one of so many chunks, or more, may hold a result is looked at as a whole.
_OFTEN = 8
#: Lower than every key.
_LOWEST = torch.iinfo(torch.int64).min


def top_k(queries, gallery, k):
    """Find for each query the `k` rows of the gallery with the highest dot product.

    The search is exact. Beside what is given and what is returned it takes less than 256 MiB of
    memory for `k` up to a million, whatever the number of queries and rows; beyond, some 100 bytes
    for each of `k`.

    Parameters
    ----------
    queries : array-like of shape (n, d)
        Embeddings to search with; computed with as float32.
    gallery : array-like of shape (m, d)
        Embeddings to search in, at most 2**32 - 32 of them: an array, a memory map, or whatever has
        a shape and gives arrays when it is sliced. It is read block by block, and never copied as a
        whole.
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
    where it exceeds the lowest of the `k` scores that a query has so far are the 32 looked at. A
    score and its row become one integer, so that the `k` best are found by a partition, and are the
    same however the rows are divided into blocks.

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
    if m > _ROWS - _CHUNK:
        raise ValueError(f"gallery must have at most {_ROWS - _CHUNK} rows, got {m}.")
    k = min(int(k), m)
    scores, indices = np.empty((n, k), np.float32), np.empty((n, k), np.int64)
    step = max(1, min(_QUERIES, _RESULTS // max(1, k), _NUMBERS // max(1, d)))
    for start in range(0, n if k else 0, step):
        part = slice(start, start + step)
        with torch.inference_mode():
            scores[part], indices[part] = _search(_read(queries, part), gallery, k)
    return scores, indices


def _read(x, rows):
    """Read rows as a float32 tensor; torch wants them writable, so read-only ones are copied."""
    return torch.from_numpy(np.require(x[rows], np.float32, ["C", "W"]))


def _search(queries, gallery, k):
    """Find the best of one block of queries: scores and indices, (n, k)."""
    n, m = len(queries), gallery.shape[0]
    columns = queries.T.contiguous()  # (d, n)
    n_rows = max(1, _SCORES // n // _CHUNK) * _CHUNK
    block = torch.empty(min(n_rows, -(-m // _CHUNK) * _CHUNK), n)
    best = _Best(n, k)
    for start in range(0, m, n_rows):
        scores = _multiply(gallery, start, columns, block)  # (rows, n)
        chunks = scores.view(-1, _CHUNK, n)
        maxima = chunks.amax(1)  # (chunks, n)
        # what is not a number is no less than anything
        chunk, query = (maxima <= best.least).logical_not_().nonzero().unbind(1)  # (hits,) each
        if len(chunk) <= maxima.numel() // _OFTEN:
            found = chunks[chunk, :, query]  # (hits, _CHUNK)
            hit, row = (found <= best.least[query, None]).logical_not_().nonzero().unbind(1)
            best.collect(query[hit], found[hit, row], chunk[hit] * _CHUNK + row + start)
        elif k < len(maxima) // _OFTEN:
            best.merge(*_best_chunks(scores, maxima, k), start)
        else:
            hits = np.flatnonzero((scores <= best.least).logical_not_().numpy())
            if len(hits) <= scores.numel() // _OFTEN:
                row, query = map(torch.from_numpy, np.divmod(hits, n))
                best.collect(query, scores[row, query], row + start)
            else:
                best.merge(scores.T, torch.arange(len(scores)), start)
    return best.sorted()


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


def _best_chunks(scores, maxima, k):
    """Take the k chunks of the highest maxima, of equal ones the first: scores and rows.

    They hold the k best rows of the block. Both are (n, k * _CHUNK).
    """
    n_chunks, n = maxima.shape
    _check_numbers(maxima)
    chunks = _keys(maxima.T, torch.arange(n_chunks)).topk(k, sorted=False).values
    rows = (_row_of(chunks)[..., None] * _CHUNK + torch.arange(_CHUNK)).flatten(1)
    return scores[rows, torch.arange(n)[:, None]], rows


class _Best:
    """The k best rows of each query so far, and what was collected since, as keys."""

    def __init__(self, n, k):
        self.keys = torch.full((n, k), _LOWEST)  # in any order
        self.least = torch.full((n,), torch.nan)  # what a better score exceeds; at first, all do
        self._forget()

    def _forget(self):
        self.collected = []
        self.counts = np.zeros(len(self.keys), np.int64)  # of what is collected, by query

    def merge(self, scores, rows, start):
        """Take the best of a block, (n, candidates), whose rows count from `start`."""
        _check_numbers(scores)
        self._keep(_keys(scores, rows + start))

    def collect(self, query, scores, rows):
        """Keep rows, (hits,) each, to be taken among the best when a query has many."""
        _check_numbers(scores)
        self.collected.append((query, _keys(scores, rows)))
        self.counts += np.bincount(query, minlength=len(self.keys))
        if self.counts.max() >= self.keys.shape[1]:
            self._take_collected()

    def sorted(self):
        """Give scores and rows, (n, k), the best first."""
        self._take_collected()
        keys = self.keys.sort(dim=1, descending=True).values
        return _score_of(keys), _row_of(keys)

    def _take_collected(self):
        if not self.collected:
            return
        query, keys = (torch.cat(part).numpy() for part in zip(*self.collected, strict=True))
        order = np.argsort(query.astype(np.int16), kind="stable")  # by counting: fast
        starts = np.cumsum(self.counts) - self.counts
        table = np.full((len(self.keys), self.counts.max()), _LOWEST)
        table[query[order], np.arange(len(order)) - np.repeat(starts, self.counts)] = keys[order]
        self._forget()
        self._keep(torch.from_numpy(table))

    def _keep(self, keys):
        """Take the k highest keys, of those so far and of more: (n, more)."""
        k = self.keys.shape[1]
        keys = torch.cat([self.keys, keys], dim=1).numpy()
        keys.partition(keys.shape[1] - k, axis=1)
        self.keys = torch.from_numpy(keys[:, -k:].copy())
        lowest = self.keys[:, 0]
        self.least = torch.where(lowest == _LOWEST, torch.nan, _score_of(lowest))


def _keys(scores, rows):
    """Make one integer of a score and a row: higher for a higher score, then for a lower row."""
    keys = (scores + 0.0).view(torch.int32)  # -0.0 is 0.0
    keys ^= (keys >> 31) & 0x7FFFFFFF  # in the order of the scores
    keys = keys.long()
    keys <<= 32
    keys |= _ROWS - 1 - rows
    return keys


def _score_of(keys):
    """Undo `_keys`: float32."""
    ordered = (keys >> 32).int()
    return torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)


def _row_of(keys):
    """Undo `_keys`: int64."""
    return _ROWS - 1 - (keys & (_ROWS - 1))


def _check_numbers(scores):
    if scores.isnan().any():
        raise ValueError("A score is not a number: queries or gallery hold NaN or infinity.")
