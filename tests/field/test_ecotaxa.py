import csv
import io
import itertools
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skpair.field.ecotaxa import read, write

# ---- an export, as EcoTaxa makes it --------------------------------------------------------------


#: Of each object: sample, status, category, area, pixel size, and the shades of its images by rank.
OBJECTS = {
    "net_01": ("S\xe8te", "validated", "Calanus<Calanidae", 12.5, 0.0106, [10]),
    "net_02": ("S\xe8te", "predicted", "Oithona", 3.0, 0.0106, [20, 21]),
    "net_03": ("Brest", "Validated", "n\xe6uplii", 0.25, 0.0053, [30]),
    "net_04": ("Brest", "", "", None, 0.0053, [40]),
    "net_05": ("Brest", "dubious", "Oithona", 1e-3, 0.0053, [50]),
}
#: The columns, with their types.
COLUMNS = {
    "img_file_name": "[t]",
    "img_rank": "[f]",
    "object_id": "[t]",
    "object_date": "[t]",
    "object_annotation_status": "[t]",
    "object_annotation_category": "[t]",
    "object_area": "[f]",
    "sample_id": "[t]",
    "process_particle_pixel_size_mm": "[t]",
}


def png(shade):
    """Give the bytes of a picture of 5 x 4 pixels, of one shade."""
    buffer = io.BytesIO()
    Image.new("L", (5, 4), shade).save(buffer, "PNG")
    return buffer.getvalue()


def export_rows(place, decimal):
    """Give the rows of all objects by sample, and the images by their names in the export."""
    rows, images = {}, {}
    for object_id, (sample, status, category, area, pixel, shades) in OBJECTS.items():
        for rank, shade in reversed(list(enumerate(shades))):  # not in the order of ranks
            name = f"{object_id}_{rank}.png"
            named, lies = {
                "beside": (name, f"{sample}/{name}"),
                "under": (f"{sample}/{name}", f"{sample}/{name}"),
                "category": (
                    name,
                    f"images/{category or 'NoCategory'}__7/{name}".replace("<", "_"),
                ),
            }[place]
            images[lies] = png(shade)
            area_text = "" if area is None else str(area).replace(".", decimal)
            pixel_text = str(pixel).replace(".", decimal)
            row = (named, rank, object_id, "20240501", status, category)
            rows.setdefault(sample, []).append([*row, area_text, sample, pixel_text])
    return rows, images


def tsv(rows, encoding, typed, capitals):
    header = [name.title() if capitals else name for name in COLUMNS]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(header)
    if typed:
        writer.writerow(COLUMNS.values())
    writer.writerows(rows)
    return text.getvalue().encode(encoding)


def make_export(
    path, place="beside", encoding="utf-8-sig", typed=True, decimal=".", capitals=False
):
    """Make an export, a table a sample: a zip file if the path ends so, or a folder."""
    rows, files = export_rows(place, decimal)
    for sample, its_rows in rows.items():
        # in backups, tables lie in the folder of their sample; else at the root
        name = f"{sample}/ecotaxa_{sample}.tsv" if place == "beside" else f"ecotaxa_{sample}.tsv"
        files[name] = tsv(its_rows, encoding, typed, capitals)
    files["job_12.log"] = b"done"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def shades(images):
    return [Image.open(path).getpixel((0, 0)) for path in images]


# ---- what EcoTaxa asks of an import --------------------------------------------------------------


OWN = {"object_id", "object_lat", "object_lon", "object_date", "object_time", "object_link"}
OWN |= {"object_depth_min", "object_depth_max"}
OWN |= {"object_annotation_category", "object_annotation_status"}


def check_import(folder, new=False):
    """Read an import as EcoTaxa does, and check its rules: return header, types and rows."""
    tables = [path for path in Path(folder).rglob("*") if path.suffix in (".tsv", ".txt")]
    assert len(tables) == 1
    assert tables[0].name.startswith("ecotaxa")
    data = tables[0].read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    text = io.StringIO(data.decode("utf-8-sig"))
    reader = csv.DictReader(text, delimiter="\t", quotechar='"')
    types = next(reader)
    rows = list(reader)
    check_header(list(types), types)
    assert None not in itertools.chain(types, *rows)  # no cell lies beyond the header
    pictures = {path.name for path in Path(folder).rglob("*")} - {tables[0].name}
    assert pictures == ({row["img_file_name"] for row in rows} if new else set())
    seen = set()
    for row in rows:
        check_row(row, types, tables[0].parent)
        key = row["object_id"], row.get("img_file_name")
        assert key not in seen
        seen.add(key)
    return types, rows


