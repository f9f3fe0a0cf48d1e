"""The file of an index: a safetensors file, whose embeddings are mapped when it is opened.

Its metadata hold one entry, "skpair", a JSON header, sealed by a checksum with all columns;
only the embeddings are not. Opening it runs nothing that it holds.
"""

import hashlib
import json
import os

import numpy as np
import safetensors

from .columns import TYPES, Segment, Strings, type_of
from .files import write_atomically
from .pixels import as_file

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
            if found != (_FORMAT, "MatchIndex"):
                raise ValueError(f"its format and kind are {found}")
            tensors = {name: file.get_tensor(name).numpy() for name in file.keys()}
        if header.pop("sha256", None) != _digest(header, tensors):
            raise ValueError("its checksum is wrong")
        segments = {
            kind: tuple(
                _segment(tensors, f"{kind}/{number}", rows["columns"])
                for number in range(rows["n_segments"])
            )
            for kind, rows in header["rows"].items()
        }
        widths = {part.embeddings.shape[1] for parts in segments.values() for part in parts}
        if set(segments) != {"images", "skeletons"} or len(widths) > 1 or tensors:
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


def _segment(tensors, prefix, columns):
    """Take the tensors of one segment."""

    def take(name, dtype, shape):
        values = tensors.pop(f"{prefix}/{name}")
        if np.dtype(dtype).kind in "mM" and values.dtype == np.int64:
            values = values.view(dtype)
        fits = len(values.shape) == len(shape) and all(
            wanted in (None, n) for n, wanted in zip(values.shape, shape, strict=True)
        )
        if values.dtype != dtype or not fits:
            raise ValueError(f"{prefix}/{name} is {values.dtype} of shape {values.shape}")
        return values

    if columns[0][0] != "id" or columns[0][1] not in ("int64", "str"):
        raise ValueError(f"{prefix} has no ids")
    embeddings = take("embeddings", np.float32, (None, None))
    n = len(embeddings)
    segment = Segment(embeddings, {})
    for place, (name, dtype) in enumerate(columns):
        if dtype == "str":
            text = take(f"{place}/text", np.uint8, (None,))
            ends = take(f"{place}/ends", np.int64, (n,))
            missing = take(f"{place}/missing", np.bool_, (n,))
            if np.diff(ends, prepend=0, append=len(text)).min() < 0:
                raise ValueError(f"the strings of {prefix}/{place} do not follow one another")
            segment.columns[name] = Strings(text, ends, missing)
        else:
            segment.columns[name] = take(f"{place}/values", dtype, (n,))
    return segment


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
