"""How much to regularise the layers, by the encodings that they learn from."""

import numpy as np

#: Odds of dropping a column, from one tenth dropped to nine, a factor of 1.25 apart.
_ODDS = np.geomspace(1 / 9, 9, 21)
#: What does well on encodings that have learned the rows themselves, of which nothing can be asked.
_OF_LEARNED = 0.5
#: Share of the rows, in the mean over cases, that encodings name without themselves only if they
#: have learned them, or are so easy that it matters little.
_TOO_GOOD = 0.9
#: Rows that are looked at, at most: the time grows with the cube of rows or columns.
_ROWS = 4096


def choose_dropout(halves, codes):
    """Choose the dropout of the layers by a closed form, from the training rows alone.

    Dropping standardized columns with odds o is, for a linear layer under squared loss, ridge
    regression with a penalty of o times the number of rows. So the cases are told by ridge
    regression from the encodings of each kind, every row by the others (all rows and all odds by
    one eigendecomposition), and the odds are taken with which the rows come closest to the
    direction of their case: the cosine, averaged over cases and both kinds.

    Where nearly all rows of both kinds are told so, the encodings have most likely learned these
    very rows, and leaving one out leaves nothing out: then 0.5 is taken.

    Parameters
    ----------
    halves : list of Half
        Features of the images and of the skeletons: (n, p) and (m, q).
    codes : list of ndarray of int
        Codes of their cases.

    Returns
    -------
    float
        Between 0.1 and 0.9, a multiple of 0.05.

    References
    ----------
    Wager, Wang, Liang, "Dropout Training as Adaptive Regularization", NeurIPS 2013.
    """
    closeness, named = [], []
    for half, of_kind in zip(halves, codes, strict=True):
        rows = np.arange(len(half))
        if len(rows) > _ROWS:  # every case keeps its share
            rows = np.sort(np.argsort(of_kind, kind="stable")[:: -(-len(rows) // _ROWS)])
        of_rows = np.unique(of_kind[rows], return_inverse=True)[1]
        left_out = _leave_one_out(half.take(rows).read(slice(None)), of_rows)
        if left_out is None:
            return _OF_LEARNED
        closeness.append(left_out[0])
        named.append(left_out[1])
    best = int(np.argmax(np.sum(closeness, axis=0)))
    if min(kind[best] for kind in named) > _TOO_GOOD:
        return _OF_LEARNED
    odds = _ODDS[best]
    return float(np.round(odds / (1 + odds) * 20) / 20)


def _leave_one_out(features, codes):
    """Tell the case of each row by ridge regression on the others, for all odds.

    Returns the cosine with the direction of the case, and the share of rows that are named, both
    averaged over cases: (n_odds,) each. None where there is nothing to learn from.
    """
    counts = np.bincount(codes)
    weights = len(codes) / len(counts) / counts[codes]  # (n,): every case weighs the same
    x = features.astype(np.float64)
    x -= np.average(x, axis=0, weights=weights)
    scale = np.sqrt(np.average(x**2, axis=0, weights=weights))
    varies = scale > 1e-6 * scale.max()
    x = x[:, varies] / scale[varies]
    if len(counts) < 2 or not x.shape[1]:
        return None
    root = np.sqrt(weights)[:, None]
    target = np.eye(len(counts))[codes] - 1 / len(counts)  # (n, n_cases)
    eigenvalues, u = _left_singular(root * x)
    projected = u.T @ (root * target)  # (r, n_cases)
    closeness, named = [], []
    for odds in _ODDS:
        shrinkage = eigenvalues / (eigenvalues + len(codes) * odds)  # (r,)
        leverage = u**2 @ shrinkage + weights / len(codes)  # (n,), with that of the mean
        residual = root * target - u @ (shrinkage[:, None] * projected)
        told = target - residual / np.maximum(1 - leverage, 1e-6)[:, None] / root
        cosine = np.einsum("nc,nc->n", told, target) / np.maximum(
            np.linalg.norm(told, axis=1) * np.linalg.norm(target, axis=1), 1e-12
        )
        closeness.append(np.average(cosine, weights=weights))
        named.append(np.average(told.argmax(axis=1) == codes, weights=weights))
    return np.array(closeness), np.array(named)


def _left_singular(x):
    """Give the squared singular values of (n, p), and its left singular vectors: (r,), (n, r)."""
    n, p = x.shape
    if p >= n:
        values, u = np.linalg.eigh(x @ x.T)
        return np.maximum(values, 0), u
    values, v = np.linalg.eigh(x.T @ x)
    kept = values > 1e-9 * values[-1]
    return values[kept], x @ v[:, kept] / np.sqrt(values[kept])
