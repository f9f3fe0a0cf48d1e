"""The one door to skorch: networks + loss + sampler + callbacks -> a fitted net."""

import math

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, ProgressBar
from skorch.helper import predefined_split
from skorch.history import History
from torch import nn

from .devices import autocast
from .resume import net_state, restore_state


class DivergenceError(ValueError):
    """A training came to numbers that are none; it would again."""


class StopTraining(KeyboardInterrupt):
    """Raised by a callback that ends a training early; the net is fitted then, as it is."""


def check_callbacks(callbacks):
    """Raise TypeError for what skorch cannot take: callbacks, their classes, or both with names."""
    callbacks = [] if callbacks is None else callbacks
    kinds = (
        [callbacks]
        if not isinstance(callbacks, list | tuple)
        else [each[1] if isinstance(each, tuple) and len(each) == 2 else each for each in callbacks]
    )
    for kind in kinds:
        if not issubclass(kind if isinstance(kind, type) else type(kind), Callback):
            raise TypeError(
                f"callbacks must be a list of skorch callbacks or None, got {callbacks!r}."
            )
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks must be a list of skorch callbacks, not one: [{callbacks!r}].")


def as_history(epochs):
    """Turn a list of epochs, dicts, into a history of skorch."""
    return History(epochs)


def _own_batches(rows, batch_size):
    """Serve skorch as a loader: rows make their own batches."""
    return rows


class OneCycle(Callback):
    """Learning rate as a closed form of the step: a short linear rise, then half a cosine down."""

    def __init__(self, lr, n_steps, warm_up=0.1):
        self.lr = lr
        self.n_steps = n_steps
        self.warm_up = warm_up

    def on_train_begin(self, net, **kwargs):
        """Start at the first step."""
        self.step_ = 0

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rate of the step that follows."""
        if not training:
            return
        t = (self.step_ + 1) / (self.n_steps + 1)
        w = self.warm_up
        rate = t / w if t < w else (1 + math.cos(math.pi * (t - w) / (1 - w))) / 2
        for group in net.optimizer_.param_groups:
            group["lr"] = self.lr * rate
        self.step_ += 1


def _say_nothing(message):
    """Take early stopping's message; a lambda could not be pickled."""


class KeepState(Callback):
    """Keep the state of a training after every epoch."""

    def __init__(self, stage, rows):
        self.stage = stage
        self.rows = rows

    def on_epoch_end(self, net, **kwargs):
        """Write all that the next epoch depends on."""
        self.stage.save(*net_state(net, self.rows))


class InPrecision(nn.Module):
    """Run a module in a precision; what it gives is float32, so that losses stay exact.

    Parameters
    ----------
    module : nn.Module
        Gives a tensor or several.
    device : str
        Where it runs.
    precision : {"float32", "bfloat16"}
        Of its operations.
    """

    def __init__(self, module, device, precision):
        super().__init__()
        self.module = module
        self.device = device
        self.precision = precision

    def forward(self, **x):
        """Run the module."""
        with autocast(self.device, self.precision):
            output = self.module(**x)
        if isinstance(output, torch.Tensor):
            return output.float()
        return tuple(part.float() for part in output)


class WithLoss(nn.Module):
    """Encoders and the loss that compares them: together they are what early stopping restores."""

    def __init__(self, encoders, loss):
        super().__init__()
        self.encoders = encoders
        self.loss = loss

    def forward(self, image, skeleton):
        """Encode a batch of both kinds."""
        return self.encoders(image, skeleton)


