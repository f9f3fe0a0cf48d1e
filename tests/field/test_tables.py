import hashlib
import os
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skpair import PairMatcher
from skpair.field.tables import read_folder, read_table


def draw(path, shade=0, size=(6, 4), kind=None):
    """Write a picture (width, height) of one shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path, kind)
    return path


def noise(path, seed=0):
    """Write a JPEG large enough to be cut in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")
    return path


def names(paths, folder):
    return [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]


# ---- folders -------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    images, drawings = tmp_path / "images", tmp_path / "drawings"
    draw(images / "adult" / "b.png", 1)
    draw(images / "adult" / "net 1" / "left" / "a.TIF", 2, (8, 5))
    draw(images / "egg" / "c.jpg", 3)
    draw(drawings / "adult" / "d.png", 4)
    draw(drawings / "egg" / "e.png", 5)
    return images, drawings


def test_the_first_level_of_folders_is_the_case(folders):
    data = read_folder(*folders)
    assert names(data.images, folders[0]) == ["adult/b.png", "adult/net 1/left/a.TIF", "egg/c.jpg"]
    assert data.y_images.tolist() == ["adult", "adult", "egg"]
    assert names(data.drawings, folders[1]) == ["adult/d.png", "egg/e.png"]
    assert data.y_drawings.tolist() == ["adult", "egg"]
    assert data.groups is None
    assert data.table["subfolder"].tolist() == ["", "net 1/left", ""]
    assert data.files["height"].tolist() == [4, 5, 4, 4, 4]
    assert data.files["width"].tolist() == [6, 8, 6, 6, 6]
    digest = hashlib.blake2b((folders[0] / "egg" / "c.jpg").read_bytes(), digest_size=16)
    assert data.files["digest"][2] == digest.hexdigest()
    assert data.counts().to_dict("index") == {
        "adult": {"images": 2, "drawings": 1},
        "egg": {"images": 1, "drawings": 1},
    }


def test_a_folder_of_images_alone(folders):
    data = read_folder(str(folders[0]))
    assert len(data.drawings) == len(data.y_drawings) == 0
    assert data.counts()["drawings"].tolist() == [0, 0]
    assert "Drawings:" not in data.report()


