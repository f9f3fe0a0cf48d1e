"""Where an index keeps its rows: embeddings, ids and metadata, in memory or in a mapped file."""

from dataclasses import dataclass, field

import numpy as np

from ..known.nearest import top_k
from . import index_file
from .columns import Segment, Strings, as_series, merge, type_of

KINDS = ("images", "skeletons")


@dataclass(frozen=True)
class Hits:
    """What a search found: a row for each query and result, the best of a query first."""

    query: np.ndarray  # (h,) int64
    score: np.ndarray  # (h,) float32
    embeddings: np.ndarray  # (h, d) float32
    columns: dict  # by name, Series of h values; the first is "id"

    @classmethod
    def none(cls, queries):
        """Make what a search of no rows finds."""
        nothing = np.empty(0, np.int64)
        embeddings = np.empty((0, queries.shape[1]), np.float32)
        return cls(nothing, np.empty(0, np.float32), embeddings, {"id": as_series(nothing)})


@dataclass(frozen=True)
class _State:
    """All that a store holds at one moment."""

    space: str | None = None
    segments: dict = field(default_factory=lambda: dict.fromkeys(KINDS, ()))  # tuples, by kind


class MemoryStore:
    """Rows in memory, or in a file that is mapped into it; searches are exact.

    Rows are kept in segments that do not change, each more than twice as long as the next, so that
    adding moves a row a few times at most, and a search is not disturbed by it. A change is made
    aside, and takes place by one assignment: whenever it is interrupted, nothing is half done.
    """

    def __init__(self):
        self._state = _State()  # which does not change: another one takes its place

    @property
    def space(self):
        """Token of the training that all embeddings come from, or None."""
        return self._state.space

    @property
    def width(self):
        """Count the columns of the embeddings; None where there are no rows."""
        parts = [part for parts in self._state.segments.values() for part in parts]
        return parts[0].embeddings.shape[1] if parts else None

    def count(self, kind):
        """Count the rows of a kind."""
        return sum(map(len, self._state.segments[kind]))

    def types(self, kind):
        """Name the types of the columns, "id" first; empty where there are no rows."""
        segments = self._state.segments[kind]
        return {k: type_of(v) for k, v in segments[0].columns.items()} if segments else {}

    def known(self, kind, ids):
        """Give those of some ids that are there."""
        segments = self._state.segments[kind]
        return [id_ for id_ in ids if any(id_ in segment.known for segment in segments)]

    def next_id(self, kind):
        """Give an integer beyond all ids of a kind, which are integers."""
        highest = [segment.columns["id"].max() for segment in self._state.segments[kind]]
        return int(max(highest, default=-1)) + 1

    def add(self, kind, embeddings, columns, space):
        """Add rows, with new ids."""
        segments = [*self._state.segments[kind], Segment(embeddings, columns)]
        while len(segments) > 1 and len(segments[-2]) <= 2 * len(segments[-1]):
            segments[-2:] = [merge(segments[-2:])]
        self._state = _State(space, self._state.segments | {kind: tuple(segments)})

    def remove(self, ids):
        """Remove rows by their ids, which are there: a list for each kind."""
        segments = dict(self._state.segments)
        for kind, some in ids.items():
            left = [segment.without(set(some)) for segment in segments[kind]]
            segments[kind] = tuple(segment for segment in left if segment is not None)
        self._state = _State(self._state.space, segments)

    def search(self, kind, queries, k, where):
        """Find the `k` best rows for each query: Hits."""
        segments = self._state.segments[kind]  # which do not change
        if not segments:
            return Hits.none(queries)
        starts = np.cumsum([0] + [len(segment) for segment in segments])
        found = [top_k(queries, segment.embeddings, k) for segment in segments]
        scores = np.hstack([scores for scores, _ in found])
        rows = np.hstack([rows + start for (_, rows), start in zip(found, starts, strict=False)])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, best, axis=1)
        rows = np.take_along_axis(rows, best, axis=1).ravel()
        columns = {
            name: as_series(_gather(segments, starts, rows, lambda s, name=name: s.columns[name]))
            for name in segments[0].columns
        }
        return Hits(
            np.repeat(np.arange(len(queries)), scores.shape[1]),
            scores.ravel(),
            _gather(segments, starts, rows, lambda segment: segment.embeddings),
            columns,
        )

    def save(self, path):
        """Write all rows to a file."""
        state = self._state
        index_file.write(path, state.space, state.segments)

    @classmethod
    def load(cls, path):
        """Map a file."""
        store = cls()
        store._state = _State(*index_file.read(path, KINDS))
        return store


def _gather(segments, starts, rows, values_of):
    """Take rows, numbered through all segments, of what `values_of` gives of a segment."""
    place = np.searchsorted(starts, rows, side="right") - 1  # which segment
    gathered = None
    for number, segment in enumerate(segments):
        here = np.flatnonzero(place == number)
        column = values_of(segment)
        if isinstance(column, Strings):
            part = column.take(rows[here] - starts[number])
        else:
            part = column[rows[here] - starts[number]]
        if gathered is None:
            gathered = np.empty((len(rows), *part.shape[1:]), part.dtype)
        gathered[here] = part
    return gathered
