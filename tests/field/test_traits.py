"""Tests of skpair.field.traits: what is measured of drawings whose measures are known."""

import numpy as np
import pytest
from PIL import Image
from skimage.measure import regionprops

from skpair.datasets import make_copepods
from skpair.field.traits import COLUMNS, LENGTHS, N_BRANCHES, measure


def canvas(size=64):
    return np.zeros((size, size), dtype=bool)


def copepod():
    """A body of 45 pixels, 5 down to 49, with antennules of 20 and 14, and legs of 6 and 6."""
    ink = canvas()
    ink[5:50, 32] = True
    ink[10, 12:47] = True
    ink[25, 26:39] = True
    return ink


def ring(ink, row, column, radius):
    rows, columns = np.mgrid[: len(ink), : len(ink)]
    ink |= np.abs(np.hypot(rows - row, columns - column) - radius) < 0.7
    return ink


def one(ink, **how):
    return measure(ink[None], **how).loc[0]


def test_a_cross_of_known_lengths():
    row = one(copepod())
    assert row["axis_length"] == pytest.approx(44)
    assert row["total_length"] == pytest.approx(44 + 34 + 12)
    assert row["straightness"] == pytest.approx(1)
    assert row["bend"] == pytest.approx(0, abs=1e-6)
    assert row[["parts", "tips", "junctions", "loops"]].tolist() == [1, 6, 2, 0]
    assert row[["width", "height"]].tolist() == [35, 45]
    lengths = [row[f"branch_length_{number}"] for number in range(1, 5)]
    assert lengths == pytest.approx([20, 14, 6, 6])
    places = [row[f"branch_place_{number}"] for number in range(1, 5)]
    assert places == pytest.approx([5 / 44, 5 / 44, 20 / 44, 20 / 44])
    assert row["antennule_length"] == pytest.approx(17)
    assert row["antennule_place"] == pytest.approx(5 / 44)
    assert row[[f"branch_{what}_5" for what in ("length", "place")]].isna().all()


def test_columns_and_their_order():
    table = measure(np.stack([copepod(), canvas()]))
    assert tuple(table.columns) == COLUMNS
    assert table.index.tolist() == [0, 1]
    assert N_BRANCHES == 8
    assert all(table[name].dtype.kind == "i" for name in ("parts", "tips", "junctions", "loops"))