def test_litter_is_passed_over_silently_and_other_files_are_told(folders):
    images, drawings = folders
    for name in ("Thumbs.db", ".DS_Store", "._b.png", "desktop.ini", "~$notes.docx"):
        (images / "adult" / name).write_bytes(b"litter")
    draw(images / "__MACOSX" / "adult" / "b.png")
    (images / "adult" / "notes.txt").write_text("seen on a Tuesday")
    (images / "egg" / "empty.png").write_bytes(b"")
    draw(images / "lost.png")
    whole = noise(images / "egg" / "whole.jpg").read_bytes()
    (images / "egg" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    png = (drawings / "egg" / "e.png").read_bytes()
    (drawings / "egg" / "damaged.png").write_bytes(png[:45] + b"\x00\x00" + png[47:])
    data = read_folder(images, drawings)
    assert len(data.images) == 4
    told = dict(zip(data.passed_over["file"], data.passed_over["fault"], strict=True))
    assert {os.path.basename(file): fault for file, fault in told.items()} == {
        "notes.txt": "no image",
        "empty.png": "broken",
        "lost.png": "no case",
        "cut.jpg": "broken",
        "damaged.png": "broken",
    }
    report = data.report()
    assert "Passed over, broken (3):" in report
    assert "Thumbs" not in report


def test_the_report_tells_sizes_copies_and_contradictions(folders):
    images, drawings = folders
    for place in ("adult/copy.png", "egg/same.png"):
        (images / place).write_bytes((images / "adult" / "b.png").read_bytes())
    # a drawing that is the same as an image is no contradiction
    (drawings / "egg" / "b.png").write_bytes((images / "adult" / "b.png").read_bytes())
    pages = [Image.new("L", (6, 4), shade) for shade in (0, 9)]
    pages[0].save(images / "egg" / "pages.tif", save_all=True, append_images=pages[1:])
    data = read_folder(images, drawings)
    assert names(data.duplicates()["file"], images) == [
        "adult/b.png",
        "adult/copy.png",
        "egg/same.png",
    ]
    report = data.report()
    assert report.startswith("FieldData(6 images and 3 drawings of 2 cases, 0 passed over)")
    assert (
        "Images: 4 to 5 pixels high, 6 to 8 wide; 4 x 6 is the most frequent size, of 5" in report
    )
    assert "Drawings: 4 x 6 pixels (height x width)" in report
    assert "The same picture under different cases (1):" in report
    assert f"{images / 'egg' / 'same.png'} (egg)" in report
    assert "Copies of another picture of the case (1):" in report
    assert "More pages than the first, which alone is read (1):" in report


def test_long_lists_are_cut_in_the_report(folders):
    for place in range(25):
        (folders[0] / "egg" / f"{place}.txt").write_text("no image")
    assert "    ... and 5 more" in read_folder(*folders).report().splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_but_not_in_circles(folders, tmp_path):
    images, _ = folders
    draw(tmp_path / "elsewhere" / "f.png", 6)
    (images / "larva").symlink_to(tmp_path / "elsewhere")
    (images / "egg" / "again").symlink_to(tmp_path / "elsewhere")
    (images / "egg" / "circle").symlink_to(images)
    data = read_folder(images)
    assert names(data.images, images)[2:] == ["egg/again/f.png", "egg/c.jpg", "larva/f.png"]


def test_one_letter_written_in_two_ways_is_one_case(tmp_path):
    draw(tmp_path / "images" / "e\u0301gg" / "a.png")
    draw(tmp_path / "drawings" / "\xe9gg" / "a.png")
    data = read_folder(tmp_path / "images", tmp_path / "drawings")
    assert data.y_images.tolist() == data.y_drawings.tolist() == ["\xe9gg"]


def test_folders_without_pictures_are_refused(tmp_path, folders):
    with pytest.raises(FileNotFoundError, match="folder of images, .* does not exist"):
        read_folder(tmp_path / "none")
    with pytest.raises(NotADirectoryError, match="folder of drawings, .* is not a folder"):
        read_folder(folders[0], folders[1] / "egg" / "e.png")
    with pytest.raises(ValueError, match=r"no picture in a folder of its case.* 2 file\(s\)"):
        read_folder(folders[0], draw(draw(tmp_path / "flat" / "a.png").parent / "b.png").parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"Of its 0 file\(s\)"):
        read_folder(tmp_path / "empty")


@pytest.mark.slow
def test_a_matcher_learns_from_folders(folders):
    for case in ("adult", "egg"):
        path = next((folders[1] / case).iterdir())
        Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(path)
    data = read_folder(*folders)
    matcher = PairMatcher(max_epochs=1, random_state=0)
    matcher.fit(data.images, data.drawings, data.y_images, data.y_drawings)
    assert matcher.classes_.tolist() == ["adult", "egg"]
    assert set(matcher.predict(data.images)) <= {"adult", "egg"}


# ---- tables --------------------------------------------------------------------------------------


ROWS = [
    ["photo", "stage", "sketch", "animal", "length", "note"],
    ["IMG_1", "\xe9gg", "one.png", "007", "0,25", "a;b,c"],
    ["img_2.JPG", "adult", "two", "8", "1,5", ""],
    ["img_3.jpg", "adult", "Two.PNG", "8", "", "x"],
    ["", "\xe9gg", "three.png", "9", "2,0", ""],
]
COLUMNS = {"images": "photo", "case": "stage", "drawings": "sketch", "groups": "animal"}


@pytest.fixture
def pictures(tmp_path):
    for place, name in enumerate(["img_1.jpg", "sub/img_2.jpg", "img_3.jpg"]):
        draw(tmp_path / "photos" / name, place)
    for place, name in enumerate(["one.png", "two.png", "three.png"]):
        draw(tmp_path / "sketches" / name, 50 + place)
    return {"folder": tmp_path / "photos", "drawings_folder": tmp_path / "sketches"}


def write_rows(path, rows, delimiter, encoding):
    lines = (delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


def check(data, folder, decimals=True):
    """Check what is read of ROWS."""
    assert names(data.images, folder) == ["img_1.jpg", "sub/img_2.jpg", "img_3.jpg"]
    assert data.y_images.tolist() == ["\xe9gg", "adult", "adult"]
    # the drawing of two rows is there once
    assert names(data.drawings, folder.parent) == [
        "sketches/one.png",
        "sketches/two.png",
        "sketches/three.png",
    ]
    assert data.y_drawings.tolist() == ["\xe9gg", "adult", "\xe9gg"]
    assert data.groups.tolist() == ["007", "8", "8"]
    assert list(data.table) == ROWS[0]
    assert data.table["note"].isna().tolist() == [False, True, False]
    assert data.table["note"][0] == "a;b,c"
    if decimals:
        np.testing.assert_array_equal(data.table["length"], [0.25, 1.5, np.nan])
    assert len(data.passed_over) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_in_all_spellings(tmp_path, pictures, delimiter, encoding):
    path = write_rows(tmp_path / "labels.csv", ROWS, delimiter, encoding)
    data = read_table(path, **COLUMNS, **pictures)
    # where commas divide cells, one in a cell may divide thousands: it stays as it is
    check(data, pictures["folder"], decimals=delimiter != ",")
    if delimiter == ",":
        assert data.table["length"].tolist()[:2] == ["0,25", "1,5"]


def test_drawings_of_a_table_may_lie_in_folders_by_case(folders, tmp_path):
    images, drawings = folders
    (drawings / "egg" / "notes.txt").write_text("no image")
    table = tmp_path / "labels.csv"
    table.write_text("photo,stage\nb,adult\nlost,egg\nc,egg\n")
    columns = {"images": "photo", "case": "stage", "folder": images}
    with pytest.raises(ValueError, match="1 fault"):
        read_table(table, **columns, drawings_folder=drawings)
    data = read_table(table, **columns, drawings_folder=drawings, on_error="skip")
    assert names(data.images, images) == ["adult/b.png", "egg/c.jpg"]
    assert names(data.drawings, drawings) == ["adult/d.png", "egg/e.png"]
    assert data.y_drawings.tolist() == ["adult", "egg"]
    assert data.table["photo"].tolist() == ["b", "c"]
    assert data.files.columns.tolist() == read_folder(images).files.columns.tolist()
    assert data.passed_over["fault"].tolist() == ["not found", "no image"]
    assert len(read_table(table, **columns, on_error="skip").drawings) == 0


def test_workbooks(tmp_path, pictures):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["nothing", "here"])
    sheet = book.create_sheet("labels")
    for row in ROWS:
        length = row[4].replace(",", ".")
        cells = [*row[:4], float(length) if length and length != "length" else length, row[5]]
        sheet.append([cell if cell != "" else None for cell in cells])
    book.save(tmp_path / "labels.xlsx")
    data = read_table(tmp_path / "labels.xlsx", sheet="labels", **COLUMNS, **pictures)
    check(data, pictures["folder"])
    with pytest.raises(ValueError, match="no column .'photo', 'stage'.*'nothing', 'here'"):
        read_table(tmp_path / "labels.xlsx", images="photo", case="stage")
    with pytest.raises(ValueError, match="cannot be read.*'other'"):
        read_table(tmp_path / "labels.xlsx", images="photo", case="stage", sheet="other")
    with pytest.raises(TypeError, match="sheet must be"):
        read_table(tmp_path / "labels.xlsx", images="photo", case="stage", sheet=None)


def test_a_workbook_without_its_reader(tmp_path, monkeypatch):
    pytest.importorskip("openpyxl")
    pd.DataFrame({"photo": ["a"]}).to_excel(tmp_path / "labels.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ImportError, match=r"labels.xlsx.*openpyxl.*Or save it as CSV"):
        read_table(tmp_path / "labels.xlsx", images="photo", case="stage")


def test_a_damaged_workbook(tmp_path):
    pytest.importorskip("openpyxl")
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="labels.xlsx' cannot be read"):
        read_table(tmp_path / "labels.xlsx", images="photo", case="stage")


def test_all_faults_come_in_one_error_or_are_passed_over(tmp_path, pictures):
    draw(pictures["folder"] / "sub" / "img_3.png", 9)
    (pictures["folder"] / "img_9.jpg").write_bytes(b"no picture")
    draw(pictures["folder"] / "a" / "twin.png")
    draw(pictures["folder"] / "b" / "twin.png")
    lines = [
        "photo,stage,sketch,animal",
        "img_1,egg,one,1",
        "missing_5,egg,,2",
        "img_9,egg,,2",
        "",
        "twin,egg,,2",
        "img_2,,two,3",
        "img_3.jpg,adult,absent,",
        ",adult,,4",
    ]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError) as caught:
        read_table(path, **COLUMNS, **pictures)
    told = str(caught.value)
    for text in (
        "8 fault(s)",
        "row 3, image not found: missing_5",
        "row 4, image broken",
        "row 6, image may be any of a/twin.png, b/twin.png: twin",
        "row 7, image has no case",
        "row 7, drawing has no case",
        "row 8, image has no group",
        "row 8, drawing not found: absent",
        "row 9 names no file",
        'on_error="skip"',
    ):
        assert text in told.replace(os.sep, "/")
    data = read_table(path, **COLUMNS, **pictures, on_error="skip")
    assert names(data.images, pictures["folder"]) == ["img_1.jpg"]
    assert names(data.drawings, pictures["drawings_folder"]) == ["one.png"]
    assert len(data.passed_over) == 8
    assert "Passed over, not found (2):" in data.report()
    path.write_text("photo,stage\nmissing,egg")
    with pytest.raises(ValueError, match="leaves no image"):
        read_table(path, images="photo", case="stage", on_error="skip")