def check_header(header, types):
    assert len(set(header)) == len(header)
    for name in header:
        assert name == name.strip().lower()
        prefix, _, rest = name.partition("_")
        assert prefix in ("img", "object", "sample", "acq", "process")
        assert rest
        assert types[name] in ("[f]", "[t]")
        assert prefix == "img" or f"{prefix}_id" in header
    free = [name for name in header if name.startswith("object_") and name not in OWN]
    assert sum(types[name] == "[f]" for name in free) <= 500
    assert sum(types[name] == "[t]" for name in free) <= 20


def check_row(row, types, folder):
    assert row["object_id"].strip()
    category, status = row["object_annotation_category"], row["object_annotation_status"]
    assert (category == "") == (status == "")
    assert status in ("", "predicted")
    for name, cell in row.items():
        assert len(cell) <= 250
        if types[name] == "[f]" and cell:
            assert np.isfinite(float(cell))
    if "img_file_name" in row:
        assert row["img_file_name"]
        with Image.open(folder / row["img_file_name"]) as image:
            image.load()
            assert image.format in ("PNG", "JPEG", "GIF")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xef\xbb\xbf", b""),
        (b"[f]", b"[n]"),
        (b"predicted", b""),
        (b"Oithona", b""),
        (b"b\t", b"a\t"),
        (b"0.5", b"half"),
        (b"0.5", b"0.5\tmore"),
        (b"object_skpair_score", b"skpair"),
        (b"object_skpair_score", b"acq_score"),
    ],
)
def test_the_checker_finds_what_is_wrong(tmp_path, old, new):
    path = write(tmp_path, ["a", "b"], ["Oithona", "Oithona"], scores=[0.5, 1])
    check_import(tmp_path)
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises((AssertionError, ValueError)):
        check_import(tmp_path)


# ---- there and back ------------------------------------------------------------------------------


VARIANTS = list(
    itertools.product(
        ["beside", "under", "category"], ["utf-8-sig", "utf-8", "latin-1"], [True, False], ".,"
    )
)


@pytest.mark.parametrize(("place", "encoding", "typed", "decimal"), VARIANTS)
@pytest.mark.parametrize("name", ["export", "export.zip"])
def test_there_and_back(tmp_path, name, place, encoding, typed, decimal):
    path = make_export(
        tmp_path / name, place, encoding, typed, decimal, capitals=encoding == "utf-8"
    )
    export = read(path, extract_to=tmp_path / "extracted")
    # tables are joined in the order of their names
    assert export.object_ids.tolist() == ["net_03", "net_04", "net_05", "net_01", "net_02"]
    assert list(export.table) == list(COLUMNS)
    assert export.labels.tolist() == ["n\xe6uplii", None, None, "Calanus<Calanidae", None]
    assert export.validated.tolist() == [True, False, False, True, False]
    assert export.groups.tolist() == ["Brest"] * 3 + ["S\xe8te"] * 2
    assert shades(export.images) == [30, 40, 50, 10, 20]
    assert (tmp_path / "extracted").exists() == name.endswith(".zip")
    np.testing.assert_array_equal(export.table["object_area"], [0.25, np.nan, 0.001, 12.5, 3.0])
    assert export.pixel_size.tolist() == [0.0053, 0.0053, 0.0053, 0.0106, 0.0106]
    assert export.table["object_date"].tolist() == ["20240501"] * 5

    waiting = ~export.validated
    predictions = ["Oithona", "unknown", "n\xe6uplii"]
    write(
        tmp_path / "import",
        export.object_ids[waiting],
        predictions,
        scores=[0.9, 0.3, 1],
        novelty=np.array([-1.5, 20, 0], np.float32),
        unknown_label="unknown",
    )
    types, rows = check_import(tmp_path / "import")
    assert types["object_skpair_score"] == types["object_skpair_novelty"] == "[f]"
    assert [list(row.values()) for row in rows] == [
        ["net_04", "Oithona", "predicted", "0.9", "-1.5"],
        ["net_05", "", "", "0.3", "20.0"],
        ["net_02", "n\xe6uplii", "predicted", "1.0", "0.0"],
    ]
    # what was written can be read like an export
    again = read(tmp_path / "import")
    assert again.images is None
    assert again.pixel_size is None
    assert again.groups is None
    assert again.table["object_skpair_score"].tolist() == [0.9, 0.3, 1.0]
    assert not again.validated.any()


