"""Rows of an index: embeddings, ids and metadata, as plain numbers that go into a file as they are.

A column is an array of numbers, booleans or dates, or `Strings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from ..checks import first_of

#: Units of dates and durations.
_UNITS = ("s", "ms", "us", "ns")
#: Types of numpy that are kept, beside strings, dates and durations; as safetensors names them.
TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}
#: Types of dates and durations that are kept: those of pandas.
DATES = tuple(f"{kind}64[{unit}]" for kind in ("datetime", "timedelta") for unit in _UNITS)
#: What metadata cannot be called, for these are columns of every result.
RESERVED = ("query", "rank", "id", "score")


class Strings:
    """A column of strings, some of which may be missing.

    Parameters
    ----------
    text : ndarray of uint8
        All of them in UTF-8, one after the other.
    ends : ndarray of shape (n,), int64
        Where each ends in `text`.
    missing : ndarray of shape (n,), bool
        Which are none.
    """

    def __init__(self, text, ends, missing):
        self.text = text
        self.ends = ends
        self.missing = missing

    @classmethod
    def of(cls, values, what="A column"):
        """Make a column of strings, None and NaN; ValueError, of `what`, where one is no text."""
        values = np.asarray(values, dtype=object)
        missing = np.asarray(pd.isna(values), dtype=bool)
        check_text(what, values[~missing])
        encoded = [
            b"" if gone else value.encode() for value, gone in zip(values, missing, strict=True)
        ]
        ends = np.cumsum([len(part) for part in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends, missing)

    def __len__(self):
        """Count the strings."""
        return len(self.ends)

    def take(self, rows):
        """Give some strings: an object array with None where they are missing."""
        values = np.empty(len(rows), dtype=object)
        starts = np.where(rows > 0, self.ends[rows - 1], 0)
        for i, (start, end) in enumerate(zip(starts, self.ends[rows], strict=True)):
            values[i] = self.text[start:end].tobytes().decode()
        values[self.missing[rows]] = None
        return values


def check_text(what, values):
    """Raise ValueError where strings hold half a surrogate pair, which no file can keep."""
    odd = [value for value in values if not is_text(value)]
    if odd:
        raise ValueError(
            f"{what} must be text that UTF-8 can hold, got {shown(odd)}. Decode it once more, from "
            "the encoding that it has."
        )


def is_text(value):
    """Tell whether a string can be written in UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def type_of(column):
    """Name the type of a column: "str", or as numpy does."""
    return "str" if isinstance(column, Strings) else column.dtype.name


def as_ids(ids):
    """Turn ids into a column: integers, or strings; none may be there twice."""
    values = as_id_list(ids)
    if len(set(map(type, values))) > 1:
        raise ValueError(f"ids must be all int or all str, got both: {shown(values)}.")
    twice = pd.Series(values, dtype=object)
    twice = twice[twice.duplicated()].unique()
    if len(twice):
        raise ValueError(f"These ids are given more than once: {shown(twice)}.")
    if values and isinstance(values[0], str):
        return Strings.of(values, "ids")
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise ValueError("ids that are int must fit into 64 bits; give them as str.") from None


def as_id_list(ids):
    """Turn ids into a list of int and str; ValueError where one is neither."""
    if np.ndim(ids) != 1:
        raise ValueError(f"ids must be of the shape (n,), got {np.shape(ids)}.")
    values = [value.item() if isinstance(value, np.generic) else value for value in ids]
    odd = [value for value in values if type(value) not in (int, str)]
    if odd:
        raise ValueError(f"ids must be int or str, got {shown(odd)}.")
    return values