def test_an_error_lists_no_more_than_can_be_read(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("photo,stage\n" + "\n".join(f"no_{place},egg" for place in range(70)))
    with pytest.raises(ValueError, match=r"70 fault\(s\)(.|\n)*no_49\n    \.\.\. and 20 more"):
        read_table(path, images="photo", case="stage")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sub/b.png", "sub/b.png"),
        ("sub\\B", "sub/b.png"),
        ("b.png", "sub/b.png"),
        ("a", "a.png"),  # not the notes beside it
        ("A.TXT", None),
        ("St. 5", "St. 5.png"),
        ("c.v2", "c.v2.png"),
        ("other/b.png", None),  # a folder that is told is meant
        ("b.jpg", None),
        ("x" * 5000, None),
    ],
)
def test_which_file_a_name_means(tmp_path, name, found):
    for file in ("a.png", "sub/b.png", "St. 5.png", "c.v2.png"):
        draw(tmp_path / "photos" / file)
    (tmp_path / "photos" / "a.txt").write_text("notes")
    path = tmp_path / "labels.csv"
    path.write_text(f"photo\tstage\na\tegg\n{name}\tegg")
    data = read_table(
        path, images="photo", case="stage", folder=tmp_path / "photos", on_error="skip"
    )
    assert names(data.images, tmp_path / "photos")[1:] == ([found] if found else [])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, capitals make no other name")
