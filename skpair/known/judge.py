"""The judge: what is known after `fit`, and how it decides."""

from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np
import torch
from scipy.special import expit, softmax
from torch import nn

from ..checks import as_labels, check_choice
from ..learning.devices import resolve_device, resolve_precision
from ..learning.encoding import check_finite, encode
from . import new_cases
from .gallery import Gallery, nearest, paired_similarity, similarity, unit
from .thresholds import PairCounts

#: Pairs whose probabilities are held at once while they are counted.
_PAIRS_AT_ONCE = 2**22
#: Skeletons of a new case from which on they tell whether it is like another.
_ENOUGH = 5
#: Encodings whose distances are held at once.
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Judge:
    """Embed encodings, compare embeddings with what is known, and decide.

    It is made of a fitted matcher's attributes and parameters when it is asked for (`judge_`), and
    changes none of them. *Queries* are embeddings of images or of skeletons.

    Parameters
    ----------
    layers : nn.Module
        Both layers, `layers.image` and `layers.skeleton`.
    loss : nn.Module
        What they were trained by. One with `pair_logits` compares pairs itself.
    gallery : Gallery or None
        The known examples; without, there is nothing but to embed.
    kinds : {"both", "skeletons", "images"}
        Which of them name a query.
    aggregate : {"mean", "max"}
        Compare with the mean of a case's examples, or with the most similar one.
    batch_size, device, precision
        How the layers are computed, as a PairMatcher has them.
    temperature, pair_temperature : float
        Divide the scores in the probabilities of cases, and of pairs.
    threshold : float or None
        Probability from which on a pair is called the same.
    case_thresholds : ndarray of shape (n_cases,) or None
        The same for images named each case.
    novelty_threshold : float or None
        Novelty above which an image counts as unknown.
    familiar : dict of str to Familiar
        What the encodings of each kind tell of foreign pictures; none where nothing is known.
    offsets : ndarray of shape (n_cases,) or None
        What the prior adds to the logits of images, see `prior_offsets`; None adds nothing.
    raised : ndarray of shape (n_cases,) or None
        What is added to the logits of images for cases that were added, 0 for others.
    unknown_label : str, int, float or None
        What such images are named; None names them like others.
    """

    layers: nn.Module
    loss: nn.Module
    gallery: Gallery | None = None
    _: KW_ONLY
    kinds: str
    aggregate: str
    batch_size: int
    device: str
    precision: str
    temperature: float = 1.0
    pair_temperature: float = 1.0
    threshold: float | None = None
    case_thresholds: np.ndarray | None = None
    novelty_threshold: float | None = None
    familiar: dict = field(default_factory=dict)
    offsets: np.ndarray | None = None
    raised: np.ndarray | None = None
    unknown_label: object = None

    @property
    def cases(self):
        """The known cases: (n_cases,)."""
        return self.gallery.cases

    @property
    def compares_itself(self):
        """Whether the loss compares an image with a skeleton by more than their similarity."""
        return hasattr(self.loss, "pair_logits")

    @property
    def without_prior(self):
        """The same judge of pairs, which are as likely of a rare case."""
        return replace(self, offsets=None)

    def embed(self, half):
        """Send encodings (a `Half` of features) through the layer of their kind: (n, d) float32."""
        device = resolve_device(self.device)
        precision = resolve_precision(self.precision, device, half.layout)
        layer = getattr(self.layers, half.kind)
        embedded = encode(layer, half, self.batch_size, device, precision)
        # a dot product is no longer than both lengths multiplied
        square = np.einsum("nd,nd->n", embedded, embedded)
        if layer.normalize:  # what is too long for float32 was divided by an infinite length
            square = np.where(square == 0, np.inf, square)
        check_finite(square[:, None], half.kind, half.rows)
        return embedded

    def standardize(self, half):
        """Bring encodings (a `Half` of features) to what the layer of their kind learns from."""
        standardize = getattr(self.layers, half.kind).standardize
        with torch.inference_mode():
            return standardize(torch.from_numpy(half.read(slice(None)))).numpy()

    def foreign(self, half):
        """Say how far encodings are from all that is known, on the scale of novelty: (n,) float32.

        None where that is not known: of what was fitted by an earlier version.
        """
        familiar = self.familiar.get(half.kind)
        if familiar is None:
            return None
        blocks = range(0, len(half), _ROWS_AT_ONCE)
        rows = (half.take(slice(start, start + _ROWS_AT_ONCE)) for start in blocks)
        return familiar.novelty(
            np.concatenate([familiar.signs(self.standardize(part)) for part in rows])
        )

    # ---- cases -----------------------------------------------------------------------------------

    def score(self, queries, kind):
        """Compare queries, "image" or "skeleton", with each case: (n, n_cases) float32.

        Similarities; mean probabilities of a pair where the loss compares pairs itself.
        """
        check_comparison(self.kinds, self.aggregate, self.compares_itself)
        if self.compares_itself:
            return self.gallery.case_probability(queries, self.loss, query_is_image=kind == "image")
        return self.gallery.case_similarity(
            queries,
            kinds=self.kinds,
            aggregate=self.aggregate,
            normalize=self.layers.image.normalize,
        )

    def choose(self, queries, kind):
        """Choose the case of queries: (n,) positions in `cases`."""
        return self.logits(self.score(queries, kind), kind).argmax(axis=1)

    def name(self, queries, kind, foreign=None):
        """Name the case of queries: (n,) labels; skeletons are never unknown.

        `foreign`, (n,), is what their encodings say, where these are at hand.
        """
        names = self.cases[self.choose(queries, kind)]
        if self.unknown_label is None or kind == "skeleton":
            return names
        unknown = as_unknown_label(self.unknown_label, self.cases)
        return np.where(self.novelty(queries, foreign) > self.novelty_threshold, unknown, names)

    def logits(self, scores, kind="image"):
        """Turn the scores of cases, (n, n_cases), into what a softmax takes.

        Similarities, or logarithms of the probabilities of a pair; of images with the prior, and
        with what raises the cases that were added.
        """
        logits = np.log(np.maximum(scores, 1e-30)) if self.compares_itself else scores
        shift = self._shift if kind == "image" else None
        return logits if shift is None else logits + shift

    def decide(self, scores):
        """Shift the scores of images as their logits are: (n, n_cases)."""
        shift = self._shift
        if shift is None:
            return scores
        return scores * np.exp(shift) if self.compares_itself else scores + shift

    @property
    def _shift(self):
        """What is added to the logits of images: (n_cases,), or None."""
        if self.offsets is None or self.raised is None:
            return self.raised if self.offsets is None else self.offsets
        return self.offsets + self.raised

    def lead_of_known(self, images):
        """Say by how much the best case of `fit` is ahead of each that was added: (n, n_new)."""
        unraised = replace(self, raised=None)
        logits = unraised.logits(unraised.score(images, "image"))
        return new_cases.lead_of_known(logits, self.gallery.is_new)

    def proba(self, scores, temperature=None):
        """Turn the scores of images, (n, n_cases), into probabilities of the cases, float32."""
        temperature = self.temperature if temperature is None else temperature
        return _softmax(self.logits(scores) / temperature)

    def novelty(self, queries, foreign=None, *, kind="image", own_rows=None):
        """Say how far queries are from all that is known: (n,) float32.

        The larger of what embeddings and encodings (`foreign`, (n,)) say; of what is named a case
        that was added, no encodings are known, and it is what embeddings say. `own_rows` are the
        known examples that the queries are themselves, if they are: these do not count.
        """
        check_comparison(self.kinds, self.aggregate, self.compares_itself)
        highest = self.gallery.nearest_similarity(
            queries, kind, kinds=self.kinds, loss=self.loss, own_rows=own_rows
        )
        novelty = 1 - (expit(highest) if self.compares_itself else highest)
        joined = novelty if foreign is None else np.maximum(novelty, foreign)
        is_new = self.gallery.is_new
        if not is_new.any():
            return joined
        scores = self.score(queries, kind)
        explained = is_new[self.logits(scores, kind).argmax(axis=1)]
        if self.raised is not None and kind == "image":
            # on the scale of the others, an added case may explain what none of its drawings does
            raised = 1 - replace(self, offsets=None).decide(scores)[:, is_new].max(axis=1)
            novelty = np.minimum(novelty, raised)
            joined = novelty if foreign is None else np.maximum(novelty, foreign)
        return np.where(explained, novelty, joined)

    def double_of(self, skeletons):
        """Name the known case that most of these skeletons, of one case, can hardly be told from.

        They are nearer to the mean of its skeletons than to that of one another. None where they
        are not, where there are too few to tell, and of a loss that compares pairs itself.
        """
        if self.compares_itself or len(skeletons) < _ENOUGH:
            return None
        normalize = self.layers.image.normalize
        to_known = self.gallery.case_similarity(
            skeletons, kinds="skeletons", aggregate="mean", normalize=normalize
        )
        others = (skeletons.sum(axis=0) - skeletons) / (len(skeletons) - 1)
        others = unit(others) if normalize else others
        nearest = np.where(
            to_known.max(axis=1) >= (skeletons * others).sum(axis=1), to_known.argmax(axis=1), -1
        )
        case, count = np.unique(nearest, return_counts=True)
        case, count = case[count.argmax()], count.max()
        return self.cases[case] if case >= 0 and count > len(skeletons) / 2 else None

    # ---- pairs -----------------------------------------------------------------------------------

    def pair_score(self, images, skeletons):
        """Compare image i with skeleton i: (n,) float32."""
        return paired_similarity(images, skeletons, self.loss)

    def score_matrix(self, images, skeletons):
        """Compare every image with every skeleton: (n, m) float32."""
        return similarity(images, skeletons, self.loss)

    def nearest_skeletons(self, images, k):
        """Find the `k` known skeletons nearest to each image: scores and rows, (n, k)."""
        return nearest(images, self.gallery.skeletons, k, self.loss)

    def pair_proba(self, images, skeletons):
        """Give the probability that image i and skeleton i share a case: (n,) float32."""
        if self.compares_itself:
            return expit(self.pair_score(images, skeletons))
        return np.einsum("nc,nc->n", *self._case_proba(images, skeletons))

    def pair_proba_blocks(self, images, skeletons, step):
        """Yield the probabilities of `step` images at a time, with all skeletons: (step, m)."""
        if not self.compares_itself:
            images, skeletons = self._case_proba(images, skeletons)
        for start in range(0, len(images), step):
            block = images[start : start + step]
            if self.compares_itself:
                yield expit(self.score_matrix(block, skeletons))
            else:
                yield block @ skeletons.T

    def predict_pairs(self, images, skeletons):
        """Decide whether image i and skeleton i share a case: (n,) bool."""
        threshold = self.threshold
        if self.case_thresholds is not None:
            threshold = self.case_thresholds[self.choose(images, "image")]
        return self.pair_proba(images, skeletons) >= threshold

    def count_pairs(self, images, codes, skeletons, skeleton_codes):
        """Count all pairs of n images and m skeletons by their probability.

        `codes`, (n,), and `skeleton_codes`, (m,), tell their cases, known or not.
        """
        counts = PairCounts()
        step = max(1, _PAIRS_AT_ONCE // max(1, len(skeletons)))
        blocks = self.pair_proba_blocks(images, skeletons, step)
        for start, proba in zip(range(0, len(images), step), blocks, strict=True):
            same = codes[start : start + step, None] == skeleton_codes[None, :]
            counts.add(same, proba)
        return counts

    def _case_proba(self, images, skeletons):
        plain, temperature = self.without_prior, self.pair_temperature
        return (
            plain.proba(self.score(images, "image"), temperature),
            plain.proba(self.score(skeletons, "skeleton"), temperature),
        )


def _softmax(logits):
    # embeddings are float32: more digits would be noise
    return softmax(logits, axis=1).astype(np.float32)


def prior_offsets(prior, temperature):
    """Give what a prior adds to logits: None where it is flat, so that nothing changes.

    Parameters
    ----------
    prior : ndarray of shape (n_cases,)
        How frequent the cases are taken to be; sums to one.
    temperature : float
        That of `fit`: with it, a softmax of similarities over the temperature is multiplied by the
        prior. A later calibration tempers both, and so changes no name.

    Returns
    -------
    ndarray of shape (n_cases,), float32, or None
    """
    if np.abs(prior - prior[0]).max() <= 1e-9 * prior[0]:  # allclose takes longer than an image
        return None
    return (temperature * np.log(prior * len(prior))).astype(np.float32)


def check_comparison(kinds, aggregate, across_kinds_only):
    """Raise ValueError for what is no way to compare queries with the gallery.

    `kinds` and `aggregate` are the parameters `gallery` and `aggregate`, which may be set after
    `fit` as well; `across_kinds_only` tells whether the loss compares images with skeletons only.
    """
    check_choice("gallery", kinds, ("both", "skeletons", "images"))
    check_choice("aggregate", aggregate, ("mean", "max"))
    if across_kinds_only and kinds == "images":
        raise ValueError(
            "gallery='images' does not go with loss='binary_cross_entropy', which compares "
            "images with skeletons only; use gallery='skeletons' or 'both'."
        )


def temperature_of(loss, temperature):
    """Give the temperature that a training leaves: probabilities of pairs have none."""
    return 1.0 if hasattr(loss, "pair_logits") else float(temperature)


def as_unknown_label(label, cases):
    """Bring `unknown_label` to the kind of the cases; ValueError if it can be none, None stays."""
    if label is None:
        return None
    if np.ndim(label):
        raise ValueError(f"unknown_label must be one label or None, got {label!r}.")
    (known,) = as_labels([label], cases, "unknown_label")
    if known in cases:
        raise ValueError(f"unknown_label={label!r} is one of the cases; it must be another.")
    return known
