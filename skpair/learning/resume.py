"""The state of a training at the end of an epoch, and the way back to it."""

import torch


def net_state(net, rows):
    """Give all that the next epoch of a training depends on, but for the rows and the parameters.

    Parameters
    ----------
    net : skorch.NeuralNet
        At the end of an epoch.
    rows : TrainingRows
        What it learns from.

    Returns
    -------
    content : dict
        The history, and what callbacks know.
    tensors : dict of str to torch.Tensor
    """
    tensors = {f"chance.{name}": state for name, state in _chance(rows).items()}
    for part in ("module_", "criterion_"):
        for name, tensor in getattr(net, part).state_dict().items():
            tensors[f"{part}.{name}"] = tensor
    for i, weight in enumerate(_weights(net)):
        for name, tensor in net.optimizer_.state[weight].items():
            tensors[f"optimizer.{i}.{name}"] = tensor
    content = {"history": net.history, "callbacks": {}}
    for name, callback in net.callbacks_:
        kept = {k: getattr(callback, k) for k in _CALLBACK_STATE if hasattr(callback, k)}
        content["callbacks"][name] = kept
        if getattr(callback, "best_model_weights_", None):
            for key, tensor in callback.best_model_weights_.items():
                tensors[f"best.{key}"] = tensor
    plain = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    return content, plain


def restore_state(net, rows, content, tensors):
    """Bring a training to the state of `net_state`, just after its beginning."""
    net.history_.extend(content["history"])
    for part in ("module_", "criterion_"):
        getattr(net, part).load_state_dict(_under(part, tensors))
    for i, weight in enumerate(_weights(net)):
        state = {}
        for name, tensor in _under(f"optimizer.{i}", tensors).items():
            # in the memory format of the weight, as the fused step takes for granted
            like = torch.empty_like(weight) if tensor.shape == weight.shape else tensor
            state[name] = like.to(weight.device).copy_(tensor)
        if state:
            net.optimizer_.state[weight] = state
    for name, callback in net.callbacks_:
        vars(callback).update(content["callbacks"].get(name, {}))  # a progress bar may be new
        if hasattr(callback, "best_model_weights_"):
            callback.best_model_weights_ = _under("best", tensors) or None
    for _ in net.history:  # the sampler's draws are quicker drawn again than kept
        list(rows.batches)
    _set_chance(rows, _under("chance", tensors))


#: What skorch's callbacks and our own know from one epoch to the next.
_CALLBACK_STATE = ("step_", "best_score_", "misses_", "dynamic_threshold_", "best_epoch_")


def _weights(net):
    return [weight for group in net.optimizer_.param_groups for weight in group["params"]]


def _under(prefix, tensors):
    prefix += "."
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def _chance(rows):
    """Give the states of all generators that a training draws from, but for the sampler's."""
    states = {"cpu": torch.get_rng_state()}
    if torch.device(rows.device).type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(rows.device)
    generator = getattr(rows.augment, "generator", None)
    if generator is not None:
        states["augment"] = generator.get_state()
    return states


def _set_chance(rows, states):
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], rows.device)
    if "augment" in states:
        rows.augment.generator.set_state(states["augment"])
