"""A look into a matcher: which rows a person should look at, and where in a pair a score lies."""

import copy
import math
import warnings
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d
from torch import nn

from . import pairs, training
from .encoder import PairEncoder
from .gallery import as_labels
from .matcher import PairMatcher
from .metrics import last_step

#: Pixels that go through the networks at once, which bounds the memory for large pictures.
_PIXELS_AT_ONCE = 2**19

# ---- the review queue ----------------------------------------------------------------------------


def review(matcher, X, y=None, *, n_cases=3, cv=None, n_jobs=None):
    """Queue rows for a person to look at, the most doubtful first.

    With labels, wrong ones come first; without, images that lie between two cases.

    A matcher partly remembers the labels that it has learned from, the wrong ones too. To find
    errors in the very rows that you have, give `cv`: each row is then judged by a matcher that
    has learned from other rows.

    Parameters
    ----------
    matcher : PairMatcher, Pipeline or search
        One that ends in a PairMatcher. Fitted, unless `cv` is given; it is not changed.
    X : array-like or DataFrame
        Rows of pairs, of which only the image is judged; without `cv`, what `predict` takes.
    y : array-like of shape (n,) or None, default=None
        The label of each row, which may be missing (None or NaN).
    n_cases : int, default=3
        How many cases to list for each row, the most probable first; at most all there are.
    cv : int, splitter, iterable or None, default=None
        None: `matcher` judges as it is. Otherwise the folds: for each, a clone learns from the
        labelled rows of the others and judges those of the fold. An integer means stratified
        folds. Rows of one specimen belong into one fold: give
        ``list(StratifiedGroupKFold(5).split(X, y, specimens))``. Clones know nothing of what
        came after `fit`, such as added cases and calibrations.
    n_jobs : int or None, default=None
        Number of folds at a time, in processes.

    Returns
    -------
    DataFrame
        A row for each row of X, indexed by its position there (``row``), with the columns

        label
            As given in `y` (only with `y`, as the next two).
        label_error
            In 0..1, high where the label is likely wrong, and above 0.5 where another case is
            more probable: ``(1 + probability of the best other case - label_proba) / 2``, one
            minus the normalised margin of confident learning. NaN without a label.
        label_proba
            Probability of the label's case: 0 for a case that the matcher does not know.
        case_1, proba_1, case_2, proba_2, ...
            The most probable cases and their probabilities.
        margin
            ``proba_1 - proba_2``: low where two cases are alike.
        novelty
            `novelty_score` of the matcher: high where nothing known is like the image. Rows that
            it was fitted on are known themselves.

        Sorted by `label_error`, highest first, where there are labels, then by `margin`, lowest
        first. ``to_csv(path)`` writes it for a spreadsheet, ``pandas.read_csv(path,
        index_col="row")`` reads it again.

    Raises
    ------
    ValueError
        If labels are not of the kind of the cases, `cv` is given without `y`, or its test parts
        do not hold every row once.

    Warns
    -----
    UserWarning
        If, under `cv`, a case has one row only: who judges that row does not know its case.

    References
    ----------
    Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
    JAIR 70, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair import PairMatcher
    >>> from skpair.inspection import review
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["egg", "nauplius", "adult"], 20)
    >>> X = np.repeat(np.eye(3), 20, axis=0)[:, [0, 1, 2, 0, 1, 2]]
    >>> X += 0.1 * rng.normal(size=X.shape)
    >>> y[7] = "adult"
    >>> queue = review(PairMatcher(max_epochs=5, random_state=0), X, y, cv=3)
    >>> int(queue.index[0]), queue[["label", "case_1"]].iloc[0].tolist()
    (7, ['adult', 'egg'])
    """
    training.check_number("n_cases", n_cases, Integral, 1)
    if y is None:
        if cv is not None:
            raise ValueError("cv needs y: matchers are fitted on the labels of the other folds.")
        return _judge(matcher, X, None, n_cases).sort_values("margin", kind="stable")
    y = column_or_1d(y)
    check_consistent_length(X, y)
    if cv is None:
        table = _judge(matcher, X, y, n_cases)
    else:
        jobs = (
            delayed(_judge_fold)(clone(matcher), X, y, train, test, n_cases)
            for train, test in _folds(cv, X, y)
        )
        table = pd.concat(Parallel(n_jobs=n_jobs)(jobs)).sort_index()
    return table.sort_values(["label_error", "margin"], ascending=[False, True], kind="stable")