def test_all_images_of_an_object_come_by_rank(tmp_path):
    export = read(make_export(tmp_path / "export"), all_images=True)
    assert export.object_ids.tolist()[-2:] == ["net_02", "net_02"]
    assert export.table["img_rank"].tolist()[-2:] == [0, 1]
    assert shades(export.images)[-2:] == [20, 21]
    assert repr(export) == "Export(5 objects, 2 of 6 rows validated, 0 passed over)"
    with pytest.raises(ValueError, match=r"1 object\(s\) are there more than once: \['net_02'\]"):
        write(tmp_path / "import", export.object_ids, ["Oithona"] * 6)


# ---- exports that are odd ------------------------------------------------------------------------


def write_table(folder, *lines, name="ecotaxa_1.tsv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_missing_and_broken_images_are_told_at_once(tmp_path):
    path = make_export(tmp_path / "export", "under")
    (path / "Brest" / "net_03_0.png").unlink()
    (path / "Brest" / "net_04_0.png").write_bytes(png(40)[:50])
    with pytest.raises(ValueError) as caught:
        read(path)
    assert "2 fault(s)" in str(caught.value)
    assert "the image of object net_03 is not found: Brest/net_03_0.png" in str(caught.value)
    assert "the image of object net_04 is broken" in str(caught.value)
    export = read(path, on_error="skip")
    assert export.object_ids.tolist() == ["net_05", "net_01", "net_02"]
    assert shades(export.images) == [50, 10, 20]
    assert export.labels.tolist() == [None, "Calanus<Calanidae", None]
    assert export.passed_over["fault"].tolist() == ["not found", "broken"]


def test_images_of_one_name_are_told_apart_by_category(tmp_path):
    lines = [
        "object_id\timg_file_name\tobject_annotation_category",
        "a\t1.png\tCalanus<Calanidae",
        "b\t1.png\tOithona",
        "c\t1.png\t",
        "d\t\tOithona",
    ]
    folder = write_table(tmp_path, *lines)
    for shade, category in enumerate(["Calanus_Calanidae", "Oithona__31"]):
        (folder / category).mkdir()
        (folder / category / "1.png").write_bytes(png(shade))
    export = read(folder, on_error="skip")
    assert shades(export.images) == [0, 1]
    assert export.passed_over["fault"].tolist() == ["ambiguous", "not named"]


def test_images_outside_of_the_export_are_not_read(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(1))
    lines = [
        "object_id\timg_file_name",
        "a\t../secret.png",
        f"b\t{tmp_path}/secret.png",
        "c\tc.PNG",
    ]
    folder = write_table(tmp_path / "export", *lines)
    (folder / "C.png").write_bytes(png(3))
    export = read(folder, on_error="skip")
    assert export.object_ids.tolist() == ["c"]
    assert export.passed_over["fault"].tolist() == ["not found"] * 2


@pytest.mark.parametrize(
    "name", ["../evil.png", "/tmp/evil.png", "C:\\evil.png", "a\\..\\..\\evil"]
)
def test_zip_files_that_lead_out_are_refused(tmp_path, name):
    path = make_export(tmp_path / "export.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, png(0))
    with pytest.raises(ValueError, match="would lie outside of .*: nothing was extracted"):
        read(path, extract_to=tmp_path / "here" / "extracted")
    assert not (tmp_path / "here").exists()


def test_zip_files_do_not_follow_links_out(tmp_path):
    (tmp_path / "extracted").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "extracted" / "Brest").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="would lie outside"):
        read(make_export(tmp_path / "export.zip"), extract_to=tmp_path / "extracted")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_paths_that_are_no_export(tmp_path):
    path = make_export(tmp_path / "export.zip")
    with pytest.raises(ValueError, match="is a zip file: give extract_to"):
        read(path)
    path.write_bytes(path.read_bytes().replace(png(30)[-40:-20], bytes(20)))
    with pytest.raises(ValueError, match="export.zip' cannot be extracted"):
        read(path, extract_to=tmp_path / "extracted")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.zip")
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(ValueError, match="neither a zip file nor a folder"):
        read(tmp_path / "notes.txt")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.tsv").write_text("object_id\na")
    with pytest.raises(ValueError, match=r"no table ecotaxa\*.tsv.*\['data.tsv'\]"):
        read(tmp_path / "other")
    with pytest.raises(ValueError, match="on_error='x' is unknown"):
        read(tmp_path / "other", on_error="x")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "it is empty"),
        (["object_id"], "leaves no row"),
        (["object_id\tobject_area", "[t]\t[f]"], "leaves no row"),
        (["object_area", "3"], "has no column object_id"),
        (["object_id\tOBJECT_ID", "a\tb"], r"\['object_id'\] twice"),
        (["object_id\tobject_area", "\t3"], "have no object_id"),
        (["object_id\tobject_area", "a\t3\t4"], "cannot be read"),
        (["object_id\tobject_area", "a\t3", "a\t4"], r"1 object\(s\) twice.*\['a'\]"),
        (
            ["object_id\timg_file_name\tsample_id", "a\t1.png\ts", "a\t2.png\tt"],
            r"different \['sample_id'\]: \['a'\]",
        ),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read(write_table(tmp_path / "export", *lines))


