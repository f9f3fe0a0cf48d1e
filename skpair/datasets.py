"""Labelled pairs of images and skeletons to try the estimators on, made without a download.

:func:`make_copepods` draws as many as wanted, with the imbalance and the ambiguity wanted.
:func:`load_digit_pairs` derives skeletons from the real scans that scikit-learn ships.
"""

import math
from numbers import Integral, Real

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.utils import Bunch, check_random_state, check_scalar

__all__ = ["load_digit_pairs", "make_copepods"]

MIN_ROWS_PER_CASE = 2  # fewer cannot be split into a training and a test row
SUPERSAMPLING = 4  # drawn larger and averaged down, for smooth edges

# Binary traits: the names of level -1 and level +1. The number of egg sacs is the fifth trait.
TRAITS = {
    "prosome": ("slender", "broad"),
    "urosome": ("straight", "bent"),
    "length": ("long", "short"),
    "posture": ("spread", "swept"),
}
EGG_SACS = ("no sacs", "one sac", "two sacs")
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
    """
    check_scalar(n_cases, "n_cases", Integral, min_val=2, max_val=MAX_CASES)
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    _check_real(imbalance, "imbalance")
    _check_real(ambiguity, "ambiguity", max_val=1)
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
    images = _photographs(_stray(levels[y], ambiguity, rng), image_size, rng)
    drawing_of_row, case_of_drawing = _share_drawings(y, skeletons_per_case, rng)
    drawings = _sketches(_stray(levels[case_of_drawing], ambiguity, rng), image_size, rng)
    return _result(
        images, drawings[drawing_of_row], y, case_names, _COPEPODS_DESCR, return_X_y=return_X_y
    )


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
    _check_real(imbalance, "imbalance")
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
    return _result(images, skeletons, y[rows], case_names, _DIGITS_DESCR, return_X_y=return_X_y)


def _check_real(value, name, *, max_val=None):
    check_scalar(value, name, Real, min_val=0, max_val=max_val)
    if not math.isfinite(value):  # comparisons with NaN let it through
        raise ValueError(f"{name} must be a finite number, got {value}.")


def _result(images, skeletons, y, case_names, description, *, return_X_y):
    y = y.astype(np.int64)
    if return_X_y:
        return np.stack([images, skeletons * np.uint8(255)], axis=1), y
    return Bunch(images=images, skeletons=skeletons, y=y, case_names=case_names, DESCR=description)


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


# Anatomy ----------------------------------------------------------------------------------------
# All specimens at once: points are (n, ..., 2) as x, y, with y downwards; the prosome has length 1.

PROSOME_STEPS, UROSOME_STEPS = 16, 10
# Half of the breadth along the body: of the prosome in units of its greatest, the urosome's apart.
PROSOME_PROFILE = (
    [0, 0.03, 0.1, 0.25, 0.45, 0.7, 0.9, 1],
    [0.05, 0.4, 0.7, 0.94, 1, 0.9, 0.66, 0.3],
)
UROSOME_PROFILE = ([0, 0.15, 0.3, 1], [0.075, 0.09, 0.075, 0.05])
SIDES = np.array([1.0, -1.0])
_ANGLES = np.linspace(0, 2 * np.pi, 17)
CIRCLE = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])
_EGGS = np.arange(12)
EGGS = np.sqrt((_EGGS + 0.5) / 12)[:, None] * np.column_stack(
    [np.cos(2.4 * _EGGS), np.sin(2.4 * _EGGS)]  # 2.4: the golden angle packs a disc evenly
)


def _direction(angle):
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _walk(start, angles, step):
    """Return the polyline (..., k + 1, 2) from `start` (..., 2) along `angles` (..., k)."""
    moves = _direction(angles) * np.asarray(step)[..., None, None]
    return np.concatenate([start[..., None, :], start[..., None, :] + moves.cumsum(-2)], axis=-2)


def _between(first, last, steps):
    """Return `steps` values from `first` (...) to `last` (...) on a new last axis."""
    return first[..., None] + (last - first)[..., None] * np.linspace(0, 1, steps)


def _anatomy(traits, rng):
    """Return the parts of specimens with `traits` (n, 5), head up, as arrays of points."""
    n = len(traits)
    broad, bent, short, swept, sacs = traits.T

    def vary(sd, *shape):
        return sd * rng.normal(size=(n, *shape)).clip(-2, 2)

    # The body: a bent axis and the breadth along it.
    curve = vary(0.15)
    tail = np.pi / 2 + curve
    bend = np.radians(np.maximum(32 + 32 * bent, 0) + vary(4)) * rng.choice(SIDES, n)
    along_prosome = _between(np.pi / 2 - curve, tail, PROSOME_STEPS)
    prosome = _walk(np.zeros((n, 2)), along_prosome, np.full(n, 1 / PROSOME_STEPS))
    flexed = np.minimum(np.linspace(0, 1.6, UROSOME_STEPS), 1)
    along_urosome = tail[:, None] + bend[:, None] * flexed
    urosome_length = 0.55 * np.exp(vary(0.06))
    urosome = _walk(prosome[:, -1], along_urosome, urosome_length / UROSOME_STEPS)
    half = 0.20 * 1.42**broad * np.exp(vary(0.03))
    prosome_half = half[:, None] * np.interp(np.linspace(0, 1, PROSOME_STEPS + 1), *PROSOME_PROFILE)
    urosome_half = np.interp(np.linspace(0, 1, UROSOME_STEPS + 1), *UROSOME_PROFILE)
    across_prosome = _normals(along_prosome) * prosome_half[..., None]
    across_urosome = _normals(along_urosome) * urosome_half[:, None]
    axis = np.concatenate([prosome, urosome[:, 1:]], axis=1)

    # Antennules: their angle to the forward direction grows from base to tip.
    forward = along_prosome[:, 0] + np.pi
    start = np.radians(88 + 14 * swept)[:, None] + vary(0.08, 2)
    tip = np.radians(124 + 34 * swept)[:, None] + vary(0.10, 2)
    angles = forward[:, None, None] - SIDES[:, None] * _between(start, tip, 12)
    length = 0.84 * 1.5 ** -short[:, None] * np.exp(vary(0.04, 2))
    antennules = _walk(np.repeat(prosome[:, None, 2], 2, axis=1), angles, length / 12)

    # Caudal rami with a fan of setae at their ends.
    end = np.repeat(urosome[:, None, -1], 2, axis=1)
    out = along_urosome[:, -1, None] + SIDES * (0.45 + vary(0.08))[:, None]
    rami = _walk(end, _between(out, out, 2), np.full((n, 2), 0.055))
    fan = out[..., None] + np.array([-0.6, -0.25, 0.1]) * SIDES[:, None]
    setae = _walk(np.repeat(rami[:, :, -1:], 3, axis=2), fan[..., None], np.full((n, 2, 3), 0.15))

    # Egg sacs hang off the base of the urosome; their size follows the number wanted.
    size = np.clip(np.stack([sacs, sacs - 1], axis=1), 0, 1)
    size = np.where(rng.random(n)[:, None] < 0.5, size, size[:, ::-1])  # the single one: any side
    hang = along_urosome[:, 2, None] + SIDES * (0.5 + vary(0.08, 2))
    sac_half = np.stack([0.21 * size, 0.105 * size], axis=-1) * np.exp(vary(0.08, 2))[..., None]
    centre = urosome[:, None, 2] + _direction(hang) * (sac_half[..., :1] + 0.05)
    frame = np.stack([_direction(hang), _direction(hang + np.pi / 2)], axis=-2)
    frame = frame * sac_half[..., None]

    # Swimming legs and mouthparts, more or less in sight: no trait.
    stations = np.array([2, 8, 10, 12, 14])
    reach = np.abs(vary(0.09, 1, len(stations))) + 0.5 * prosome_half[:, None, stations]
    leg_angle = along_prosome[:, None, stations] + SIDES[:, None] * (0.7 + vary(0.15, 1, 5))
    legs = _walk(
        prosome[:, None, stations] + SIDES[:, None, None] * 0.5 * across_prosome[:, None, stations],
        leg_angle[..., None], reach,
    )  # fmt: skip
    return {
        "axis": axis,
        "prosome": _outline(prosome, across_prosome),
        "urosome": _outline(urosome, across_urosome),
        "bars": _bars(prosome, across_prosome, [4, 8, 12]),
        "joints": np.concatenate(
            [
                _bars(prosome, across_prosome, [6, 9, 12, 14]),
                _bars(urosome, across_urosome, [2, 4, 6, 8]),
            ],
            axis=1,
        ),
        "antennules": antennules,
        "rami": rami,
        "setae": setae,
        "legs": legs,
        "sacs": centre[..., None, :] + CIRCLE @ frame,
        "eggs": centre[..., None, :] + 0.85 * EGGS @ frame,
        "gut": prosome[:, 3:14],
        "eye": prosome[:, 1:2],
        "sac_size": size,
    }


def _normals(angles):
    """Return the unit normals (n, k + 1, 2) at the points of a walk along `angles` (n, k)."""
    at_points = np.concatenate([angles[:, :1], angles], axis=1)
    return _direction(at_points + np.pi / 2)


def _outline(axis, across):
    return np.concatenate([axis + across, (axis - across)[:, ::-1]], axis=1)


def _bars(axis, across, stations):
    """Return strokes (n, len(stations), 2, 2) from side to side of the body."""
    axis, across = axis[:, stations], across[:, stations]
    return np.stack([axis - across, axis + across], axis=2)


def _pose(parts, turn, scale, rng):
    """Turn, scale and place the specimens inside the unit square; return also the scale used."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.stack([np.stack([cos, sin], axis=-1), np.stack([-sin, cos], axis=-1)], axis=-2)
    turned = {
        name: np.einsum("n...i,nij->n...j", points, rotation)
        for name, points in parts.items()
        if name != "sac_size"
    }
    extremities = ["prosome", "urosome", "antennules", "setae", "sacs"]
    corners = np.concatenate(
        [turned[name].reshape(len(turn), -1, 2) for name in extremities], axis=1
    )
    low, high = corners.min(axis=1), corners.max(axis=1)
    scale = np.minimum(scale, 0.94 / (high - low).max(axis=1))
    room = (1 - scale[:, None] * (high - low)) / 2
    shift = (
        0.5 + 0.6 * room * rng.uniform(-1, 1, size=room.shape) - scale[:, None] * (low + high) / 2
    )
    placed = {
        name: points * _expand(scale, points) + _expand(shift, points)
        for name, points in turned.items()
    }
    return {**placed, "sac_size": parts["sac_size"], "scale": scale}


