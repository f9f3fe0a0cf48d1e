"""Known examples by case: what a new image or skeleton is compared with."""

import numpy as np
import torch
from scipy.special import expit
from sklearn.metrics import roc_curve

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
        Rows of `skeletons`.
    """
    step = max(1, _BLOCK // max(1, len(skeletons)))
    blocks = [
        torch.from_numpy(similarity(images[i : i + step], skeletons, loss)).topk(k)
        for i in range(0, len(images), step)
    ]
    scores, indices = zip(*blocks, strict=True)
    return torch.cat(scores).numpy(), torch.cat(indices).numpy()


def paired_similarity(images, skeletons, loss=None):
    """Compare image i with skeleton i: (n,) float32."""
    if not hasattr(loss, "pair_logits"):
        return np.einsum("nd,nd->n", images, skeletons)
    with torch.inference_mode():
        return loss.pair_logits(torch.from_numpy(images), torch.from_numpy(skeletons)).numpy()


def unit(x):
    """Scale rows to length one; a zero row stays."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


class Gallery:
    """Embeddings of the known images and skeletons, by case; it does not change.

    Parameters
    ----------
    n_cases : int
        Number of cases.
    images, skeletons : ndarray of shape (n, d), float32
        Embeddings.
    image_cases, skeleton_cases : ndarray of shape (n,), int
        Codes of their cases.

    Attributes
    ----------
    counts : ndarray of shape (n_cases, 2), int
        Known images and skeletons of each case.
    """

    def __init__(self, n_cases, images, image_cases, skeletons, skeleton_cases):
        self.n_cases = n_cases
        self.images = images
        self.image_cases = image_cases
        self.skeletons = skeletons
        self.skeleton_cases = skeleton_cases
        self._means = {}  # found when first asked for: naming an image costs the same for any size

    def __repr__(self):
        """Count what is known."""
        return (
            f"Gallery({self.n_cases} cases, {len(self.images)} images, "
            f"{len(self.skeletons)} skeletons)"
        )

    @property
    def counts(self):
        """Known images and skeletons of each case: (n_cases, 2)."""
        kinds = (self.image_cases, self.skeleton_cases)
        return np.stack([np.bincount(c, minlength=self.n_cases) for c in kinds], axis=1)

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
                scale = unit if normalize else np.asarray
                self._means[kinds, normalize] = self._mean_examples(kinds, scale)
            return queries @ self._means[kinds, normalize].T
        total = np.zeros((len(queries), self.n_cases), np.float32)
        n_kinds = np.zeros(self.n_cases, np.float32)
        for known, cases in self._known(kinds):
            for c in np.unique(cases):
                total[:, c] += _max_similarity(queries, known[cases == c])
                n_kinds[c] += 1
        return total / n_kinds

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
        if query_is_image:
            logits, cases = similarity(queries, self.skeletons, loss), self.skeleton_cases
        else:
            logits, cases = similarity(self.images, queries, loss).T, self.image_cases
        p = expit(logits)
        return np.stack([p[:, cases == c].mean(axis=1) for c in range(self.n_cases)], axis=1)


def _max_similarity(queries, known):
    step = max(1, _BLOCK // max(1, len(known)))
    blocks = (queries[i : i + step] @ known.T for i in range(0, len(queries), step))
    return np.concatenate([block.max(axis=1) for block in blocks])


def best_threshold(same, score):
    """Threshold of the best balanced accuracy of "same case" by `score >= threshold`.

    Parameters
    ----------
    same : ndarray of shape (n,), bool
        Whether each pair shares a case; both kinds of pairs must be there.
    score : ndarray of shape (n,), float
        Score of each pair, higher for pairs that are more alike.

    Returns
    -------
    float
    """
    false_rate, true_rate, thresholds = roc_curve(same, score)
    best = 1 + np.argmax((true_rate - false_rate)[1:])  # the first threshold is infinite
    return float(thresholds[best])