def test_of_names_that_differ_by_capitals_the_exact_one_is_meant(tmp_path):
    draw(tmp_path / "sub" / "A.png", 1)
    draw(tmp_path / "sub" / "a.png", 2)
    path = tmp_path / "labels.csv"
    path.write_text("photo,stage\nA,egg\na.png,egg")
    data = read_table(path, images="photo", case="stage")
    assert names(data.images, tmp_path) == ["sub/A.png", "sub/a.png"]
    path.write_text("photo,stage\na.PNG,egg")
    with pytest.raises(ValueError, match="may be any of sub/A.png, sub/a.png"):
        read_table(path, images="photo", case="stage")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["1,5", "-2"], [1.5, -2.0]),
        (["1.5", "NA"], [1.5, np.nan]),
        (["1e-3", ".5"], [0.001, 0.5]),
        (["1.234", "1,5"], ["1.234", "1,5"]),
        (["007", "8"], ["007", "8"]),
        (["0", "0.5"], [0.0, 0.5]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["1", "x"], ["1", "x"]),
        (["nan", "nan"], ["nan", "nan"]),
    ],
)
def test_which_columns_are_numbers(tmp_path, cells, expected):
    draw(tmp_path / "a.png")
    rows = [["photo", "stage", "value"], *(["a", "1", cell] for cell in cells)]
    path = write_rows(tmp_path / "labels.csv", rows, ";", "utf-8")
    data = read_table(path, images="photo", case="stage")
    assert data.y_images.tolist() == ["1", "1"]
    if isinstance(expected[0], str):
        assert data.table["value"].tolist() == expected
    else:
        np.testing.assert_array_equal(data.table["value"], expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("photo,stage", "no row below its header"),
        ("photo,stage\n\n , ", "no row below its header"),
        ("photo;kind\na;egg", r"no column \['stage'\]. Its columns are \['photo', 'kind'\]"),
        ("photo,stage,stage\na,egg,egg", r"more than once: \['stage'\]"),
        ("photo,stage\na,egg,3,4", "cannot be read: .*Expected 2 fields"),
        ('photo,stage\n"a,egg', "cannot be read"),
        ('"photo,stage\n' + "a,egg\n" * 30000, "cannot be read"),
        ("\0" * 300, "labels.csv"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(path, images="photo", case="stage")


def test_a_picture_of_two_cases_is_told(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("photo,stage\na,egg\nA.PNG,adult\na,egg")
    data = read_table(tmp_path / "labels.csv", images="photo", case="stage")
    assert data.duplicates()["case"].tolist() == ["egg", "adult", "egg"]
    assert "a.png (egg), " in data.report()


def test_missing_files_and_wrong_choices(tmp_path):
    with pytest.raises(FileNotFoundError, match="labels.csv"):
        read_table(tmp_path / "labels.csv", images="photo", case="stage")
    with pytest.raises(IsADirectoryError):
        read_table(tmp_path, images="photo", case="stage")
    with pytest.raises(ValueError, match="on_error='ignore' is unknown"):
        read_table(tmp_path, images="photo", case="stage", on_error="ignore")
    (tmp_path / "labels.csv").write_text("photo,stage\na,egg")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_table(tmp_path / "labels.csv", images="photo", case="stage", folder="nowhere")


def test_empty_columns_are_left_out_and_nameless_ones_get_a_name(tmp_path):
    draw(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(" photo ; stage;;\n a ; egg;;x")
    data = read_table(tmp_path / "labels.csv", images="photo", case="stage")
    assert data.table.to_dict("list") == {"photo": ["a"], "stage": ["egg"], "unnamed_4": ["x"]}
