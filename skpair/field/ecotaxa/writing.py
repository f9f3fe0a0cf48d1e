"""What EcoTaxa shall import: a table of names, and the images of new objects."""

import codecs
import os
import re
import shutil
import tempfile
import warnings
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from sklearn.utils import column_or_1d

from ...checks import check_no_gaps, users_level
from ...rows.pictures import decode_image
from ...storage.sealed import write_atomically
from ..files import fault, look_at, raise_all

#: Formats of images that EcoTaxa takes, and their endings.
_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif"}
#: Longest text of a cell, in characters.
_LONGEST = 250
#: Most columns of the object that EcoTaxa keeps, of numbers and of text, beside its own.
_MOST_COLUMNS = {"[f]": 500, "[t]": 20}
#: Columns of the object that are EcoTaxa's own.
_OWN = {
    "object_annotation_category",
    "object_annotation_status",
    "object_date",
    "object_depth_max",
    "object_depth_min",
    "object_id",
    "object_lat",
    "object_link",
    "object_lon",
    "object_time",
}
#: Tables of EcoTaxa, to one of which each column belongs by its first word.
_TABLES = ("object", "sample", "acq", "process")


def write(
    folder,
    object_ids,
    names,
    *,
    scores=None,
    novelty=None,
    unknown_label=None,
    images=None,
    metadata=None,
    file_name="ecotaxa_skpair.tsv",
):
    r"""Write names as a table that EcoTaxa imports, each with the status "predicted".

    Objects that EcoTaxa has already are updated: there, choose "update", with classification.
    New ones come with `images`. Everything is checked before anything is written, images come
    first and the table last, and each file is moved to its place when it is whole.

    Parameters
    ----------
    folder : str or path-like
        Where to; it is made if it is missing, and files of the same names in it are replaced.
        EcoTaxa takes the folder, or a zip file of it.
    object_ids : array-like of shape (n,)
        Ids, str or int, each one once.
    names : array-like of shape (n,)
        What `predict` says: names of categories, as EcoTaxa has them.
    scores : array-like of shape (n,) or None, default=None
        Probability of each name, in 0..1, for the column ``object_skpair_score``: EcoTaxa has a
        score of its own, and replaces it.
    novelty : array-like of shape (n,) or None, default=None
        What `novelty_score` says, for the column ``object_skpair_novelty``.
    unknown_label : str, int, float or None, default=None
        The matcher's: objects of this name stay without category and status. An update takes the
        name from such an object that has one in EcoTaxa; to keep it, leave the row out.
    images : array-like of shape (n,) or None, default=None
        Paths, for new objects. PNG, JPEG and GIF are copied; other formats, which EcoTaxa refuses,
        become PNG of 8 bits. None: all objects are there already.
    metadata : DataFrame of n rows, or None, default=None
        More columns, such as measurements, called as in EcoTaxa, ``object_area``; those that begin
        with neither object, sample, acq nor process get ``object_`` before their name. Text is cut
        at 250 characters.
    file_name : str, default="ecotaxa_skpair.tsv"
        Of the table, ``ecotaxa*.tsv``.

    Returns
    -------
    Path
        Of the table.

    Raises
    ------
    TypeError
        If an id is neither text nor a whole number, or `metadata` is no DataFrame.
    ValueError
        If lengths differ, ids are blank or there twice, names are missing, scores are not in 0..1,
        numbers are infinite, images are missing or broken, columns are reserved, lack the id of
        their table, or are more than EcoTaxa keeps: 500 of numbers and 20 of text.
    OSError
        If a file cannot be written.

    Warns
    -----
    UserWarning
        If text is cut.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(
    ...         folder, ["net_1", "net_2"], ["Calanus", "?"], scores=[0.9, 0.4], unknown_label="?"
    ...     )
    ...     lines = path.read_text("utf-8-sig").splitlines()
    >>> lines[0].split("\t")[1:]
    ['object_annotation_category', 'object_annotation_status', 'object_skpair_score']
    >>> lines[2].split("\t"), lines[3].split("\t")
    (['net_1', 'Calanus', 'predicted', '0.9'], ['net_2', '', '', '0.4'])
    """
    if not re.fullmatch(r"ecotaxa[^/\\]*\.tsv", file_name):
        raise ValueError(f"EcoTaxa reads tables that are called ecotaxa*.tsv, not {file_name!r}.")
    table = _make_table(object_ids, names, unknown_label, scores, novelty)
    if metadata is not None:
        table = pd.concat([table, _check_metadata(metadata, table)], axis=1)
    if images is not None:
        images = _check_images(images, len(table))
        table.insert(0, "img_file_name", _image_names(images))
    data = _as_text(table, _check_types(table))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if images is not None:
        _copy_images(images, table["img_file_name"], folder)
    write_atomically(folder / file_name, data)
    return folder / file_name


