"""Files that can be trusted: tensors and a JSON header, sealed by a checksum.

A file is a safetensors file; its metadata hold one entry, "skpair", the header. Nothing that a file
says is run, looked up in the file system or taken for a size before it is checked.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import reprlib
import secrets
import socket
import stat
from pathlib import Path

import numpy as np
import safetensors.torch
import sklearn
import torch
from packaging.version import Version
from torchvision.models import WeightsEnum

from ..checks import as_file

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

#: Version of the header; another one is another format.
FORMAT = 1
#: Largest header, in bytes: JSON takes some 25 times as much memory when it is read.
_MAX_HEADER = 2**26
#: Most tensors, of which the largest networks have some thousands.
_MAX_TENSORS = 2**16
#: Most bytes that labels of a fixed width may take.
_MAX_LABELS = 2**28
#: Types of labels in JSON, by the kind of their dtype.
_LABELS = {"b": (bool,), "i": (int,), "u": (int,), "f": (float,), "U": (str,)}
_LABELS["O"] = (bool, int, float, str)


def pack(kind, content, tensors):
    """Make a file of it.

    Parameters
    ----------
    kind : str
        What the file holds, such as "PairMatcher".
    content : dict
        Whatever JSON can hold.
    tensors : dict of str to torch.Tensor
        On the CPU, contiguous, without common memory.

    Returns
    -------
    bytes
        The same for the same content.
    """
    from .. import __version__

    versions = {
        "skpair": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    header = {"format": FORMAT, "kind": kind, "versions": versions, "content": content}
    text = json.dumps({"sha256": _digest(header, tensors), **header})
    if len(text) > _MAX_HEADER:
        raise ValueError(
            f"All that is not numbers takes {len(text):,} bytes as JSON, most of it the history, "
            f"but {_MAX_HEADER:,} are allowed. Delete the batches of its epochs: "
            "`for epoch in matcher.history_: epoch['batches'] = []`."
        )
    # one entry: safetensors writes several in any order
    return safetensors.torch.save(tensors, {"skpair": text})


def unpack(data, kind):
    """Take a file apart; ValueError where it is not whole, or none of this kind.

    Parameters
    ----------
    data : bytes
        What `pack` gave.
    kind : str
        What the file must hold.

    Returns
    -------
    content : dict
    tensors : dict of str to torch.Tensor
    """
    header, tensors = unpack_header(data, kind)
    return header["content"], tensors


def unpack_header(data, kind):
    """Take a file apart as `unpack` does, but give its whole header: versions and content."""
    try:
        length = int.from_bytes(data[:8], "little")
        if length > 2 * _MAX_HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        table = json.loads(data[8 : 8 + length])
        if len(table) > _MAX_TENSORS:
            raise ValueError(f"{len(table):,} tensors")
        tensors = safetensors.torch.load(data)
        metadata = table.get("__metadata__") or {}
    except MemoryError:
        raise
    except Exception as error:  # whatever foreign bytes lead to
        other = data[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
        what = "a pickle or a file of torch.save" if other else "damaged, truncated or foreign"
        raise ValueError(f"it is {what}, not a safetensors file ({error})") from error
    if "skpair" not in metadata:
        raise ValueError("it is a safetensors file, but was not written by skpair")
    text = metadata["skpair"]
    if len(text) > _MAX_HEADER:
        raise ValueError(f"its header takes {len(text):,} bytes, more than {_MAX_HEADER:,}")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise ValueError(f"its header is damaged ({error})") from error
    if not isinstance(header, dict):
        raise ValueError(f"its header is {type(header).__name__}, not an object")
    version = header.get("format")
    if type(version) is int and version > FORMAT:
        raise ValueError(
            f"it has format {version}, but this version of skpair knows {FORMAT}: update skpair"
        )
    other = header.get("kind")
    if isinstance(other, str) and other.isidentifier() and other != kind:
        raise ValueError(f"it holds a {other}, not a {kind}")
    seal = header.pop("sha256", None)
    if seal != _digest(header, tensors):
        raise ValueError("its checksum is wrong: it is damaged")
    if version != FORMAT or header.get("kind") != kind:
        raise ValueError(f"it holds no {kind} of format {FORMAT}")
    take(header, "content", dict)
    return header, tensors


def of_later_version(header):
    """Say that a later skpair wrote this header; an empty string if it did not."""
    from .. import __version__

    with contextlib.suppress(ValueError):  # no version at all
        writer = take(take(header, "versions", dict), "skpair", str)[:50]
        if Version(writer) > Version(__version__):
            return f"It was written by skpair {writer}, this is {__version__}: update skpair."
    return ""


def check_known(fields, name, known):
    """Refuse fields that nobody here reads: what they say would be lost."""
    unknown = sorted(fields.keys() - set(known))
    if unknown:
        raise ValueError(f"{name} holds unknown ones: {reprlib.repr(unknown)}")


def _digest(header, tensors):
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest_tensors(digest, sorted(tensors.items()))
    return digest.hexdigest()


def digest_tensors(digest, named_tensors):
    """Update a digest of hashlib by tensors: their names, types, shapes and numbers."""
    for name, tensor in named_tensors:
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor_bytes(tensor))


def tensor_bytes(tensor):
    """Give the numbers of a tensor as they lie in memory, row by row: an array of bytes."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def read_file(path):
    """Read a whole file; a folder, a pipe or a device is none."""
    return as_file(path).read_bytes()