def as_metadata(metadata):
    """Turn a DataFrame, a dict of columns or None into columns by name."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping | pd.DataFrame):
        raise TypeError(f"metadata must be a DataFrame or a dict of columns, got {metadata!r}.")
    names = list(metadata)
    check_names(names)
    return {name: _as_column(name, _series(name, metadata[name])) for name in names}


def check_names(names):
    """Check what the columns of metadata are called."""
    odd = [name for name in names if not isinstance(name, str) or name in RESERVED]
    if odd or len(set(names)) < len(names):
        raise ValueError(
            f"The columns of metadata must be called by different strings, and by none of "
            f"{RESERVED}; got {names}."
        )
    check_text("The names of metadata columns", names)


def as_before(kind, types, columns):
    """Bring new columns to the order and the types of those before; ValueError if they differ."""
    if not types:
        return columns
    if set(columns) != set(types):
        before, now = ([name for name in x if name != "id"] for x in (types, columns))
        raise ValueError(
            f"The metadata of the {kind} have the columns {before}, but those of the new ones are "
            f"{now}. Give the same columns, with missing values where nothing is known."
        )
    ordered = {}
    for name, dtype in types.items():
        column, given = columns[name], type_of(columns[name])
        if given != dtype:
            what = "ids" if name == "id" else f"The metadata column {name!r}"
            if not _can_become(given, dtype):
                raise ValueError(f"{what} of the {kind}: {dtype} before, but now {given}.")
            column = _as_type(f"{what} of the {kind}", column, dtype)
        ordered[name] = column
    return ordered


def _can_become(given, dtype):
    """Tell whether values of a type mean the same in another; numbers are no durations."""
    if "str" in (given, dtype) or (given in DATES) != (dtype in DATES):
        return False
    return np.can_cast(given, dtype)


def _as_type(what, column, dtype):
    """Turn a column into another type; ValueError where a value would be another one."""
    with np.errstate(invalid="ignore"):
        values = column.astype(dtype)
        # numpy calls it safe, but integers are rounded, and dates of a finer unit overflow
        lost = (values.astype(column.dtype) != column) & ~pd.isna(column)
    if lost.any():
        raise ValueError(
            f"{what}: {dtype} before, which cannot hold {column[lost][0]}. A column keeps its "
            "first type: leave the value out, or make a new MatchIndex with a type that fits."
        )
    return values


def shown(values):
    """List a few values in an error."""
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    return first_of(values, show=repr)


def _series(name, values):
    try:
        return pd.Series(values)
    except UnicodeEncodeError:
        check_text(
            f"The metadata column {name!r}", [value for value in values if isinstance(value, str)]
        )
        raise


def _as_column(name, values):
    """Make a column of a Series; ValueError where its type cannot be kept."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = values.astype(dtype.categories.dtype)
        dtype = values.dtype
    if isinstance(dtype, np.dtype) and (dtype.name in TYPES or dtype.kind in "mM"):
        # files and databases know one order of bytes
        return values.to_numpy().astype(dtype.newbyteorder("="))
    if pd.api.types.infer_dtype(values, skipna=True) in ("string", "empty"):
        return Strings.of(values, f"The metadata column {name!r}")
    raise ValueError(
        f"The metadata column {name!r} is of the type {dtype}, with values such as "
        f"{values.iloc[:3].tolist()!r}. Numbers, booleans, strings and dates without a time zone "
        "can be kept; integers and booleans must not be missing."
    )


def as_series(values):
    """Make a Series of what `take` gave; strings are strings for pandas, even if there are none."""
    if values.dtype == object:
        return pd.Series([*values, ""]).iloc[:-1]
    return pd.Series(values)


def _subset(column, rows):
    values = column.take(rows)
    return Strings.of(values) if isinstance(column, Strings) else values


def _concatenate(columns):
    if not isinstance(columns[0], Strings):
        return np.concatenate(columns)
    before = np.cumsum([0] + [len(column.text) for column in columns])
    return Strings(
        np.concatenate([column.text for column in columns]),
        np.concatenate([column.ends + n for column, n in zip(columns, before, strict=False)]),
        np.concatenate([column.missing for column in columns]),
    )


# ---- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """Rows that were added together, or merged since; they do not change."""

    embeddings: np.ndarray  # (n, d) float32
    columns: dict  # by name, of n values each; the first is "id"

    def __len__(self):
        """Count the rows."""
        return len(self.embeddings)

    @cached_property
    def known(self):
        """The set of the ids, made when first needed."""
        return frozenset(self.ids().tolist())

    def without(self, ids):
        """Give the rows of other ids than some: a segment, or None if there are none."""
        if self.known.isdisjoint(ids):
            return self
        rows = np.flatnonzero([id_ not in ids for id_ in self.ids().tolist()])
        if not len(rows):
            return None
        columns = {name: _subset(column, rows) for name, column in self.columns.items()}
        return Segment(self.embeddings[rows], columns).with_known(self.known - ids)

    def ids(self):
        """Give all ids: an object array, or int64."""
        return self.columns["id"].take(np.arange(len(self)))

    def with_known(self, ids):
        """Take the set of the ids as it is: to make one set of others is much faster."""
        vars(self)["known"] = ids
        return self


def merge(segments):
    """Make one segment of several."""
    columns = {
        name: _concatenate([segment.columns[name] for segment in segments])
        for name in segments[0].columns
    }
    embeddings = np.concatenate([segment.embeddings for segment in segments])
    known = frozenset().union(*(segment.known for segment in segments))
    return Segment(embeddings, columns).with_known(known)