def _make_table(object_ids, names, unknown_label, scores, novelty):
    """Make the table of what a matcher has said."""
    ids = _check_ids(object_ids)
    categories = _check_names(names, unknown_label, len(ids))
    columns = {
        "object_id": ids,
        "object_annotation_category": categories,
        # EcoTaxa takes both or none
        "object_annotation_status": ["predicted" if category else "" for category in categories],
    }
    if scores is not None:
        columns["object_skpair_score"] = _check_numbers("scores", scores, len(ids), 0, 1)
    if novelty is not None:
        columns["object_skpair_novelty"] = _check_numbers("novelty", novelty, len(ids))
    return pd.DataFrame(columns)


# ---- checks --------------------------------------------------------------------------------------


def _column(name, values, n_rows):
    """Return a column of what a user has given, which must have `n_rows`."""
    values = np.asarray(values)
    if values.ndim != 1 or len(values) != n_rows:
        more = " Of predict_proba, give the highest: proba.max(axis=1)." if name == "scores" else ""
        raise ValueError(
            f"{name} must have the shape ({n_rows},), one for each of object_ids, but has "
            f"{values.shape}.{more}"
        )
    return values


def _check_ids(object_ids):
    given = column_or_1d(np.asarray(object_ids, dtype=object))
    if not len(given):
        raise ValueError("Found 0 object_ids: there is nothing to write.")
    check_no_gaps("object_ids", given)
    for row, value in enumerate(given):
        if isinstance(value, bool) or not isinstance(value, str | Integral):
            raise TypeError(
                f"object_ids must be text or whole numbers, as EcoTaxa has them, but row {row} is "
                f"{value!r}."
            )
        text = str(value)
        if not text or text != text.strip() or len(text) > _LONGEST or set(text) & set("\t\r\n"):
            raise ValueError(
                f"object_ids: row {row} is {text[:300]!r}, but an id has 1 to {_LONGEST} "
                "characters, in one line and without spaces around them."
            )
    ids = pd.Series([str(value) for value in given], dtype=object)
    twice = ids[ids.duplicated()].unique().tolist()
    if twice:
        raise ValueError(
            f"{len(twice)} object(s) are there more than once: {twice[:10]}. Give one row an "
            "object, as read does without all_images."
        )
    return ids


def _check_names(names, unknown_label, n_rows):
    """Return categories, "" for the unknown."""
    names = _column("names", names, n_rows).astype(object)
    check_no_gaps("names", names)
    unknown = [unknown_label is not None and name == unknown_label for name in names]
    categories = ["" if skip else str(name) for name, skip in zip(names, unknown, strict=True)]
    for row, category in enumerate(categories):
        if not unknown[row] and not 0 < len(category.strip()) <= _LONGEST:
            raise ValueError(
                f"names: row {row} is {category[:300]!r}, but a category has 1 to {_LONGEST} "
                "characters. Say by unknown_label which name means none."
            )
    return categories


def _check_numbers(name, values, n_rows, low=-np.inf, high=np.inf):
    values = _column(name, values, n_rows)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers, but are of {values.dtype}.")
    wrong = ~(np.isfinite(values) & (values >= low) & (values <= high))
    if wrong.any():
        row = np.argmax(wrong)
        kind = f"in {low}..{high}" if np.isfinite(high) else "finite"
        raise ValueError(f"{name} must be {kind}, but row {row} is {values[row]}.")
    return values


def _check_metadata(metadata, table):
    """Return the columns under the names that EcoTaxa gives them, numbers or text."""
    if not isinstance(metadata, pd.DataFrame):
        raise TypeError(f"metadata must be a DataFrame, got {type(metadata).__name__}.")
    if len(metadata) != len(table):
        raise ValueError(
            f"metadata has {len(metadata)} rows, but there are {len(table)} object_ids."
        )
    names = [_column_name(name) for name in metadata.columns]
    twice = {name for name in names if names.count(name) > 1}
    taken = [
        name
        for name in names
        if name in table or name in twice or name.startswith("object_annotation_")
    ]
    if taken:
        raise ValueError(
            f"metadata must not have the columns {sorted(set(taken))}: they are there twice, or "
            "are written from the other arguments."
        )
    cells = [_cells(name, metadata.iloc[:, place]) for place, name in enumerate(names)]
    return pd.concat(cells, axis=1) if cells else pd.DataFrame(index=table.index)


