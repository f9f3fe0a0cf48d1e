"""The file of an index: a safetensors file, whose embeddings are mapped when it is opened.

Its metadata hold one entry, "skpair", a JSON header, sealed by a checksum with all columns;
only the embeddings are not. Opening it runs nothing that it holds.
"""

import hashlib
import json
import os
import re
import reprlib

import numpy as np
import pandas as pd
import safetensors

from .columns import RESERVED, TYPES, Segment, Strings, type_of
from .files import check_known, take, write_atomically
from .paths import as_file

#: Version of the header; another one is another format.
_FORMAT = 1


def write(path, space, segments):
    """Write an index to a file, which is there as a whole or as it was before.

    Parameters
    ----------
    path : str or path-like
        Where to. The file may be the one that the index is mapped from.
    space : str or None
        Digest of the networks that the embeddings come from.
    segments : dict of tuple of Segment
        The rows, by kind.
    """
    arrays, kinds = {}, {}
    for kind, parts in segments.items():
        columns = parts[0].columns if parts else {}
        kinds[kind] = {
            "n_segments": len(parts),
            "columns": [[name, type_of(column)] for name, column in columns.items()],
        }
        for number, segment in enumerate(parts):
            arrays[f"{kind}/{number}/embeddings"] = segment.embeddings
            for place, column in enumerate(segment.columns.values()):
                values = vars(column) if isinstance(column, Strings) else {"values": column}
                arrays |= {f"{kind}/{number}/{place}/{k}": v for k, v in values.items()}
    arrays = {
        name: np.ascontiguousarray(array.view(np.int64) if array.dtype.kind in "mM" else array)
        for name, array in arrays.items()
    }
    header = {"format": _FORMAT, "kind": "MatchIndex", "space": space, "rows": kinds}
    text = json.dumps({"sha256": _digest(header, arrays), **header})
    write_atomically(path, _safetensors(arrays, text))


def read(path):
    """Map the file of an index.

    Returns
    -------
    space : str or None
        As it was written.
    segments : dict of tuple of Segment
        Their embeddings are read when they are needed; changing them does not change the file.

    Raises
    ------
    OSError
        If the file is missing or cannot be read.
    ValueError
        If it is truncated, not of an index, or damaged elsewhere than in an embedding.
    """
    path = as_file(path)
    try:
        with safetensors.safe_open(path, "pt") as file:  # torch maps, where numpy would read
            header = json.loads((file.metadata() or {}).get("skpair", "{}"))
            found = header.get("format"), header.get("kind")
            if found != (_FORMAT, "MatchIndex") or type(found[0]) is not int:
                raise ValueError(f"its format and kind are {found}")
            tensors = {name: file.get_tensor(name).numpy() for name in file.keys()}
        if header.pop("sha256", None) != _digest(header, tensors):
            raise ValueError("its checksum is wrong")
        segments = _segments(header, tensors)
        widths = {part.embeddings.shape[1] for parts in segments.values() for part in parts}
        if len(widths) > 1 or tensors:
            raise ValueError("its parts do not go together")
    except OSError:
        raise
    except Exception as error:  # whatever foreign bytes lead to
        raise ValueError(
            f"{os.fspath(path)!r} is not the file of an index, or it is damaged or of another "
            f"version: {error}."
        ) from error
    return header["space"], segments


