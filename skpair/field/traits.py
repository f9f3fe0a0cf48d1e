"""Measure drawings: lengths, branches, loops and symmetry of skeletons, a row a drawing."""

import os
import warnings

import joblib
import numpy as np
import pandas as pd
from PIL import ExifTags, Image
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from tqdm import tqdm

from ..checks import as_file, first_of, users_level
from ..rows.layouts import as_table, describe, layout_of, paths_of
from ..rows.sizes import resize_ink
from .drawings import clean
from .loops import count_loops
from .strokes import (
    N_STATIONS,
    find_axis,
    find_branches,
    lengths_along,
    measure_symmetry,
    resample,
    thin,
    trace,
)

#: Pixels of the longer side of a drawing whose lines are followed; larger ones are shrunk.
LARGEST = 96

#: How many branches have columns of their own, the longest ones.
N_BRANCHES = 8

_COUNTS = ("parts", "tips", "junctions", "loops")
_OF_BRANCHES = [
    f"branch_{what}_{number}" for number in range(1, N_BRANCHES + 1) for what in ("length", "place")
]

#: The columns of `measure`, in their order.
COLUMNS = (
    *("width", "height", "feret", "total_length", "axis_length"),
    *("straightness", "bend", "symmetry", *_COUNTS),
    *("antennule_length", "antennule_place", *_OF_BRANCHES),
)

#: Those of them that are lengths.
LENGTHS = tuple(
    column for column in COLUMNS if column in ("width", "height", "feret") or "_length" in column
)

_STATIONS = 61  # of the axis, where directions and symmetry are measured
_MIDDLE, _HIND = slice(18, 34), slice(44, 59)  # stations between whose directions the bend is
_FRONT = 0.5  # of the axis, along which antennules leave it


def measure(skeletons, *, pixel_size=None, n_jobs=None, verbose=0):
    """Measure drawings.

    A drawing whose box of ink is larger than 96 pixels is shrunk to these, for speed, and as small
    swings of a hand do not count; lengths of its lines are then right to some 2 % of the box. It is
    thinned to lines of one pixel. Lines that end within 3 pixels of a junction (or within the width
    of the pen) are spurs, and pruned. What is measured are these lines: all of them for
    `total_length` and the counts, the connected part of the greatest length for the axis and what
    leaves it.

    The body axis is not the longest path, as antennules may be longer than the body. It is the
    shortest way between two tips or junctions that is long and straight, off which much branches,
    and about which the rest is symmetrical. Its head is the end near to which the longest branch
    leaves; it may begin where the antennules do, if the head before them is short.

    Parameters
    ----------
    skeletons : array-like
        n drawings: an array (n, H, W), or a list of arrays (H, W) of any sizes, of bool, integers
        or floats, where everything but zero is ink; or paths of image files, whose ink is the
        rarer of dark and light.
    pixel_size : float or array-like of shape (n,), default=None
        Length of a side of a pixel, for all drawings or for each. None measures in pixels.
    n_jobs : int or None, default=None
        Processes, as joblib counts them: None is one, -1 all.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    DataFrame
        A row a drawing. Lengths are in pixels, or in the unit of `pixel_size`:

        - `width`, `height` : of the box around the ink.
        - `feret` : the greatest diameter of the ink, between sides of pixels.
        - `total_length` : of all lines.
        - `axis_length` : of the body axis.
        - `straightness` : distance between the ends of the axis over its length, 1 is straight.
        - `bend` : angle between the directions of the axis in its middle and at its hind end, in
          degrees, 0 is straight.
        - `symmetry` : the part of what lies on one side of the axis that has a counterpart on the
          other side, from 0 to 1; 1 where there is nothing.
        - `parts`, `tips`, `junctions` (int) : numbers of connected parts, of ends of lines, and
          of places where lines meet.
        - `loops` (int) : number of closed outlines beside the hind part of the axis, as egg sacs
          are drawn. One that the hand has not quite closed counts, too; one that another line cuts
          counts once; what antennules and legs enclose in front does not count.
        - `antennule_length`, `antennule_place` : mean of the longest branches to the left and to
          the right of the front half of the axis (the only one, where one side has none), and where
          they leave the axis, 0 at the head and 1 at the tail.
        - `branch_length_1`, `branch_place_1` to `branch_length_8`, `branch_place_8` : the longest
          lines from the axis to a tip, the longest first, and where they leave the axis. An egg
          sac has no tip, so it is no branch.

        What is absent is NaN: of a blank drawing all but the counts and `total_length`, which are
        0; of one without branches, theirs. Of a single point, the axis has a length of 0, and
        neither straightness nor bend; a closed ring is its own axis along one half. Parts that do
        not touch are not joined: of a drawing that is broken off, the axis and its branches are
        those of the longest part, so that `parts` above 1 calls for a look.

    Raises
    ------
    ValueError
        If nothing is given, the drawings are not of these kinds, a pixel is NaN, or `pixel_size` is
        no number above 0 for each.
    FileNotFoundError, OSError
        If a file is missing, or is no image.

    Warns
    -----
    UserWarning
        If more than half of a drawing is ink: lines and ground may be mixed up.

    References
    ----------
    Names follow ZooProcess and EcoTaxa (feret, width, height) where these have them.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair.field.traits import measure
    >>> drawing = np.zeros((40, 40), dtype=bool)
    >>> drawing[5:36, 20] = True  # a body of 31 pixels, and antennules of 12
    >>> drawing[11, 8:33] = True
    >>> row = measure(drawing[None], pixel_size=0.1).loc[0]
    >>> row[["axis_length", "antennule_length", "antennule_place"]].round(2).tolist()
    [3.0, 1.2, 0.2]
    """
    rows = _as_rows(skeletons)
    scale = _as_scale(pixel_size, len(rows))
    found = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(
        joblib.delayed(_measure_row)(*row) for row in enumerate(rows)
    )
    with tqdm(found, "drawings", total=len(rows), disable=not verbose) as bar:
        values, shares_of_ink = zip(*bar, strict=True)
    _warn_of_ground(np.array(shares_of_ink))
    table = pd.DataFrame(list(values), columns=COLUMNS)
    table[list(LENGTHS)] = table[list(LENGTHS)].mul(scale, axis=0)
    return table


