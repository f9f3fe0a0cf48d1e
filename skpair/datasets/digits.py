"""Handwritten digits, paired with the thinned lines of other specimens."""

from numbers import Integral

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.utils import check_random_state, check_scalar

from .copepods import MIN_ROWS_PER_CASE
from .results import as_result, check_real

_DIGITS_DESCR = """\
Hand-written digits and the skeletons of other scans
----------------------------------------------------
Scans of hand-written digits, smoothly enlarged, dark ink on white. Each comes with the skeleton
(the thinned strokes) of another scan of the same digit. The scans are the 1797 test samples
of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998, UCI Machine
Learning Repository, doi 10.24432/C50P49, licence CC BY 4.0), 8 x 8 pixels, as bundled with
scikit-learn (`sklearn.datasets.load_digits`). Enlarging, inverting and thinning are changes made
here.
"""


def load_digit_pairs(*, image_size=32, imbalance=0.0, random_state=None, return_X_y=False):
    """Load scikit-learn's scans of digits, each with the skeleton of another scan of its class.

    Within the rows returned, the scan of every row lends its skeleton to exactly one other row.

    Parameters
    ----------
    image_size : int, default=32
        Height and width in pixels to which the scans of 8 x 8 are enlarged, 16 or more.
    imbalance : float, default=0.0
        Exponent of the power law by which classes are thinned out, 0 or more: digit d keeps the
        share ``(d + 1) ** -imbalance`` of its rows, but never fewer than two. 0 keeps all 1797.
    random_state : int, RandomState instance or None, default=None
        Makes the choice of rows and the pairing reproducible.
    return_X_y : bool, default=False
        If True, return ``(X, y)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        images : ndarray of shape (n, image_size, image_size), uint8
            Dark ink on white, 0 to 255.
        skeletons : ndarray of shape (n, image_size, image_size), uint8
            Connected thin lines, 1 is ink.
        y : ndarray of shape (n,), int64
            The digit of each row, an index into `case_names`.
        case_names : ndarray of shape (10,), str
            "0" to "9".
        DESCR : str
            Description, source and licence of the scans.

    (X, y) : tuple if ``return_X_y=True``
        X of shape (n, 2, image_size, image_size), uint8: channel 0 is the image, channel 1 the
        skeleton with ink at 255.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair.datasets import load_digit_pairs
    >>> data = load_digit_pairs(imbalance=1.0, random_state=0)
    >>> data.images.shape
    (525, 32, 32)
    >>> print(np.bincount(data.y))
    [178  91  59  46  36  30  26  22  19  18]
    """
    check_scalar(image_size, "image_size", Integral, min_val=16)
    check_real(imbalance, "imbalance")
    rng = check_random_state(random_state)
    scans, y = load_digits(return_X_y=True)
    available = np.bincount(y)
    share = np.arange(1, len(available) + 1) ** -float(imbalance)
    sizes = np.maximum(np.round(available * share).astype(int), MIN_ROWS_PER_CASE)
    members = [rng.permutation(np.flatnonzero(y == c))[:size] for c, size in enumerate(sizes)]
    lender = np.empty(len(y), dtype=int)
    for rows in members:
        lender[rows] = np.roll(rows, 1)
    rows = np.sort(np.concatenate(members))
    images, skeletons = _digit_pictures(scans[rows].reshape(-1, 8, 8) / 16, image_size)
    skeletons = skeletons[np.searchsorted(rows, lender[rows])]
    case_names = np.array([str(digit) for digit in range(len(available))])
    return as_result(images, skeletons, y[rows], case_names, _DIGITS_DESCR, return_X_y=return_X_y)


# Digits -----------------------------------------------------------------------------------------


def _digit_pictures(scans, image_size):
    """Return images and skeletons (n, size, size), uint8, of scans (n, 8, 8) in 0..1."""
    images = np.empty((len(scans), image_size, image_size), dtype=np.uint8)
    skeletons = np.empty_like(images)
    for start in range(0, len(scans), 256):  # in batches, for memory
        batch = slice(start, start + 256)
        ink = _enlarge(scans[batch], image_size)
        images[batch] = np.round(255 * (1 - ink))
        skeletons[batch] = _thin(_strokes(ink))
    return images, skeletons


def _enlarge(scans, image_size):
    """Return scans (n, 8, 8) with a margin, smoothly enlarged to (n, size, size), in 0..1."""
    padded = np.pad(scans, ((0, 0), (1, 1), (1, 1)))
    # A spline is linear in the pixels and separable: one matrix enlarges rows and columns.
    zoom = ndimage.zoom(
        np.eye(10), (image_size / 10, 1), order=3, mode="grid-constant", grid_mode=True
    )
    return (zoom @ padded @ zoom.T).clip(0, 1)


def _strokes(ink):
    """Return masks (n, H, W) of the pen strokes of each scan, in one piece."""
    width = ink.shape[-1] / 16  # sharpened at the width of the pen, small loops stay open
    ink = ink + 4 * (ink - ndimage.gaussian_filter(ink, (0, width, width)))
    neighbours = np.zeros((3, 3, 3), dtype=bool)
    neighbours[1] = True  # pieces touch within a scan, never across scans
    strokes = np.zeros(ink.shape, dtype=bool)
    undecided = np.ones(len(ink), dtype=bool)
    for threshold in (0.5, 0.4, 0.3, 0.2):  # a faint scan falls apart: lower until it holds
        labels, n_labels = ndimage.label(ink[undecided] > threshold, structure=neighbours)
        area = np.bincount(labels.ravel(), minlength=n_labels + 1)
        area[0] = 0
        largest = area[labels].max(axis=(1, 2))
        mask = labels > 0
        strokes[undecided] = mask & (area[labels] == largest[:, None, None])
        undecided[undecided] = largest < 0.95 * mask.sum(axis=(1, 2))
        if not undecided.any():
            break
    return strokes


def _thin(masks):
    """Thin masks (n, H, W) to lines, all at once (Zhang and Suen, 1984)."""
    thin = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    changed = True
    while changed:
        changed = False
        for corner in ((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6)):
            ring = _ring(thin)
            n_ink = ring.sum(axis=0)
            n_edges = (~ring & np.roll(ring, -1, axis=0)).sum(axis=0)
            drop = thin[:, 1:-1, 1:-1] & (n_ink >= 2) & (n_ink <= 6) & (n_edges == 1)
            for triple in corner:
                drop &= ~ring[list(triple)].all(axis=0)
            thin[:, 1:-1, 1:-1] &= ~drop
            changed = changed or drop.any()
    return thin[:, 1:-1, 1:-1]


def _ring(padded):
    """Return the 8 neighbours (8, n, H, W) of every pixel, clockwise from the one above."""
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    offsets = [(0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)]
    return np.stack([padded[:, r : r + height, c : c + width] for r, c in offsets])
