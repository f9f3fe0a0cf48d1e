"""Pictures and their cases as people keep them: folders by case, and tables of file names.

`read_folder` and `read_table` return `FieldData`: what ``PairMatcher.fit`` takes, what was passed
over, and a report to read before a training.
"""

import os
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..checks import as_file, check_choice
from . import texts
from .files import FileNames, as_table, fault, list_files, look_at, plain_text, raise_all

#: Endings of workbooks that pandas reads where the package for it is installed.
_WORKBOOKS = {".xlsx", ".xlsm", ".xls", ".xlsb", ".ods"}
#: How many files a report lists of each kind.
_MOST_LISTED = 20


@dataclass(frozen=True, eq=False, repr=False)
class FieldData:
    """Pictures in files, and their cases.

    A matcher learns from them by
    ``PairMatcher().fit(data.images, data.drawings, data.y_images, data.y_drawings)``.

    Attributes
    ----------
    images, drawings : ndarray of shape (n,) and (m,), object
        Paths, str.
    y_images, y_drawings : ndarray of shape (n,) and (m,), object
        The case of each, str.
    groups : ndarray of shape (n,), object, or None
        Specimen or sample of each image, str: images of one belong into one fold.
    table : DataFrame of n rows
        What else is known of the images.
    files : DataFrame of n + m rows
        All pictures, with the columns kind ("image" or "drawing"), case, file, height and width
        (pixels, as stored), digest (the same for files of the same bytes) and more_pages (whether
        others follow the one that is read).
    passed_over : DataFrame
        What was left out, with the columns file, fault (in a word or two) and detail.
    """

    images: np.ndarray
    drawings: np.ndarray
    y_images: np.ndarray
    y_drawings: np.ndarray
    groups: np.ndarray | None
    table: pd.DataFrame
    files: pd.DataFrame
    passed_over: pd.DataFrame

    def __repr__(self):
        """Say how much there is."""
        return (
            f"FieldData({len(self.images)} images and {len(self.drawings)} drawings of "
            f"{self.files['case'].nunique()} cases, {len(self.passed_over)} passed over)"
        )

    def counts(self):
        """Count the pictures of each case.

        Returns
        -------
        DataFrame
            A row a case, sorted, with the columns images and drawings.
        """
        kinds = pd.crosstab(self.files["case"], self.files["kind"])
        kinds = kinds.reindex(columns=["image", "drawing"], fill_value=0)
        return kinds.set_axis(["images", "drawings"], axis=1)

    def duplicates(self):
        """Find pictures that are the same to the byte under different cases.

        Returns
        -------
        DataFrame
            Rows of `files` of which another one, of the same kind, has the digest but not the
            case; those of one digest follow each other.
        """
        cases = self.files.groupby(["kind", "digest"])["case"].transform("nunique")
        return self.files[cases > 1].sort_values(["kind", "digest"], kind="stable")

    def report(self):
        """Tell what there is and what is odd about it.

        Returns
        -------
        str
            Counts by case; sizes; the same file under different cases; copies; files of more
            than one page; what was passed over.
        """
        lines = [f"{self!r}", "", self.counts().to_string(), ""]
        for kind, files in self.files.groupby("kind", sort=False):
            lines.append(f"{kind.capitalize()}s: {_sizes(files)}")
        lines += _listing("The same picture under different cases", self._named_duplicates())
        copies = self.files.duplicated(["kind", "case", "digest"])
        lines += _listing("Copies of another picture of the case", self.files["file"][copies])
        paged = self.files["file"][self.files["more_pages"]]
        lines += _listing("More pages than the first, which alone is read", paged)
        for kind, files in self.passed_over.groupby("fault"):
            named = files["file"] + ": " + files["detail"]
            lines += _listing(f"Passed over, {kind}", named)
        return "\n".join(lines)

    def _named_duplicates(self):
        for _, files in self.duplicates().groupby(["kind", "digest"], sort=False):
            pairs = zip(files["file"], files["case"], strict=True)
            yield ", ".join(f"{file} ({case})" for file, case in pairs)


