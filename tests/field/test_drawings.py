"""Drawings as they are scanned: what is found of circles and lines whose place is known."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from skpair.field import drawings
from skpair.field.drawings import check, clean, is_binary

matplotlib.use("Agg")

SIDE = 320
Y, X = np.mgrid[:SIDE, :SIDE].astype(float)
#: A circle of radius 70 around (row 160, column 150), and a slanted line below it.
CIRCLE = np.abs(np.hypot(Y - 160, X - 150) - 70)
LINE = np.hypot((np.abs(X - 150) - 60).clip(0), Y - 265 - (X - 150).clip(-60, 60) / 4)
AWAY = np.minimum(CIRCLE, LINE)
SHADE = 0.5 + 0.5 * X / SIDE


def taken(away, width, darkness=0.7):
    """Return how much light strokes take whose middle lines are so far away."""
    return darkness * (width / 2 + 0.5 - away).clip(0, 1)


def photograph(strokes, *, paper=0.9, shade=SHADE, noise=4, seed=0):
    """Return a grey photograph, uint8, of strokes that take light from a shaded sheet."""
    rng = np.random.default_rng(seed)
    light = 255 * paper * shade * (1 - strokes) + noise * rng.normal(size=shade.shape)
    return light.clip(0, 255).astype(np.uint8)


def assert_lines_found(cleaned, away=AWAY, share=0.98):
    """Check that ink lies within two pixels of the lines, and that they are found all along."""
    assert cleaned.dtype == np.uint8 and set(np.unique(cleaned)) <= {0, 255}
    ink = cleaned > 0
    assert ink.any() and (away[ink] <= 2).mean() > share
    near = ndimage.distance_transform_edt(~ink) <= 2
    assert near[away <= 0.5].mean() > share


def as_blue(strokes):
    planes = [photograph(strokes * blue, seed=i) for i, blue in enumerate((1, 0.9, 0.3))]
    return np.stack(planes, axis=2)


GREY = photograph(taken(AWAY, 5))
SCANS = {
    "grey": GREY,
    "wide integers": GREY.astype(np.uint16) * 257,
    "floats": GREY.astype(np.float32) / 255,
    "halves": (GREY / 255).astype(np.float16),
    "below zero": GREY.astype(np.int64) - 128,
    "one channel": GREY[..., None],
    "colour": np.stack([GREY] * 3, axis=2),
    "opaque": np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)]),
    "blue ink": as_blue(taken(AWAY, 5)),
    "white on black": 255 - photograph(taken(AWAY, 5), shade=np.ones_like(SHADE)),
    "pale": photograph(taken(AWAY, 5, 0.25), noise=2),
    "fine": photograph(taken(AWAY, 2)),
    "marker": photograph(taken(AWAY, 16)),
}


@pytest.mark.parametrize("kind", SCANS)
def test_lines_of_a_shaded_scan_are_found(kind):
    assert_lines_found(clean(SCANS[kind], crop=False, stroke_width=1))


def ruling(spacing, slope, darkness, *, squared):
    """Return how much light ruled lines take."""
    along = [Y + slope * X, X - slope * Y][: 1 + squared]
    return np.max([taken(np.abs(a % spacing - spacing / 2), 1, darkness) for a in along], axis=0)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("slope", [0, 0.06])
def test_ruled_lines_go_and_the_strokes_on_them_stay(squared, slope):
    rules = ruling(18, slope, 0.25, squared=squared)
    scan = photograph(1 - (1 - taken(AWAY, 5)) * (1 - rules))
    assert_lines_found(clean(scan, crop=False, stroke_width=1))
    blank = photograph(rules)
    assert not clean(blank).any()
    assert clean(blank, remove_ruling=False, crop=False).mean() > 2


@pytest.mark.parametrize("darkness", [0.7, 0.35])
def test_a_stroke_along_a_ruled_line_stays(darkness):
    rules = ruling(18, 0, 0.25, squared=False)
    level = np.hypot(Y - 171, (np.abs(X - 160) - 50).clip(0))  # 171 = 9 * 18 + 9: on a line
    scan = photograph(1 - (1 - taken(level, 5, darkness)) * (1 - rules))
    assert_lines_found(clean(scan, crop=False, stroke_width=1), level, 0.95)


def test_frames_go():
    frame = np.abs(np.maximum(np.abs(X - 160), np.abs(Y - 160)) - 148)
    scan = photograph(np.maximum(taken(AWAY, 5), taken(frame, 3)))
    assert_lines_found(clean(scan, crop=False, stroke_width=1))


def test_a_straight_stroke_that_ends_within_the_sheet_is_no_frame():
    stroke = np.hypot(X - 160, (np.abs(Y - 160) - 120).clip(0))  # three quarters of the height
    assert_lines_found(clean(photograph(taken(stroke, 5)), crop=False, stroke_width=1), stroke)


@pytest.mark.parametrize("narrowest", [24, 9])
def test_a_dark_table_goes(narrowest):
    sheet = (X > narrowest) & (X < 300) & (Y > 26) & (Y < 296)
    rng = np.random.default_rng(0)
    wood = ndimage.gaussian_filter(rng.normal(size=SHADE.shape), (1, 6)) * 0.3 + 0.25
    scan = photograph(np.where(sheet, taken(AWAY, 5), 1 - wood))
    assert_lines_found(clean(scan, crop=False, stroke_width=1))


def test_the_edge_of_a_shadow_is_no_line():
    shade = np.where(X + Y / 3 < 180, 1.0, 0.6)
    assert_lines_found(clean(photograph(taken(AWAY, 5), shade=shade), crop=False, stroke_width=1))


def test_a_dark_speck_neither_shows_nor_hides_a_pale_drawing():
    speck = np.hypot(Y - 40, X - 280)
    scan = photograph(np.maximum(taken(AWAY, 5, 0.25), taken(speck, 7, 0.95)), noise=2)
    assert_lines_found(clean(scan, crop=False, stroke_width=1))
    kept = clean(scan, crop=False, remove_specks=False)
    assert kept[speck < 1].all()


@pytest.mark.parametrize("paper", [0.9, 0.1])
def test_a_blank_page_is_blank(paper):
    cleaned = clean(photograph(np.zeros_like(SHADE), paper=paper))
    assert cleaned.shape == (SIDE, SIDE) and not cleaned.any()
    assert clean(photograph(np.zeros_like(SHADE)), size=(40, 30)).shape == (40, 30)


def test_small_gaps_are_closed():
    dashes = np.where((np.arctan2(Y - 160, X - 150) * 70 % 44) < 3, 9, CIRCLE)
    cleaned = clean(photograph(taken(dashes, 5)), crop=False)
    assert ndimage.label(~(cleaned > 0))[1] == 2  # inside and outside of a ring that is closed
    assert_lines_found(cleaned, CIRCLE)


# ---- binary drawings -----------------------------------------------------------------------------


@pytest.mark.parametrize("ink, ground", [(1, 0), (255, 0), (0, 255), (0.0, 1.0), (-3, 7)])
def test_binary_drawings_are_kept_to_the_bit(ink, ground):
    truth = np.random.default_rng(0).random((37, 23)) < 0.2
    drawing = np.where(truth, ink, ground)
    assert is_binary(drawing)
    assert np.array_equal(clean(drawing), truth * 255)
    assert np.array_equal(clean(np.stack([drawing] * 3, axis=2)), truth * 255)


def test_a_binary_drawing_of_another_size_loses_no_line():
    drawing = np.zeros((100, 100), dtype=bool)
    drawing[41] = True
    cleaned = clean(drawing, size=10)
    assert cleaned.shape == (10, 10) and cleaned[4].all() and not np.delete(cleaned, 4, 0).any()


def test_what_is_binary():
    assert is_binary(np.ones((3, 3))) and is_binary(np.eye(4, dtype=bool))
    assert not is_binary([[0, 1, 2]]) and not is_binary(GREY)


def test_transparent_drawings_lie_on_what_shows_them():
    truth = AWAY < 2
    for grey in (0, 255):
        drawing = np.full((SIDE, SIDE, 4), grey, dtype=np.uint8)
        drawing[..., 3] = truth * 255
        assert np.array_equal(clean(drawing), truth * 255)
        assert np.array_equal(clean(Image.fromarray(drawing)), truth * 255)


# ---- what the result looks like ------------------------------------------------------------------


def test_strokes_have_the_width_asked_for():
    level = np.hypot(Y - 160, (np.abs(X - 160) - 100).clip(0))
    for stroke_width in (1, 3, 7):
        for drawn in (3, 11):
            cleaned = clean(photograph(taken(level, drawn)), crop=False, stroke_width=stroke_width)
            assert (cleaned[:, 100:220] > 0).sum(axis=0).mean() == pytest.approx(
                stroke_width, abs=0.4
            )
    wide = clean(photograph(taken(level, 11)), crop=False, thin=False)
    assert (wide[:, 100:220] > 0).sum(axis=0).mean() == pytest.approx(11, abs=1.5)


def test_the_crop_leaves_a_margin():
    ring = photograph(taken(CIRCLE, 5))
    for margin in (0, 0.25):
        cleaned = clean(ring, margin=margin, stroke_width=1)
        rows, columns = (np.flatnonzero(cleaned.any(axis=axis)) for axis in (1, 0))
        expected = margin * 141 + 1  # the circle's diameter, and half a stroke
        for found, side in ((rows, cleaned.shape[0]), (columns, cleaned.shape[1])):
            assert found[0] == pytest.approx(expected, abs=2)
            assert side - 1 - found[-1] == pytest.approx(expected, abs=2)
            assert found[-1] - found[0] == pytest.approx(140, abs=4)


def test_the_size_keeps_proportions():
    cleaned = clean(photograph(taken(CIRCLE, 5)), size=(64, 128), margin=0)
    rows, columns = (np.flatnonzero(cleaned.any(axis=axis)) for axis in (1, 0))
    assert cleaned.shape == (64, 128)
    assert (rows[0], rows[-1]) == pytest.approx((0, 63), abs=2)
    assert (columns[0], columns[-1]) == pytest.approx((32, 95), abs=2)  # ground on both sides
    assert ndimage.label(np.pad(cleaned == 0, 1, constant_values=True))[1] == 2  # a closed ring
    assert clean(photograph(taken(CIRCLE, 5)), size=400).shape == (400, 400)


def test_a_crop_at_the_border_has_its_margin_too():
    corner = np.hypot(Y - 0, X - 0)
    cleaned = clean(photograph(taken(np.abs(corner - 90), 5)), margin=0.5)
    assert not cleaned[:30].any() and not cleaned[:, :30].any() and cleaned.any()


def test_large_scans_are_shrunk():
    large = Image.fromarray(GREY).resize((1280, 1280), Image.Resampling.BILINEAR)
    cleaned = clean(large, crop=False, stroke_width=1)
    assert cleaned.shape == (1024, 1024)
    away = np.asarray(Image.fromarray(AWAY.astype(np.float32)).resize((1024, 1024)))
    assert_lines_found(cleaned, away)


def test_threads_and_repeats_find_the_same():
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(clean, [GREY] * 4))
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (2, 2), (5, 3), (17, 300)])
def test_odd_shapes_of_noise_pass(shape):
    noise = np.random.default_rng(0).integers(100, 140, shape).astype(np.uint8)
    assert clean(noise, crop=False).shape == shape


@pytest.mark.parametrize("seed", range(8))
def test_pictures_that_are_no_drawings_pass(seed):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (2 + seed, 9 - seed), dtype=np.uint8))
    picture = np.asarray(coarse.resize((90, 70), Image.Resampling.NEAREST))
    assert clean(picture, crop=False).shape == (70, 90)
    assert clean(rng.integers(0, 256, (40, 60), dtype=np.uint8), size=20).shape == (20, 20)


# ---- files and errors ----------------------------------------------------------------------------


def test_files_are_read_as_arrays_are(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "scan.png")
    expected = clean(GREY)
    assert np.array_equal(clean(tmp_path / "scan.png"), expected)
    assert np.array_equal(clean(str(tmp_path / "scan.png")), expected)
    Image.fromarray(GREY).save(tmp_path / "scan.jpg", quality=60)
    assert_lines_found(clean(tmp_path / "scan.jpg", crop=False, stroke_width=1))
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "scan16.png")
    assert np.array_equal(clean(tmp_path / "scan16.png"), expected)


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    Image.fromarray(GREY).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(clean(tmp_path / "turned.png"), clean(np.rot90(GREY, -1)))


def test_files_that_are_no_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*none\.png'.* relative to"):
        clean(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(OSError, match=r"text\.png"):
        clean(tmp_path / "text.png")
    Image.fromarray(GREY).save(tmp_path / "scan.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "scan.png").read_bytes()[:20_000])
    with pytest.raises(OSError, match=r"half\.png.* cannot be read"):
        clean(tmp_path / "half.png")
    with pytest.raises(OSError, match="is not a file"):
        clean(tmp_path)


@pytest.mark.parametrize(
    "drawing, error, message",
    [
        (np.zeros((0, 5)), ValueError, "no pixels"),
        (np.zeros(5), ValueError, r"shape \(5,\); expected \(H, W\)"),
        (np.zeros((3, 20, 20)), ValueError, "channels last"),
        (np.full((5, 5), np.nan), ValueError, "NaN"),
        (np.full((5, 5), 1j), TypeError, "real numbers"),
        (np.full((5, 5), "a"), TypeError, "real numbers"),
        (None, TypeError, "real numbers"),
    ],
)
def test_what_is_no_drawing(drawing, error, message):
    for function in (clean, is_binary):
        with pytest.raises(error, match=message):
            function(drawing)


@pytest.mark.parametrize(
    "options", [{"stroke_width": 0}, {"margin": -1}, {"size": 0}, {"size": (3, 4, 5)}]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        clean(GREY, **options)


# ---- many drawings -------------------------------------------------------------------------------


def test_what_is_odd_about_drawings(tmp_path):
    plain, much, little, block = (np.zeros((64, 64), dtype=np.uint8) for _ in range(4))
    plain[10:50, 30] = 255
    much[10:54, 20:45] = 255  # 44 * 25 of 4096 pixels
    little[30, 30] = 255
    block[:20, :12] = 255
    Image.fromarray(plain).save(tmp_path / "plain.png")
    found = check([tmp_path / "plain.png", much, little, block, np.zeros((64, 64)), GREY])
    assert list(found.index) == [str(tmp_path / "plain.png"), 1, 2, 3, 4, 5]
    assert found["ink"].to_numpy()[:5] == pytest.approx(
        [40 / 4096, 1100 / 4096, 1 / 4096, 240 / 4096, 0]
    )
    assert list(found["odd"]) == [
        "",
        "more than a quarter is ink",
        "nearly no ink",
        "a block of ink at the border",
        "no ink",
        "",
    ]
    # 2 pi 70 of the circle and 124 of the line, 5 wide
    assert found["ink"].iloc[5] == pytest.approx((2 * np.pi * 70 + 124) * 5 / SIDE**2, rel=0.2)


def test_checks_of_none_and_of_what_is_no_list():
    empty = check([])
    assert isinstance(empty, pd.DataFrame) and list(empty) == ["ink", "odd"] and not len(empty)
    assert len(check(drawing for drawing in (GREY, GREY))) == 2
    with pytest.raises(TypeError, match="list of drawings"):
        check("scan.png")
    with pytest.raises(ValueError, match="Drawing 1: .* NaN"):
        check([GREY, np.full((4, 4), np.nan)])


def test_the_contact_sheet(tmp_path):
    from matplotlib import pyplot

    Image.fromarray(GREY).save(tmp_path / "scan.png")
    scans = [tmp_path / "scan.png", 255 - GREY, GREY]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = drawings.show(scans, size=48)
    scan, seen, *_ = figure.axes
    assert [ax.get_title() for ax in figure.axes[::2]] == ["scan.png", "1", "2", ""]
    assert np.array_equal(scan.images[0].get_array(), GREY)
    assert np.array_equal(seen.images[0].get_array(), clean(GREY, size=48))
    with pytest.raises(ValueError, match="0 drawings"):
        drawings.show([])
    with pytest.raises(ValueError, match="1 drawings to show, and 2 names"):
        drawings.show([GREY], names=["a", "b"])
    pyplot.close(figure)