def _expand(values, points):
    """Insert axes so that `values` (n,) or (n, 2) broadcast over `points` (n, ..., 2)."""
    inner = (1,) * (points.ndim - 2)
    return values.reshape(len(values), *inner, *(values.shape[1:] or (1,)))


# Drawing ----------------------------------------------------------------------------------------


class _Canvas:
    """A supersampled grey canvas that is drawn on in units of the frame."""

    def __init__(self, image_size):
        self.size = image_size * SUPERSAMPLING
        self.image = Image.new("L", (self.size, self.size))
        self.draw = ImageDraw.Draw(self.image)

    def lines(self, strokes, width, value):
        width = max(1, round(width * self.size))
        for stroke in (strokes * self.size).reshape(-1, strokes.shape[-2] * 2).tolist():
            self.draw.line(stroke, fill=value, width=width)

    def area(self, outline, value, rim):
        self.draw.polygon((outline * self.size).ravel().tolist(), fill=value, outline=rim)

    def discs(self, centres, radius, value, rim=None):
        for x, y in (centres * self.size).reshape(-1, 2).tolist():
            r = radius * self.size
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=value, outline=rim)

    def reduced(self):
        return self.image.reduce(SUPERSAMPLING)


def _photographs(traits, image_size, rng):
    """Return grey photographs (n, image_size, image_size), uint8, of specimens with `traits`."""
    n = len(traits)
    turn = rng.uniform(0, 2 * np.pi, size=n)
    parts = _pose(_anatomy(traits, rng), turn, rng.uniform(0.34, 0.46, size=n), rng)
    photographs = np.empty((n, image_size, image_size), dtype=np.uint8)
    for row in range(n):
        canvas = _Canvas(image_size)
        _draw_debris(canvas, rng)
        _draw_specimen(canvas, {name: part[row] for name, part in parts.items()}, rng)
        photographs[row] = _develop(canvas, image_size, rng)
    return photographs