def _sizes(files):
    sides = Counter(zip(files["height"], files["width"], strict=True))
    (height, width), count = sides.most_common(1)[0]
    if len(sides) == 1:
        return f"{height} x {width} pixels (height x width)"
    low, high = files[["height", "width"]].min(), files[["height", "width"]].max()
    return (
        f"{low['height']} to {high['height']} pixels high, {low['width']} to {high['width']} wide; "
        f"{height} x {width} is the most frequent size, of {count}"
    )


def _listing(title, items):
    items = list(items)
    if not items:
        return []
    shown = [f"    {item}" for item in items[:_MOST_LISTED]]
    rest = len(items) - _MOST_LISTED
    return [f"{title} ({len(items)}):", *shown, *([f"    ... and {rest} more"] if rest > 0 else [])]


# ---- folders -------------------------------------------------------------------------------------


def read_folder(images, drawings=None):
    """Read folders that hold a subfolder a case.

    Each file is opened and decoded once. What is no picture, what is broken, and what lies in no
    case's folder is passed over, and told; ``Thumbs.db``, ``.DS_Store`` and the like are not.

    Parameters
    ----------
    images : str or path-like
        Folder of photographs. The first level of folders below names the cases; folders below
        those may divide them further, and are in the column `subfolder` of the table: where they
        are specimens, ``data.y_images + "/" + data.table["subfolder"]`` are groups.
    drawings : str, path-like or None, default=None
        Folder of drawings, made alike.

    Returns
    -------
    FieldData
        Its table has the columns `case` and `subfolder`.

    Raises
    ------
    OSError
        If a folder is missing, is no folder, or cannot be listed.
    ValueError
        If a folder holds no picture in a subfolder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for case in ("egg", "nauplius"):
    ...         Path(folder, case).mkdir()
    ...         Image.new("L", (8, 8)).save(Path(folder, case, "1.png"))
    ...     data = read_folder(folder)
    >>> data.y_images.tolist(), len(data.duplicates())
    (['egg', 'nauplius'], 2)
    """
    files, passed_over = _read_cases(images, "image")
    if drawings is not None:
        more, also = _read_cases(drawings, "drawing")
        files, passed_over = files + more, passed_over + also
    files = pd.DataFrame(files)
    table = files.loc[files["kind"] == "image", ["case", "subfolder"]].reset_index(drop=True)
    return _as_data(files.drop(columns="subfolder"), passed_over, table)


def _read_cases(folder, kind):
    """List the pictures of a folder, and what is none: two lists of dict."""
    folder = Path(folder)
    if not folder.is_dir():
        there = "is not a folder" if folder.exists() else "does not exist"
        error = NotADirectoryError if folder.exists() else FileNotFoundError
        raise error(f"The folder of {kind}s, {os.fspath(folder)!r}, {there}.")
    paths = list_files(folder)
    files, passed_over = [], []
    for path, look in zip(paths, look_at(paths), strict=True):
        case, *below = path.relative_to(folder).parts
        if look.fault:
            passed_over.append(fault(path, look.fault, look.detail))
        elif not below:
            passed_over.append(fault(path, "no case", "it lies in no case's folder"))
        else:
            file = _file(kind, plain_text(case), path, look)
            files.append({**file, "subfolder": "/".join(below[:-1])})
    if not files:
        raise ValueError(
            f"The folder {os.fspath(folder)!r} holds no picture in a folder of its case, as in "
            f"{folder.name or 'images'}/nauplius/1.png. Of its {len(paths)} file(s), "
            f"{dict(Counter(one['fault'] for one in passed_over))} were passed over."
        )
    return files, passed_over


def _file(kind, case, path, look):
    return {
        "kind": kind,
        "case": case,
        "file": os.fspath(path),
        "height": look.height,
        "width": look.width,
        "digest": look.digest,
        "more_pages": look.more_pages,
    }


