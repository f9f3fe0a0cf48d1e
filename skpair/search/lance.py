"""An index in a LanceDB database: on disk, searched with conditions on metadata.

LanceDB runs within the process, on a folder; there is no server.
"""

import json
import os
from datetime import timedelta
from numbers import Integral

import numpy as np

from ..checks import check_number
from .columns import Strings, is_text
from .stores import KINDS, Hits

#: Queries that LanceDB answers at once: each is a search of its own, side by side.
_QUERIES = 64
#: What LanceDB, or this module, calls its own columns, beside names that start with "_".
_RESERVED = ("vector", "query_index")


class LanceStore:
    """Rows of a `MatchIndex` in a folder, for more than memory holds, or conditions on metadata.

    Every change is on disk when the call returns, and the folder can be opened again with the same
    matcher: ``MatchIndex(matcher, LanceStore(folder))``. Searches are exact, until `build_index`
    makes them approximate. It needs the extra: ``pip install 'skpair[lancedb]'``.

    Processes may search beside one another. Only one should add: another one's ids are not seen
    while rows are on their way. Rows of both kinds that are removed by one call go kind by kind.

    Parameters
    ----------
    folder : str or path-like
        Where the database is; made where it does not exist. Its tables are `images` and
        `skeletons`, with the embeddings in a column `vector`, and can be read by anything that
        reads LanceDB.
    n_probes : int, default=60
        After `build_index`: how many of the groups of rows that are nearest to a query are looked
        at. More find more, and take longer.

    Raises
    ------
    ImportError
        If lancedb is not installed.
    OSError
        If the folder cannot be used.

    Examples
    --------
    >>> from skpair.search import LanceStore
    >>> index = MatchIndex(matcher, LanceStore("specimens"))  # doctest: +SKIP
    >>> index.search_images(skeletons, k=5, where="depth < 200 AND station = 'A'")  # doctest: +SKIP
    """

    def __init__(self, folder, *, n_probes=60):
        check_number("n_probes", n_probes, Integral, 1)
        try:
            import lancedb
        except ImportError as error:
            raise ImportError(
                "LanceStore needs lancedb, which is not installed: pip install 'skpair[lancedb]'."
            ) from error
        self.folder = os.fspath(folder)
        self.n_probes = n_probes
        if os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise NotADirectoryError(f"{self.folder!r} is not a folder.")
        # every call sees what others have written meanwhile
        self._database = lancedb.connect(self.folder, read_consistency_interval=timedelta(0))
        self._tables = {}
        for kind in KINDS:
            self._table(kind)

    def __repr__(self):
        """Spell the call that makes it."""
        return f"LanceStore({self.folder!r}, n_probes={self.n_probes})"

    @property
    def space(self):
        """Token of the training that all embeddings come from, or None."""
        for kind in KINDS:
            if self.count(kind):
                return json.loads(self._table(kind).schema.metadata[b"skpair"])["space"]
        return None

    def count(self, kind):
        """Count the rows of a kind."""
        table = self._table(kind)
        return 0 if table is None else table.count_rows()

    def types(self, kind):
        """Name the types of the columns, "id" first; empty where there are no rows."""
        if not self.count(kind):
            return {}
        types = {field.name: field.type for field in self._table(kind).schema}
        del types["vector"]
        return {
            name: "str" if str(dtype) == "string" else np.dtype(dtype.to_pandas_dtype()).name
            for name, dtype in types.items()
        }

    def known(self, kind, ids):
        """Give those of some ids that are there."""
        id_type = self._id_type(kind)
        ids = [id_ for id_ in ids if isinstance(id_, id_type) and _can_be_there(id_)]
        if not ids:
            return []
        found = self._table(kind).search().where(_among(ids)).select(["id"]).to_arrow()
        return found.column("id").to_pylist()

    def next_id(self, kind):
        """Give an integer beyond all ids of a kind, which are integers."""
        if not self.count(kind):
            return 0
        batches = self._table(kind).search().select(["id"]).to_batches()
        return 1 + max(int(batch.column(0).to_numpy().max()) for batch in batches if len(batch))

    def add(self, kind, embeddings, columns, space):
        """Add rows, with new ids."""
        import pyarrow as pa

        odd = [
            n for n in columns if n in _RESERVED or n.startswith("_") or not n or {*".`\0"} & {*n}
        ]
        if odd:
            raise ValueError(
                f"In a LanceStore, no metadata column can be called {', '.join(map(repr, odd))}: "
                f"{', '.join(map(repr, _RESERVED))} and what starts with '_' are taken, and "
                "'.', '`' and the character of the code 0 stand for something else."
            )
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(embeddings.reshape(-1)), embeddings.shape[1]
        )
        rows = {name: _as_arrow(column) for name, column in columns.items()}
        rows = pa.table(rows | {"vector": vectors})
        if self.count(kind):
            self._table(kind).add(rows)
        else:
            rows = rows.replace_schema_metadata({"skpair": json.dumps({"space": space})})
            self._tables[kind] = self._new_table(kind, rows)

    def remove(self, ids):
        """Remove rows by their ids, which are there: a list for each kind."""
        for kind, some in ids.items():
            self._table(kind).delete(_among(some))  # an empty table stays, for searches under way

    def search(self, kind, queries, k, where):
        """Find the `k` best rows for each query: Hits."""
        import pyarrow as pa

        if not self.count(kind):
            return Hits.none(queries)
        table = self._database.open_table(kind)
        table.checkout(table.version)  # as it is now, whatever is changed meanwhile
        parts = []
        for start in range(0, len(queries), _QUERIES):
            block = queries[start : start + _QUERIES]
            search = table.search(list(block)).distance_type("dot").limit(k)
            search = search.nprobes(self.n_probes)
            if where is not None:
                search = search.where(where, prefilter=True)
            try:
                found = search.to_arrow()
            except (RuntimeError, ValueError) as error:
                if where is None:
                    raise
                raise ValueError(f"where={where!r} cannot be asked: {error}") from error
            if "query_index" in found.column_names:
                query = found.column("query_index").to_numpy() + start
                found = found.drop_columns(["query_index"])
            else:
                query = np.full(len(found), start)
            parts.append((query, found))
        query = np.concatenate([query for query, _ in parts]).astype(np.int64)
        found = pa.concat_tables([found for _, found in parts])
        vectors = found.column("vector").combine_chunks().flatten().to_numpy()
        vectors = vectors.reshape(-1, queries.shape[1])
        score = np.einsum("hd,hd->h", queries[query], vectors)
        order = np.lexsort((-score, query))
        columns = found.drop_columns(["vector", "_distance"]).take(order).to_pandas()
        return Hits(query[order], score[order], vectors[order], dict(columns.items()))

    def build_index(self, n_partitions=None):
        """Make searches fast and approximate: group rows, and look at the nearest groups only.

        Rows that are added later are searched exactly, until this is called again.

        Parameters
        ----------
        n_partitions : int or None, default=None
            Number of groups; None takes the square root of the number of rows.

        Returns
        -------
        self : object
        """
        from lancedb.index import IvfFlat

        for kind in KINDS:
            if not self.count(kind):
                continue
            table = self._table(kind)
            table.optimize()
            n = n_partitions or max(1, round(self.count(kind) ** 0.5))
            table.create_index("vector", config=IvfFlat(distance_type="dot", num_partitions=n))
        return self

    def _new_table(self, kind, rows):
        """Make a table, or a new one in the place of an empty one."""
        if self._table(kind) is not None:
            return self._database.create_table(kind, data=rows, mode="overwrite")
        try:
            return self._database.create_table(kind, data=rows)
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise FileExistsError(
                f"Another process has just made the table {kind!r} in {self.folder!r}. Nothing was "
                "added; do it once more, but let only one process add at a time."
            ) from error

    def _table(self, kind):
        """Open a table, or give None: another process may have made it meanwhile."""
        if kind not in self._tables:
            if kind not in self._database.list_tables(limit=10_000).tables:
                return None
            try:
                table = self._database.open_table(kind)
            except ValueError as error:
                if "was not found" not in str(error):
                    raise
                return None  # another process is about to make it
            if b"skpair" not in (table.schema.metadata or {}):
                raise ValueError(f"The table {kind!r} in {self.folder!r} is not of skpair.")
            self._tables[kind] = table
        return self._tables[kind]

    def _id_type(self, kind):
        types = self.types(kind)
        return () if not types else str if types["id"] == "str" else int


def _among(ids):
    """Spell a condition that the id is one of some."""
    return f"id IN ({', '.join(map(_quoted, ids))})"


def _quoted(id_):
    if isinstance(id_, str):
        return "'" + id_.replace("'", "''") + "'"
    # a minus is an operation, on a number that must be an integer itself
    return str(id_) if id_ > -(2**63) else f"{id_ + 1} - 1"


def _can_be_there(id_):
    """Tell whether an id is one that a table can hold, and a condition ask for."""
    return is_text(id_) if isinstance(id_, str) else -(2**63) <= id_ < 2**63


def _as_arrow(column):
    import pyarrow as pa

    if isinstance(column, Strings):
        return pa.array(column.take(np.arange(len(column))), pa.string())
    return pa.array(column)