# ---- what is given -------------------------------------------------------------------------------


def _as_rows(skeletons):
    """Return the drawings, checked, as a sequence of paths or of arrays (H, W)."""
    table = as_table(skeletons)
    layout = layout_of(table)
    if not len(table):
        raise ValueError("There are 0 drawings; give one at least.")
    if layout == "files":
        return list(paths_of(table, 1))
    if layout == "features" or (table.dtype.kind != "O" and table.ndim != 3):
        raise ValueError(
            f"The drawings are {describe(table)}; expected (n, H, W), a list of (H, W), or paths. "
            "One drawing alone needs an axis before it: drawing[None]."
        )
    for row, drawing in enumerate(table):
        _check_drawing(row, drawing)
    return table


def _check_drawing(row, drawing):
    if drawing.ndim != 2 or 0 in drawing.shape or drawing.dtype.kind not in "buif":
        raise ValueError(
            f"Row {row}: the drawing has the shape {drawing.shape} and the dtype {drawing.dtype}; "
            "expected (H, W) of bool, integers or floats. Drawings in colour are read from files."
        )
    if np.isnan(drawing).any():
        raise ValueError(f"Row {row}: the drawing holds NaN; ink is what is not zero.")


def _as_scale(pixel_size, n_rows):
    """Return the length of a side of a pixel: 1, or for each row (n,)."""
    if pixel_size is None:
        return 1.0
    try:
        scale = np.asarray(pixel_size, dtype=float)
    except (TypeError, ValueError):
        scale = np.array(np.nan)
    if scale.shape not in ((), (n_rows,)) or not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError(
            f"pixel_size must be a number above 0, or one for each of the {n_rows} drawings, got "
            f"{pixel_size!r}."
        )
    return scale