def _folds(cv, X, y):
    """Split rows: labelled ones to learn from, all to judge."""
    codes = pd.factorize(y)[0]  # rows without a label, -1, are spread over the folds as well
    counts = np.bincount(codes[codes >= 0])
    if (counts == 1).any():
        alone = y[np.isin(codes, np.flatnonzero(counts == 1))].tolist()
        warnings.warn(
            f"These cases have one row only: {alone}. It is judged by a matcher that does not "
            "know its case, so its label_proba is 0.",
            UserWarning,
            stacklevel=3,
        )
    with warnings.catch_warnings():
        # of a case with fewer rows than folds, each row is still judged by what knows the others
        warnings.filterwarnings("ignore", message="The least populated class")
        folds = list(check_cv(cv, codes, classifier=True).split(X, codes))
    times = np.bincount(np.concatenate([test for _, test in folds]), minlength=len(y))
    if not (times == 1).all():
        raise ValueError(
            "The test parts of cv must hold every row once, but they hold row "
            f"{np.argmax(times != 1)} {times[times != 1][0]} times. Give an integer, or a splitter "
            "such as StratifiedKFold."
        )
    return [(train[codes[train] >= 0], test) for train, test in folds]


def _judge_fold(estimator, X, y, train, test, n_cases):
    labels = y[train]
    if labels.dtype == object:  # what had gaps is of a plain type without them
        labels = pd.Series(labels).infer_objects().to_numpy()
    estimator.fit(_safe_indexing(X, train), labels)
    return _judge(estimator, _safe_indexing(X, test), y[test], n_cases).set_index(
        pd.Index(test, name="row")
    )


def _judge(estimator, X, y, n_cases):
    """Make the table, in the order of the rows."""
    matcher, X = last_step(estimator, X)
    if not isinstance(matcher, PairMatcher):
        raise TypeError(
            f"review asks for an estimator that ends in a PairMatcher, got {estimator}."
        )
    images = matcher._embed_images(X)  # once, for both questions
    proba = matcher._probabilities(matcher._case_scores(images, "image"), matcher.temperature_)
    table = pd.DataFrame(index=pd.RangeIndex(len(proba), name="row"))
    if y is not None:
        table["label"] = y
        table["label_error"], table["label_proba"] = _doubt_labels(proba, matcher.classes_, y)
    order = np.argsort(-proba, axis=1, kind="stable")
    best = np.take_along_axis(proba, order, axis=1)
    for place in range(min(n_cases, len(matcher.classes_))):
        table[f"case_{place + 1}"] = matcher.classes_[order[:, place]]
        table[f"proba_{place + 1}"] = best[:, place]
    table["margin"] = best[:, 0] - best[:, 1]
    table["novelty"] = matcher._novelty(images)
    return table


def _doubt_labels(proba, classes, y):
    """Give the error score and the probability of each label, NaN where there is none."""
    given = np.flatnonzero(pd.notna(y))
    codes = pd.Index(classes).get_indexer(as_labels(y[given], classes, "y"))
    known, codes = given[codes >= 0], codes[codes >= 0]
    of_label = np.full(len(y), np.nan)
    of_label[given] = 0
    of_label[known] = proba[known, codes]
    others = proba.copy()
    others[known, codes] = 0
    return (1 + others.max(axis=1) - of_label) / 2, of_label


