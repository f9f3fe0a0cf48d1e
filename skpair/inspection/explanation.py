"""Where in an image and a skeleton the score of their pair comes from."""

import copy
import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..checks import check_number
from ..encoder import PairEncoder
from ..learning import devices
from ..learning.batches import to_tensor
from ..matcher import PairMatcher
from ..rows import layouts, reading

#: Pixels that go through the networks at once, which bounds the memory for large pictures.
_PIXELS_EXPLAINED = 2**19


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
            (axes[1], axes[3]), layouts.KINDS, maps, gains, strict=True
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
    check_number("n_steps", n_steps, Integral, 1)
    encoder, matcher = _networks(matcher)
    halves = reading.pair_halves(encoder, X, rest)
    device = devices.resolve_device(matcher.device)
    at_once = max(1, min(encoder.batch_size, _PIXELS_EXPLAINED // math.prod(halves[0].shape[1:])))
    batches = [half.batches(max(1, at_once // n_steps)) for half in halves]
    parts = []
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has set
        score = _PairScore(encoder.towers_, matcher.layers_, matcher.loss_).to(device)
        fades = [IntegratedGradients(fade) for fade in (score.of_image, score.of_skeleton)]
        for batch in zip(*batches, strict=True):
            pair = [to_tensor(pictures, device) for pictures in batch]
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
