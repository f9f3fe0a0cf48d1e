"""The file of an index: a safetensors file, whose embeddings are mapped when it is opened.

Its metadata hold one entry, "skpair", a JSON header, sealed by a checksum with all columns;
only the embeddings are not. Opening it runs nothing that it holds.
"""

import hashlib
import json
import os
import reprlib

import numpy as np
import pandas as pd
import safetensors

from ..checks import as_file
from ..storage.sealed import check_known, take, write_atomically
from .columns import DATES, TYPES, Segment, Strings, check_names, type_of

#: Version of the header; another one is another format.
_FORMAT = 2


def write(path, space, segments):
    """Write an index to a file, which is there as a whole or as it was before.

    Parameters
    ----------
    path : str or path-like
        Where to. The file may be the one that the index is mapped from.
    space : str or None
        Token of the training that the embeddings come from.
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


def read(path, kinds):
    """Map the file of an index.

    Parameters
    ----------
    path : str or path-like
        What `write` wrote.
    kinds : tuple of str
        Which kinds of rows it must tell of.

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
        If it is truncated, not of an index, damaged elsewhere than in an embedding, or says what
        no index says, whatever its checksum.
    """
    path = as_file(path)
    try:
        with safetensors.safe_open(path, "pt") as file:  # torch maps, where numpy would read
            header = _read_header(file.metadata() or {})
            tensors = {name: file.get_tensor(name).numpy() for name in file.keys()}
        if header.pop("sha256", None) != _digest(header, tensors):
            raise ValueError("its checksum is wrong: it is damaged")
        return _restore(header, tensors, kinds)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever foreign bytes lead to
        raise ValueError(
            f"{os.fspath(path)!r} is not the file of an index, or it is damaged or of another "
            f"version: {str(error)[:500].rstrip('.')}."
        ) from error


def _read_header(metadata):
    """Read a header, and check that it is one of an index, and of this format."""
    if "skpair" not in metadata:
        raise ValueError("it is a safetensors file, but was not written by skpair")
    header = json.loads(metadata["skpair"])
    if type(header) is not dict:
        raise ValueError(f"its header is {type(header).__name__}, not an object")
    found = take(header, "format", int), take(header, "kind", str)
    if found[0] > _FORMAT:
        raise ValueError(
            f"it has format {found[0]}, but this version of skpair knows {_FORMAT}: update skpair"
        )
    if found == (1, "MatchIndex"):
        raise ValueError(
            "an earlier version of skpair wrote it, which did not say which training its rows are "
            "of: add them to a new MatchIndex"
        )
    if found != (_FORMAT, "MatchIndex"):
        raise ValueError(f"its format and kind are {reprlib.repr(found)}")
    return header


# ---- what a file says: nothing of it is believed -------------------------------------------------


def _restore(header, tensors, kinds):
    """Make segments of a header and tensors, whose checksum is right."""
    check_known(header, "its header", ("format", "kind", "space", "rows"))
    space, rows = take(header, "space", str, type(None)), take(header, "rows", dict)
    check_known(rows, "rows", kinds)
    segments = {kind: _read_kind(tensors, kind, take(rows, kind, dict)) for kind in kinds}
    widths = {part.embeddings.shape[1] for parts in segments.values() for part in parts}
    if len(widths) > 1 or 0 in widths:
        raise ValueError(f"its embeddings have different numbers of columns, or none: {widths}")
    if widths and space is None:
        raise ValueError("space must say which networks made its embeddings, but is None")
    if tensors:
        raise ValueError(
            f"it holds tensors that belong to nothing: {reprlib.repr(sorted(tensors))}"
        )
    return space, segments


def _read_kind(tensors, kind, rows):
    """Take the tensors of one kind."""
    check_known(rows, f"rows of {kind}", ("n_segments", "columns"))
    n_segments, columns = take(rows, "n_segments", int), take(rows, "columns", list)
    if n_segments < 0 or bool(n_segments) != bool(columns):
        raise ValueError(f"{kind} have {n_segments} segments and {len(columns)} columns")
    if columns:
        _check_columns(kind, columns)
    parts = tuple(
        _read_segment(tensors, f"{kind}/{number}", columns) for number in range(n_segments)
    )
    ids = [part.ids() for part in parts]
    if ids and pd.Series(np.concatenate(ids), dtype=ids[0].dtype).duplicated().any():
        raise ValueError(f"some ids of {kind} are there twice")
    return parts


def _check_columns(kind, columns):
    """Check names and types of columns, as `write` gives them."""
    for column in columns:
        if type(column) is not list or [type(part) for part in column] != [str, str]:
            raise ValueError(
                f"a column of {kind} must be a name and a type, but is {reprlib.repr(column)}"
            )
        name, dtype = column
        if dtype not in ("str", *TYPES, *DATES):
            raise ValueError(f"the column {name!r} of {kind} has the type {reprlib.repr(dtype)}")
    (first, dtype), *metadata = columns
    if first != "id" or dtype not in ("int64", "str"):
        raise ValueError(f"{kind} have no ids")
    check_names([name for name, _ in metadata])


def _read_segment(tensors, prefix, columns):
    """Take the tensors of one segment."""
    embeddings = _take_array(tensors, f"{prefix}/embeddings", "float32", (None, None))
    n = len(embeddings)
    if not n:
        raise ValueError(f"{prefix} has no rows")
    segment = Segment(embeddings, {})
    for place, (name, dtype) in enumerate(columns):
        read = _read_strings if dtype == "str" else _read_numbers
        segment.columns[name] = read(tensors, f"{prefix}/{place}", dtype, n)
    if columns[0][1] == "str" and segment.columns["id"].missing.any():
        raise ValueError(f"some ids of {prefix} are missing")
    return segment


def _read_numbers(tensors, prefix, dtype, n):
    stored = "int64" if dtype in DATES else dtype
    return _take_array(tensors, f"{prefix}/values", stored, (n,)).view(dtype)


def _read_strings(tensors, prefix, dtype, n):
    text = _take_array(tensors, f"{prefix}/text", "uint8", (None,))
    ends = _take_array(tensors, f"{prefix}/ends", "int64", (n,))
    missing = _take_array(tensors, f"{prefix}/missing", "bool", (n,))
    # differences could overflow
    if ends[0] < 0 or (ends[1:] < ends[:-1]).any() or ends[-1] != len(text):
        raise ValueError(f"the strings of {prefix} do not follow one another")
    text.tobytes().decode()
    starts_within = ends[ends < len(text)]
    if (text[starts_within] & 0xC0 == 0x80).any():
        raise ValueError(f"a string of {prefix} ends within a character")
    if np.diff(ends, prepend=0)[missing].any():
        raise ValueError(f"strings of {prefix} are missing and have text")
    return Strings(text, ends, missing)


def _take_array(tensors, name, dtype, shape):
    """Take out a tensor that must be there, of some type and shape; None is any length."""
    values = take(tensors, name, np.ndarray)
    del tensors[name]
    sides = zip(values.shape, shape, strict=False)
    fits = values.ndim == len(shape) and all(want in (None, side) for side, want in sides)
    if values.dtype != dtype or not fits:
        raise ValueError(
            f"the tensor {name} must hold {dtype} of shape {shape}, but is {values.dtype} of shape "
            f"{values.shape}"
        )
    if dtype == "bool" and (values.view(np.uint8) > 1).any():
        raise ValueError(f"the tensor {name} holds bytes that are no bool")
    return values


# ---- bytes ---------------------------------------------------------------------------------------


def _digest(header, arrays):
    """Digest a header and arrays: of embeddings, which may be large, the shape only."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(repr((name, array.dtype.name, array.shape)).encode())
        if not name.endswith("/embeddings"):
            digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


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