def write_atomically(path, data):
    """Write a file that is there as a whole or, after any failure, as it was before.

    What killed processes of the same host and user have left half written in the folder is deleted
    (not on Windows, where one cannot tell).

    Parameters
    ----------
    path : str or path-like
        Where to; its folder must be there. What a link leads to is replaced, not the link.
    data : bytes or iterable of bytes
        What to write, in one piece or in several.

    Raises
    ------
    OSError
        If that is not possible, naming `path`; FileNotFoundError if the folder is missing.
    """
    path = as_file(path, ", and is not replaced by one")
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder {os.fspath(path.parent)!r} is not there: {path.name!r} was not written."
        )
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    temporary = path.parent / f".skpair-{_host()}-{secrets.token_hex(8)}.tmp"
    try:
        with contextlib.ExitStack() as until_replaced:
            with open(temporary, "xb") as file:
                until_replaced.enter_context(_locked(file))
                if mode is not None:
                    os.chmod(temporary, mode)  # who may read the old file may read the new one
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{reason}; it was not written", os.fspath(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it is gone, or what has failed already is told
            temporary.unlink()
    if os.name == "posix":  # elsewhere folders cannot be opened
        _finish(path.parent)


def _finish(folder):
    """Make a replacement last, and delete what killed processes have left; both may fail."""
    with contextlib.suppress(OSError):  # not every folder can be listed, or synchronized
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)  # or a loss of power might undo the replacement
        finally:
            os.close(handle)
    with contextlib.suppress(OSError):
        for path in folder.glob(f".skpair-{_host()}-*.tmp"):
            if re.fullmatch(r"[0-9a-f]{16}\.tmp", path.name.rpartition("-")[2]):
                with contextlib.suppress(OSError):
                    _delete_left(path)


def _delete_left(path):
    """Delete a temporary file of this user whose process is dead: a living one holds a lock."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found = os.fstat(handle)
        mine = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if mine and found.st_size:  # an empty one may be about to be locked
            path.unlink()
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(file):
    """Lock a file, even after it is closed; the system lets go of it with the process."""
    if fcntl is None:
        yield
        return
    handle = os.dup(file.fileno())
    try:
        with contextlib.suppress(OSError):  # not every file system has locks: nothing is deleted
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _host():
    """Name this host: on a network folder, locks of others may not be seen."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


# ---- values in the header ------------------------------------------------------------------------