# ---- where a score lies --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `explain` returns.

    Attributes
    ----------
    images : ndarray of shape (n, C, H, W), float32
        The images as the matcher reads them, in 0..1.
    skeletons : ndarray of shape (n, H, W), float32
        The skeletons, 1 is ink.
    image_maps, skeleton_maps : ndarray of shape (n, H, W), float32
        What each pixel adds to the score of its pair.
    scores : ndarray of shape (n,), float32
        The score of each pair.
    without_image, without_skeleton : ndarray of shape (n,), float32
        The score with an empty image in the place of the image, and with an empty drawing in the
        place of the skeleton. The map of each kind sums to what the score gains by it.
    """

    images: np.ndarray
    skeletons: np.ndarray
    image_maps: np.ndarray
    skeleton_maps: np.ndarray
    scores: np.ndarray
    without_image: np.ndarray
    without_skeleton: np.ndarray

    def __repr__(self):
        """Count the pairs."""
        height, width = self.skeletons.shape[1:]
        return f"Explanation({len(self.scores)} pairs of {height} x {width} pixels)"

    def plot(self):
        """Draw every pair with its maps, a row a pair. Needs matplotlib.

        Red speaks for the match and blue against it. Both maps of a pair share one scale, and
        are smoothed a little.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 0.3 + 1.9 * len(self.scores)), layout="constrained")
        axes = figure.subplots(len(self.scores), 4, squeeze=False)
        for row, four in enumerate(axes):
            self.draw(row, four)
        return figure

    def draw(self, row, axes):
        """Draw one pair into four axes of matplotlib: each kind, followed by its map.

        Parameters
        ----------
        row : int
            Which pair.
        axes : sequence of 4 matplotlib.axes.Axes
            Where to.
        """
        gains = self.scores[row] - [self.without_image[row], self.without_skeleton[row]]
        maps = [_smooth(kind[row]) for kind in (self.image_maps, self.skeleton_maps)]
        top = max(np.abs(maps).max(), 1e-12)
        axes[0].imshow(np.moveaxis(self.images[row], 0, -1), cmap="gray", vmin=0, vmax=1)
        axes[2].imshow(self.skeletons[row], cmap="gray_r", vmin=0, vmax=1)
        axes[0].set_title(f"score {self.scores[row]:.2f}", fontsize=9)
        for axis, kind, values, gain in zip(
            (axes[1], axes[3]), pairs.KINDS, maps, gains, strict=True
        ):
            axis.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top)
            axis.set_title(f"{gain:+.2f} by the {kind}", fontsize=9)
        for axis in axes:
            axis.set(xticks=[], yticks=[])


def _smooth(values):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(values, max(values.shape) / 64)


