"""What EcoTaxa has exported: tables, joined into one, and the images that they name."""

import os
import posixpath
import re
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ...checks import as_file, check_choice, users_level
from .. import texts
from ..files import (
    as_table,
    fault,
    has_image_ending,
    is_litter,
    list_files,
    look_at,
    plain_text,
    raise_all,
)

#: The line below the header: which columns are numbers (f) and which are text (t).
TYPES = ("[f]", "[t]")
#: Columns that are text, whatever they hold.
_TEXT = {
    "img_file_name",
    "object_id",
    "object_date",
    "object_time",
    "object_link",
    "object_annotation_status",
    "object_annotation_category",
    "object_annotation_category_id",
    "object_annotation_date",
    "object_annotation_time",
    "object_annotation_person_name",
    "object_annotation_person_email",
    "object_annotation_hierarchy",
    "sample_id",
    "acq_id",
    "process_id",
}
#: What all rows of an object have in common.
_OF_OBJECT = ["sample_id", "acq_id", "object_annotation_status", "object_annotation_category"]
#: Columns that hold the size of a pixel in millimetres.
_PIXEL_SIZES = ("process_particle_pixel_size_mm", "acq_pixel")


@dataclass(frozen=True, eq=False, repr=False)
class Export:
    """What EcoTaxa has exported, a row an object (or, with ``all_images=True``, a row an image).

    Attributes
    ----------
    table : DataFrame of n rows
        All columns, their names in lower case: measurements (``object_area``), samples, places.
        Those of numbers are float or int, others are str.
    images : ndarray of shape (n,), object, or None
        Paths, str. None where the export holds no image file, or names none.
    labels : ndarray of shape (n,), object
        The category of what a person has validated, str; None for the others, which wait to be
        named.
    validated : ndarray of shape (n,), bool
        Whether there is a label.
    pixel_size : ndarray of shape (n,), float64, or None
        Side of a pixel in millimetres, of the columns ``process_particle_pixel_size_mm`` or
        ``acq_pixel``; others, such as ``process_pixel``, have a unit that only who made them
        knows. NaN where it is missing; None where no column is there.
    passed_over : DataFrame
        What was left out, with the columns file, fault (in a word or two) and detail.
    """

    table: pd.DataFrame
    images: np.ndarray | None
    labels: np.ndarray
    validated: np.ndarray
    pixel_size: np.ndarray | None
    passed_over: pd.DataFrame

    def __repr__(self):
        """Say how much there is."""
        return (
            f"Export({self.table['object_id'].nunique()} objects, {self.validated.sum()} of "
            f"{len(self.table)} rows validated, {len(self.passed_over)} passed over)"
        )

    @property
    def object_ids(self):
        """The id of each row's object, ndarray of shape (n,), object."""
        return self.table["object_id"].to_numpy(dtype=object)

    @property
    def groups(self):
        """The sample of each row, ndarray of shape (n,), object, or None where it is not told."""
        told = "sample_id" in self.table
        return self.table["sample_id"].to_numpy(dtype=object) if told else None


def read(path, *, extract_to=None, all_images=False, on_error="raise"):
    r"""Read an export of EcoTaxa, with or without images.

    All its tables (``ecotaxa*.tsv`` or ``.txt``, also in folders) are joined. They may be in
    latin-1 or UTF-8, with or without a line of types, with decimal points or commas. Each image
    is looked for under its name beside its table, in the export, and, where it is the only one of
    this name, in any of the export's folders, such as those of categories. It is opened and decoded
    once.

    Parameters
    ----------
    path : str or path-like
        Of the export: a zip file, or the folder that it was extracted to.
    extract_to : str, path-like or None, default=None
        Folder where the files of a zip file go to, and stay, since images are read again by their
        paths; it is made if it is missing, and files of the same names in it are replaced.
    all_images : bool, default=False
        Whether to give all images of an object, a row each, in the order of `img_rank`; otherwise
        the first one only.
    on_error : {"raise", "skip"}, default="raise"
        "raise": one error lists all images that are missing or broken. "skip" leaves their rows
        out, and `passed_over` lists them.

    Returns
    -------
    Export

    Raises
    ------
    OSError
        If the export is missing or cannot be read, or files cannot be extracted.
    ValueError
        If it holds no table, one that cannot be read, objects without an id, an object twice or
        with two names; if a zip file is damaged, leads out of `extract_to`, or comes without it;
        for the problems that `on_error` names; or if no row is left.

    Warns
    -----
    UserWarning
        If a column of numbers holds something else, which becomes NaN.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "ecotaxa_export.tsv")
    ...     _ = table.write_text(
    ...         "object_id\tobject_annotation_status\tobject_annotation_category\tobject_area\n"
    ...         "net_1\tvalidated\tCalanus\t12,5\n"
    ...         "net_2\tpredicted\tOithona\t3,0\n"
    ...     )
    ...     export = read(folder)
    >>> export.labels.tolist(), export.table["object_area"].tolist()
    (['Calanus', None], [12.5, 3.0])
    """
    check_choice("on_error", on_error, ("raise", "skip"))
    files = _files_of(Path(path), extract_to)
    table = _join_tables(files, path)
    table = _sort(table, path)
    if not all_images:
        table = table.drop_duplicates("object_id")
    images, passed_over = _find_images(table, files)
    if on_error == "raise":
        advice = 'Export the images, too, or give on_error="skip" to leave these rows out.'
        raise_all(passed_over, f"The export {os.fspath(path)!r}", advice)
    if images is not None:
        table = table.loc[list(images)]
        images = np.array([os.fspath(image) for image in images.values()], dtype=object)
    if not len(table):
        raise ValueError(f"The export {os.fspath(path)!r} leaves no row: {passed_over[:3]}.")
    table = table.drop(columns="_folder").reset_index(drop=True)
    return Export(table, images, *_labels(table), _pixel_size(table), as_table(passed_over))


