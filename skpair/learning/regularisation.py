"""How much to regularise the layers, by the encodings that they learn from."""

import numpy as np

#: Odds of dropping a column, from one tenth dropped to nine, a factor of 1.25 apart.
_ODDS = np.geomspace(1 / 9, 9, 21)
#: What does well on encodings that have learned the rows themselves, of which nothing can be asked.
OF_LEARNED = 0.5
#: Share of the rows, in the mean over cases, that encodings name without themselves only if they
#: have learned them, or are so easy that it matters little.
_TOO_GOOD = 0.9
#: Rows that are looked at, besides two of each case: the time grows with the cube of rows or
#: columns.
_ROWS = 4096


def choose_dropout(halves, codes):
    """Choose the dropout of the layers by a closed form, from the training rows alone.

    Dropping standardized columns with odds o is, for a linear layer under squared loss, ridge
    regression with a penalty of o times the number of rows. So the cases are told by ridge
    regression from the encodings of each kind, every row by the others (all rows and all odds by
    one eigendecomposition), and the odds are taken with which the rows come closest to the
    direction of their case: the cosine over all rows, of equal weight for every case, added up over
    both kinds. Cases with one row only, of which nothing can be told by others, have no part in it.

    Where nearly all rows of both kinds are told so, the encodings have most likely learned these
    very rows, and leaving one out leaves nothing out: then `OF_LEARNED` is taken.

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
    told = []
    for half, of_kind in zip(halves, codes, strict=True):
        rows = _sample(of_kind)
        of_rows = np.unique(of_kind[rows], return_inverse=True)[1]
        told.append(_leave_one_out(half.take(rows).read(slice(None)), of_rows))
    told = [kind for kind in told if kind is not None]
    if not told:
        return OF_LEARNED
    best = int(np.argmax(np.sum([closeness for closeness, _ in told], axis=0)))
    if min(named[best] for _, named in told) > _TOO_GOOD:
        return OF_LEARNED
    odds = _ODDS[best]
    return float(np.round(odds / (1 + odds) * 20) / 20)


def _sample(codes):
    """Take `_ROWS` rows, of each case its share, and of each two if it has two."""
    order = np.argsort(codes, kind="stable")
    if len(codes) <= _ROWS:
        return np.arange(len(codes))
    ordered = codes[order]
    first = np.searchsorted(ordered, np.unique(codes))
    second = np.minimum(first + 1, len(codes) - 1)
    spread = np.linspace(0, len(codes) - 1, _ROWS).astype(int)
    return np.sort(order[np.unique(np.concatenate([spread, first, second]))])


def _leave_one_out(features, codes):
    """Tell the case of each row by ridge regression on the others, for all odds.

    Returns the cosine of what is told with the directions of the cases, and the share of rows that
    are named, every case of equal weight: (n_odds,) each. None where nothing can be told.
    """
    counts = np.bincount(codes)
    repeat = counts[codes] > 1
    weights = len(codes) / len(counts) / counts[codes]  # (n,): every case weighs the same
    x = features.astype(np.float64)
    largest = np.abs(x).max(axis=0)
    x -= np.average(x, axis=0, weights=weights)
    scale = np.sqrt(np.average(x**2, axis=0, weights=weights))
    varies = scale > 1e-6 * largest
    x = x[:, varies] / scale[varies]
    if len(counts) < 2 or not x.shape[1] or not repeat.any():
        return None
    root = np.sqrt(weights)[:, None]
    target = np.eye(len(counts))[codes] - 1 / len(counts)  # (n, n_cases), of mean zero
    own = (weights / len(codes))[:, None]  # (n, 1), the share of a row in the mean
    eigenvalues, u = _left_singular(root * x)
    projected = u.T @ (root * target)  # (r, n_cases)
    asked = weights * repeat
    length = np.sqrt(np.average((target**2).sum(axis=1), weights=asked))
    closeness, named = [], []
    for odds in _ODDS:
        shrinkage = eigenvalues / (eigenvalues + len(codes) * odds)  # (r,)
        leverage = u**2 @ shrinkage + own[:, 0]  # (n,), with that of the mean
        residual = root * target - u @ (shrinkage[:, None] * projected)
        told = target - residual / np.maximum(1 - leverage, 1e-6)[:, None] / root
        told += own / (1 - own) * target  # beyond the mean of the others, which lacks the row
        inner = np.average((told * target).sum(axis=1), weights=asked)
        of_told = np.sqrt(np.average((told**2).sum(axis=1), weights=asked))
        closeness.append(inner / max(of_told * length, 1e-12))
        named.append(np.average(told.argmax(axis=1) == codes, weights=asked))
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
