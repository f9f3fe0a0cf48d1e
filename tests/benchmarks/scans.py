"""Drawings as a telephone photographs them: what cleaning finds of their lines.

    python tests/benchmarks/scans.py [n_drawings] [sheet.png]

The lines are those of `make_copepods`, drawn anew with strokes of 4 to 8 pixels on photographs of
640. A precision is the share of found lines that lie within two pixels of a true one, a recall the
share of true lines that lie within two pixels of a found one: the mean of all drawings, and the
worst. What the reader of pictures finds, which cuts midway between darkest and lightest, is
thinned to lines, too, and stands beside. 40 drawings take some minutes.
"""

import io
import sys
import time

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.morphology import skeletonize

from skpair.datasets import make_copepods
from skpair.field import drawings
from skpair.rows import pictures

SIZE = 640
WITHIN = 2  # pixels
VARIANTS = (
    "plain", "jpeg", "white on black", "blue ink", "lined", "squared", "table", "speck",
)  # fmt: skip
BLUE = np.array([0.25, 0.35, 0.85])
RULES = np.array([0.45, 0.6, 0.9])


def smooth(rng, cells, shape=(SIZE, SIZE)):
    """Return a field of about -1..1 that changes over `cells` along a side."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC))


def true_lines(sketch, tilt, share):
    """Return lines one pixel wide (SIZE, SIZE), bool: a sketch made smaller, and tilted."""
    sketch = Image.fromarray(sketch * np.uint8(255)).resize((round(share * SIZE),) * 2)
    sheet = Image.new("L", (SIZE, SIZE))
    sheet.paste(sketch, ((SIZE - sketch.width) // 2,) * 2)
    sheet = np.asarray(sheet.rotate(tilt, Image.Resampling.BILINEAR), dtype=np.float32)
    return skeletonize(ndimage.gaussian_filter(sheet, 4) > 127)  # round ends leave no forks


def strokes(lines, rng, pale):
    """Return how much of the light ink takes, 0..1, for lines drawn by hand."""
    away = ndimage.distance_transform_edt(~lines)
    width = rng.uniform(4, 8) * (1 + 0.15 * smooth(rng, 8))
    darkness = rng.uniform(0.2, 0.3) if pale else rng.uniform(0.4, 0.8)
    grain = 1 + 0.2 * smooth(rng, 12) + 0.1 * rng.normal(size=lines.shape)
    return (width / 2 + 0.5 - away).clip(0, 1) * (darkness * grain).clip(0, 0.95)


def ruling(rng, tilt, squared):
    """Return how much of the light the lines of a paper take, 0..1."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    angle = np.radians(tilt)
    spacing, start = SIZE / rng.uniform(*(28, 40) if squared else (16, 26)), rng.uniform(0, 30)
    taken = np.zeros((SIZE, SIZE))
    for along in (y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)):
        away = np.abs((along + start) % spacing - spacing / 2)
        taken = np.maximum(taken, (1.2 - away).clip(0, 1))
        if not squared:
            break
    return taken * rng.uniform(0.15, 0.35)


