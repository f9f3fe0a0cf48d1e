"""The content of a matcher's file: what is written, and how it becomes a matcher again."""

import json
import reprlib
from dataclasses import asdict, fields
from numbers import Real

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from torch import nn

from .checks import check_choice, check_number
from .encoder import PairEncoder
from .known import gallery
from .known.familiar import Familiar
from .known.judge import as_unknown_label, temperature_of
from .learning import schemes, towers
from .learning.net import WithLoss, as_history, make_net
from .learning.parameters import check_prior
from .rows import layouts, reading
from .rows.layouts import KINDS
from .storage.sealed import (
    check_known,
    describe_history,
    describe_labels,
    from_json,
    read_history,
    read_labels,
    take,
    take_array,
    to_json,
)

#: Parameters that are no business of another machine.
_NEVER_SAVED = ("memory", "checkpoint", "callbacks")
#: What a file says of a matcher, as `describe` gives it.
_CONTENT = {
    *("parameters", "fitted_with", "encoder", "layout", "n_features_in", "feature_names_in"),
    *("classes", "gallery", "threshold", "novelty_threshold", "temperature", "pair_temperature"),
    *("calibration_error", "history", "output", "modules", "left_out", "token"),
    *("dropout", "prior", "new_case_false_alarm"),
    *("judged_by", "new_case_offset", "familiar"),
}

# ---- what is saved -------------------------------------------------------------------------------