def explain(matcher, X, *rest, n_steps=50):
    """Show where in an image and a skeleton the score of the pair comes from.

    Integrated gradients: the image fades in from an empty one (in each channel the median of its
    border) beside the skeleton as it is, and what the score gains on the way is divided among the
    pixels that change; then the same for the skeleton, from an empty drawing. So only ink can
    speak in a drawing, and in an image what differs from its ground. Single pixels are noisy:
    look at regions.

    It takes captum: ``pip install 'skpair[explain]'``.

    Parameters
    ----------
    matcher : PairMatcher, Pipeline or search
        Fitted on pixels or files; a pipeline must consist of a PairEncoder and a PairMatcher. It
        is not changed.
    X : array-like or DataFrame
        Rows of pairs; or images, followed by as many skeletons, such as the known ones that
        `kneighbors` has found.
    *rest : array-like
        The skeletons, in the form ``explain(matcher, X_img, X_skel)``.
    n_steps : int, default=50
        Steps of the way. Time is in proportion; with more, the maps sum more closely to the
        score. Each row costs a pass through the networks, and one back, for every step.

    Returns
    -------
    Explanation
        Of `pair_score`: the cosine or dot product of both embeddings, or the logit of the loss
        "binary_cross_entropy". Computed in float32.

    Raises
    ------
    ImportError
        If captum is not installed.
    ValueError
        If the matcher was fitted on feature rows, which are no pictures.

    References
    ----------
    Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: why a map should depend on what
    was learned.

    Examples
    --------
    >>> from skpair import PairEncoder, PairMatcher
    >>> from skpair.datasets import load_digit_pairs
    >>> from skpair.inspection import explain
    >>> X, y = load_digit_pairs(image_size=16, return_X_y=True)
    >>> matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=1, random_state=0)
    >>> explanation = explain(matcher.fit(X[:200], y[:200]), X[:2])
    >>> explanation
    Explanation(2 pairs of 16 x 16 pixels)
    >>> explanation.image_maps.shape
    (2, 16, 16)
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ImportError(
            "explain needs captum, which is not installed: pip install 'skpair[explain]'."
        ) from error
    training.check_number("n_steps", n_steps, Integral, 1)
    encoder, matcher = _networks(matcher)
    halves = pairs.pair_halves(encoder, X, rest)
    device = training.resolve_device(matcher.device)
    at_once = max(1, min(encoder.batch_size, _PIXELS_AT_ONCE // math.prod(halves[0].shape[1:])))
    batches = [half.batches(max(1, at_once // n_steps)) for half in halves]
    parts = []
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has set
        score = _PairScore(encoder.towers_, matcher.layers_, matcher.loss_).to(device)
        fades = [IntegratedGradients(fade) for fade in (score.of_image, score.of_skeleton)]
        for batch in zip(*batches, strict=True):
            pair = [training.to_tensor(pictures, device) for pictures in batch]
            part = _explain_batch(score, fades, pair, n_steps, at_once)
            parts.append([tensor.detach().cpu().numpy() for tensor in part])
    return Explanation(*map(np.concatenate, zip(*parts, strict=True)))


def _explain_batch(score, fades, pair, n_steps, at_once):
    """Give the fields of an `Explanation` for some pairs."""
    empty = [_ground(pair[0]), torch.zeros_like(pair[1])]
    with torch.no_grad():
        embedded = [score.embed_image(pair[0]), score.embed_skeleton(pair[1])]
        scores = score(*embedded)
        without = [
            score.of_image(empty[0], embedded[1]),
            score.of_skeleton(empty[1], embedded[0]),
        ]
    maps = [
        fades[kind].attribute(
            pair[kind],
            empty[kind],
            additional_forward_args=embedded[1 - kind],
            n_steps=n_steps,
            internal_batch_size=at_once,
        )
        for kind in (0, 1)
    ]
    return pair[0], pair[1][:, 0], *(kind.sum(dim=1) for kind in maps), scores, *without


def _networks(estimator):
    """Find the fitted encoder and matcher that take a pair to its score."""
    if hasattr(estimator, "best_estimator_"):
        return _networks(estimator.best_estimator_)
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
    else:
        steps = [estimator]
    matcher = steps[-1]
    if not isinstance(matcher, PairMatcher):
        raise TypeError(f"explain asks for a PairMatcher, or a pipeline with one; got {estimator}.")
    check_is_fitted(matcher)
    encoders = steps[:-1] if matcher.encoder_ is None else [*steps[:-1], matcher.encoder_]
    if len(encoders) != 1 or not isinstance(encoders[0], PairEncoder):
        raise ValueError(
            "explain needs pictures, and a PairEncoder as the one step before the layers, to go "
            f"back to their pixels; got {estimator}. Fit a PairMatcher on pixels or files, or a "
            "pipeline of a PairEncoder and a PairMatcher."
        )
    if encoders[0].layout_.name == "features":
        raise ValueError(
            "explain needs pictures, but the matcher was fitted on feature rows, which have no "
            "pixels to point at. Fit it on pixels or files."
        )
    return encoders[0], matcher


class _PairScore(nn.Module):
    """From pictures to the score of each pair; a copy, so that the matcher stays as it is."""

    def __init__(self, encoders, layers, loss):
        super().__init__()
        encoders, layers, self.loss = copy.deepcopy((encoders, layers, loss))
        self.image = nn.Sequential(encoders.image, layers.image)
        self.skeleton = nn.Sequential(encoders.skeleton, layers.skeleton)
        self.eval().requires_grad_(False)

    def forward(self, image, skeleton):  # (b, embedding_dim) both
        """Compare embeddings: (b,)."""
        if hasattr(self.loss, "pair_logits"):
            return self.loss.pair_logits(image, skeleton)
        return (image * skeleton).sum(dim=1)

    def embed_image(self, image):  # (b, C, H, W)
        """Embed images: (b, embedding_dim)."""
        return self.image(image.clone())  # a network may work on what it is given in place

    def embed_skeleton(self, skeleton):  # (b, 1, H, W)
        """Embed skeletons: (b, embedding_dim)."""
        return self.skeleton(skeleton.clone())

    def of_image(self, image, skeleton):
        """Compare images with the embeddings of skeletons: (b,)."""
        return self(self.embed_image(image), skeleton)

    def of_skeleton(self, skeleton, image):
        """Compare skeletons with the embeddings of images: (b,)."""
        return self(image, self.embed_skeleton(skeleton))


def _ground(images):
    """Give images of the shade of their ground: in each channel the median of the border."""
    sides = images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]
    shade = torch.cat(sides, dim=-1).median(dim=-1).values  # (b, C)
    return shade[..., None, None].expand_as(images)