# ---- the files of an export ----------------------------------------------------------------------


def _files_of(path, extract_to):
    """List the files of an export: a dict of Path, by the names that they have in it."""
    if path.is_dir():
        return {plain_text(file.relative_to(path).as_posix()): file for file in list_files(path)}
    path = as_file(path)
    if not zipfile.is_zipfile(path):
        path.open("rb").close()  # raises where it is missing
        raise ValueError(
            f"{os.fspath(path)!r} is neither a zip file nor a folder, as an export is. Of a table, "
            "give the folder in which it lies."
        )
    if extract_to is None:
        raise ValueError(
            f"{os.fspath(path)!r} is a zip file: give extract_to, the folder for its files."
        )
    try:
        return _extract(path, Path(extract_to))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{os.fspath(path)!r} cannot be extracted: {error}.") from error


def _extract(path, folder):
    """Extract a zip file, whose names must not lead out of the folder."""
    files = {}
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        names = [entry.filename.replace("\\", "/") for entry in entries]
        for name in names:
            if not _stays_inside(name, folder):
                raise ValueError(
                    f"{os.fspath(path)!r} holds a file {name!r}, which would lie outside of "
                    f"{os.fspath(folder)!r}: nothing was extracted."
                )
        for entry, name in zip(entries, names, strict=True):
            if any(map(is_litter, PurePosixPath(name).parts)):
                continue
            file = files[plain_text(name)] = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(file, "wb") as target:
                shutil.copyfileobj(source, target)
    return files


def _stays_inside(name, folder):
    parts = PurePosixPath(name).parts
    plain = not name.startswith("/") and ".." not in parts and not re.match("[A-Za-z]:", name)
    # a link that is in the folder already may lead out, too
    return plain and (folder / name).resolve().is_relative_to(folder.resolve())


# ---- tables --------------------------------------------------------------------------------------


def _join_tables(files, path):
    """Read all tables as one, in which `_folder` is where each row's table lies."""
    tables, types = [], {}
    for name, file in sorted(files.items()):
        if not re.fullmatch(r"ecotaxa.*\.(tsv|txt)", posixpath.basename(name).casefold()):
            continue
        try:
            table, its_types = _read_table(file)
        except ValueError as error:
            raise ValueError(f"The table {os.fspath(file)!r} cannot be read: {error}.") from error
        tables.append(table.assign(_folder=posixpath.dirname(name), _table=name))
        # of tables that disagree, text holds both
        types |= {column: max(kind, types.get(column, kind)) for column, kind in its_types.items()}
    if not tables:
        raise ValueError(
            f"The export {os.fspath(path)!r} holds no table ecotaxa*.tsv. It holds {len(files)} "
            f"file(s), such as {sorted(files)[:5]}."
        )
    joined = pd.concat(tables, ignore_index=True).fillna("")
    where = joined.pop("_table")
    blank = joined["object_id"] == ""
    if blank.any():
        raise ValueError(f"Rows of {where[blank].iloc[0]!r} have no object_id.")
    return _typed(joined, types)


def _read_table(file):
    """Read one table: text, and the types by column where it tells them."""
    table = texts.parse(texts.decode(file.read_bytes()), "\t")
    table.columns = table.columns.str.lower()
    twice = table.columns[table.columns.duplicated()].tolist()
    if twice or "object_id" not in table:
        reason = f"has the columns {twice} twice" if twice else "has no column object_id"
        raise ValueError(f"it {reason}")
    if len(table) and table.iloc[0].str.lower().isin([*TYPES, ""]).all():
        return table.iloc[1:], table.iloc[0].str.lower().to_dict()
    return table, {}


def _typed(table, types):
    """Turn columns of numbers into numbers: those of a type, and else those that hold no others."""
    types = {**types, "img_rank": "[f]"}
    numbers = [name for name in table if types.get(name) == "[f]" and name not in _TEXT]
    text = _TEXT | {"_folder"} | {name for name, kind in types.items() if kind == "[t]"}
    columns = dict(
        texts.with_numbers(table.drop(columns=numbers), decimal_comma=True, text=text).items()
    )
    columns["_folder"] = table["_folder"]  # where "" is a folder, and not missing
    columns |= {name: _numbers(name, table[name]) for name in numbers}
    return pd.DataFrame({name: columns[name] for name in table})


