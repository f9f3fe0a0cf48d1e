"""Known examples by case: what a new image or skeleton is compared with."""

import hashlib

import numpy as np
import torch
from scipy.special import expit

from .nearest import top_k

#: Most numbers that a block of similarities holds at once.
_BLOCK = 2**24


def similarity(images, skeletons, loss=None):
    """Compare every image with every skeleton.

    Parameters
    ----------
    images : ndarray of shape (n, d), float32
        Image embeddings.
    skeletons : ndarray of shape (m, d), float32
        Skeleton embeddings.
    loss : nn.Module or None
        A loss with `pair_logits` compares pairs itself; else the dot product does.

    Returns
    -------
    ndarray of shape (n, m), float32
    """
    if not hasattr(loss, "pair_logits"):
        return images @ skeletons.T
    step = max(1, _BLOCK // (skeletons.shape[1] * max(1, len(skeletons))))
    skeletons = torch.from_numpy(skeletons)
    with torch.inference_mode():
        blocks = [
            loss.pair_logits(block[:, None], skeletons[None]).numpy()
            for block in torch.from_numpy(images).split(step)
        ]
    return np.concatenate(blocks)


def nearest(images, skeletons, k, loss=None):
    """Find for each image the `k` most similar skeletons, by blocks of images.

    Returns
    -------
    scores : ndarray of shape (n, k), float32
        The highest first.
    indices : ndarray of shape (n, k), int
        Rows of `skeletons`; of equal scores the lower one first.
    """
    if not hasattr(loss, "pair_logits"):
        return top_k(images, skeletons, k)
    step = max(1, _BLOCK // max(1, len(skeletons)))
    k = min(k, len(skeletons))
    scores = np.empty((len(images), k), np.float32)
    indices = np.empty((len(images), k), np.int64)
    for start in range(0, len(images), step):
        block = slice(start, start + step)
        compared = torch.from_numpy(similarity(images[block], skeletons, loss))
        found, rows = compared.sort(dim=1, descending=True, stable=True)
        scores[block], indices[block] = found[:, :k], rows[:, :k]
    return scores, indices


def paired_similarity(images, skeletons, loss=None):
    """Compare image i with skeleton i: (n,) float32."""
    if not hasattr(loss, "pair_logits"):
        return np.einsum("nd,nd->n", images, skeletons)
    with torch.inference_mode():
        return loss.pair_logits(torch.from_numpy(images), torch.from_numpy(skeletons)).numpy()


def _as_ids(ids):
    """Turn ids into an array: of int if all are, else of objects, int and str."""
    values = np.empty(len(ids), dtype=object)
    values[:] = [id_.item() if isinstance(id_, np.generic) else id_ for id_ in ids]
    odd = [id_ for id_ in values if type(id_) not in (int, str)]
    if odd:
        raise ValueError(f"ids must be int or str, got {odd[0]!r}.")
    if all(type(id_) is int and abs(id_) < 2**63 for id_ in values):
        return values.astype(np.int64)  # which index the rows of `fit`
    return values


def unit(x):
    """Scale rows to length one; a zero row stays."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


class Gallery:
    """Embeddings of the known images and skeletons, by case; it does not change.

    Parameters
    ----------
    cases : ndarray of shape (n_cases,)
        The sorted labels of the cases.
    images, skeletons : ndarray of shape (n, d) and (m, d), float32
        Embeddings.
    image_cases, skeleton_cases : ndarray of shape (n,) and (m,), int
        Positions of their cases in `cases`.
    image_ids, skeleton_ids : sequence of int or str, of length n and m, or None
        What the user knows them by: paths of files, or the first rows in `fit` that hold them.
        None: their positions. They need not differ.
    token : str or None
        Tells the training that the embeddings come from, and stays when examples come or go. None
        makes it: a digest of the embeddings.
    """

    def __init__(
        self,
        cases,
        images,
        image_cases,
        skeletons,
        skeleton_cases,
        image_ids=None,
        skeleton_ids=None,
        token=None,
    ):
        self.cases = cases
        self.images = images
        self.image_cases = image_cases
        self.image_ids = _as_ids(range(len(images)) if image_ids is None else image_ids)
        self.skeletons = skeletons
        self.skeleton_cases = skeleton_cases
        self.skeleton_ids = _as_ids(range(len(skeletons)) if skeleton_ids is None else skeleton_ids)
        self._token = token
        self._means = {}  # found when first asked for: naming an image costs the same for any size

    def __repr__(self):
        """Count what is known."""
        n_new = self.is_new.sum()
        new = f", {n_new} of them new" if n_new else ""
        return (
            f"Gallery({self.n_cases} cases{new}, {len(self.images)} images, "
            f"{len(self.skeletons)} skeletons)"
        )

    @property
    def token(self):
        """Tells the training that the embeddings come from: str."""
        if self._token is None:
            digest = hashlib.sha256(np.ascontiguousarray(self.images))
            digest.update(np.ascontiguousarray(self.skeletons))
            self._token = digest.hexdigest()
        return self._token

    @property
    def n_cases(self):
        """Number of cases."""
        return len(self.cases)

    @property
    def counts(self):
        """Known images and skeletons of each case: (n_cases, 2) int."""
        kinds = (self.image_cases, self.skeleton_cases)
        return np.stack([np.bincount(c, minlength=self.n_cases) for c in kinds], axis=1)

    @property
    def is_new(self):
        """Which cases no image is known of, for they were added by skeletons: (n_cases,) bool."""
        return np.bincount(self.image_cases, minlength=self.n_cases) == 0

    def with_skeletons(self, skeletons, labels, ids=None):
        """Know more skeletons, of known or of new cases.

        Parameters
        ----------
        skeletons : ndarray of shape (k, d), float32
            Embeddings.
        labels : ndarray of shape (k,)
            Their cases, as `as_labels` gives them.
        ids : array-like of shape (k,) or None
            An int or a str for each. None: the integers after the highest.

        Returns
        -------
        Gallery
            The new skeletons come last.
        """
        if ids is None:
            taken = [id_ for id_ in self.skeleton_ids.tolist() if isinstance(id_, int)]
            first = 1 + max(taken, default=-1)
            ids = range(first, first + len(skeletons))
        ids = _as_ids(ids)
        if len(ids) != len(skeletons):
            raise ValueError(f"There are {len(ids)} ids, but {len(skeletons)} skeletons.")
        cases = np.unique(np.concatenate([self.cases, labels]))
        moved = np.searchsorted(cases, self.cases)
        return Gallery(
            cases,
            self.images,
            moved[self.image_cases],
            np.concatenate([self.skeletons, skeletons]),
            np.concatenate([moved[self.skeleton_cases], np.searchsorted(cases, labels)]),
            self.image_ids,
            [*self.skeleton_ids.tolist(), *ids.tolist()],
            self.token,
        )

    def without_cases(self, labels):
        """Forget cases, with all their images and skeletons.

        Parameters
        ----------
        labels : ndarray of shape (k,)
            Some of `cases`.

        Returns
        -------
        Gallery
        """
        keep = ~np.isin(self.cases, labels)
        moved = np.cumsum(keep) - 1
        images, skeletons = keep[self.image_cases], keep[self.skeleton_cases]
        return Gallery(
            self.cases[keep],
            self.images[images],
            moved[self.image_cases[images]],
            self.skeletons[skeletons],
            moved[self.skeleton_cases[skeletons]],
            self.image_ids[images],
            self.skeleton_ids[skeletons],
            self.token,
        )

    def _known(self, kinds):
        if kinds in ("images", "both"):
            yield self.images, self.image_cases
        if kinds in ("skeletons", "both"):
            yield self.skeletons, self.skeleton_cases

    def case_similarity(self, queries, *, kinds, aggregate, normalize):
        """Compare embeddings of either kind with the known examples of each case.

        Parameters
        ----------
        queries : ndarray of shape (n, d), float32
            Embeddings.
        kinds : {"images", "skeletons", "both"}
            Which known examples; "both" weighs the kinds that a case has equally.
        aggregate : {"mean", "max"}
            "mean": similarity to the mean known example; "max": to the most similar one.
        normalize : bool
            Scale the mean of each kind, and the mean of both, to length one, as befits the cosine.

        Returns
        -------
        ndarray of shape (n, n_cases), float32
        """
        if aggregate == "mean":
            if (kinds, normalize) not in self._means:
                self._check_known(kinds)
                scale = unit if normalize else np.asarray
                self._means[kinds, normalize] = self._mean_examples(kinds, scale)
            return queries @ self._means[kinds, normalize].T
        self._check_known(kinds)
        total = np.zeros((len(queries), self.n_cases), np.float32)
        n_kinds = np.zeros(self.n_cases, np.float32)
        for known, cases in self._known(kinds):
            for c in np.unique(cases):
                total[:, c] += _max_similarity(queries, known[cases == c])
                n_kinds[c] += 1
        return total / n_kinds

    def nearest_similarity(self, queries, kind="image", *, kinds, loss=None, own_rows=None):
        """Compare embeddings with the known example that each is most similar to.

        Parameters
        ----------
        queries : ndarray of shape (n, d), float32
            Embeddings.
        kind : {"image", "skeleton"}
            Of what.
        kinds : {"images", "skeletons", "both"}
            Which known examples.
        loss : nn.Module or None
            A loss with `pair_logits` compares them with the known examples of the other kind.
        own_rows : ndarray of shape (n,), int, or None
            The known example that each of `queries` is itself, if it is: it does not count.

        Returns
        -------
        ndarray of shape (n,), float32
            Similarities, or logits.
        """
        if hasattr(loss, "pair_logits"):
            return self._highest_logit(queries, kind, loss)
        highest = np.full(len(queries), -np.inf, np.float32)
        own_kind = self.images if kind == "image" else self.skeletons
        for known, _ in self._known(kinds):
            own = own_rows if known is own_kind else None
            np.maximum(highest, _max_similarity(queries, known, own), out=highest)
        return highest

    def _highest_logit(self, queries, kind, loss):
        """Compare with the nearest known example of the other kind by the loss itself: (n,)."""
        if kind == "image":
            return _max_similarity(queries, self.skeletons, loss=loss)
        step = max(1, _BLOCK // max(1, len(self.images)))
        blocks = np.split(queries, range(step, len(queries), step))
        return np.concatenate([similarity(self.images, part, loss).max(axis=0) for part in blocks])

    def _check_known(self, kinds):
        if kinds == "both":
            return
        unknown = self.cases[self.counts[:, int(kinds == "skeletons")] == 0]
        if len(unknown):
            raise ValueError(
                f"gallery={kinds!r} compares with known {kinds} only, but of these cases none is "
                f"known: {unknown.tolist()}. Take gallery='both'."
            )

    def _mean_examples(self, kinds, scale):
        """Average the known examples of each case, each kind first: (n_cases, d)."""
        total = np.zeros((self.n_cases, self.images.shape[1]), np.float32)
        n_kinds = np.zeros((self.n_cases, 1), np.float32)
        for known, cases in self._known(kinds):
            present = np.unique(cases)
            means = np.stack([known[cases == c].mean(axis=0) for c in present])
            total[present] += scale(means)
            n_kinds[present] += 1
        return scale(total / n_kinds)

    def case_probability(self, queries, loss, *, query_is_image):
        """Mean probability that a query forms a pair with the known examples of each case.

        For a `loss` that compares an image with a skeleton itself, through the other kind.
        """
        cases = self.skeleton_cases if query_is_image else self.image_cases
        members = [np.flatnonzero(cases == c) for c in range(self.n_cases)]
        means = np.empty((len(queries), self.n_cases), np.float32)
        step = max(1, _BLOCK // 4 // max(1, len(cases)))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            if query_is_image:
                logits = similarity(queries[block], self.skeletons, loss)
            else:
                logits = similarity(self.images, queries[block], loss).T
            p = expit(logits)
            for c, rows in enumerate(members):
                means[block, c] = p[:, rows].mean(axis=1)
        return means


def _max_similarity(queries, known, own_rows=None, loss=None):
    """Find the highest similarity to the known examples, but for the own row: (n,)."""
    step = max(1, _BLOCK // max(1, len(known)))
    highest = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        compared = similarity(queries[block], known, loss)
        if own_rows is not None:
            compared[np.arange(len(compared)), own_rows[block]] = -np.inf
        highest[block] = compared.max(axis=1)
    return highest