def _as_data(files, passed_over, table, groups=None):
    """Make the result of `files`, a DataFrame."""
    parts = []
    for column in ("file", "case"):
        for kind in ("image", "drawing"):
            parts.append(files.loc[files["kind"] == kind, column].to_numpy(dtype=object))
    images, drawings, y_images, y_drawings = parts
    passed_over = as_table(passed_over)
    return FieldData(images, drawings, y_images, y_drawings, groups, table, files, passed_over)


# ---- tables --------------------------------------------------------------------------------------


def read_table(
    path,
    *,
    images,
    case,
    drawings=None,
    groups=None,
    folder=None,
    drawings_folder=None,
    sheet=0,
    on_error="raise",
):
    r"""Read a table that names pictures and their cases, a row an image.

    The table is a text file with commas, semicolons or tabs, in UTF-8, UTF-16 with its mark, or
    latin-1, with decimal points or commas; or a workbook, for which pandas asks for a package such
    as openpyxl. A file is found by its name, also without its ending or with other capitals, in
    the folder and in those below. Each file is opened and decoded once.

    Parameters
    ----------
    path : str or path-like
        Of the table.
    images, case : str
        Columns of the file names and of the cases.
    drawings : str or None, default=None
        Column of the file names of drawings. Rows may share a drawing, and a row may have only an
        image or only a drawing.
    groups : str or None, default=None
        Column of the specimen or sample.
    folder : str, path-like or None, default=None
        Where the images are; None: where the table is.
    drawings_folder : str, path-like or None, default=None
        Where the drawings are; None: where the images are. Without a column of drawings, it holds a
        subfolder a case, as for `read_folder`, and what is no drawing there is passed over.
    sheet : int or str, default=0
        Position or name of the sheet, in a workbook.
    on_error : {"raise", "skip"}, default="raise"
        "raise": one error lists all files that are not found, that several files may be, or that
        are broken, and all rows without a case or group. "skip" leaves them out, and
        `passed_over` lists them.

    Returns
    -------
    FieldData
        Its table has the columns of the given one, for the rows that have an image; columns in
        which all is a number are numbers. Cases and groups stay as they are written.

    Raises
    ------
    OSError
        If the table or a folder is missing or cannot be read.
    ImportError
        If the package that reads the workbook is not installed.
    ValueError
        If the table is empty, has no such column, or cannot be read as a table; for the problems
        that `on_error` names; or if no image is left.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (8, 8)).save(Path(folder, "IMG_1.PNG"))
    ...     table = Path(folder, "labels.csv")
    ...     _ = table.write_text("photo;stage;length\nimg_1;nauplius;0,25")
    ...     data = read_table(table, images="photo", case="stage")
    >>> data.y_images.tolist(), data.table["length"].tolist()
    (['nauplius'], [0.25])
    """
    check_choice("on_error", on_error, ("raise", "skip"))
    wanted = [name for name in (images, case, drawings, groups) if name is not None]
    table, decimal_comma = _open_table(path, wanted, sheet)
    folder = Path(path).parent if folder is None else Path(folder)
    columns = {"image": (images, folder), "drawing": (drawings, drawings_folder or folder)}
    labels = table[[case]].assign(group=table[groups] if groups else "-")
    files, passed_over = _read_rows(table, columns, labels.set_axis(["case", "group"], axis=1))
    if on_error == "raise":
        advice = 'Mend them, or give on_error="skip" to leave them out.'
        raise_all(passed_over, f"The table {os.fspath(path)!r}", advice)
    if not any(file["kind"] == "image" for file in files):
        raise ValueError(f"The table {os.fspath(path)!r} leaves no image: {passed_over[:3]}.")
    if drawings is None and drawings_folder is not None:
        more, also = _read_cases(drawings_folder, "drawing")
        files, passed_over = files + more, passed_over + also
    text = {images, case} | {drawings, groups} - {None}
    return _from_rows(pd.DataFrame(files), passed_over, table, decimal_comma, text, groups)