def test_two_exports_in_one_folder_are_refused(tmp_path):
    write_table(tmp_path, "object_id\tobject_annotation_status", "a\tpredicted")
    write_table(
        tmp_path, "object_id\tobject_annotation_status", "a\tvalidated", name="ecotaxa_2.txt"
    )
    with pytest.raises(ValueError, match="Does the folder hold two exports"):
        read(tmp_path)


def test_tables_of_different_columns_are_joined(tmp_path):
    write_table(tmp_path, "object_id\tobject_area\tobject_note", "[t]\t[f]\t[f]", "a\t1\t1")
    lines = ["object_id\tobject_note\tobject_feret", "[t]\t[t]\t[f]", "007\t2\t3"]
    write_table(tmp_path / "more", *lines, name="Ecotaxa_2.TXT")
    write_table(tmp_path / "__MACOSX", "litter", name="ecotaxa_3.tsv")
    export = read(tmp_path)
    assert export.object_ids.tolist() == ["a", "007"]
    np.testing.assert_array_equal(export.table["object_area"], [1, np.nan])
    np.testing.assert_array_equal(export.table["object_feret"], [np.nan, 3])
    assert export.table["object_note"].tolist() == ["1", "2"]  # text holds both types
    assert export.labels.tolist() == [None, None]


def test_cells_that_are_no_numbers_become_nan_with_a_warning(tmp_path):
    lines = ["object_id\tobject_area", "[t]\t[f]", "a\tbig", "b\tNA", "c\t"]
    with pytest.warns(UserWarning, match=r"object_area .* 1 cell\(s\) .* 'big'"):
        export = read(write_table(tmp_path, *lines))
    assert export.table["object_area"].isna().all()


def test_wide_tables_are_read_without_a_warning(tmp_path):
    columns = [f"object_f{place}" for place in range(300)]
    lines = ["\t".join(["object_id", *columns]), "\t".join(["[t]", *["[f]"] * 300])]
    export = read(write_table(tmp_path, *lines, "\t".join(["a", *["0,5"] * 300])))
    assert (export.table[columns] == 0.5).all(axis=None)


# ---- imports -------------------------------------------------------------------------------------