def describe(matcher):
    """Turn a matcher into JSON, tensors and the user's modules by name of their parameter."""
    modules, left_out, lost = {}, [], []

    def parameters(estimator, prefix=""):
        values = estimator.get_params(deep=False)
        return _describe_parameters(values, prefix, modules, left_out)

    encoder, known = matcher.encoder_, matcher.gallery_
    names = getattr(matcher, "feature_names_in_", None)
    content = {
        "parameters": parameters(matcher),
        "fitted_with": _describe_parameters(matcher.learned_with_, "", modules, lost),
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
        "history": describe_history(matcher.history_),
        "token": known.token,
        "dropout": matcher.dropout_,
        "prior": np.asarray(matcher.prior_, float).tolist(),
        "new_case_false_alarm": matcher.new_case_false_alarm_,
        "new_case_offset": matcher.new_case_offset_,
        "judged_by": matcher.judged_by_,
        "familiar": {kind: f.scale.tolist() for kind, f in matcher.familiar_.items()},
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
    for name in ("case_thresholds", "new_case_offsets", "new_case_images"):
        array = getattr(matcher, f"{name}_")
        if array is not None:
            arrays[name] = array
    for kind, familiar in matcher.familiar_.items():
        for name in ("means", "axes", "variances", "away"):
            arrays[f"familiar.{kind}.{name}"] = getattr(familiar, name)
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    tensors |= _state("layers.", matcher.layers_) | _state("loss.", matcher.loss_)
    if encoder is not None:
        content["encoder"] = {
            "parameters": parameters(encoder, "encoder__"),
            "classes": describe_labels(getattr(encoder, "classes_", None)),
            "history": {kind: describe_history(h) for kind, h in encoder.history_.items()},
        }
        tensors |= _state("towers.", encoder.towers_)
    content["modules"] = {name: type(module).__qualname__ for name, module in modules.items()}
    if lost:  # a default in its place would be another matcher
        raise ValueError(f"no JSON holds {lost[0]}={matcher.learned_with_[lost[0]]!r}")
    content["left_out"] = sorted({*left_out, *still_left_out(matcher)})
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
        elif isinstance(value, pd.Series):
            described[name] = to_json(value.to_numpy())
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


# ---- what is loaded: nothing of it is believed ---------------------------------------------------


def restore(cls, content, tensors, given, device=None):
    """Make a matcher of JSON, tensors and what the file does not hold, by name of the parameter."""
    if device is not None:
        given = given | {"device": device, "encoder__device": device}
    left = dict(tensors)  # what is used is taken out
    check_known(content, "its content", _CONTENT)
    check_known(take(content, "fitted_with", dict), "fitted_with", schemes.SHAPING)
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
    matcher.check_parameters(matcher.encoder_)
    as_fitted.check_parameters(matcher.encoder_)
    matcher.classes_ = read_labels(take(content, "classes", dict))
    as_unknown_label(matcher.unknown_label, matcher.classes_)
    matcher.gallery_ = _restore_gallery(matcher.classes_, content, left, as_fitted.embedding_dim)
    counts = _describe_gallery(matcher.gallery_)
    check_known(take(content, "gallery", dict), "gallery", counts)
    for name, count in counts.items():
        if take(content["gallery"], name, int) != count:
            raise ValueError(f"gallery must hold {count} as {name}")
    _restore_choices(matcher, as_fitted, content)
    net = _restore_net(matcher, as_fitted, widths, read_history(content, "history"), left)
    _restore_decisions(matcher, content, left)
    if left:
        raise ValueError(f"it holds tensors that belong to nothing: {sorted(left)[:3]}")
    output = take(content, "output", str, type(None))
    if output is not None:
        check_choice("output", output, ("default", "pandas", "polars"))
        matcher.set_output(transform=output)
    matcher.net_ = net
    return matcher


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
            encoder.check_parameters()
            values[name] = encoder
        else:
            values[name] = from_json(value)
    return values | {name: given[prefix + name] for name in known if prefix + name in given}


def _restore_columns(matcher, content):
    saved = take(content, "layout", dict)
    check_known(saved, "layout", {field.name for field in fields(layouts.Layout)})
    matcher.layout_ = layouts.Layout(
        **{name: tuple(v) if type(v) is list else v for name, v in saved.items()}
    )
    matcher.n_features_in_ = take(content, "n_features_in", int)
    layouts.check_layout(matcher.layout_, matcher.n_features_in_)
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
    encoder.check_parameters()
    reading.hand_on_columns(matcher, encoder)
    if take(section, "classes", dict, type(None)) is not None:
        encoder.classes_ = read_labels(section["classes"])
    histories = take(section, "history", dict)
    if not histories.keys() <= set(layouts.KINDS):
        raise ValueError("history must be of 'image' and 'skeleton'")
    encoder.history_ = {kind: as_history(read_history(histories, kind)) for kind in histories}
    networks = encoder.image_encoder, encoder.skeleton_encoder
    (image, image_width), (skeleton, skeleton_width) = (
        towers.empty_tower(network, encoder.weights, encoder.layout_.name, shape)
        for network, shape in zip(networks, encoder.layout_.shapes, strict=True)
    )
    encoder.width_ = max(image_width, skeleton_width)
    dual = towers.DualEncoder.of_equal_width(image, image_width, skeleton, skeleton_width)
    for kind in layouts.KINDS:
        _fill(getattr(dual, kind), left, f"towers.{kind}.")
    encoder.towers_ = dual.eval()
    return encoder


def _restore_gallery(classes, content, left, embedding_dim):
    parts, ids = [], []
    for kind in ("image", "skeleton"):
        embeddings = take_array(left, f"gallery.{kind}s", torch.float32, (None, embedding_dim))
        cases = take_array(left, f"gallery.{kind}_cases", torch.int64, (len(embeddings),))
        if len(cases) and not (0 <= cases.min() and cases.max() < len(classes)):
            raise ValueError(f"gallery.{kind}_cases are no positions in the classes")
        parts += [embeddings, cases]
        ids.append(_read_ids(left, f"gallery.{kind}_ids", len(embeddings)))
    # of an earlier version: None, and its embeddings tell
    token = take(content, "token", str, type(None)) if "token" in content else None
    known = gallery.Gallery(classes, *parts, *ids, token)
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


def _restore_choices(matcher, as_fitted, content):
    """Read what `fit` chose; earlier versions chose nothing: a number, and a flat prior."""
    n_cases = len(matcher.classes_)
    earlier = {"dropout": as_fitted.dropout, "prior": [1 / n_cases] * n_cases}
    content = earlier | content
    matcher.dropout_ = float(take(content, "dropout", float, int))
    check_number("dropout", matcher.dropout_, Real, 0, high=1)
    matcher.prior_ = np.array(take(content, "prior", list), float)
    check_prior(matcher.prior_, n_cases)


def _restore_decisions(matcher, content, left):
    # earlier versions left pairs as fit had set them
    content = {
        "pair_temperature": temperature_of(matcher.loss_, matcher.learned_with_["temperature"]),
        **content,
    }
    for name in ("threshold", "novelty_threshold", "temperature", "pair_temperature"):
        value = take(content, name, float)
        if not np.isfinite(value) or (name.endswith("temperature") and value <= 0):
            raise ValueError(f"{name} is {value}, but must be finite, temperatures above 0")
        setattr(matcher, f"{name}_", value)
    matcher.case_thresholds_ = None
    if "case_thresholds" in left:
        shape = (len(matcher.classes_),)
        matcher.case_thresholds_ = take_array(left, "case_thresholds", torch.float64, shape)
    _restore_new_cases(matcher, content, left)
    _restore_novelty(matcher, content, left)
    error = take(content, "calibration_error", dict, type(None))
    if error is not None:
        matcher.calibration_error_ = {when: take(error, when, float) for when in error}


def _restore_new_cases(matcher, content, left):
    """Read what raises added cases; earlier versions raised none."""
    share = take(
        {"new_case_false_alarm": None} | content, "new_case_false_alarm", float, type(None)
    )
    matcher.new_case_false_alarm_ = share
    offset = take({"new_case_offset": None} | content, "new_case_offset", float, type(None))
    if offset is not None and not np.isfinite(offset):
        raise ValueError(f"new_case_offset is {offset}, but must be finite")
    matcher.new_case_offset_ = offset
    matcher.new_case_offsets_ = matcher.new_case_images_ = None
    if "new_case_offsets" in left:
        shape = (len(matcher.classes_),)
        offsets = take_array(left, "new_case_offsets", torch.float32, shape)
        if not np.isfinite(offsets).all() or offsets[~matcher.gallery_.is_new].any():
            raise ValueError("new_case_offsets must be finite, and 0 for cases that fit has seen")
        matcher.new_case_offsets_ = offsets
    if share is not None:
        check_number("new_case_false_alarm", share, Real, 0, high=1)
        shape = (None, matcher.gallery_.images.shape[1])
        matcher.new_case_images_ = take_array(left, "new_case_images", torch.float32, shape)
        if not len(matcher.new_case_images_) or not np.isfinite(matcher.new_case_images_).all():
            raise ValueError("new_case_images must hold finite embeddings of some images")


def _restore_novelty(matcher, content, left):
    """Read what encodings tell of novelty; earlier versions did not ask them."""
    content = {"judged_by": None, "familiar": {}} | content
    matcher.judged_by_ = take(content, "judged_by", str, type(None))
    if matcher.judged_by_ is not None:
        check_choice("judged_by", matcher.judged_by_, ("held_out", "rehearsal", "training"))
    matcher.familiar_ = {}
    for kind, scale in take(content, "familiar", dict).items():
        check_choice("familiar", kind, KINDS)
        pairs = type(scale) is list and all(type(pair) is list for pair in scale)
        if not pairs or any(type(number) is not float for pair in scale for number in pair):
            raise ValueError(f"familiar.{kind} must hold two numbers for each sign, got {scale!r}")
        scale = np.array(scale, float)
        width = getattr(matcher.layers_, kind).standardize.mean.shape[0]
        axes = take_array(left, f"familiar.{kind}.axes", torch.float32, (None, width))
        shapes = {"means": (None, width), "variances": (len(axes) + 1,), "away": (None, width)}
        parts = {
            name: take_array(left, f"familiar.{kind}.{name}", torch.float32, shape)
            for name, shape in shapes.items()
        }
        known = Familiar(**parts, axes=axes, scale=scale)
        if scale.shape != (1 + len(known.away), 2) or not len(known.means):
            raise ValueError(f"familiar.{kind} must hold two numbers for each sign, and some cases")
        if not np.isfinite(scale).all() or not (known.variances > 0).all():
            raise ValueError(f"familiar.{kind} must be finite, its variances above 0")
        matcher.familiar_[kind] = known


def _restore_net(matcher, as_fitted, widths, history, left):
    """Put the layers and the loss into a net, as after a training; its optimizer is new."""
    hidden, size = as_fitted.hidden_dims, sum(tensor.numel() for tensor in left.values())
    if len(hidden) > len(left) or any(width > size for width in hidden):
        raise ValueError(f"hidden_dims={reprlib.repr(hidden)} do not fit its tensors")
    with towers.WithoutMemory():
        layers = schemes.new_layers(as_fitted, *widths, matcher.dropout_)
        criterion = schemes.new_criterion(as_fitted)
    matcher.layers_ = _fill(layers, left, "layers.")
    matcher.loss_ = _fill(criterion.loss, left, "loss.")
    matcher.learned_with_ = {name: getattr(as_fitted, name) for name in schemes.SHAPING}
    alone = as_fitted.training == "two_stage"
    module = layers if alone else matcher.encoder_.towers_.followed_by(layers)
    settings = matcher if alone else matcher.encoder_
    net = make_net(
        WithLoss(module, matcher.loss_).eval(),
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


def still_left_out(matcher):
    """Name the parameters that a file did not hold and nobody has set since."""
    now, before = matcher.get_params(), type(matcher)().get_params()
    before |= {f"encoder__{name}": v for name, v in PairEncoder().get_params().items()}
    left_out = getattr(matcher, "left_out_", [])
    return [name for name in left_out if now.get(name) == before.get(name)]