def _draw_debris(canvas, rng):
    for _ in range(rng.poisson(2.5)):
        canvas.discs(rng.random((1, 2)), rng.uniform(0.004, 0.014), rng.randint(40, 160))
    if rng.random() < 0.25:
        start, angle = rng.random(2), rng.uniform(0, 2 * np.pi)
        fibre = _walk(start, angle + rng.normal() * np.linspace(0, 1, 8), rng.uniform(0.01, 0.05))
        canvas.lines(fibre, 0.006, rng.randint(40, 110))


def _draw_specimen(canvas, part, rng):
    """Draw the optical density of one specimen, from what lies far to what lies near."""
    unit = part["scale"]
    flesh = rng.randint(110, 190)
    rim = min(flesh + 50, 255)
    limb = flesh - 25
    canvas.lines(part["setae"], 0.02 * unit, limb - 40)
    canvas.lines(part["legs"], 0.035 * unit, limb - 20)
    canvas.lines(part["antennules"], 0.032 * unit, limb)
    canvas.lines(part["antennules"][:, :6], 0.05 * unit, limb)
    canvas.lines(part["rami"], 0.05 * unit, flesh)
    canvas.area(part["urosome"], flesh, rim)
    canvas.area(part["prosome"], flesh, rim)
    canvas.lines(part["joints"], 0.012 * unit, flesh + 25)
    canvas.lines(part["gut"], rng.uniform(0.05, 0.10) * unit, min(flesh + 45, 255))
    if rng.random() < 0.5:  # an oil sac, brighter than the flesh
        canvas.lines(part["gut"][rng.randint(0, 3) : 8], 0.09 * unit, flesh - 45)
    canvas.discs(part["eye"], 0.03 * unit, 250)
    for outline, eggs, size in zip(part["sacs"], part["eggs"], part["sac_size"], strict=True):
        if size > 0.15:
            canvas.area(outline, flesh + 10, rim)
            canvas.discs(eggs, 0.042 * size * unit, min(flesh + 40, 255), rim=flesh - 20)