def test_new_objects_come_with_their_images(tmp_path):
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 255, (6, 8, 3), np.uint8)
    grey = colour[..., 0]
    for name, pixels in [("a/x.png", grey), ("b/x.png", grey[:3]), ("c/X.jpg", colour)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(colour).save(tmp_path / "colour.tif")
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "deep.tif")
    Image.fromarray(grey).save(tmp_path / "wrong.gif", "BMP")
    Image.fromarray(grey).save(tmp_path / "still.gif")
    files = ["a/x.png", "b/x.png", "c/X.jpg", "colour.tif", "deep.tif", "wrong.gif", "still.gif"]
    paths = [tmp_path / name for name in files]
    target = tmp_path / "import"
    table = write(target, range(7), ["Oithona"] * 7, images=[*paths[:-1], str(paths[-1])])
    assert table == target / "ecotaxa_skpair.tsv"
    _, rows = check_import(target, new=True)
    written = [row["img_file_name"] for row in rows]
    assert written == [
        "x.png",
        "x_2.png",
        "X.jpg",
        "colour.png",
        "deep.png",
        "wrong.png",
        "still.gif",
    ]
    assert [row["object_id"] for row in rows] == list("0123456")
    for place in (0, 1, 2, 6):
        assert (target / written[place]).read_bytes() == paths[place].read_bytes()
    np.testing.assert_array_equal(Image.open(target / "colour.png"), colour)
    np.testing.assert_array_equal(Image.open(target / "wrong.png"), grey)
    deep = grey * (200 * 255 / 65535)  # of 16 bits
    np.testing.assert_array_equal(Image.open(target / "deep.png"), np.rint(deep))
    again = read(target)
    assert [Path(path).name for path in again.images] == written


