"""Synthetic copepods: photographs and drawings of a body plan each."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state, check_scalar

from .drawing import EGG_SACS, TRAITS, draw_photographs, draw_sketches
from .results import as_result, check_real

MIN_ROWS_PER_CASE = 2  # fewer cannot be split into a training and a test row

MAX_CASES = len(EGG_SACS) * 2 ** len(TRAITS)

SPREAD = 1.4  # standard deviation of a binary trait at ambiguity 1; its levels lie 2 apart

_COPEPODS_DESCR = """\
Drawn copepods and hand-like skeletons
--------------------------------------
Synthetic grey photographs of copepods (planktonic crustaceans), each with a binary skeleton that
was drawn, as if by hand, from *another* specimen of the same case. A case is a combination of
five traits that a taxonomist would name: breadth of the prosome (slender, broad), urosome
(straight, bent), length of the antennules (long, short), their posture (spread, swept back) and
egg sacs (none, one, two). Orientation, size, curvature, swimming legs, focus, illumination,
transparency, noise and debris vary from photograph to photograph and tell nothing of the case.
Nothing here is derived from any real image.
"""


def make_copepods(
    n_samples=1969,
    *,
    n_cases=8,
    imbalance=1.5,
    ambiguity=0.5,
    image_size=64,
    skeletons_per_case=None,
    random_state=None,
    return_X_y=False,
):
    """Draw photographs of copepods and, apart from them, skeletons of the same cases.

    A case combines five traits: breadth of the prosome, bend of the urosome, length and posture
    of the antennules, number of egg sacs. The image and the skeleton of a row show two different
    specimens of one case. Case 0 is the most frequent, the last case the rarest.

    Parameters
    ----------
    n_samples : int, default=1969
        Number of rows, at least two per case.
    n_cases : int, default=8
        Number of cases, from 2 to 48. Up to 8 cases, any two differ in at least two traits.
    imbalance : float, default=1.5
        Exponent of the power law of case frequencies, 0 or more: beyond two rows for each, the
        r-th case is in proportion to ``r ** -imbalance``. 0 makes all cases equally frequent.
    ambiguity : float, default=0.5
        From 0 to 1: how far specimens stray from the typical traits of their case. At 0 the cases
        can be told apart by eye; at 1 neighbouring cases overlap widely.
    image_size : int, default=64
        Height and width in pixels, 16 or more.
    skeletons_per_case : int or None, default=None
        Number of different drawings that exist per case and are shared by its rows, as in
        practice; a case with fewer rows has one drawing a row. None draws one for every row.
    random_state : int, RandomState instance or None, default=None
        Makes the output reproducible. For one integer, the photographs are the same whatever
        `skeletons_per_case` is.
    return_X_y : bool, default=False
        If True, return ``(X, y)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        images : ndarray of shape (n_samples, image_size, image_size), uint8
            Grey photographs, 0 (black) to 255 (white).
        skeletons : ndarray of shape (n_samples, image_size, image_size), uint8
            Binary drawings, 1 is ink.
        y : ndarray of shape (n_samples,), int64
            The case of each row, an index into `case_names`.
        case_names : ndarray of shape (n_cases,), str
            The traits of each case in words.
        DESCR : str
            Description of the data.
        traits : DataFrame of shape (n_samples, 5)
            What is true of the photographed specimen of each row: `breadth`, the greatest of the
            prosome, in lengths of the body (prosome and urosome); `bend` of the urosome, in
            degrees, 0 is straight; `antennule_length`, the mean of both, in lengths of the body;
            `antennule_posture`, their mean angle to the forward direction, in degrees, 90 is
            spread straight to the sides; and `sacs`, the number of egg sacs in sight (int).
        skeleton_traits : DataFrame of shape (n_samples, 5)
            The same of the specimen that the skeleton was drawn from, another one of the case.

    (X, y) : tuple if ``return_X_y=True``
        X of shape (n_samples, 2, image_size, image_size), uint8: channel 0 is the image, channel
        1 the skeleton with ink at 255.

    Raises
    ------
    ValueError
        If a parameter is out of range, or `n_samples` is less than two per case.

    Examples
    --------
    >>> from skpair.datasets import make_copepods
    >>> data = make_copepods(40, n_cases=3, random_state=0)
    >>> data.images.shape, data.skeletons.max()
    ((40, 64, 64), np.uint8(1))
    >>> print(data.case_names[0])
    slender straight, long spread antennules, no sacs
    >>> data.traits["sacs"].groupby(data.y).max().tolist()
    [1, 2, 2]
    """
    check_scalar(n_cases, "n_cases", Integral, min_val=2, max_val=MAX_CASES)
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    check_real(imbalance, "imbalance")
    check_real(ambiguity, "ambiguity", max_val=1)
    check_scalar(image_size, "image_size", Integral, min_val=16)
    if skeletons_per_case is not None:
        check_scalar(skeletons_per_case, "skeletons_per_case", Integral, min_val=1)
    if n_samples < MIN_ROWS_PER_CASE * n_cases:
        raise ValueError(
            f"n_samples={n_samples} is too small for n_cases={n_cases}: every case needs at least "
            f"{MIN_ROWS_PER_CASE} rows. Ask for n_samples >= {MIN_ROWS_PER_CASE * n_cases}."
        )
    rng = check_random_state(random_state)
    levels, case_names = _cases(n_cases)
    y = rng.permutation(np.repeat(np.arange(n_cases), _case_sizes(n_samples, n_cases, imbalance)))
    images, traits = draw_photographs(_stray(levels[y], ambiguity, rng), image_size, rng)
    drawing_of_row, case_of_drawing = _share_drawings(y, skeletons_per_case, rng)
    drawn = _stray(levels[case_of_drawing], ambiguity, rng)
    drawings, drawn_traits = draw_sketches(drawn, image_size, rng)
    return as_result(
        images,
        drawings[drawing_of_row],
        y,
        case_names,
        _COPEPODS_DESCR,
        return_X_y=return_X_y,
        traits=pd.DataFrame(traits),
        skeleton_traits=pd.DataFrame(drawn_traits).iloc[drawing_of_row].reset_index(drop=True),
    )


# Cases ------------------------------------------------------------------------------------------


def _cases(n_cases):
    """Return the trait levels (n_cases, 5) and the names (n_cases,) of the first cases.

    Binary traits follow the digits of the case number, the last one their parity: a fractional
    factorial design, so that the first 8 cases differ pairwise in two binary traits. Egg sacs
    follow the number modulo 3, which is prime to 16: all 48 cases are different.
    """
    number = np.arange(n_cases)
    bits = number[:, None] >> np.arange(len(TRAITS)) & 1
    bits[:, -1] = bits.sum(axis=1) % 2
    sacs = number % len(EGG_SACS)
    names = []
    for row, n_sacs in zip(bits, sacs, strict=True):
        words = [pair[bit] for pair, bit in zip(TRAITS.values(), row, strict=True)]
        names.append("{} {}, {} {} antennules, {}".format(*words, EGG_SACS[n_sacs]))
    return np.column_stack([2 * bits - 1, sacs]).astype(float), np.array(names)


def _case_sizes(n_samples, n_cases, imbalance):
    """Return the number of rows of each case, in sum `n_samples`."""
    weights = np.arange(1, n_cases + 1) ** -float(imbalance)
    n_spare = n_samples - MIN_ROWS_PER_CASE * n_cases
    quota = n_spare * weights / weights.sum()
    sizes = np.floor(quota).astype(int)
    largest_remainders = np.argsort(sizes - quota, kind="stable")
    sizes[largest_remainders[: n_spare - sizes.sum()]] += 1
    return sizes + MIN_ROWS_PER_CASE


def _stray(levels, ambiguity, rng):
    """Return the traits of one specimen for each row of typical `levels` (n, 5)."""
    spread = np.array([1, 1, 1, 1, 0.5]) * (0.1 + SPREAD * ambiguity)
    traits = levels + spread * rng.normal(size=levels.shape).clip(-2, 2)
    return traits.clip(-1.8, [1.8, 1.8, 1.8, 1.8, 2])  # no caricatures


def _share_drawings(y, skeletons_per_case, rng):
    """Return, for each row, the index of its drawing, and for each drawing its case."""
    if skeletons_per_case is None:
        return np.arange(len(y)), y
    rank = np.empty(len(y), dtype=int)
    for case in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == case))
        rank[rows] = np.arange(len(rows)) % skeletons_per_case
    drawings, drawing_of_row = np.unique(np.stack([y, rank]), axis=1, return_inverse=True)
    return drawing_of_row, drawings[0]