def _warn_of_ground(shares):
    rows = np.flatnonzero(shares > 0.5)
    if len(rows):
        warnings.warn(
            f"More than half of the drawing is ink in {len(rows)} row(s): "
            f"{first_of(rows, 10)}. In arrays, ink is what is not zero: of dark lines "
            "on a light ground, give drawing < threshold.",
            UserWarning,
            stacklevel=users_level(),
        )


def _read(row, path):
    """Read the ink (H, W), bool, of a file in its own size."""
    try:
        with Image.open(as_file(path)) as image:
            width, height = image.size
            if image.getexif().get(ExifTags.Base.Orientation, 1) > 4:  # lies on its side
                width, height = height, width
        return clean(path, crop=False, size=(height, width)) > 0
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Row {row}: {os.fspath(path)!r} does not exist.") from error
    except Exception as error:  # Pillow's decoders raise many kinds
        raise OSError(
            f"Row {row}: {os.fspath(path)!r} cannot be read as an image: {error}"
        ) from error


# ---- one drawing ---------------------------------------------------------------------------------


def _measure_row(row, drawing):
    """Return the values of one drawing, and which share of it is ink."""
    ink = drawing != 0 if isinstance(drawing, np.ndarray) else _read(row, drawing)
    return _measure_ink(ink), ink.mean()


def _measure_ink(ink):
    values = dict.fromkeys(COLUMNS, np.nan) | dict.fromkeys(_COUNTS, 0) | {"total_length": 0.0}
    if not ink.any():
        return values
    extent, (ink, factor) = _measure_extent(ink), _shrink(ink)
    skeleton = thin(ink)
    lines = trace(skeleton)
    main = lines.largest_part()
    path = find_axis(main)
    axis = main.points[path]
    found = {
        **_measure_axis(main.points, axis),
        **_measure_branches(*find_branches(main, path)),
        "total_length": lines.lengths.sum(),
        "parts": int(lines.part.max()) + 1,
        "tips": np.count_nonzero(lines.degree == 1),
        "junctions": lines.count_junctions(),
        "loops": count_loops(skeleton, lines, axis),
    }
    lengths = {name: found[name] * factor for name in LENGTHS if name in found}
    return {**values, **extent, **found, **lengths}


def _shrink(ink):
    """Cut ink to its box, and shrink it to `LARGEST`; tell by how much."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = max(1.0, max(ink.shape) / LARGEST)
    size = [max(1, round(side / factor)) for side in ink.shape]
    return np.pad(resize_ink(ink, size, "stretch"), 1), factor


def _measure_extent(ink):
    pixels = np.argwhere(ink)
    height, width = (np.ptp(pixels, axis=0) + 1).astype(float)
    sides = np.concatenate([pixels + side for side in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))])
    corners = sides[ConvexHull(sides).vertices]
    return {"width": width, "height": height, "feret": pdist(corners).max()}


def _measure_axis(points, axis):
    length = lengths_along(axis)[-1]
    if length == 0:
        return {"axis_length": 0.0}
    symmetry = measure_symmetry(points, resample(axis, N_STATIONS)[None])[0]
    line = resample(axis, _STATIONS)
    middle, hind = _direction(line[_MIDDLE]), _direction(line[_HIND])
    return {
        "axis_length": length,
        "straightness": np.hypot(*(axis[-1] - axis[0])) / length,
        "bend": np.degrees(np.abs(np.angle(hind / middle))),
        "symmetry": symmetry,
    }


def _direction(line):
    """Return the direction of points (k, 2) by least squares, of any length: rows + 1j columns."""
    place = np.arange(len(line)) - (len(line) - 1) / 2
    return place @ line @ (1, 1j)


def _measure_branches(length, place, side):
    values = {}
    for number, column in enumerate(zip(length[:N_BRANCHES], place, strict=False), start=1):
        values[f"branch_length_{number}"], values[f"branch_place_{number}"] = column
    front = place <= _FRONT
    longest = [
        np.flatnonzero(front & there)[0] for there in (side > 0, side < 0) if (front & there).any()
    ]
    if longest:  # branches come in order of their length
        values["antennule_length"] = length[longest].mean()
        values["antennule_place"] = place[longest].mean()
    return values