def test_images_are_turned_as_they_are_seen_when_they_are_converted(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[274] = 6  # turn clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.tif", exif=exif, compression="tiff_lzw")
    write(tmp_path / "import", ["a"], ["Oithona"], images=[tmp_path / "turned.tif"])
    written = np.asarray(Image.open(tmp_path / "import" / "turned.png"))
    np.testing.assert_array_equal(written, np.rot90(pixels, -1))


def test_metadata_get_the_names_and_types_of_ecotaxa(tmp_path):
    metadata = pd.DataFrame(
        {
            "Feret": [1.5, np.nan],
            "object_area": [3, 4],
            "sacs": [True, False],
            "note": ['said "oh"\tand\nleft', None],
            "sample_id": ["s\xe8te", "brest"],
            "object_date": [20240501, 20240502],
            "processed": pd.to_datetime(["2024-05-01", None]),
        },
        index=["x", "y"],
    )
    write(tmp_path, ["a", "b"], ["\u017b", "Oithona"], metadata=metadata)
    types, rows = check_import(tmp_path)
    assert types == {
        "object_id": "[t]",
        "object_annotation_category": "[t]",
        "object_annotation_status": "[t]",
        "object_feret": "[f]",
        "object_area": "[f]",
        "object_sacs": "[f]",
        "object_note": "[t]",
        "sample_id": "[t]",
        "object_date": "[f]",
        "object_processed": "[t]",
    }
    assert list(rows[0].values())[1:] == [
        "\u017b",
        "predicted",
        "1.5",
        "3",
        "1.0",
        'said "oh"\tand\nleft',
        "s\xe8te",
        "20240501",
        "2024-05-01 00:00:00",
    ]
    assert [rows[1][name] for name in ("object_feret", "object_note")] == ["", ""]
    assert rows[1]["object_processed"] == ""


def test_long_text_is_cut_with_a_warning(tmp_path):
    metadata = pd.DataFrame({"note": ["x" * 250, "y" * 251]})
    with pytest.warns(UserWarning, match=r"250 characters .* 1 cell\(s\) .* object_note are cut"):
        write(tmp_path, ["a", "b"], ["Oithona"] * 2, metadata=metadata)
    _, rows = check_import(tmp_path)
    assert [row["object_note"] for row in rows] == ["x" * 250, "y" * 250]


def test_as_many_columns_as_ecotaxa_keeps(tmp_path):
    numbers = {f"n{place}": [1.0] for place in range(499)}
    text = {f"t{place}": ["x"] for place in range(20)}
    how = {"object_ids": ["a"], "names": ["Oithona"], "scores": [1]}
    write(tmp_path, **how, metadata=pd.DataFrame({**numbers, **text, "object_lat": [1.0]}))
    check_import(tmp_path)
    with pytest.raises(ValueError, match=r"500 columns \[f\] .* 501.*\['object_n499'\]"):
        write(tmp_path, **how, metadata=pd.DataFrame({**numbers, "n499": [1]}))
    with pytest.raises(ValueError, match=r"20 columns \[t\] .* 21.*\['object_t20'\]"):
        write(tmp_path, **how, metadata=pd.DataFrame({**text, "t20": ["x"]}))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"object_ids": []}, ValueError, "Found 0 object_ids"),
        ({"object_ids": ["a", None]}, ValueError, "object_ids holds missing"),
        ({"object_ids": ["a", " b"]}, ValueError, "row 1 is ' b'"),
        ({"object_ids": ["a", ""]}, ValueError, "row 1 is ''"),
        ({"object_ids": ["a", "b\nc"]}, ValueError, "row 1 is"),
        ({"object_ids": ["a", "b" * 251]}, ValueError, "1 to 250"),
        ({"object_ids": ["a", "a"]}, ValueError, "more than once"),
        ({"object_ids": ["1", 1]}, ValueError, "more than once"),
        ({"object_ids": [1.0, 2.0]}, TypeError, "row 0 is 1.0"),
        ({"names": ["Oithona"]}, ValueError, r"shape \(2,\)"),
        ({"names": ["Oithona", None]}, ValueError, "names holds missing"),
        ({"names": ["Oithona", " "]}, ValueError, "Say by unknown_label"),
        ({"names": ["Oithona", "x" * 251]}, ValueError, "1 to 250"),
        ({"scores": [[0.1, 0.9], [0.2, 0.8]]}, ValueError, r"proba.max\(axis=1\)"),
        ({"scores": [0.5, 1.5]}, ValueError, "scores must be in 0..1, but row 1 is 1.5"),
        ({"scores": [np.nan, 0]}, ValueError, "row 0 is nan"),
        ({"scores": ["high", "low"]}, ValueError, "scores must be numbers"),
        ({"novelty": [0, np.inf]}, ValueError, "novelty must be finite, but row 1 is inf"),
        ({"metadata": {"area": [1, 2]}}, TypeError, "must be a DataFrame, got dict"),
        ({"metadata": pd.DataFrame({"area": [1]})}, ValueError, "has 1 rows"),
        ({"metadata": pd.DataFrame({"area": [1, np.inf]})}, ValueError, "area .* infinite"),
        ({"metadata": pd.DataFrame({"a\tb": [1, 2]})}, ValueError, "a name has no tab"),
        ({"metadata": pd.DataFrame({"acq_x": [1, 2]})}, ValueError, "asks for acq_id"),
        ({"metadata": pd.DataFrame({"Area": [1, 2], "area": [1, 2]})}, ValueError, "object_area"),
        ({"metadata": pd.DataFrame({"id": [1, 2]})}, ValueError, r"\['object_id'\]"),
        (
            {"metadata": pd.DataFrame({"object_annotation_date": ["1", "2"]})},
            ValueError,
            "object_annotation_date",
        ),
        ({"images": ["missing.png", "none.png"]}, ValueError, r"2 fault\(s\)"),
        ({"images": ["missing.png", None]}, ValueError, "row 1 is None.*two tables"),
        ({"images": ["missing.png"]}, ValueError, r"images must have the shape \(2,\)"),
        ({"file_name": "predictions.tsv"}, ValueError, "predictions.tsv"),
        ({"file_name": "ecotaxa/../x.tsv"}, ValueError, "ecotaxa/../x.tsv"),
    ],
)
def test_wrong_input_writes_nothing(tmp_path, changes, error, message):
    given = {"object_ids": ["a", "b"], "names": ["Oithona", "Calanus"], **changes}
    with pytest.raises(error, match=message):
        write(tmp_path / "import", **given)
    assert not (tmp_path / "import").exists()


def test_unknown_labels_of_numbers(tmp_path):
    write(tmp_path, ["a", "b"], np.array([3, -1]), unknown_label=-1)
    _, rows = check_import(tmp_path)
    assert [row["object_annotation_category"] for row in rows] == ["3", ""]


@pytest.mark.parametrize("broken_at", [1, 3])
def test_what_is_broken_off_leaves_no_half_of_a_file(tmp_path, monkeypatch, broken_at):
    """Broken off at the second image, and when the table is to take its place."""
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(2))
    images = [tmp_path / "a.png", tmp_path / "b.png"]
    target = tmp_path / "import"
    write(target, ["a", "b"], ["Oithona", "Oithona"], images=images)
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    calls, replace = itertools.count(1), os.replace

    def stop(source, destination):
        if next(calls) == broken_at:
            raise KeyboardInterrupt
        replace(source, destination)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write(target, ["a", "b"], ["Calanus", "Calanus"], images=images)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    check_import(target, new=True)
