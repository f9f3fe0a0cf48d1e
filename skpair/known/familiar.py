"""What encodings tell of a picture that belongs to no case at all.

The layers learn to tell the cases apart, and to forget all else. So what is foreign is seen before
them, by its distance to the encodings of the known pictures.

References
----------
Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
Attacks", NeurIPS 2018.
"""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils.extmath import randomized_svd

#: Directions that are kept; all others share one variance.
_AXES = 64
#: Rows that the covariance is found from, at most.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Familiar:
    """Where the encodings of the known pictures of one kind lie: around the means of their cases.

    Encodings are standardized, as the layer of their kind standardizes them.

    Parameters
    ----------
    means : ndarray of shape (n_cases, p), float32
        Of the cases that `fit` has seen.
    axes : ndarray of shape (r, p), float32
        Orthonormal directions in which rows of a case differ most.
    variances : ndarray of shape (r + 1,), float32
        Within a case, along each of them; the last is that of every other direction.
    away : ndarray of shape (k, p), float32
        Directions that lead to pictures of no case (`background`): one, or none.
    scale : ndarray of shape (1 + k, 2), float64
        What a distance of 0, and a place of 0 along each direction, is as novelty, and by how much
        that rises with 1.
    """

    means: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    away: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, rows, codes, background=None):
        """Learn from rows (n, p), the codes of their cases, without gaps: (n,), and background."""
        counts = np.bincount(codes)
        means = np.zeros((len(counts), rows.shape[1]))
        np.add.at(means, codes, rows)
        means /= counts[:, None]
        kept = slice(None, None, -(-len(rows) // _ROWS))
        axes, variances = _spread(rows[kept] - means[codes[kept]], len(counts))
        away = np.zeros((0, rows.shape[1]))
        if background is not None:
            away = _direction(rows[kept], background[:_ROWS])
        parts = (np.ascontiguousarray(part, np.float32) for part in (means, axes, variances, away))
        return cls(*parts, scale=np.tile([0.0, 1.0], (1 + len(away), 1)))

    def signs(self, rows):
        """Tell what is foreign in rows (n, p) by two signs, the second of background: (n, 1 + k).

        The Mahalanobis distance to the nearest case, by column, and how far each goes away.
        """
        rows = np.asarray(rows, np.float64)
        means, axes = self.means.astype(float), self.axes.astype(float)
        *along, other = self.variances.astype(float)
        weights = 1 / np.array(along) - 1 / other
        # as squares and products, so that nothing is as large as rows times cases times columns
        square = _squares(rows, rows @ axes.T, weights, other)[:, None]
        square = square + _squares(means, means @ axes.T, weights, other)
        square -= 2 * (rows @ means.T / other + (rows @ axes.T * weights) @ (means @ axes.T).T)
        distance = np.sqrt(np.maximum(square.min(axis=1), 0) / rows.shape[1])
        return np.column_stack([distance, rows @ self.away.T])

    def novelty(self, signs):
        """Bring what `signs` gives to the scale of the novelty of embeddings: (n,) float32."""
        start, slope = self.scale.T
        return (start + slope * signs).max(axis=1).astype(np.float32)

    def on_scale_of(self, novelty, signs):
        """Bring signs to the scale of a novelty.

        Parameters
        ----------
        novelty : ndarray of shape (n,), float
            By embeddings, of pictures that were not learned.
        signs : ndarray of shape (n, 1 + k), float
            By encodings, of the same.

        Returns
        -------
        Familiar
            By which all have the same median, and exceed the same number in one picture of twenty.
        """
        (usual, most), (near, far) = (np.quantile(x, [0.5, 0.95], axis=0) for x in (novelty, signs))
        slope = (most - usual) / np.maximum(far - near, 1e-12)
        return replace(self, scale=np.column_stack([most - slope * far, slope]))


def _spread(within, n_cases):
    """Find the directions in which rows, less the mean of their case, differ, and by how much."""
    p = within.shape[1]
    if not within.any():  # every case is one picture
        return np.zeros((0, p)), np.ones(1)
    freedom = max(1, len(within) - n_cases)
    shrinkage = ledoit_wolf_shrinkage(within, assume_centered=True)
    n_axes = min(_AXES, *within.shape)
    _, lengths, axes = randomized_svd(
        within, n_axes, power_iteration_normalizer="QR", random_state=0
    )
    total = (within**2).sum() / freedom
    along = lengths**2 / freedom
    variances = np.append(along, max(0.0, total - along.sum()) / max(1, p - n_axes))
    variances = (1 - shrinkage) * variances + shrinkage * total / p
    return axes, np.maximum(variances, 1e-6 * variances.max())


def _direction(rows, background):
    """Find the direction that tells background from rows, by linear discriminant analysis."""
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
    is_background = np.repeat([False, True], [len(rows), len(background)])
    return analysis.fit(np.concatenate([rows, background]), is_background).coef_


def _squares(rows, along, weights, other):
    return (rows**2).sum(axis=1) / other + along**2 @ weights