def _develop(canvas, image_size, rng):
    """Return the photograph (image_size, image_size) of the optical density on the canvas."""
    focus = ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9) * image_size / 64)
    density = np.asarray(canvas.reduced().filter(focus), dtype=np.float32) / 255
    clouds = Image.fromarray(rng.normal(0, 0.04, size=(5, 5)).astype(np.float32))
    across = np.linspace(-1, 1, image_size, dtype=np.float32)
    tilt_x, tilt_y = rng.normal(0, 0.08, size=2)
    vignette = rng.uniform(0, 0.12) * across**2
    light = (1 + tilt_y * across - vignette)[:, None] + tilt_x * across - vignette
    light = light + np.asarray(clouds.resize((image_size, image_size), Image.Resampling.BICUBIC))
    exposure, opacity = rng.uniform(150, 235), rng.uniform(0.8, 2.2)
    grain = rng.uniform(2, 7) * rng.standard_normal((image_size, image_size))
    return (exposure * light * np.exp(-opacity * density) + grain).clip(0, 255)


def _sketches(traits, image_size, rng):
    """Return hand-like drawings (n, image_size, image_size), uint8 in {0, 1}."""
    n = len(traits)
    turn = rng.normal(0, 0.35, size=n)  # people draw head up
    parts = _pose(_anatomy(traits, rng), turn, rng.uniform(0.38, 0.5, size=n), rng)
    size = parts.pop("sac_size")
    strokes = {
        name: _by_hand(parts[name], rng) for name in ("axis", "antennules", "rami", "bars", "sacs")
    }
    pens = rng.uniform(1.1, 1.7, size=n) / 64
    drawings = np.empty((n, image_size, image_size), dtype=np.uint8)
    for row in range(n):
        canvas = _Canvas(image_size)
        for name, stroke in strokes.items():
            seen = stroke[row][size[row] > 0.15] if name == "sacs" else stroke[row]
            canvas.lines(seen, pens[row], 255)
        drawings[row] = np.asarray(canvas.reduced()) > 90
    return drawings


def _by_hand(strokes, rng):
    """Let the points of strokes (n, ..., k, 2) waver, slow swings more than quick ones."""
    k = strokes.shape[-2]
    swings = np.cos(np.pi * np.linspace(0, 1, k)[:, None] * np.arange(6))
    strength = 0.010 / (1 + np.arange(6))[:, None]
    return strokes + swings @ (strength * rng.normal(size=(*strokes.shape[:-2], 6, 2)))


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
