"""Where the ink is in the grey picture of a scanned or photographed drawing.

Lengths are shares of the picture's longer side, so that scans of any resolution are treated alike.
How dark ink is, is told against the ground around it: its depth is 0 on the ground and 1 where it
is black. Shading, of whatever strength, is so gone before any threshold is asked for.
"""

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import disk, skeletonize

#: Pixels of the longer side at which ink is looked for: larger drawings are shrunk to it.
LARGEST = 1024
#: Pixels of the longer side from which on a grey drawing is a scan.
_SCAN = 200

#: Cells along the longer side of the coarse picture, in which strokes are lost and paper is left.
_CELLS = 128
#: The share of a picture that a sheet takes up at least.
_SMALLEST_SHEET = 0.1
#: Strokes are narrower, and the ground is seen on their sides.
_WIDEST_STROKE = 1 / 12
#: What touches nothing is a speck if it is shorter than the first, or than the second and round.
_SPECKS = 0.012, 0.035
#: Ink is at least so deep, and so many standard deviations of the ground's noise.
_LEAST_DEPTH, _LEAST_DEVIATIONS = 0.06, 5
#: Of the depth of most ink: strokes reach the second, and go on while they reach the first.
_STROKE_DEPTHS = 0.3, 0.5
#: Gaps in a stroke that are closed.
_GAP = 0.01
#: Slope of the steepest ruled line.
_STEEPEST = 0.14
#: Ruled lines are so many at least, each inked over this share of the sheet.
_N_RULED, _RULED = 4, 0.5
#: A line is straight, and as deep everywhere, along so many pieces of it.
_N_PIECES = 16
#: Half of a line is deeper than its median: how much of that is taken away.
_SURPLUS = 1.2
#: What lies wholly so near the border is an edge of the paper.
_RIM = 0.025
#: What a single line must cover to be no stroke, anywhere and near the border, and what is near.
_EDGE, _FRAME, _NEAR_BORDER = 0.9, 0.75, 0.12


def find_ink(grey, *, remove_specks=True, remove_ruling=True):
    """Tell ink from ground in the picture of a drawing, shaded, noisy or ruled as it may be.

    Parameters
    ----------
    grey : ndarray of shape (H, W), float32
        Lightness, 0 (black) to 1 (white); ink may be dark or light.
    remove_specks : bool, default=True
        Leave out what touches nothing else and is shorter than 1.2 % of the longer side, or than
        3.5 % and round.
    remove_ruling : bool, default=True
        Leave out ruled lines, frames and the edges of the paper: straight lines, at most 8 degrees
        from upright or level, across the sheet.

    Returns
    -------
    ndarray of shape (H, W), bool
        True on ink; all False where nothing stands out of the ground's noise.
    """
    side = max(grey.shape)
    sheet, light_ink = _find_sheet(grey)
    depth, noise = _measure_depth(1 - grey if light_ink else grey, sheet)
    if remove_ruling:
        depth = _remove_lines(_remove_lines(depth, noise).T, noise.T).T
    ink = _find_strokes(ndimage.gaussian_filter(depth, side / 1000), noise)
    ink = ndimage.binary_closing(ink, disk(max(1, round(_GAP / 2 * side))))
    if remove_ruling:
        ink = _remove_edges(ink)
    return _remove_specks(ink) if remove_specks else ink


# ---- sheet ---------------------------------------------------------------------------------------


