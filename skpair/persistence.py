"""Fitted matchers in files: what is saved, and how it becomes a matcher again."""

import contextlib
import json
import os
import reprlib
import warnings
from dataclasses import asdict, fields

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from . import gallery, pairs, towers, training
from .encoder import PairEncoder
from .files import (
    check_known,
    describe_labels,
    from_json,
    of_later_version,
    pack,
    read_file,
    read_labels,
    take,
    take_array,
    to_json,
    unpack,
    unpack_header,
    write_atomically,
)

#: Parameters that are no business of another machine.
_NEVER_SAVED = ("memory", "checkpoint", "callbacks")
#: What a file says of a matcher, as `_describe` gives it.
_CONTENT = {
    *("parameters", "fitted_with", "encoder", "layout", "n_features_in", "feature_names_in"),
    *("classes", "gallery", "threshold", "novelty_threshold", "temperature", "pair_temperature"),
    *("calibration_error", "history", "output", "modules", "left_out"),
}
#: What parameters, numpy and torch raise on wrong values, types and sizes.
_WRONG = (ValueError, TypeError, OverflowError, RuntimeError)


# ---- what is saved -------------------------------------------------------------------------------


def save(matcher, path):
    """Write a fitted PairMatcher; see `PairMatcher.save`."""
    try:
        content, tensors, modules = _describe(matcher)
        data = pack("PairMatcher", content, tensors)
        # what cannot be loaded is not written
        _restore(type(matcher), *unpack(data, "PairMatcher"), modules)
    except _WRONG as error:
        raise ValueError(f"This {type(matcher).__name__} cannot be saved: {error}") from error
    write_atomically(path, data)


def _describe(matcher):
    """Turn a matcher into JSON, tensors and the user's modules by name of their parameter."""
    modules, left_out, lost = {}, [], []

    def parameters(estimator, prefix=""):
        values = estimator.get_params(deep=False)
        return _describe_parameters(values, prefix, modules, left_out)

    encoder, known = matcher.encoder_, matcher.gallery_
    names = getattr(matcher, "feature_names_in_", None)
    content = {
        "parameters": parameters(matcher),
        "fitted_with": _describe_parameters(matcher._fitted_with, "", modules, lost),
        "encoder": None,
        "layout": asdict(matcher.layout_),
        "n_features_in": matcher.n_features_in_,
        "feature_names_in": None if names is None else names.tolist(),
        "classes": describe_labels(matcher.classes_),
        "gallery": _describe_gallery(known),
        "threshold": float(matcher.threshold_),
        "novelty_threshold": float(matcher.novelty_threshold_),
        "temperature": float(matcher.temperature_),
        "pair_temperature": float(matcher.pair_temperature_),
        "calibration_error": getattr(matcher, "calibration_error_", None),
        "history": _describe_history(matcher.history_),
        "output": getattr(matcher, "_sklearn_output_config", {}).get("transform"),
    }
    arrays = {
        "gallery.images": known.images,
        "gallery.image_cases": known.image_cases,
        "gallery.skeletons": known.skeletons,
        "gallery.skeleton_cases": known.skeleton_cases,
    }
    for kind, ids in (("image", known.image_ids), ("skeleton", known.skeleton_ids)):
        # as a tensor: many paths are no header
        text = json.dumps(ids.tolist()).encode()
        arrays[f"gallery.{kind}_ids"] = np.frombuffer(text, np.uint8)
    if matcher.case_thresholds_ is not None:
        arrays["case_thresholds"] = matcher.case_thresholds_
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    tensors |= _state("layers.", matcher.layers_) | _state("loss.", matcher.loss_)
    if encoder is not None:
        content["encoder"] = {
            "parameters": parameters(encoder, "encoder__"),
            "classes": describe_labels(getattr(encoder, "classes_", None)),
            "history": {kind: _describe_history(h) for kind, h in encoder.history_.items()},
        }
        tensors |= _state("towers.", encoder.towers_)
    content["modules"] = {name: type(module).__qualname__ for name, module in modules.items()}
    if lost:  # a default in its place would be another matcher
        raise ValueError(f"no JSON holds {lost[0]}={matcher._fitted_with[lost[0]]!r}")
    content["left_out"] = sorted({*left_out, *_still_left_out(matcher)})
    return content, tensors, modules


