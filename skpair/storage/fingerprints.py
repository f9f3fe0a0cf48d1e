"""Fingerprints: whether a network, or what is given as a parameter, is what it was before."""

import functools
import hashlib
import inspect

import joblib
import numpy as np
import PIL
import torch
import torchvision

from .sealed import digest_tensors, tensor_bytes

#: Packages whose code their versions tell.
_KNOWN = ("builtins", "torch", "torchvision", "skpair")
#: Types whose `repr` tells their values.
_SCALARS = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def fingerprint(module, *context):
    """Digest all that an encoding depends on but the row itself.

    Of a network count the classes of its parts, their settings (attributes that are plain values,
    arrays or tensors), weights and buffers; and of classes that are not torch's own, the source.
    Not seen is other code: functions, globals and objects that such a class makes use of, and
    hooks.

    Parameters
    ----------
    module : nn.Module
        The network.
    *context
        How rows are read and computed; each with a `repr` that tells it.

    Returns
    -------
    bytes
    """
    from .. import __version__

    digest = hashlib.sha256()  # the fastest of hashlib where processors compute it themselves
    versions = [m.__version__ for m in (torch, torchvision, np, PIL)]
    digest.update(repr((__version__, *versions, *context)).encode())
    # a layer that is used twice is named twice
    for name, part in module.named_modules(remove_duplicate=False):
        digest.update(repr((name, _describe(type(part)), _settings(vars(part)))).encode())
    digest_tensors(digest, (*module.named_parameters(), *module.named_buffers()))
    return digest.digest()


def has_source(module):
    """Tell whether the source of all classes of a network can be read.

    Where it was typed in, or came to a worker process from a notebook, it cannot: then nobody knows
    whether a class of the same name is the same.
    """
    return all(_source(type(part)) is not None for part in module.modules())


def code_of(function):
    """Describe a function, or an object that is called like one: its name, source and settings."""
    if isinstance(function, functools.partial):
        return code_of(function.func), function.args, function.keywords
    if inspect.isroutine(function):
        return function.__module__, function.__qualname__, _read(function)
    return _describe(type(function)), _settings(getattr(function, "__dict__", {}))


def _describe(cls):
    return cls.__module__, cls.__qualname__, _source(cls)


@functools.cache
def _source(cls):
    """Read the source of the methods of a class, its bases included; None if one has none."""
    sources = []
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in _KNOWN:
            continue
        sources.append(_settings(vars(base)))
        for member in vars(base).values():
            for inner in ("__func__", "fget", "func"):  # of methods of a class, and properties
                member = getattr(member, inner, member)
            if inspect.isfunction(member):
                sources.append(_read(member))
    return None if None in sources else repr(sources)


def _read(function):
    # not the class as a whole: in a worker process, its functions still know their file
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return None


def _settings(attributes):
    """Give the attributes that are plain values, arrays or tensors."""
    kept = {}
    for name, value in sorted(attributes.items()):
        if name == "training" or name.startswith("__"):
            continue
        if isinstance(value, torch.Tensor):
            kept[name] = value.dtype, tuple(value.shape), joblib.hash(tensor_bytes(value))
        elif isinstance(value, np.ndarray | np.generic):
            kept[name] = joblib.hash(value)
        elif _is_plain(value):
            kept[name] = value
    return kept


def _is_plain(value):
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value.keys(), *value.values())))
    return isinstance(value, _SCALARS)