def _find_sheet(grey):
    """Return where the sheet is, (H, W) bool, and whether the ink on it is light.

    In the coarse picture, strokes are lost, and sheet and table are left. What remains of a picture
    that is neither, of noise or of a photograph, would be too small for a sheet: all of it is one.
    """
    cell = -(-max(grey.shape) // _CELLS)
    coarse = _reduce(grey, cell)
    ground = ndimage.median_filter(coarse, 7)
    sheet = ndimage.binary_fill_holes(_middle_part(~_find_table(ground)))
    inner = ndimage.binary_erosion(sheet, iterations=2, border_value=1)
    if inner.mean() < _SMALLEST_SHEET:
        inner = np.ones_like(sheet)
    skewness = ((coarse - ground)[inner] ** 3).sum()
    height, width = grey.shape
    sheet = inner.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
    return sheet, skewness > 0


def _find_table(ground):
    """Return what is no sheet in a coarse picture without strokes: (h, w) bool.

    It is less than half as light as the sheet, which a shadow is not, and begins at a step, which
    shading does not. What holds most of the middle is the sheet.
    """
    span = ndimage.maximum_filter(ground, 3) - ndimage.minimum_filter(ground, 3)
    step = span > 0.15 * ground.max()
    if step.all() or not step.any():
        return np.zeros(ground.shape, dtype=bool)
    sheet = np.median(ground[_middle_part(~step)])
    foot = step & (ground < ndimage.maximum_filter(ground, 7) / 2)
    table = ndimage.binary_propagation(foot, mask=foot | (ground < sheet / 2))
    border = np.ones(ground.shape, dtype=bool)
    border[1:-1, 1:-1] = False
    return ndimage.binary_propagation(table & border, mask=table)  # a wide stroke is within


def _middle_part(cells):
    """Return the connected part of cells (h, w), bool, that holds most of the middle."""
    parts, _ = ndimage.label(cells)
    middle = parts[tuple(slice(side // 4, side - side // 4) for side in cells.shape)]
    sizes = np.bincount(middle.ravel())
    return parts == 1 + sizes[1:].argmax() if len(sizes) > 1 else cells


def _reduce(grey, cell):
    """Average cells of `cell` times `cell` pixels; the last ones are filled up by their edge."""
    height, width = grey.shape
    grey = np.pad(grey, ((0, -height % cell), (0, -width % cell)), mode="edge")
    return grey.reshape(grey.shape[0] // cell, cell, -1, cell).mean(axis=(1, 3))


# ---- depth ---------------------------------------------------------------------------------------


def _measure_depth(grey, sheet):
    """Return the depth of dark ink and the ground's noise in it, both (H, W) float32.

    The ground is the morphological closing: it follows shading, and steps of a shadow, too.
    """
    side = max(grey.shape)
    smooth = ndimage.gaussian_filter(grey, side / 1000)
    window = max(9, round(_WIDEST_STROKE * side))
    ground = ndimage.grey_closing(smooth, size=(window, window)).clip(0.02)
    missing = ground - grey
    missing -= np.median(missing[sheet])  # the closing follows the lightest pixels
    deviation = 1.4826 * np.median(np.abs((missing - smooth + grey)[sheet]))
    depth = np.where(sheet, (missing / ground).clip(0, 1), 0)
    return depth, (deviation / ground).astype(np.float32)


# ---- straight lines ------------------------------------------------------------------------------


def _remove_lines(depth, noise):
    """Return the depth without nearly level lines that reach across the sheet."""
    depth = depth.copy()
    for slope, middle in _find_lines(depth, noise):
        _subtract_line(depth, slope, middle)
    return depth


def _find_lines(depth, noise):
    """Find nearly level straight lines: a list of (slope, row in the middle column)."""
    height, width = depth.shape
    side = max(depth.shape)
    along = ndimage.uniform_filter1d(depth, max(3, side // 40), axis=1)
    thin = along - ndimage.grey_opening(along, size=(max(5, side // 60), 1))
    thin = (thin > np.maximum(0.02, 1.5 * noise))[:, ::4]
    rows, columns = np.nonzero(ndimage.binary_dilation(thin, np.ones((3, 1))))  # lines may bend
    columns = 4 * columns - width / 2
    slopes = np.arange(-_STEEPEST, _STEEPEST, 2 / width)
    covered = np.zeros((len(slopes), height))
    for slope, counts in zip(slopes, covered, strict=True):
        middles = np.rint(rows - slope * columns).astype(int)
        inside = (middles >= 0) & (middles < height)
        counts += np.bincount(middles[inside], minlength=height)
    covered /= np.ceil(width / 4)
    lines = _peaks(covered, max(3, side // 150))
    return _not_strokes(
        [(slopes[i], middle, covered[:, middle].max()) for i, middle in lines], height
    )


def _peaks(covered, apart):
    """List (slope, row) of the best covered lines, at least `apart` rows from one another."""
    # a thick line is covered as well beside its middle and by slopes near its own: take the centre
    smooth = ndimage.gaussian_filter(covered, (2, apart / 2))
    best = smooth.max(axis=0)
    is_peak = best == ndimage.maximum_filter1d(best, 2 * apart + 1)
    peaks = np.flatnonzero(is_peak & (covered.max(axis=0) > _RULED))
    return [(smooth[:, row].argmax(), row) for row in peaks]


def _not_strokes(lines, height):
    """Keep rulings, which come in numbers, and single lines that are too long for a stroke."""
    if not lines:
        return []
    slopes, middles, covered = np.array(lines).T
    parallel = np.abs(slopes - np.median(slopes)) < 0.04
    from_border = np.minimum(middles, height - middles) / height
    alone = covered > np.where(from_border < _NEAR_BORDER, _FRAME, _EDGE)
    chosen = alone | (parallel & (parallel.sum() >= _N_RULED))
    return [(slope, middle) for slope, middle, _ in np.array(lines)[chosen]]


def _subtract_line(depth, slope, middle):
    """Take a line's own depth, the median along pieces of it, away in place: strokes stay.

    The line may bend, and so lie elsewhere in each piece. Where more is inked than is usual, a
    stroke runs along the line: only what is usual is taken away.
    """
    height, width = depth.shape
    reach = 2 + max(depth.shape) // 200
    columns = np.arange(width)
    whole, part = np.divmod(middle + slope * (columns - width / 2), 1)
    rows = whole.astype(int) + np.arange(-reach, reach + 1)[:, None]
    rows = rows.clip(0, height - 1)
    band = depth[rows, columns]
    level = band[:-1] * (1 - part) + band[1:] * part  # rows from the very middle of the line
    own = np.pad(_usual_depth(level), ((1, 1), (0, 0)))
    own = _SURPLUS * (own[1:] * (1 - part) + own[:-1] * part)
    depth[rows, columns] = (band - own).clip(0) / (1 - own).clip(0.2)


def _usual_depth(level):
    """Return the line's own depth in a band around it (rows, columns): the same shape."""
    width = level.shape[1]
    length = max(1, width // _N_PIECES)
    pieces = level[:, : width // length * length].reshape(len(level), -1, length)
    own = np.median(pieces, axis=2)  # (rows, pieces)
    usual = np.median(own, axis=1)[:, None]
    total = own.sum(axis=0)
    own = np.where(total < 1.4 * np.median(total), own, usual)
    own = ndimage.maximum_filter1d(own, 3, axis=1).clip(usual)  # it may end within a piece
    return own[:, (np.arange(width) // length).clip(0, own.shape[1] - 1)]


# ---- strokes -------------------------------------------------------------------------------------


def _find_strokes(depth, noise):
    """Threshold the depth by that of most ink: (H, W) bool."""
    least = np.maximum(_LEAST_DEPTH, _LEAST_DEVIATIONS * noise)
    seen = depth[depth > least]
    if not len(seen):
        return np.zeros(depth.shape, dtype=bool)
    usual = np.quantile(seen, 0.75)
    low, high = (np.maximum(least, share * usual) for share in _STROKE_DEPTHS)
    return apply_hysteresis_threshold(depth, low, np.maximum(high, 1.3 * least))


def _remove_edges(ink):
    """Leave out connected ink that lies wholly at the border: edges of the paper."""
    rim = max(1, round(_RIM * max(ink.shape)))
    parts, n_parts = ndimage.label(ink, np.ones((3, 3)))
    reaches = np.zeros(n_parts + 1, dtype=bool)
    reaches[parts[rim:-rim, rim:-rim]] = True
    reaches[0] = False
    return reaches[parts]


def _remove_specks(ink):
    """Leave out connected ink that is small, or small and round: dust, no short stroke."""
    parts, _ = ndimage.label(ink, np.ones((3, 3)))
    boxes = ndimage.find_objects(parts)
    length = np.array([max(edge.stop - edge.start for edge in box) for box in boxes])
    is_round = np.bincount(parts.ravel())[1:] > 0.5 * length**2
    shortest = np.where(is_round, _SPECKS[1], _SPECKS[0]) * max(ink.shape)
    return np.concatenate([[False], length >= shortest])[parts]


# ---- from ink to a picture of some size ----------------------------------------------------------


def is_scan(grey):
    """Tell whether a drawing (H, W) is to be cleaned: large, and of more than two shades."""
    return max(grey.shape) >= _SCAN and not has_two_values(grey)


def clean_to_size(grey, size, stroke_width=2):
    """Find the ink of a scan (H, W), thin it, crop it and draw it in `size`: (H, W) bool."""
    ink = skeletonize(find_ink(lightness(grey)))
    if not ink.any():
        return np.zeros(size, bool)
    return draw(ink, box_of(ink, 0.05, stroke_width), size, stroke_width)


def has_two_values(grey):
    """Tell whether a drawing has two shades at most."""
    return bool(((grey == grey.min()) | (grey == grey.max())).all())


def lightness(grey):
    """Return grey pixels, at most `LARGEST` of them along a side, as float32 of 0..1."""
    grey = grey.astype(np.float64) if grey.dtype.kind in "iu" and grey.itemsize > 2 else grey
    low = min(0, grey.min())
    grey = ((grey - low) / (grey.max() - low)).astype(np.float32)
    height, width = grey.shape
    shrink = LARGEST / max(grey.shape)
    if shrink >= 1:
        return grey
    smaller = max(1, round(width * shrink)), max(1, round(height * shrink))
    return np.asarray(Image.fromarray(grey).resize(smaller, Image.Resampling.BILINEAR))


def box_of(ink, margin, stroke_width):
    """Return the (row, column) and the (height, width) of the ink with a margin around it."""
    corners = [np.flatnonzero(ink.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    (top, bottom), (left, right) = corners
    shape = bottom - top + 1, right - left + 1
    around = int(np.ceil(margin * max(shape) + stroke_width / 2))
    return (top - around, left - around), tuple(side + 2 * around for side in shape)


def draw(ink, box, size, width):
    """Draw the box of the ink (H, W) in `size`, bool: what is within half a `width` of it."""
    corner, shape = box
    if size is None:
        size, scale = shape, 1.0
    else:
        scale = min(new / old for new, old in zip(size, shape, strict=True))
        wider = tuple(max(old, round(new / scale)) for new, old in zip(size, shape, strict=True))
        corner = [at - (new - old) // 2 for at, new, old in zip(corner, wider, shape, strict=True)]
        shape = wider
    part = _cut(ink, corner, shape)
    if not part.any():
        return np.zeros(size, dtype=bool)
    away = ndimage.distance_transform_edt(~part)
    away = ndimage.affine_transform(
        away, (1 / scale, 1 / scale), offset=0.5 / scale - 0.5, output_shape=tuple(size), order=1,
        mode="nearest",
    )  # fmt: skip
    return away * scale <= width / 2


def _cut(ink, corner, shape):
    """Return a part of the ink; where it reaches beyond the drawing, there is none."""
    part = np.zeros(shape, dtype=bool)
    target, source = [], []
    for start, length, there in zip(corner, shape, ink.shape, strict=True):
        first, last = max(start, 0), min(start + length, there)
        source.append(slice(first, last))
        target.append(slice(first - start, last - start))
    part[tuple(target)] = ink[tuple(source)]
    return part