def _column_name(name):
    known = str(name).strip().lower()
    if not known or re.search(r'[\t\r\n"=]', known):
        raise ValueError(
            f"metadata has a column {name!r}, but a name has no tab, line break, quote or '='."
        )
    return known if known.partition("_")[0] in _TABLES and "_" in known else f"object_{known}"


def _cells(name, column):
    """Return a column of `metadata` as floats or ints, or as text."""
    column = column.reset_index(drop=True).rename(name)
    if pd.api.types.is_bool_dtype(column):
        return column.astype(float)
    if pd.api.types.is_numeric_dtype(column):
        if np.isinf(column.to_numpy(dtype=float, na_value=np.nan)).any():
            raise ValueError(f"The column {name} of metadata holds infinite numbers.")
        return column
    text = column.astype(object).where(column.notna(), "").astype(str)
    long = text.str.len() > _LONGEST
    if long.any():
        warnings.warn(
            f"EcoTaxa keeps {_LONGEST} characters of text: {long.sum()} cell(s) of the column "
            f"{name} are cut.",
            UserWarning,
            stacklevel=users_level(),
        )
    return text.str.slice(stop=_LONGEST)


def _check_types(table):
    """Return the type of each column, after checking that EcoTaxa takes them all."""
    types = {name: "[f]" if pd.api.types.is_numeric_dtype(table[name]) else "[t]" for name in table}
    for kind, most in _MOST_COLUMNS.items():
        free = [
            name
            for name, its_kind in types.items()
            if name.startswith("object_") and name not in _OWN and its_kind == kind
        ]
        if len(free) > most:
            raise ValueError(
                f"EcoTaxa keeps {most} columns {kind} of the object, but there are {len(free)}. "
                f"Leave out of metadata as many as these: {free[most:]}."
            )
    for prefix in _TABLES:
        of_table = [name for name in types if name.startswith(f"{prefix}_")]
        if of_table and f"{prefix}_id" not in types:
            raise ValueError(
                f"EcoTaxa asks for {prefix}_id where there are columns such as {of_table[0]}: add "
                "it to metadata, or leave them out."
            )
    return types


def _as_text(table, types):
    """Return the bytes of the table."""
    body = table.to_csv(sep="\t", header=False, index=False, lineterminator="\n")
    lines = "\t".join(types), "\t".join(types.values()), body
    return codecs.BOM_UTF8 + "\n".join(lines).encode()


# ---- images --------------------------------------------------------------------------------------


def _check_images(images, n_rows):
    """Return a path for each row, after opening all."""
    given = _column("images", pd.Series(list(images), dtype=object), n_rows)
    missing = [row for row, path in enumerate(given) if not isinstance(path, str | os.PathLike)]
    if missing:
        raise ValueError(
            f"images: row {missing[0]} is {given[missing[0]]!r}, but every row needs a path. "
            "EcoTaxa imports new objects and updates others in two steps: write two tables."
        )
    paths = [Path(path) for path in given]
    faults = [
        fault(path, look.fault, f"row {row} is {look.fault} ({look.detail})")
        for row, (path, look) in enumerate(zip(paths, look_at(paths), strict=True))
        if look.fault
    ]
    raise_all(faults, "images", "Give files that are there and whole.")
    return paths


def _image_names(paths):
    """Give each copy a name of its own, with the ending of its format."""
    names, taken = [], set()
    for path in paths:
        with Image.open(path) as image:
            ending = _FORMATS.get(image.format, ".png")
        stem, again = path.stem, 1
        while f"{stem}{ending}".casefold() in taken:
            again += 1
            stem = f"{path.stem}_{again}"
        names.append(f"{stem}{ending}")
        taken.add(names[-1].casefold())
    return names


def _copy_images(paths, names, folder):
    """Copy or convert all, then move them to their places."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".images-") as temporary:
        for path, name in zip(paths, names, strict=True):
            _copy_image(path, Path(temporary, name))
        for name in names:
            os.replace(Path(temporary, name), folder / name)


def _copy_image(path, target):
    with Image.open(path) as image:
        if image.format in _FORMATS:
            shutil.copyfile(path, target)
            return
        colour = image.mode == "P" or len(image.getbands()) > 2
        width, height = ImageOps.exif_transpose(image).size
    pixels = decode_image(path, (3 if colour else 1, height, width))
    pixels = pixels.transpose(1, 2, 0) if colour else pixels[0]
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, "PNG")