def _digest(header, arrays):
    """Digest a header and arrays: of embeddings, which may be large, the shape only."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.name, array.shape)).encode())
        if not name.endswith("/embeddings"):
            digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _segments(header, tensors):
    """Take the segments of both kinds; ValueError where they are not such as `write` writes."""
    check_known(header, "its header", ("format", "kind", "space", "rows"))
    space = take(header, "space", str, type(None))
    rows = take(header, "rows", dict)
    if rows.keys() != {"images", "skeletons"}:
        raise ValueError(f"its kinds are {reprlib.repr(list(rows))}")
    segments = {}
    for kind, described in rows.items():
        check_known(take(rows, kind, dict), kind, ("n_segments", "columns"))
        n = take(described, "n_segments", int)
        columns = take(described, "columns", list)
        if n < 0 or bool(n) != bool(columns) or (n and space is None):
            raise ValueError(f"it says {n} segments of {kind}, with {len(columns)} columns")
        _check_columns(kind, columns)
        segments[kind] = tuple(_segment(tensors, f"{kind}/{i}", columns) for i in range(n))
        ids = [segment.ids() for segment in segments[kind]]
        if ids and pd.Series(np.concatenate(ids)).duplicated().any():
            raise ValueError(f"ids of its {kind} are there twice")
    return segments


def _check_columns(kind, columns):
    """Raise unless columns have distinct names, the ids first, and types that are kept."""
    for column in columns:
        if type(column) is not list or [type(part) for part in column] != [str, str]:
            raise ValueError(f"{reprlib.repr(column)} is no name and type of a column of {kind}")
    names = [name for name, _ in columns]
    "".join(names).encode()  # half a letter (a lone surrogate) is no text: a ValueError
    if names and (columns[0][0] != "id" or columns[0][1] not in ("int64", "str")):
        raise ValueError(f"its {kind} have no ids")
    if len(set(names)) < len(names) or set(names[1:]) & set(RESERVED):
        raise ValueError(f"the columns of its {kind} are called {reprlib.repr(names)}")
    for name, dtype in columns:
        if not re.fullmatch(r"str|(datetime|timedelta)64\[[a-zA-Z]{1,2}\]", dtype):
            if dtype not in TYPES:
                raise ValueError(f"the column {name!r} of its {kind} is of no known type")


def _segment(tensors, prefix, columns):
    """Take the tensors of one segment."""

    def take_values(name, dtype, shape):
        values = tensors.pop(f"{prefix}/{name}")
        if np.dtype(dtype).kind in "mM" and values.dtype == np.int64:
            values = values.view(dtype)
        fits = len(values.shape) == len(shape) and all(
            wanted in (None, n) for n, wanted in zip(values.shape, shape, strict=True)
        )
        if values.dtype != dtype or not fits:
            raise ValueError(f"{prefix}/{name} is {values.dtype} of shape {values.shape}")
        return values

    embeddings = take_values("embeddings", np.float32, (None, None))
    n = len(embeddings)
    if 0 in embeddings.shape:
        raise ValueError(f"{prefix}/embeddings are of the shape {embeddings.shape}")
    segment = Segment(embeddings, {})
    for place, (name, dtype) in enumerate(columns):
        if dtype == "str":
            text = take_values(f"{place}/text", np.uint8, (None,))
            ends = take_values(f"{place}/ends", np.int64, (n,))
            missing = take_values(f"{place}/missing", np.bool_, (n,))
            segment.columns[name] = Strings(text, ends, missing)
            _check_strings(segment.columns[name], f"{prefix}/{place}", name == "id")
        else:
            segment.columns[name] = take_values(f"{place}/values", dtype, (n,))
            if dtype == "bool" and segment.columns[name].view(np.uint8).max() > 1:
                raise ValueError(f"{prefix}/{place} is neither true nor false")
    return segment


def _check_strings(column, where, all_there):
    """Raise unless strings follow one another, in UTF-8, and missing ones have no text."""
    lengths = np.diff(column.ends, prepend=0, append=len(column.text))
    if lengths.min() < 0 or lengths[-1]:
        raise ValueError(f"the strings of {where} do not follow one another")
    column.text.tobytes().decode()  # UnicodeDecodeError is a ValueError
    inner = column.text[column.ends[column.ends < len(column.text)]]
    if (inner & 0xC0 == 0x80).any():
        raise ValueError(f"a string of {where} ends within a letter")
    if column.missing.view(np.uint8).max() > 1 or lengths[:-1][column.missing].any():
        raise ValueError(f"missing strings of {where} have a text")
    if all_there and column.missing.any():
        raise ValueError(f"ids are missing in {where}")


def _safetensors(arrays, header):
    """Yield the bytes of a safetensors file, piece by piece."""
    # the widest first, so that all numbers lie at multiples of their width
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    entries, end = {"__metadata__": {"skpair": header}}, 0
    for name, array in arrays.items():
        offsets = [end, end := end + array.nbytes]
        entries[name] = {
            "dtype": TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for array in arrays.values():
        yield memoryview(array.reshape(-1).view(np.uint8))
