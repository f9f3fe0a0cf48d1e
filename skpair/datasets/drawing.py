"""How a copepod is drawn: its anatomy, its photograph and its sketch."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SUPERSAMPLING = 4  # drawn larger and averaged down, for smooth edges

# Binary traits: the names of level -1 and level +1. The number of egg sacs is the fifth trait.
TRAITS = {
    "prosome": ("slender", "broad"),
    "urosome": ("straight", "bent"),
    "length": ("long", "short"),
    "posture": ("spread", "swept"),
}

EGG_SACS = ("no sacs", "one sac", "two sacs")

SMALLEST_SAC = 0.15  # a sac below this size is not drawn


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
    """Return the parts of specimens with `traits` (n, 5), head up, as arrays of points.

    Returned with them are the traits that these specimens have, in units (n,) by name.
    """
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
    body = 1 + urosome_length
    true = {
        "breadth": 2 * half / body,
        "bend": np.degrees(np.abs(bend)),
        "antennule_length": length.mean(axis=1) / body,
        "antennule_posture": np.degrees((start + tip).mean(axis=1) / 2),
        "sacs": (size > SMALLEST_SAC).sum(axis=1),
    }
    parts = {
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
    return parts, true


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


def draw_photographs(traits, image_size, rng):
    """Return grey photographs (n, image_size, image_size), uint8, of specimens with `traits`.

    Returned with them are the traits that these specimens have, in units (n,) by name.
    """
    n = len(traits)
    turn = rng.uniform(0, 2 * np.pi, size=n)
    parts, true = _anatomy(traits, rng)
    parts = _pose(parts, turn, rng.uniform(0.34, 0.46, size=n), rng)
    photographs = np.empty((n, image_size, image_size), dtype=np.uint8)
    for row in range(n):
        canvas = _Canvas(image_size)
        _draw_debris(canvas, rng)
        _draw_specimen(canvas, {name: part[row] for name, part in parts.items()}, rng)
        photographs[row] = _develop(canvas, image_size, rng)
    return photographs, true


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
        if size > SMALLEST_SAC:
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


def draw_sketches(traits, image_size, rng):
    """Return hand-like drawings (n, image_size, image_size), uint8 in {0, 1}.

    Returned with them are the traits that the drawn specimens have, in units (n,) by name.
    """
    n = len(traits)
    turn = rng.normal(0, 0.35, size=n)  # people draw head up
    parts, true = _anatomy(traits, rng)
    parts = _pose(parts, turn, rng.uniform(0.38, 0.5, size=n), rng)
    size = parts.pop("sac_size")
    strokes = {
        name: _by_hand(parts[name], rng) for name in ("axis", "antennules", "rami", "bars", "sacs")
    }
    pens = rng.uniform(1.1, 1.7, size=n) / 64
    drawings = np.empty((n, image_size, image_size), dtype=np.uint8)
    for row in range(n):
        canvas = _Canvas(image_size)
        for name, stroke in strokes.items():
            seen = stroke[row][size[row] > SMALLEST_SAC] if name == "sacs" else stroke[row]
            canvas.lines(seen, pens[row], 255)
        drawings[row] = np.asarray(canvas.reduced()) > 90
    return drawings, true


def _by_hand(strokes, rng):
    """Let the points of strokes (n, ..., k, 2) waver, slow swings more than quick ones."""
    k = strokes.shape[-2]
    swings = np.cos(np.pi * np.linspace(0, 1, k)[:, None] * np.arange(6))
    strength = 0.010 / (1 + np.arange(6))[:, None]
    return strokes + swings @ (strength * rng.normal(size=(*strokes.shape[:-2], 6, 2)))