def fit_net(
    module,
    criterion,
    rows,
    *,
    lr,
    weight_decay,
    max_epochs,
    precision="float32",
    callbacks=None,
    verbose=0,
    valid=None,
    patience=None,
    stage=None,
):
    """Train a module on rows.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(image=..., skeleton=...)``; trained in place.
    criterion : nn.Module
        Called with what the module gives and the codes of the cases.
    rows : TrainingRows
        What to learn from.
    lr, weight_decay, max_epochs, callbacks, verbose
        As the estimators have them.
    precision : {"float32", "bfloat16"}
        Of the module's operations; the criterion is computed in float32.
    valid : TrainingRows or None
        Rows held out, for early stopping.
    patience : int
        Epochs without a lower loss on `valid` after which to stop, and go back to the best.
    stage : checkpoint.Stage or None
        Where to keep the state after every epoch, and to go on from if there is one.

    Returns
    -------
    skorch.NeuralNet
        The fitted net, with its module on the CPU.
    """
    if precision != "float32":
        module = InPrecision(module, rows.device, precision)
    own = [("one_cycle", OneCycle(lr, max_epochs * len(rows.batches)))]
    if valid is not None:
        stop = EarlyStopping(patience=patience, load_best=True, sink=_say_nothing)
        own.append(("early_stopping", stop))
    if verbose:
        n_batches = len(rows.batches) + (0 if valid is None else len(valid.batches))
        own.append(("progress_bar", ProgressBar(batches_per_epoch=n_batches)))
    if stage is not None:
        own.append(("keep_state", KeepState(stage, rows)))  # the last, for it keeps theirs, too
    net = make_net(
        module,
        criterion,
        lr=lr,
        weight_decay=weight_decay,
        max_epochs=max_epochs,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=own + list(callbacks or []),
        device=rows.device,
        verbose=verbose,
    )
    # skorch's own fit swallows Ctrl-C, and a search would rank the half-trained candidate
    net.notify("on_train_begin", X=rows, y=None)
    state = None if stage is None else stage.load()
    if state is not None:
        restore_state(net, rows, *state)
    try:
        net.fit_loop(rows, epochs=max_epochs - len(net.history))
    except StopTraining:
        pass
    except KeyboardInterrupt:  # of the user; but skorch's early stopping raises the same
        ended = [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]
        if not any(callback.misses_ == callback.patience for callback in ended):
            raise
    net.notify("on_train_end", X=rows, y=None)
    _check_converged(net)
    # what rests is small, and on the CPU: no rows held out, no second weights, no optimizer's state
    net.train_split = None
    if valid is not None:
        stop.best_model_weights_ = None
    net.optimizer_.state.clear()
    net.device = "cpu"
    net.module_.cpu().eval()
    net.criterion_.cpu().eval()
    return net


def _check_converged(net):
    """Raise where a training came to a loss, or to weights, that are no numbers."""
    parts = (net.module_, net.criterion_)
    weights = [w for part in parts for w in part.parameters() if not nn.parameter.is_lazy(w)]
    buffers = [b for part in parts for b in part.buffers() if not nn.parameter.is_lazy(b)]
    if not math.isfinite(net.history[-1, "train_loss"]):
        lost = "loss is"
    # buffers may be infinite on purpose, as masks are
    elif not all(w.isfinite().all() for w in weights) or any(b.isnan().any() for b in buffers):
        lost = "weights are"
    else:
        return
    raise DivergenceError(
        f"The training diverged: its {lost} no longer finite. Lower lr, or look at a loss, network "
        "or augmentation of your own."
    )


def make_net(module, criterion, *, lr, weight_decay, max_epochs, history=(), verbose=0, **settings):
    """Join a module and a criterion to a net, as yet without a training or with that of another.

    Parameters
    ----------
    module, criterion, lr, weight_decay, max_epochs, verbose
        As `fit_net` has them.
    history : list of dict
        An epoch each.
    **settings
        Others of skorch's.

    Returns
    -------
    skorch.NeuralNet
        Initialized.
    """
    net = NeuralNet(
        module,
        criterion,
        optimizer=torch.optim.AdamW,
        optimizer__fused=True,
        optimizer__weight_decay=weight_decay,
        lr=lr,
        max_epochs=max_epochs,
        iterator_train=_own_batches,
        iterator_valid=_own_batches,
        verbose=verbose,
        **settings,
        **({} if verbose else {"callbacks__print_log": None}),
    )
    net.initialize()
    net.history_ = History(history)
    return net