def to_json(value):
    """Turn a value into JSON that says its type; TypeError if that cannot be."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = list(value)
    if type(value) is list:
        return [to_json(item) for item in value]
    if type(value) is tuple:
        return {"tuple": [to_json(item) for item in value]}
    if isinstance(value, os.PathLike):
        return {"path": os.fsdecode(value)}
    if isinstance(value, torch.device | WeightsEnum):
        return str(value)  # which means the same
    raise TypeError(f"no JSON holds {value!r}")


def from_json(value):
    """Undo `to_json`."""
    if type(value) is list:
        return [from_json(item) for item in value]
    if type(value) is not dict:
        return value
    if value.keys() == {"tuple"}:
        return tuple(from_json(item) for item in take(value, "tuple", list))
    if value.keys() == {"path"}:
        return Path(take(value, "path", str))
    raise ValueError(f"{reprlib.repr(value)} is no value of a parameter")


def describe_history(history):
    """Turn a history into lists of dicts; what callbacks recorded beside plain values is left."""

    def plain(record):
        described = {}
        for name, value in record.items():
            with contextlib.suppress(TypeError):
                described[name] = to_json(value)
        return described

    return [
        plain({k: v for k, v in epoch.items() if k != "batches"})
        | {"batches": [plain(batch) for batch in epoch["batches"]]}
        for epoch in history
    ]


def read_history(section, name):
    """Undo `describe_history`; ValueError unless it is one."""

    def record(values):
        if type(values) is not dict:
            raise ValueError(f"{name} must hold epochs and batches, but has {reprlib.repr(values)}")
        return {key: from_json(value) for key, value in values.items() if key != "batches"}

    return [
        record(epoch) | {"batches": [record(batch) for batch in take(epoch, "batches", list)]}
        for epoch in take(section, name, list)
    ]


def describe_labels(labels):
    """Turn labels (or None) into JSON that says their dtype."""
    if labels is None:
        return None
    if labels.dtype.kind not in _LABELS:
        raise ValueError(f"labels of {labels.dtype} have no place in JSON: turn them into strings")
    values = [to_json(label) for label in labels]
    return {"dtype": labels.dtype.str, "values": values}


def read_labels(fields):
    """Undo `describe_labels`; ValueError unless they are sorted, distinct, and two at least."""
    name, values = take(fields, "dtype", str), take(fields, "values", list)
    kind = re.fullmatch(r"[<>|]([biufUO])\d{0,9}", name)
    if not kind or not all(type(value) in _LABELS[kind[1]] for value in values):
        raise ValueError(f"its labels are not of the type {reprlib.repr(name)}")
    dtype = np.dtype(name)
    if dtype.itemsize * len(values) > _MAX_LABELS:
        raise ValueError(f"its {len(values)} labels of {dtype} would take too much memory")
    labels = np.array(values, dtype)
    if labels.tolist() != values or len(values) < 2:
        raise ValueError(f"its labels do not fit into the type {dtype}, or are too few")
    if not all(a < b for a, b in itertools.pairwise(values)):
        raise ValueError("its labels are not sorted, or some are there twice")
    return labels


def take(fields, name, *kinds):
    """Look up a field that must be there and of one of some types."""
    if name not in fields:
        raise ValueError(f"{name} is missing")
    value = fields[name]
    if type(value) not in kinds:
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{name} must be {expected}, but is {reprlib.repr(value)}")
    return value


def take_array(left, name, dtype, shape):
    """Take out a tensor that must be there, as a finite array; None is any length."""
    if name not in left:
        raise ValueError(f"the tensor {name} is missing")
    tensor = left.pop(name)
    sides = zip(tensor.shape, shape, strict=False)
    fits = tensor.ndim == len(shape) and all(want in (None, side) for side, want in sides)
    if tensor.dtype != dtype or not fits or not tensor.isfinite().all():
        raise ValueError(
            f"the tensor {name} must hold finite {dtype} of shape {shape}, but is {tensor.dtype} "
            f"of shape {tuple(tensor.shape)}"
        )
    return np.array(tensor.numpy())