def _from_rows(files, passed_over, table, decimal_comma, text, groups):
    """Make the result: the rows that have an image, and each drawing of a case once."""
    pictured = files["kind"] == "image"
    rows = table.loc[files.loc[pictured, "row"]].reset_index(drop=True)
    typed = texts.with_numbers(rows, decimal_comma=decimal_comma, text=text)
    groups = typed[groups].to_numpy(dtype=object) if groups else None
    files = files[pictured | ~files.duplicated(["kind", "case", "file"])]
    files = files.drop(columns=["row", "subfolder"], errors="ignore").reset_index(drop=True)
    return _as_data(files, passed_over, typed, groups)


def _open_table(path, wanted, sheet):
    """Read a table as text, and tell whether a comma in it may be a decimal one."""
    path = as_file(path)
    where = f"The table {os.fspath(path)!r}"
    try:
        if path.suffix.casefold() in _WORKBOOKS:
            table, decimal_comma = _open_workbook(path, sheet), True
        else:
            table, decimal_comma = _open_text(path, wanted)
    except ValueError as error:
        raise ValueError(f"{where} cannot be read: {error}.") from error
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise ValueError(f"{where} has no column {missing}. Its columns are {list(table.columns)}.")
    if not len(table):
        raise ValueError(f"{where} has no row below its header.")
    return table, decimal_comma


def _open_text(path, wanted):
    text = texts.decode(path.read_bytes())

    def fitness(delimiter):
        header = texts.header_of(text, delimiter)
        return set(wanted) <= set(header), len(header)

    delimiter = max(",;\t", key=fitness)
    return texts.parse(text, delimiter), delimiter != ","


def _open_workbook(path, sheet):
    if not isinstance(sheet, int | str):
        raise TypeError(f"sheet must be the position or the name of one sheet, got {sheet!r}.")
    how = {"header": None, "dtype": str, "keep_default_na": False, "na_filter": False}
    try:
        return texts.with_header(pd.read_excel(path, sheet_name=sheet, **how))
    except ImportError as error:
        raise ImportError(
            f"The workbook {os.fspath(path)!r} cannot be read: {error} Or save it as CSV."
        ) from error
    except (zipfile.BadZipFile, KeyError) as error:  # of a damaged file
        raise ValueError(f"it is no workbook, or is damaged ({error})") from error


def _read_rows(table, columns, labels):
    """Find and open the files of all rows: two lists of dict, the files and what is passed over."""
    files, passed_over = [], []
    named = pd.Series(False, index=table.index)
    for kind, (column, folder) in columns.items():
        if column is not None:
            named |= table[column] != ""
            found, missing = _find_files(kind, table[column], folder)
            present, faulty = _check_rows(kind, found, labels)
            files, passed_over = files + present, passed_over + missing + faulty
    for row in table.index[~named]:
        passed_over.append(fault("", "no file", f"row {row + 2} names no file"))
    return files, passed_over


def _find_files(kind, column, folder):
    """Find the file of each row that names one: a dict by row, and what is not found."""
    names, found, missing = FileNames(folder), {}, []
    for row, name in column[column != ""].items():
        paths = names.find(name)
        if len(paths) == 1:
            found[row] = paths[0]
        elif not paths:
            missing.append(fault(name, "not found", f"row {row + 2}, {kind} not found"))
        else:
            several = ", ".join(os.fspath(path.relative_to(folder)) for path in paths)
            detail = f"row {row + 2}, {kind} may be any of {several}"
            missing.append(fault(name, "ambiguous", detail))
    return found, missing


def _check_rows(kind, found, labels):
    """Open the files of the rows: those that can be used, and those that cannot."""
    paths = sorted(set(found.values()))
    looks = dict(zip(paths, look_at(paths), strict=True))
    present, faulty = [], []
    for row, path in found.items():
        where, look = f"row {row + 2}, {kind}", looks[path]
        blank = [name for name in labels if labels.at[row, name] == ""]
        if look.fault:
            faulty.append(fault(path, look.fault, f"{where} {look.fault} ({look.detail})"))
        elif blank:
            faulty.append(fault(path, f"no {blank[0]}", f"{where} has no {blank[0]}"))
        else:
            present.append(
                {**_file(kind, plain_text(labels.at[row, "case"]), path, look), "row": row}
            )
    return present, faulty