def light(rng):
    """Return the light on the paper, brighter on one side."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    across = x * np.cos(angle) + y * np.sin(angle)  # -0.7..0.7
    return (1 - rng.uniform(0.3, 0.5) * (0.7 + across) / 1.4) * (1 + 0.03 * smooth(rng, 5))


def on_table(picture, rng, tilt):
    """Put a dark table with a grain around a sheet that is smaller than the picture."""
    border = rng.uniform(0.03, 0.08, 4) * SIZE
    left, top, right, low = border[0], border[1], SIZE - border[2], SIZE - border[3]
    sheet = Image.new("L", (SIZE, SIZE))
    sheet.paste(255, tuple(map(round, (left, top, right, low))))
    sheet = np.asarray(sheet.rotate(tilt, Image.Resampling.BILINEAR))[..., None] / 255
    grain = 1 + 0.25 * np.repeat(smooth(rng, 60)[:, :1], SIZE, axis=1) + 0.1 * smooth(rng, 80)
    wood = np.array([0.3, 0.22, 0.16]) * rng.uniform(0.5, 1.2) * grain[..., None]
    return sheet * picture + (1 - sheet) * wood


def photograph(sketch, variant, rng):
    """Return the picture (SIZE, SIZE, 3), uint8, of a drawing, and its true lines."""
    tilt = rng.uniform(-4, 4)
    lines = true_lines(sketch, tilt, 0.75 if variant == "table" else 1)
    taken = strokes(lines, rng, pale=variant == "speck")
    ink = BLUE if variant == "blue ink" else np.full(3, 0.1)
    picture = np.ones((SIZE, SIZE, 3)) * [0.93, 0.92, 0.88]
    if variant in ("lined", "squared"):
        picture *= 1 - ruling(rng, tilt, variant == "squared")[..., None] * (1 - RULES) * 1.8
    picture *= 1 - taken[..., None] * (1 - ink)
    if variant == "white on black":
        picture = 1.02 - picture
    if variant == "speck":
        y, x = np.mgrid[:SIZE, :SIZE]
        away = np.hypot(y - rng.uniform(0, SIZE), x - rng.uniform(0, SIZE))
        picture *= 1 - 0.95 * (rng.uniform(3, 7) - away).clip(0, 1)[..., None]
    if variant == "table":
        picture = on_table(picture, rng, tilt)
    picture = 255 * picture * light(rng)[..., None]
    picture = ndimage.gaussian_filter(picture, (0.7, 0.7, 0))
    noise = rng.normal(size=(SIZE, SIZE, 1)) + 0.5 * rng.normal(size=(SIZE, SIZE, 3))
    picture = (picture + rng.uniform(3, 6) * noise).clip(0, 255).astype(np.uint8)
    return (through_jpeg(picture) if variant == "jpeg" else picture), lines


def through_jpeg(picture):
    """Return the picture as JPEG of quality 60 leaves it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=60)
    return np.asarray(Image.open(file))


def agreement(found, true):
    """Return precision and recall of found lines, both (H, W) bool."""
    near_true = ndimage.distance_transform_edt(~true) <= WITHIN
    if not found.any():
        return 0.0, 0.0
    near_found = ndimage.distance_transform_edt(~found) <= WITHIN
    return near_true[found].mean(), near_found[true].mean()


def judge(variant, sketches):
    """Print a variant's line of the table; return its worst photograph."""
    rng = np.random.default_rng(0)
    cleaned, midway, seconds, photographs = [], [], 0.0, []
    for sketch in sketches:
        picture, lines = photograph(sketch, variant, rng)
        started = time.perf_counter()
        found = drawings.clean(picture, crop=False, stroke_width=1)
        seconds += time.perf_counter() - started
        cleaned.append(agreement(found > 0, lines))
        read = pictures.as_ink(picture[None], (SIZE, SIZE), pictures.Look())[0, 0]
        midway.append(agreement(skeletonize(read), lines))
        photographs.append(picture)
    shown = [
        f"{np.mean(part):5.3f} ({np.min(part):5.3f})"
        for part in (*zip(*cleaned, strict=True), *zip(*midway, strict=True))
    ]
    print(f"{variant:15s}", *shown, f"{seconds / len(sketches) * 1e3:5.0f} ms", flush=True)
    return photographs[int(np.argmin(np.min(cleaned, axis=1)))]


def main(n_drawings, sheet=None):
    """Print the table, and save the contact sheet of the worst drawing of each variant."""
    sketches = make_copepods(max(16, n_drawings), image_size=SIZE, random_state=0).skeletons[
        :n_drawings
    ]
    print("mean (worst)      precision      recall         midway: prec.  recall")
    worst = [judge(variant, sketches) for variant in VARIANTS]
    if sheet is not None:
        figure = drawings.show(worst, names=VARIANTS)
        figure.savefig(sheet, dpi=60)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 40, *sys.argv[2:3])