def _numbers(name, column):
    """Turn a column into numbers, and warn where it holds something else."""
    numbers = texts.as_numbers(column)
    lost = numbers.isna() & ~column.str.lower().isin(["", "nan", "na"])
    if lost.any():
        warnings.warn(
            f"The column {name} is one of numbers, but {lost.sum()} cell(s) are none, such as "
            f"{column[lost].iloc[0]!r}: they become NaN.",
            UserWarning,
            stacklevel=users_level(),
        )
    return numbers


def _sort(table, path):
    """Sort the images of each object by rank, after checking that each object is there once."""
    ranks = table.get("img_rank", pd.Series(0, index=table.index)).fillna(0)
    image = [table[name] for name in ("object_id", "img_file_name") if name in table]
    again = pd.concat([*image, ranks], axis=1).duplicated()
    common = [name for name in _OF_OBJECT if name in table]
    # NaN counts as a value of its own: an object has one name, or none
    differs = table.groupby("object_id", sort=False)[common].nunique(dropna=False).gt(1)
    twice = sorted(set(table["object_id"][again]) | set(differs.index[differs.any(axis=1)]))
    if twice:
        raise ValueError(
            f"The export {os.fspath(path)!r} holds {len(twice)} object(s) twice, or with different "
            f"{common}: {twice[:10]}. Does the folder hold two exports? Read one at a time."
        )
    first = table.groupby("object_id", sort=False).ngroup()
    return table.iloc[np.lexsort((ranks, first))]


def _labels(table):
    """Return the labels, None where nobody has validated one, and where there are."""
    missing = pd.Series(np.nan, index=table.index, dtype=object)
    names = table.get("object_annotation_category", missing).to_numpy(dtype=object)
    status = table.get("object_annotation_status", missing).astype(str).str.lower()
    validated = (status == "validated").to_numpy() & ~pd.isna(names)
    return np.where(validated, names, None), validated


def _pixel_size(table):
    for name in _PIXEL_SIZES:
        if name in table:
            return _as_float(table[name])
    return None


def _as_float(column):
    """Return a column of numbers, or of text that holds some, as (n,) float64."""
    if not pd.api.types.is_numeric_dtype(column):
        column = texts.as_numbers(column.astype(object).where(column.notna(), "").astype(str))
    return column.to_numpy(dtype=np.float64)


# ---- images --------------------------------------------------------------------------------------


def _find_images(table, files):
    """Find the image of each row: a dict of Path by row, or None, and the faults."""
    if "img_file_name" not in table or not any(map(has_image_ending, files.values())):
        return None, []
    places, found, faults = _Places(files), {}, []
    names = table["img_file_name"].fillna("")
    categories = table.get("object_annotation_category", names)
    rows = zip(table.index, table["object_id"], table["_folder"], names, categories, strict=True)
    for row, object_id, folder, name, category in rows:
        paths = places.find(folder, name, str(category)) if name else []
        if len(paths) == 1:
            found[row] = paths[0]
        else:
            kind = ("ambiguous" if paths else "not found") if name else "not named"
            faults.append(fault(name, kind, f"the image of object {object_id} is {kind}"))
    paths = sorted(set(found.values()))
    looks = dict(zip(paths, look_at(paths), strict=True))
    for row, path in found.items():
        if looks[path].fault:
            detail = f"the image of object {table.at[row, 'object_id']} is {looks[path].fault}"
            faults.append(fault(path, looks[path].fault, f"{detail} ({looks[path].detail})"))
    return {row: path for row, path in found.items() if not looks[path].fault}, faults


class _Places:
    """Where the images of an export may lie.

    Parameters
    ----------
    files : dict of Path
        By the names that they have in the export.
    """

    def __init__(self, files):
        self.files = files
        self.folded, self.by_last = {}, {}
        for name, file in files.items():
            self.folded.setdefault(name.casefold(), file)
            self.by_last.setdefault(posixpath.basename(name).casefold(), []).append(file)

    def find(self, folder, name, category):
        """Find the files that a name in a table of this folder may mean, a list of Path."""
        name = plain_text(name.replace("\\", "/"))
        for place in (posixpath.join(folder, name), name):
            place = posixpath.normpath(place)
            file = self.files.get(place) or self.folded.get(place.casefold())
            if file:
                return [file]
        found = self.by_last.get(posixpath.basename(name).casefold(), [])
        if len(found) < 2:
            return found
        # folders of categories are called as EcoTaxa calls them, with or without the number
        called = re.sub(r"[^A-Za-z0-9 .()-]", "_", category)
        own = [file for file in found if re.sub(r"__\d+$", "", file.parent.name) == called]
        return own or found
