"""The one door to skorch: networks + loss + sampler + callbacks -> a fitted net."""

import contextlib
import copy
import dis
import functools
import math
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, ProgressBar
from skorch.helper import predefined_split
from skorch.history import History
from torch import nn

#: Pixels that a CPU encodes at once (eight pictures at least): with more, what networks compute
#: leaves its caches.
_PIXELS_AT_ONCE = 2**18
#: Largest size of feature rows that are copied for a training on a CPU, which is faster then.
_COPIED_BYTES = 2**26

# torch has one random number generator for all threads of a process
_RNG_LOCK = threading.RLock()


@contextlib.contextmanager
def seeded(seed, device="cpu"):
    """Run with torch's generators seeded and gradients on; afterwards all is as it was."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with (
        _RNG_LOCK,
        torch.random.fork_rng(devices=cuda),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(cuda[0]):
                torch.cuda.manual_seed(seed)
        yield


@contextlib.contextmanager
def one_thread():
    """Run torch's CPU operations on one thread: small layers gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(functions, cancelled):
    """Run functions in threads of their own, each with one torch thread; give their results.

    Parameters
    ----------
    functions : list of callable
        They must not draw from torch's global generator, which threads share.
    cancelled : threading.Event
        Set when one fails or Ctrl-C is pressed: then the others should end.

    Returns
    -------
    list
    """
    with one_thread(), ThreadPoolExecutor(len(functions)) as pool:
        try:
            futures = [pool.submit(function) for function in functions]
            # wake up now and then: not every system lets Ctrl-C end a wait
            pending = futures
            while pending:
                done, pending = wait(pending, timeout=0.1, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            cancelled.set()
            raise


class DivergenceError(ValueError):
    """A training came to numbers that are none; it would again."""


def draw_seed(random_state):
    """Draw a seed; None takes fresh entropy, and leaves numpy's global generator alone."""
    rng = np.random.RandomState() if random_state is None else check_random_state(random_state)
    return int(rng.randint(2**31 - 1))


def resolve_device(device):
    """Turn "auto" into the best device there is; ValueError for one that is not there."""
    if device == "auto":
        return "cuda" if "cuda:0" in _devices() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not 'auto' or a device of torch: {error}") from None
    except TypeError:
        raise ValueError(f"device must be 'auto', 'cpu' or the like, got {device!r}.") from None
    # for the CPU, no GPU is woken up
    if asked.type != "cpu" and f"{asked.type}:{asked.index or 0}" not in _devices():
        raise ValueError(
            f"device={device!r} is not there. This machine has "
            f"{', '.join(map(repr, _devices()))}; device='auto' takes the best."
        )
    return str(asked)


@functools.cache
def _devices():
    """Name the devices of this machine, the CPU first."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    n = 0 if accelerator is None else torch.accelerator.device_count()
    return ["cpu", *(f"{accelerator.type}:{i}" for i in range(n))]


def resolve_precision(precision, device, layout):
    """Turn "auto" into what is free: bfloat16 for pictures on a GPU that has it."""
    if precision != "auto":
        return precision
    if layout == "features" or torch.device(device).type != "cuda":
        return "float32"
    with torch.cuda.device(device):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def autocast(device, precision):
    """Run networks in a precision; weights stay in float32."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def check_number(name, value, kind, low, *, low_allowed=True, high=None):
    """Check a numeric parameter, for its type and its range."""
    if isinstance(value, bool) or not isinstance(value, kind):
        expected = "an integer" if kind is Integral else "a number"
        raise TypeError(f"{name} must be {expected}, got {value!r}.")
    too_low = value < low or (value == low and not low_allowed)
    if not math.isfinite(value) or too_low or (high is not None and value >= high):
        bounds = f"{'>=' if low_allowed else '>'} {low}" + (f" and < {high}" if high else "")
        raise ValueError(f"{name} must be {bounds}, got {value!r}.")


def check_choice(name, value, known, also=""):
    """Check a parameter that is one of a few names; `also` says what else it might have been."""
    if not (isinstance(value, str) and value in known):
        names = ", ".join(map(repr, known))
        raise ValueError(f"{name}={value!r} is unknown; known are {names}{also}.")


#: What to give as a parameter, so that it has parameters of its own.
_NESTED = {
    "encoder": "a PairEncoder, as in PairMatcher(PairEncoder()),",
    "classifier": "a classifier",
    "matcher": "a PairMatcher",
}


class NestedParameters:
    """A `set_params` that says which parameter has none of its own: a mixin for estimators."""

    def set_params(self, **params):
        """Set parameters, and those of the estimators among them, as ``encoder__lr=0.001``.

        Parameters
        ----------
        **params : dict
            By name.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If there is no such parameter, or what has it is yet to be given.
        """
        known = self.get_params(deep=False)
        for name in params:
            outer, nested, _ = name.partition("__")
            owner = params.get(outer, known.get(outer))
            if not nested or outer not in known:
                continue  # scikit-learn knows what to say
            if isinstance(owner, type) or not hasattr(owner, "set_params"):
                what = f" Give {_NESTED[outer]} first." if outer in _NESTED else ""
                raise ValueError(
                    f"{name} cannot be set: {outer}={owner!r} has no parameters of its own.{what}"
                )
        return super().set_params(**params)


def check_parameters(estimator):
    """Check the parameters of a training, which all estimators share."""
    check_choice("sampler", estimator.sampler, ("balanced", "natural"))
    check_number("max_epochs", estimator.max_epochs, Integral, 1)
    check_number("batch_size", estimator.batch_size, Integral, 2)
    check_number("lr", estimator.lr, Real, 0, low_allowed=False)
    check_number("weight_decay", estimator.weight_decay, Real, 0)
    check_choice("precision", estimator.precision, ("auto", "float32", "bfloat16"))
    check_random_state(estimator.random_state)
    if not isinstance(estimator.verbose, Integral | np.bool_):
        raise TypeError(f"verbose must be an integer, got {estimator.verbose!r}.")
    resolve_device(estimator.device)


def to_tensor(batch, device):
    """Move a batch as read to a device; 8-bit pixels become floats in 0..1."""
    # by way of a flat array, strides are always the same, also along axes of length one: which
    # algorithm torch takes, and so the last bits, depend on them
    flat = np.require(batch, requirements=["C", "W"]).reshape(-1)
    return to_floats(torch.from_numpy(flat).view(batch.shape).to(device))


def to_floats(tensor):
    """Turn 8-bit pixels into floats in 0..1."""
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor


def encode(module, half, batch_size, device, precision="float32"):
    """Send every row of `half` through `module`: (n, d) float32 on the CPU, all finite."""
    at_once = batch_size
    if device != "cpu":
        # fitted modules rest on the CPU, so that they can be loaded where there is no GPU
        module = copy.deepcopy(module).to(device)
    else:
        at_once = max(8, _PIXELS_AT_ONCE // math.prod(half.shape[1:]))
        if len(half) > at_once:
            # Linux's malloc hands memory back after every layer, to ask for it again, until it has
            # seen a piece freed that is as large as this
            torch.empty(31 * 2**20, dtype=torch.uint8)
    encoded, done = None, 0
    with torch.inference_mode(), autocast(device, precision):
        for batch in half.batches(batch_size):
            for start in range(0, len(batch), at_once):
                part = to_tensor(batch[start : start + at_once], device)
                output = module(part).float().cpu().numpy()
                check_finite(output, half.kind, half.rows[done : done + len(output)])
                if encoded is None:
                    # whole, once: small arrays kept between large ones would tear memory to pieces
                    encoded = np.empty((len(half), output.shape[1]), np.float32)
                encoded[done : done + len(output)] = output
                done += len(output)
    return encoded


def check_finite(encoded, kind, rows):
    """Raise unless what a network made of some rows is finite.

    Parameters
    ----------
    encoded : ndarray of shape (n, d)
        What it made.
    kind : {"image", "skeleton"}
        Of what.
    rows : ndarray of shape (n,), int
        Where the user finds them.
    """
    odd = ~np.isfinite(encoded).all(axis=1)
    if odd.any():
        raise ValueError(
            f"Row {rows[np.argmax(odd)]}: the network makes numbers of its {kind} that are not "
            "finite (NaN or infinite). Look at that row for values that are far too large, or at "
            "a network of your own."
        )


def measure_batch_norm(module, half, batch_size, device):
    """Take the statistics of batch normalisation again, on clean rows in equal batches.

    Those of the training are of augmented pictures, which differ from what `encode` will see.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    module.to(device).eval()  # but for the normalisation, all works as it will in use
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    parts = np.array_split(np.arange(len(half)), max(1, len(half) // batch_size))
    with torch.no_grad():
        for batch in half.stream(parts):
            module(to_tensor(batch, device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.cpu().eval()


class TrainingRows(torch.utils.data.Dataset):
    """The rows of a training; iterating gives the batches of an epoch.

    Parameters
    ----------
    halves : list of Half
        The images, the skeletons, or both.
    y : ndarray of shape (n,), int
        Codes of the cases.
    batches : iterable
        Gives `(image_rows, skeleton_rows)` of each step, anew for each epoch.
    device : str
        Where the batches go.
    augment : callable or None
        Applied to each kind of a batch.
    cancelled : threading.Event or None
        Ends the training when set.
    """

    def __init__(self, halves, y, batches, device, augment=None, cancelled=None):
        self.halves = {half.kind: half for half in halves}
        self.layout = halves[0].layout
        self.y = torch.as_tensor(y)
        self.batches = batches
        self.device = device
        self.augment = augment or (lambda x: x)
        self.cancelled = cancelled or threading.Event()
        self.held = {}  # by kind, rows that stay on the device
        self.resident = _fits(halves, device)

    def __len__(self):
        """Count the rows."""
        return len(self.y)

    def __iter__(self):
        """Yield the batches of an epoch: the kinds by name, and the codes."""
        steps = list(self.batches)
        y = self.y.to(self.device)
        rows = torch.from_numpy(np.stack([images for images, _ in steps])).to(self.device)
        streams = {
            kind: self._stream(half, [step[kind == "skeleton"] for step in steps])
            for kind, half in self.halves.items()
        }
        for images in rows:
            if self.cancelled.is_set():
                raise KeyboardInterrupt
            yield {kind: self.augment(next(s)) for kind, s in streams.items()}, y[images]

    def _stream(self, half, steps):
        """Yield the batches of one kind, on the device."""
        if not self.resident:
            for batch in half.stream(steps):
                yield to_tensor(batch, self.device)
            return
        if half.kind not in self.held:
            whole = half.read(slice(None))
            self.held[half.kind] = torch.from_numpy(whole).to(self.device)
        for rows in torch.from_numpy(np.stack(steps)).to(self.device):
            yield to_floats(self.held[half.kind][rows])


def _fits(halves, device):
    """Whether the device may hold the rows as a whole: then no batch is gathered by numpy."""
    if any(half.layout == "files" for half in halves):
        return False
    size = sum(4 * len(half) * math.prod(half.shape) for half in halves)
    if torch.device(device).type == "cuda":
        return size < torch.cuda.mem_get_info(device)[0] / 2
    return halves[0].layout == "features" and size < _COPIED_BYTES


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


def _is_deliberate(interrupt):
    """Whether code raised it: so skorch's callbacks stop a training, as Ctrl-C does anywhere."""
    *_, traceback = _chain(interrupt.__traceback__)
    instruction = traceback.tb_frame.f_code.co_code[traceback.tb_lasti]
    in_callback = isinstance(traceback.tb_frame.f_locals.get("self"), Callback)
    return in_callback and dis.opname[instruction] == "RAISE_VARARGS"


def _chain(traceback):
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


class KeepState(Callback):
    """Keep the state of a training after every epoch."""

    def __init__(self, stage, rows):
        self.stage = stage
        self.rows = rows

    def on_epoch_end(self, net, **kwargs):
        """Write all that the next epoch depends on."""
        self.stage.save(*net_state(net, self.rows))


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
        What JSON can hold.
    tensors : dict of str to torch.Tensor
    """
    tensors = {f"chance.{name}": state for name, state in _chance(rows).items()}
    for part in ("module_", "criterion_"):
        for name, tensor in getattr(net, part).state_dict().items():
            tensors[f"{part}.{name}"] = tensor
    for i, weight in enumerate(_weights(net)):
        for name, tensor in net.optimizer_.state[weight].items():
            tensors[f"optimizer.{i}.{name}"] = tensor
    content = {"history": plain_history(net.history), "callbacks": {}}
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
    net.history_ = History(content["history"])
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


def plain_history(history):
    """Turn skorch's history into lists, dicts and numbers that JSON can hold."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    return plain(list(history))


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
    except KeyboardInterrupt as interrupt:
        if not _is_deliberate(interrupt):
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