def test_a_slanted_line_has_its_euclidean_length():
    ink = canvas(100)
    for end in range(80):
        ink[10 + end, 10 + end // 2] = True  # a slope of one half
    row = one(ink)
    assert row["axis_length"] == pytest.approx(np.hypot(79, 39.5), rel=0.015)
    assert row["total_length"] == pytest.approx(row["axis_length"])


def test_a_bent_tail_is_measured_in_degrees():
    ink = canvas(80)
    ink[5:45, 40] = True  # straight down for 40, then 45 degrees to the right
    for step in range(22):
        ink[45 + step, 41 + step] = True
    ink[12, 20:61] = ink[25, 34:47] = True
    row = one(ink)
    assert row["bend"] == pytest.approx(45, abs=2)
    length = 40 + 21 * np.sqrt(2) + 1
    assert row["axis_length"] == pytest.approx(length, abs=1)
    assert row["straightness"] == pytest.approx(np.hypot(61, 22) / length, abs=0.02)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_measures_do_not_depend_on_the_direction(turns):
    upright, turned = one(copepod()), one(np.rot90(copepod(), turns))
    names = ["axis_length", "antennule_length", "antennule_place", "feret", "symmetry", "tips"]
    assert turned[names].tolist() == pytest.approx(upright[names].tolist())


def test_long_antennules_are_not_the_axis():
    ink = canvas(90)
    ink[10:51, 45] = True
    ink[14, 2:89] = True  # 86 long, more than twice the body
    ink[28, 40:51] = True
    row = one(ink)
    assert row["axis_length"] == pytest.approx(40, abs=5)  # a head of 4 may be taken for a spur
    assert row["antennule_length"] == pytest.approx(43, abs=1)


def test_symmetry_is_lost_with_a_side():
    whole, half = copepod(), copepod()
    half[:, :32] = False  # as of an animal that lies on its side
    assert one(half)["axis_length"] == pytest.approx(44)
    assert one(whole)["symmetry"] > 0.8
    assert one(half)["symmetry"] == 0
    line = canvas()
    line[5:50, 32] = True
    assert one(line)["symmetry"] == 1


def test_one_side_alone_gives_the_length_of_antennules():
    ink = copepod()
    ink[:, :32] = False
    assert one(ink)["antennule_length"] == pytest.approx(14)


@pytest.mark.parametrize("centres", [[], [(45, 38)], [(45, 38), (45, 26)]])
def test_sacs_are_loops(centres):
    ink = copepod()
    for row, column in centres:
        ring(ink, row, column, 5)
    assert one(ink)["loops"] == len(centres)


def test_a_sac_cut_by_the_body_counts_once():
    assert one(ring(copepod(), 42, 32, 6))["loops"] == 1


def test_a_sac_that_is_not_quite_closed_counts():
    ink = ring(copepod(), 44, 39, 6)
    ink[40:44, 44:] = False  # a gap of about four pixels
    assert one(ink)["tips"] >= 7
    assert one(ink)["loops"] == 1


def test_what_antennules_enclose_is_no_sac():
    ink = copepod()
    ink[10:26, 38] = True  # from the right antennule to the tip of the leg
    assert one(ink)["loops"] == 0


def test_spurs_are_pruned_and_thick_pens_thinned():
    ink = copepod()
    ink[40, 33:35] = True  # two pixels off the body
    assert one(ink)["tips"] == 6
    thick = np.kron(copepod(), np.ones((3, 3), dtype=bool))
    row = one(thick)
    assert row["tips"] == 6
    assert row["axis_length"] == pytest.approx(3 * 44, abs=4)


def test_parts_are_counted_and_the_longest_one_is_measured():
    ink = copepod()
    ink[55, 5:25] = True
    row = one(ink)
    assert row[["parts", "tips"]].tolist() == [2, 8]
    assert row["axis_length"] == pytest.approx(44)
    assert row["total_length"] == pytest.approx(44 + 34 + 12 + 19)
    assert row["height"] == 51


def test_a_blank_drawing():
    row = one(canvas())
    counted = ["parts", "tips", "junctions", "loops", "total_length"]
    assert (row[counted] == 0).all()
    assert row.drop(counted).isna().all()


def test_a_point_and_a_ring():
    ink = canvas()
    ink[10, 20] = True
    row = one(ink)
    assert row[["width", "height", "feret", "total_length", "axis_length"]].tolist() == [
        1,
        1,
        1,
        0,
        0,
    ]
    assert row[["straightness", "bend", "symmetry", "antennule_length"]].isna().all()
    assert row[["parts", "tips", "junctions", "loops"]].tolist() == [1, 0, 0, 0]
    row = one(ring(canvas(), 30, 30, 20))
    assert row["axis_length"] == pytest.approx(np.pi * 20, rel=0.1)  # one half
    assert row["total_length"] == pytest.approx(2 * np.pi * 20, rel=0.05)
    assert row["tips"] == 0


def test_box_and_feret_are_those_of_scikit_image():
    drawings = make_copepods(16, image_size=48, random_state=0).skeletons
    table = measure(drawings)
    for drawing, (_, row) in zip(drawings, table.iterrows(), strict=True):
        region = regionprops(drawing.astype(int))[0]
        top, left, bottom, right = region.bbox
        assert (row["height"], row["width"]) == (bottom - top, right - left)
        assert row["feret"] == pytest.approx(region.feret_diameter_max, rel=0.02)


def test_pixel_size_scales_lengths_only():
    plain = measure([copepod()] * 2)
    scaled = measure([copepod()] * 2, pixel_size=[0.5, 2.0])
    others = [name for name in COLUMNS if name not in LENGTHS]
    np.testing.assert_allclose(scaled[others], plain[others])
    lengths = list(LENGTHS)
    np.testing.assert_allclose(scaled.loc[0, lengths], plain.loc[0, lengths] * 0.5)
    np.testing.assert_allclose(scaled.loc[1, lengths], plain.loc[1, lengths] * 2)
    np.testing.assert_allclose(
        measure([copepod()], pixel_size=2)[lengths].loc[0], scaled.loc[1, lengths]
    )


def test_kinds_of_arrays_and_files_agree(tmp_path):
    ink = copepod()
    expected = one(ink)
    for drawing in (ink.astype(np.uint8) * 255, ink.astype(float), ink.astype(np.int64)):
        assert one(drawing).equals(expected)
    small = np.zeros((20, 30), dtype=bool)
    small[4, 3:25] = True
    assert measure([ink, small]).loc[0].equals(expected)
    assert measure([ink, small]).loc[1, "axis_length"] == pytest.approx(21)
    for name, picture in (("dark.png", ~ink), ("light.png", ink)):
        Image.fromarray(picture * np.uint8(255)).save(tmp_path / name)
    table = measure([tmp_path / "dark.png", str(tmp_path / "light.png")])
    assert table.loc[0].equals(expected)
    assert table.loc[1].equals(expected)


def test_a_photograph_on_its_side_keeps_its_size(tmp_path):
    wide = np.ones((20, 50), dtype=bool)
    wide[10, 5:45] = False
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(wide * np.uint8(255)).save(tmp_path / "turned.png", exif=exif)
    assert measure([tmp_path / "turned.png"]).loc[0, ["width", "height"]].tolist() == [1, 40]


@pytest.mark.slow
def test_processes_and_the_bar_change_nothing(capsys):
    drawings = make_copepods(20, n_cases=2, random_state=0).skeletons
    assert measure(drawings, n_jobs=2, verbose=1).equals(measure(drawings))
    assert "20/20" in capsys.readouterr().err


def test_drawings_are_not_written_to():
    ink = copepod()
    measure(ink[None])
    assert (ink == copepod()).all()


def test_a_ground_taken_for_ink_is_told():
    with pytest.warns(UserWarning, match=r"is ink in 1 row\(s\): 1"):
        measure([copepod(), ~copepod()])


@pytest.mark.parametrize(
    ("skeletons", "message"),
    [
        ([], "There are 0 drawings"),
        (np.zeros((0, 8, 8)), "There are 0 drawings"),
        (canvas(), r"drawing\[None\]"),
        (np.zeros((1, 3, 8, 8)), r"expected \(n, H, W\)"),
        ([np.zeros((8, 8)), np.zeros((9, 9, 3))], r"Row 1: the drawing has the shape \(9, 9, 3\)"),
        (np.zeros((1, 8, 8), dtype=complex), "Row 0: the drawing has .* complex128"),
        (np.full((1, 8, 8), np.nan), "Row 0: the drawing holds NaN"),
        ("drawing.png", "One path was given"),
    ],
)
def test_what_is_no_drawing_is_refused(skeletons, message):
    with pytest.raises(ValueError, match=message):
        measure(skeletons)


@pytest.mark.parametrize("pixel_size", [0, -1, np.nan, [1, 2, 3], "mm"])
def test_a_wrong_pixel_size_is_refused(pixel_size):
    with pytest.raises(ValueError, match="pixel_size must be a number above 0"):
        measure([copepod()] * 2, pixel_size=pixel_size)


def test_missing_and_broken_files_are_named(tmp_path):
    Image.fromarray(copepod()).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(FileNotFoundError, match=r"Row 1: '.*absent.png' does not exist"):
        measure([tmp_path / "good.png", tmp_path / "absent.png"])
    with pytest.raises(OSError, match=r"Row 0: '.*broken.png' cannot be read"):
        measure([tmp_path / "broken.png"])


@pytest.mark.slow
def test_traits_of_clean_copepods_are_found():
    data = make_copepods(300, ambiguity=0, random_state=5)
    table, true = measure(data.skeletons), data.skeleton_traits
    assert (table["loops"] == true["sacs"]).mean() > 0.94
    long = true["antennule_length"] > 0.7
    ratio = table["antennule_length"] / table["axis_length"]
    assert ratio[long].median() > 1.4 * ratio[~long].median()
    bent = true["bend"] > 30
    assert table["bend"][bent].median() > table["bend"][~bent].median() + 30


def test_a_large_drawing_is_measured_as_a_small_one_is():
    large = np.kron(copepod(), np.ones((11, 11), dtype=bool))
    row, small = one(large), one(copepod())
    assert row[["width", "height"]].tolist() == [35 * 11, 45 * 11]
    counts = ["parts", "tips", "junctions", "loops"]
    assert row[counts].tolist() == small[counts].tolist()
    lengths = ["axis_length", "total_length", "antennule_length"]
    assert (row[lengths] / small[lengths]).tolist() == pytest.approx([11] * 3, rel=0.08)
