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
_KNOWN = ("torch", "torchvision", "skpair")
#: Types whose `repr` tells their values.
_SCALARS = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def fingerprint(module, *context):
    """Digest all that an encoding depends on but the row itself.

    Of a network count the classes of its parts, their settings (attributes that are plain values,
    arrays, tensors, functions or classes), weights and buffers; and of classes that are not
    torch's own, the code of their methods. Not seen is other code: functions, globals and objects
    that such a method makes use of, and hooks.

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
        digest.update(repr((name, _class(type(part)), _settings(vars(part)))).encode())
    digest_tensors(digest, (*module.named_parameters(), *module.named_buffers()))
    return digest.digest()


def describe_function(function):
    """Tell a function, or what is called like one, from others: its name, code and settings.

    Returns tuples, dicts and plain values. Not seen is the code of others that it calls.
    """
    if isinstance(function, functools.partial):
        given = dict(enumerate(function.args)) | function.keywords
        return describe_function(function.func), _settings({str(k): v for k, v in given.items()})
    if inspect.ismethod(function):
        return describe_function(function.__func__), _object(function.__self__)
    if inspect.isroutine(function):
        return _function(function)
    return _object(function)


def _object(value):
    return _class(type(value)), _settings(getattr(value, "__dict__", {}))


def _class(cls):
    """Describe a class: its name, and of the user's classes that it is made of what they hold."""
    members = []
    for base in cls.__mro__:
        if base is not object and not _is_known(base):
            inner = {k: _plain_member(v) for k, v in vars(base).items()}
            members.append((base.__qualname__, _settings(inner)))
    return cls.__module__, cls.__qualname__, repr(members)


def _plain_member(member):
    """Take the function out of a method of the class, or of a property."""
    for inner in ("__func__", "fget", "func"):
        member = getattr(member, inner, member)
    return member


def _function(function):
    """Describe a function by its code, defaults, and what it closes over, as far as it is plain."""
    function = inspect.unwrap(function)
    name = getattr(function, "__module__", None), function.__name__
    if not inspect.isfunction(function) or _is_known(function):
        return name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    given = [*(function.__defaults__ or ()), *cells, function.__kwdefaults__]
    return name, _code(function.__code__), [value for value in given if _is_plain(value)]


def _is_known(value):
    return (value.__module__ or "").partition(".")[0] in _KNOWN


def _code(code):
    """Give what code does: its instructions, and the names and constants that they use."""
    # not its source: that is not at hand everywhere, nor always that of what runs
    constants = [
        _code(c) if inspect.iscode(c) else sorted(map(repr, c)) if type(c) is frozenset else repr(c)
        for c in code.co_consts
    ]
    return code.co_code, code.co_names, constants


def _settings(attributes):
    """Give the attributes that are plain values, arrays, tensors, functions or classes."""
    kept = {}
    for name, value in sorted(attributes.items()):
        if name == "training" or (name.startswith("__") and not inspect.isfunction(value)):
            continue
        if isinstance(value, torch.Tensor):
            kept[name] = value.dtype, tuple(value.shape), joblib.hash(tensor_bytes(value))
        elif isinstance(value, np.ndarray | np.generic):
            kept[name] = joblib.hash(value)
        elif inspect.isclass(value):
            kept[name] = value.__module__, value.__qualname__
        elif hasattr(value, "__name__"):
            kept[name] = _function(value)
        elif _is_plain(value):
            kept[name] = value
    return kept


def _is_plain(value):
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, (*value.keys(), *value.values())))
    return isinstance(value, _SCALARS)
