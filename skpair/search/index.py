"""Search one kind with the other: images by skeletons, and skeletons by images."""

import os
import threading
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ..checks import check_choice, check_number
from .columns import as_before, as_id_list, as_ids, as_metadata, as_series, shown
from .stores import KINDS, MemoryStore

# one for all: indexes can be pickled, and writing waits for nothing slow
_WRITING = threading.RLock()


class MatchIndex:
    """An index of images and skeletons, each searched with the other kind.

    Both kinds are embedded by a fitted matcher once, when they are added. The score of an image
    and a skeleton is that of `PairMatcher.pair_score`.

    An index keeps embeddings, and no encodings: what it finds is called unknown by the first alone.

    Searches may run in several threads, beside one another and beside changes: each sees the index
    as it was at one moment. A change that is interrupted, by Ctrl-C too, has taken place as a whole
    or not at all; a `LanceStore` removes rows of both kinds one kind after the other.

    Parameters
    ----------
    matcher : PairMatcher
        Fitted. It is not copied: when it has learned anew, the index no longer fits, and says so.
        (Not noticed are networks that you change by hand after `fit`, and another network of your
        own given to `load` in the place of that which was fitted.)
    store : LanceStore or None, default=None
        Where to keep the rows. None keeps them in memory (or mapped from the file of `load`) and
        searches exactly; :class:`skpair.search.LanceStore` is a database on disk.

    Attributes
    ----------
    matcher : PairMatcher
        As given.
    store : LanceStore or MemoryStore
        As given, or made.

    Raises
    ------
    TypeError
        If it is no PairMatcher, or the store is none.
    NotFittedError
        If the matcher is not fitted.
    ValueError
        If its loss compares pairs itself ("binary_cross_entropy"): there is no similarity of two
        embeddings to search by. Or if the store was filled by another matcher.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair import PairMatcher
    >>> from skpair.search import MatchIndex
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=60)
    >>> X = rng.normal(size=(60, 8)) + 3 * np.eye(8)[y] + 3 * np.eye(8)[y + 4]
    >>> matcher = PairMatcher(random_state=0).fit(X, y)
    >>> index = MatchIndex(matcher).add_images(X, metadata={"station": y + 100})
    >>> index
    MatchIndex(60 images, 0 skeletons)
    >>> found = index.search_images(X[:2], k=3)  # with the skeletons of two rows
    >>> found.columns.tolist()
    ['query', 'rank', 'id', 'score', 'case', 'station']
    >>> found["rank"].tolist()
    [1, 2, 3, 1, 2, 3]
    """

    def __init__(self, matcher, store=None):
        if not hasattr(matcher, "embed_skeletons"):
            raise TypeError(
                f"matcher must be a PairMatcher, got {matcher!r}. Of a pipeline, give the last "
                "step, and rows that the steps before it have transformed."
            )
        if store is not None and (isinstance(store, type) or not hasattr(store, "next_id")):
            raise TypeError(
                f"store must be a LanceStore or None, got {store!r}. The file of an index is "
                "opened by MatchIndex.load(path, matcher)."
            )
        check_is_fitted(matcher)
        if hasattr(matcher.loss_, "pair_logits"):
            raise ValueError(
                f"The matcher's loss, {matcher.loss!r}, compares each image with each skeleton by "
                "a network: there is no similarity of embeddings to search by. Fit it with another "
                "loss, such as 'n_pair', or use similarity_matrix."
            )
        self.matcher = matcher
        self.store = MemoryStore() if store is None else store
        self._check_space()

    def __len__(self):
        """Count the rows of both kinds."""
        return sum(map(self.store.count, KINDS))

    def __repr__(self):
        """Count what is there."""
        counts = ", ".join(f"{self.store.count(kind)} {kind}" for kind in KINDS)
        return f"MatchIndex({counts})"

    def add_images(self, X_img, ids=None, metadata=None):
        """Add images.

        Parameters
        ----------
        X_img : array-like or DataFrame
            n images alone, or rows of pairs, of which only the image is looked at.
        ids : array-like of shape (n,) or None, default=None
            An int or a str for each, all of one kind, and none that is there already. Images and
            skeletons have ids of their own. None continues with the integer after the highest.
        metadata : DataFrame, dict of columns or None, default=None
            What else to tell of each hit, a row for each image; the index of a DataFrame says
            nothing. Numbers, booleans, strings and dates, with the same columns in every call. A
            column `case` takes the place of the case that the matcher names.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If ids are there already or twice, metadata do not go together with the images or with
            those before, an embedding is not finite, or the matcher has learned anew since rows
            were added. The index is then as it was.
        """
        return self._add("images", self.matcher.transform, X_img, ids, metadata)

    def add_skeletons(self, X_skel, ids=None, metadata=None):
        """Add skeletons.

        Parameters
        ----------
        X_skel : array-like or DataFrame
            n skeletons alone, or rows of pairs, of which only the skeleton is looked at.
        ids : array-like of shape (n,) or None, default=None
            As in `add_images`.
        metadata : DataFrame, dict of columns or None, default=None
            As in `add_images`.

        Returns
        -------
        self : object
        """
        return self._add("skeletons", self.matcher.embed_skeletons, X_skel, ids, metadata)

    def search_images(self, X_skel, k=10, *, where=None):
        """Find the images that fit each skeleton best.

        Parameters
        ----------
        X_skel : array-like or DataFrame
            n skeletons alone, or rows of pairs, of which only the skeleton is looked at.
        k : int, default=10
            How many images for each; if there are fewer, all of them.
        where : str or None, default=None
            With a `LanceStore`: a condition on metadata, in SQL, that hits fulfil.

        Returns
        -------
        DataFrame
            A row for each hit; none if there are no images. The columns are `query`, the position
            in `X_skel`; `rank`, 1 for the best; `id`; `score`, higher for those that fit better;
            `case`; and the metadata.

            `case` is what the metadata say. If they have no column of that name, it is the case
            that the matcher names now: for images what `predict` says, for skeletons the most
            likely of the known cases.
        """
        return self._search("images", self.matcher.embed_skeletons, X_skel, k, where)

    def search_skeletons(self, X_img, k=10, *, where=None):
        """Find the skeletons that fit each image best.

        Parameters
        ----------
        X_img : array-like or DataFrame
            n images alone, or rows of pairs, of which only the image is looked at.
        k : int, default=10
            How many skeletons for each; if there are fewer, all of them.
        where : str or None, default=None
            As in `search_images`.

        Returns
        -------
        DataFrame
            As that of `search_images`.
        """
        return self._search("skeletons", self.matcher.transform, X_img, k, where)

    def remove(self, ids, *, kind=None):
        """Remove rows.

        Parameters
        ----------
        ids : int, str, or array-like of shape (n,)
            Which.
        kind : {"images", "skeletons"} or None, default=None
            Of which kind. None: of the one that has the id.

        Returns
        -------
        self : object

        Raises
        ------
        KeyError
            If an id is not there; then nothing is removed.
        ValueError
            If `kind` is None and both kinds have an id.
        """
        ids = as_id_list([ids] if isinstance(ids, str | Integral) else ids)
        if kind is not None:
            check_choice("kind", kind, KINDS)
        kinds = KINDS if kind is None else (kind,)
        with _WRITING:
            found = {kind: self.store.known(kind, ids) for kind in kinds}
            unknown = set(ids).difference(*found.values())
            if unknown:
                where = "the index" if kind is None else f"the {kind} of the index"
                raise KeyError(f"These ids are not in {where}: {shown(unknown)}")
            twice = set.intersection(*map(set, found.values())) if kind is None else ()
            if twice:
                raise ValueError(
                    f"Both an image and a skeleton have these ids: {shown(twice)}. Say which to "
                    "remove: kind='images' or kind='skeletons'."
                )
            self.store.remove({kind: some for kind, some in found.items() if some})
        return self

    def save(self, path):
        """Write the index to one file; the matcher is not part of it.

        Parameters
        ----------
        path : str or path-like
            Where to. A file that is there is replaced when the new one is whole; it may be the one
            that this index was loaded from.

        Raises
        ------
        OSError
            If that is not possible.
        ValueError
            If the index is kept in a database: that is on disk already.
        """
        if not isinstance(self.store, MemoryStore):
            raise ValueError(f"The index is on disk already, in {self.store!r}.")
        self.store.save(path)

    @classmethod
    def load(cls, path, matcher):
        """Open the file of an index.

        Ids and metadata are read once, to check them against a checksum. Embeddings are mapped, and
        read when a search needs them: they are not checked, and what is searched need not fit into
        memory. Adding copies a part into memory when it has grown to half of it. Nothing in the
        file is run.

        Parameters
        ----------
        path : str or path-like
            What `save` wrote.
        matcher : PairMatcher
            The matcher that embedded the rows, fitted (or loaded).

        Returns
        -------
        MatchIndex

        Raises
        ------
        OSError
            If the file is missing or cannot be read.
        ValueError
            If it is truncated, damaged or not of an index, or the matcher is another one.
        """
        index = cls(matcher)
        index.store = store = MemoryStore.load(path)
        try:
            index._check_space()
            width = matcher.gallery_.images.shape[1]
            if store.width not in (None, width):
                raise ValueError(f"Its embeddings have {store.width} columns, not {width}.")
        except ValueError as error:
            raise ValueError(f"The index in {os.fspath(path)!r} cannot be used: {error}") from error
        return index

    # ---- steps -----------------------------------------------------------------------------------

    def _add(self, kind, embed, X, ids, metadata):
        ids = None if ids is None else as_ids(ids)
        columns = as_metadata(metadata)
        self._check_space()
        embeddings = np.ascontiguousarray(np.asarray(embed(X), np.float32))
        for name, column in [("ids", ids), *columns.items()]:
            if column is not None and len(column) != len(embeddings):
                what = name if name == "ids" else f"The metadata column {name!r}"
                raise ValueError(
                    f"{what} has {len(column)} values, but there are {len(embeddings)} {kind}."
                )
        rows = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(rows):
            raise ValueError(f"The embeddings of these {kind} are not finite: rows {shown(rows)}.")
        with _WRITING:
            space = self._check_space()
            types = self.store.types(kind)
            if ids is None:
                ids = self._next_ids(kind, types, len(embeddings))
            columns = as_before(kind, types, {"id": ids, **columns})
            known = self.store.known(kind, ids.take(np.arange(len(ids))).tolist())
            if known:
                raise ValueError(f"These ids of {kind} are in the index already: {shown(known)}.")
            if len(embeddings):
                self.store.add(kind, embeddings, columns, space)
        return self

    def _next_ids(self, kind, types, n):
        if types.get("id") == "str":
            raise ValueError(f"The ids of the {kind} are strings, so new ones need ids=..., too.")
        first = self.store.next_id(kind)
        if first + n > 2**63:
            raise ValueError(
                f"The highest id of the {kind} is {first - 1}: no {n} integers beyond it fit into "
                "64 bits, so new ones need ids=..."
            )
        return np.arange(first, first + n, dtype=np.int64)

    def _search(self, kind, embed, X, k, where):
        check_number("k", k, Integral, 1)
        if where is not None and isinstance(self.store, MemoryStore):
            raise ValueError(
                f"where={where!r} needs a database, MatchIndex(matcher, LanceStore(folder)) with "
                "skpair.search.LanceStore; here, select rows of the result."
            )
        self._check_space()
        queries = np.asarray(embed(X), np.float32)
        named = self.matcher.classes_[:0]
        hits = self.store.search(kind, queries, k, where)
        columns = dict(hits.columns)
        start = np.searchsorted(hits.query, hits.query)  # the first hit of the same query
        parts = {
            "query": hits.query,
            "rank": np.arange(len(start)) - start + 1,
            "id": columns.pop("id"),
            "score": hits.score,
        }
        if "case" not in columns:
            if len(start):
                named = self.matcher.judge_.name(hits.embeddings, kind.removesuffix("s"))
            parts["case"] = as_series(named) if named.dtype == object else named
        else:
            parts["case"] = columns.pop("case")
        return pd.DataFrame(parts | columns)

    def _check_space(self):
        """Give the token of the matcher's training; ValueError if the rows come from another."""
        space = self.matcher.gallery_.token
        if len(self) and space != self.store.space:
            raise ValueError(
                "The matcher is not as it was when rows were added: it has learned anew, or is "
                "another one (or an earlier version of skpair has added them), so their "
                "embeddings cannot be compared with new ones. Give the matcher that made them, or "
                "make a new MatchIndex."
            )
        return space