def _state(prefix, module):
    tensors = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"the state {name!r} of a module is a {type(value).__name__}")
        tensors[prefix + name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return tensors


def _describe_parameters(values, prefix, modules, left_out):
    described = {}
    for name, value in values.items():
        if isinstance(value, PairEncoder):
            if type(value) is not PairEncoder:
                raise ValueError(f"{name} is a {type(value).__name__}, no plain PairEncoder")
            inner = value.get_params(deep=False)
            described[name] = _describe_parameters(inner, f"{name}__", modules, left_out)
        elif isinstance(value, nn.Module):
            modules[prefix + name] = value
        elif name in _NEVER_SAVED and value is not None:
            left_out.append(prefix + name)
        else:
            try:
                described[name] = to_json(value)
            except TypeError:
                left_out.append(prefix + name)
    return described


def _describe_gallery(known):
    return {
        "images": len(known.images),
        "skeletons": len(known.skeletons),
        "embedding_dim": known.images.shape[1],
    }


def _describe_history(history):
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


# ---- what is loaded ------------------------------------------------------------------------------


def load(cls, path, device, given):
    """Read a PairMatcher; see `PairMatcher.load`."""
    if device is not None:
        training.resolve_device(device)
    data = read_file(path)
    later = ""
    try:
        header, tensors = unpack_header(data, "PairMatcher")
        content = header["content"]
        _check_given(content, given)
        later = of_later_version(header)
        matcher = _restore(cls, content, tensors, given, device)
    except RecursionError:
        raise ValueError(f"The file {os.fspath(path)!r} cannot be loaded: too deep.") from None
    except _WRONG as error:
        reason = str(error)[:500].rstrip(".")
        raise ValueError(
            f"The file {os.fspath(path)!r} cannot be loaded: {reason}. {later}".rstrip()
        ) from error
    missing = [name for name in content["left_out"] if name not in given]
    if missing:
        matcher.left_out_ = missing
    return matcher


def warn_of_left_out(matcher):
    """Warn before a training of a loaded matcher that lacks what its file could not hold."""
    missing = _still_left_out(matcher)
    if missing:
        warnings.warn(
            f"The file that this {type(matcher).__name__} was loaded from does not hold "
            f"{', '.join(missing)}, which a training needs: defaults are in their place. Set them "
            "by set_params, or give them to load by name.",
            UserWarning,
            stacklevel=pairs.users_level(),
        )


def _still_left_out(matcher):
    """Name the parameters that a file did not hold and nobody has set since."""
    now, before = matcher.get_params(), type(matcher)().get_params()
    before |= {f"encoder__{name}": v for name, v in PairEncoder().get_params().items()}
    left_out = getattr(matcher, "left_out_", [])
    return [name for name in left_out if now.get(name) == before.get(name)]


def _restore(cls, content, tensors, given, device=None):
    """Make a matcher of JSON, tensors and what the file does not hold, by name of the parameter."""
    if device is not None:
        given = given | {"device": device, "encoder__device": device}
    left = dict(tensors)  # what is used is taken out
    check_known(content, "its content", _CONTENT)
    check_known(take(content, "fitted_with", dict), "fitted_with", cls._SHAPING)
    matcher = cls(**_read_parameters(cls, content, "parameters", "", given))
    as_fitted = cls(**_read_parameters(cls, content, "fitted_with", "", given))
    _restore_columns(matcher, content)
    matcher.encoder_ = None
    widths = [shape[0] for shape in matcher.layout_.shapes]
    if take(content, "encoder", dict, type(None)) is not None:
        matcher.encoder_ = _restore_encoder(content["encoder"], matcher, left, given)
        widths = [matcher.encoder_.width_] * 2
    elif matcher.layout_.name != "features":
        raise ValueError(f"it lacks the encoder of a matcher of {matcher.layout_.name}")
    matcher._check_parameters(matcher.encoder_)
    as_fitted._check_parameters(matcher.encoder_)
    matcher.classes_ = read_labels(take(content, "classes", dict))
    matcher._check_unknown_label()
    matcher.gallery_ = _restore_gallery(matcher.classes_, left, as_fitted.embedding_dim)
    counts = _describe_gallery(matcher.gallery_)
    check_known(take(content, "gallery", dict), "gallery", counts)
    for name, count in counts.items():
        if take(content["gallery"], name, int) != count:
            raise ValueError(f"gallery must hold {count} as {name}")
    net = _restore_net(matcher, as_fitted, widths, _read_history(content, "history"), left)
    _restore_decisions(matcher, content, left)
    if left:
        raise ValueError(f"it holds tensors that belong to nothing: {sorted(left)[:3]}")
    output = take(content, "output", str, type(None))
    if output is not None:
        training.check_choice("output", output, ("default", "pandas", "polars"))
        matcher.set_output(transform=output)
    matcher.net_ = net
    return matcher


def _check_given(content, given):
    """Check what the caller gives to a file: modules that it needs, parameters that it lacks."""
    modules, left_out = take(content, "modules", dict), take(content, "left_out", list)
    if not all(type(name) is str for name in [*modules, *modules.values(), *left_out]):
        raise ValueError("its modules and left_out must be names")
    missing = modules.keys() - given.keys()
    if missing:
        names = ", ".join(f"{name} (a {reprlib.repr(modules[name])})" for name in sorted(missing))
        raise ValueError(
            "it holds the state of modules of your own, but not their code. Give them by the "
            f"names of their parameters: {names}"
        )
    for name, value in given.items():
        if name not in modules and name not in left_out:
            raise ValueError(
                f"{name} was given, but load takes only what the file does not hold: "
                f"{sorted([*modules, *left_out])}. Use set_params afterwards"
            )
        if name in modules and not isinstance(value, nn.Module):
            raise ValueError(f"{name} must be an instance of nn.Module, got {value!r}")


def _read_parameters(cls, section, key, prefix, given):
    """Read parameters; those that a file lacks, of an earlier version, keep their defaults."""
    saved = take(section, key, dict)
    known = cls().get_params(deep=False).keys()
    check_known(saved, key, known)
    values = {}
    for name, value in saved.items():
        if name in _NEVER_SAVED and value is not None:
            raise ValueError(f"{name} is never taken from a file")
        if name == "encoder" and value is not None:
            encoder = PairEncoder(**_read_parameters(PairEncoder, saved, name, "encoder__", given))
            encoder._check_parameters()
            values[name] = encoder
        else:
            values[name] = from_json(value)
    return values | {name: given[prefix + name] for name in known if prefix + name in given}


def _restore_columns(matcher, content):
    saved = take(content, "layout", dict)
    check_known(saved, "layout", {field.name for field in fields(pairs.Layout)})
    matcher.layout_ = pairs.Layout(
        **{name: tuple(v) if type(v) is list else v for name, v in saved.items()}
    )
    matcher.n_features_in_ = take(content, "n_features_in", int)
    pairs.check_layout(matcher.layout_, matcher.n_features_in_)
    names = take(content, "feature_names_in", list, type(None))
    if names is not None:
        if len(names) != matcher.n_features_in_ or not all(type(name) is str for name in names):
            raise ValueError("feature_names_in must hold a str for each column")
        matcher.feature_names_in_ = np.array(names, dtype=object)


def _restore_encoder(section, matcher, left, given):
    check_known(section, "encoder", {"parameters", "classes", "history"})
    encoder = PairEncoder(
        **_read_parameters(PairEncoder, section, "parameters", "encoder__", given)
    )
    encoder = clone(encoder)  # as in fit, its modules are its own
    encoder._check_parameters()
    for name in ("layout_", "n_features_in_", "feature_names_in_"):
        if hasattr(matcher, name):
            setattr(encoder, name, getattr(matcher, name))
    if take(section, "classes", dict, type(None)) is not None:
        encoder.classes_ = read_labels(section["classes"])
    histories = take(section, "history", dict)
    if not histories.keys() <= set(pairs.KINDS):
        raise ValueError("history must be of 'image' and 'skeleton'")
    encoder.history_ = {
        kind: training.History(_read_history(histories, kind)) for kind in histories
    }
    (image, image_width), (skeleton, skeleton_width) = (
        towers.empty_tower(network, encoder.weights, encoder.layout_.name, shape)
        for network, shape in zip(encoder._encoders().values(), encoder.layout_.shapes, strict=True)
    )
    encoder.width_ = max(image_width, skeleton_width)
    dual = towers.DualEncoder.of_equal_width(image, image_width, skeleton, skeleton_width)
    for kind in pairs.KINDS:
        _fill(getattr(dual, kind), left, f"towers.{kind}.")
    encoder.towers_ = dual.eval()
    return encoder


def _restore_gallery(classes, left, embedding_dim):
    parts, ids = [], []
    for kind in ("image", "skeleton"):
        embeddings = take_array(left, f"gallery.{kind}s", torch.float32, (None, embedding_dim))
        cases = take_array(left, f"gallery.{kind}_cases", torch.int64, (len(embeddings),))
        if len(cases) and not (0 <= cases.min() and cases.max() < len(classes)):
            raise ValueError(f"gallery.{kind}_cases are no positions in the classes")
        parts += [embeddings, cases]
        ids.append(_read_ids(left, f"gallery.{kind}_ids", len(embeddings)))
    known = gallery.Gallery(classes, *parts, *ids)
    if not known.counts.any(axis=1).all() or not len(known.skeletons):
        raise ValueError("its gallery lacks examples of a case")
    return known


def _read_ids(left, name, n):
    """Read ids; None where a file of an earlier version has none."""
    if name not in left:
        return None
    ids = json.loads(take_array(left, name, torch.uint8, (None,)).tobytes())
    if type(ids) is not list or len(ids) != n or not {type(id_) for id_ in ids} <= {int, str}:
        raise ValueError(f"{name} must hold an int or a str for each of {n} rows")
    return ids


def _restore_decisions(matcher, content, left):
    # earlier versions left pairs as fit had set them
    content = {"pair_temperature": matcher._fitted_temperature(), **content}
    for name in ("threshold", "novelty_threshold", "temperature", "pair_temperature"):
        value = take(content, name, float)
        if not np.isfinite(value) or (name.endswith("temperature") and value <= 0):
            raise ValueError(f"{name} is {value}, but must be finite, temperatures above 0")
        setattr(matcher, f"{name}_", value)
    matcher.case_thresholds_ = None
    if "case_thresholds" in left:
        shape = (len(matcher.classes_),)
        matcher.case_thresholds_ = take_array(left, "case_thresholds", torch.float64, shape)
    error = take(content, "calibration_error", dict, type(None))
    if error is not None:
        matcher.calibration_error_ = {when: take(error, when, float) for when in error}


def _restore_net(matcher, as_fitted, widths, history, left):
    """Put the layers and the loss into a net, as after a training; its optimizer is new."""
    hidden, size = as_fitted.hidden_dims, sum(tensor.numel() for tensor in left.values())
    if len(hidden) > len(left) or any(width > size for width in hidden):
        raise ValueError(f"hidden_dims={reprlib.repr(hidden)} do not fit its tensors")
    with towers.WithoutMemory():
        layers = as_fitted._new_layers(*widths)
        criterion = as_fitted._new_criterion()
    matcher.layers_ = _fill(layers, left, "layers.")
    matcher.loss_ = _fill(criterion.loss, left, "loss.")
    matcher._fitted_with = {name: getattr(as_fitted, name) for name in as_fitted._SHAPING}
    alone = as_fitted.training == "two_stage"
    module = layers if alone else matcher.encoder_.towers_.followed_by(layers)
    settings = matcher if alone else matcher.encoder_
    net = training.make_net(
        training.WithLoss(module, matcher.loss_).eval(),
        criterion.eval(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        max_epochs=settings.max_epochs,
        train_split=None,
        history=history,
    )
    matcher.history_ = net.history
    matcher.n_iter_ = len(net.history)
    return net


def _fill(module, left, prefix):
    """Put tensors into a module that has them, but for their numbers."""
    state = {
        name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)
    }
    expected = module.state_dict()
    wrong = [
        name
        for name in sorted(expected.keys() | state.keys())
        if name not in expected or name not in state or not _alike(expected[name], state[name])
    ]
    if wrong:
        raise ValueError(
            f"its tensors {prefix}* do not fit a {type(module).__name__}: {', '.join(wrong[:3])} "
            "are not in both with the same shape and type"
        )
    if any(tensor.is_meta for tensor in expected.values()):
        module.to_empty(device="cpu")
    module.cpu().load_state_dict(state)
    return module.eval()


def _alike(expected, tensor):
    if not isinstance(expected, torch.Tensor) or nn.parameter.is_lazy(expected):
        return isinstance(expected, torch.Tensor)  # a lazy one takes any shape
    return (expected.shape, expected.dtype) == (tensor.shape, tensor.dtype)


def _read_history(section, name):
    def record(values):
        if type(values) is not dict:
            raise ValueError(f"{name} must hold epochs and batches, but has {reprlib.repr(values)}")
        return {key: from_json(value) for key, value in values.items() if key != "batches"}

    return [
        record(epoch) | {"batches": [record(batch) for batch in take(epoch, "batches", list)]}
        for epoch in take(section, name, list)
    ]
