"""The schemes of training: two stages, joint, fine-tuned; as functions of what each step needs.

`settings` has the parameters of a PairMatcher (of a PairEncoder, where towers learn) as attributes.
"""

import copy
import functools
import threading
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..losses import LOSSES, MatchingLoss
from ..rows.halves import Half, feature_half
from .augment import make_augment
from .batches import TrainingRows
from .devices import one_thread, resolve_device, resolve_precision, seeded, side_by_side
from .encoding import measure_batch_norm
from .net import WithLoss, fit_net
from .regularisation import OF_LEARNED, choose_dropout
from .sampling import PairSampler
from .towers import Classifier, DualEncoder, Projection

#: Parameters of a PairMatcher that, beside the data, decide what `fit` leaves behind.
SHAPING = (
    "training",
    "embedding_dim",
    "hidden_dims",
    "dropout",
    "loss",
    "within_kind",
    "similarity",
    "temperature",
    "margin",
    "embedding_l2",
)


@dataclass(frozen=True, eq=False)
class Learned:
    """What the training of a PairMatcher gives."""

    layers: DualEncoder
    loss: nn.Module
    net: object  # skorch.NeuralNet, that trained them
    images: Half  # what the layers take: features
    skeletons: Half
    dropout: float  # that of the layers
    background: Half | None = None  # encodings of images of no case


def learn(settings, encoder, halves, split, checkpoint, background=None):
    """Fit the encoder, if there is one, and the layers.

    Parameters
    ----------
    settings : PairMatcher
        Its parameters.
    encoder : PairEncoder or None
        It is fitted in place. None: the rows are features.
    halves : tuple of Half
        The images and the skeletons.
    split : Split
        Which rows to learn from, and their cases.
    checkpoint : Checkpoint
        Keeps the state, and gives the seeds.
    background : Half or None
        Images of no case.

    Returns
    -------
    Learned
    """
    checkpoint.claim(halves if background is None else [*halves, background])
    images, skeletons = halves
    if encoder is not None:
        _fit_encoder(settings, encoder, halves, split, checkpoint, background)
        images, skeletons = _encode(settings, encoder, halves)
    with seeded(split.seed, resolve_device(settings.device)):
        dropout = settings.dropout
        if dropout == "auto" and encoder is not None and encoder.learns():
            dropout = OF_LEARNED  # by these very rows, or it is yet to learn
        elif dropout == "auto":
            codes = split.codes_of(split.train)
            dropout = choose_dropout(
                _train_rows((images, skeletons), split), [codes["image"], codes["skeleton"]]
            )
        layers, criterion = _new(settings, (images, skeletons), split, dropout)
        if settings.training != "joint":
            net = _train_layers(
                settings, layers, criterion, (images, skeletons), split, checkpoint.stage("layers")
            )
        if settings.training != "two_stage":
            stage = checkpoint.stage("together")
            net = _train_together(settings, encoder, layers, criterion, halves, split, stage)
            encoder.set_params(memory=None)  # its towers have learned: no other fit has them
            images, skeletons = _encode(settings, encoder, halves)
    if background is not None and encoder is not None:
        (background,) = _encode(settings, encoder, [background])
    return Learned(layers, criterion.loss, net, images, skeletons, float(dropout), background)


def relearn(settings, learned, split):
    """Fit other layers on what some take, with their dropout.

    Parameters
    ----------
    settings : PairMatcher
        Its parameters; `early_stopping` must be false.
    learned : Learned
        Layers, and what they take.
    split : Split
        Which rows to learn from, and their cases.

    Returns
    -------
    Learned
    """
    halves = learned.images, learned.skeletons
    with seeded(split.seed, resolve_device(settings.device)):
        layers, criterion = _new(settings, halves, split, learned.dropout)
        net = _train_layers(settings, layers, criterion, halves, split)
    return Learned(layers, criterion.loss, net, *halves, learned.dropout, learned.background)


def _new(settings, halves, split, dropout):
    """Make layers that know mean and scale of the rows to learn from, and a loss."""
    layers = new_layers(settings, *(half.shape[0] for half in halves), dropout)
    for half in _train_rows(halves, split):
        rows = torch.from_numpy(half.read(slice(None)))
        getattr(layers, half.kind).standardize.measure(rows)
    return layers, new_criterion(settings)


def _train_layers(settings, layers, criterion, halves, split, stage=None):
    rows = _rows(settings, halves, split, settings.batch_size)
    with one_thread():
        return _train(settings, layers, criterion, rows, stage)


def new_layers(settings, image_width, skeleton_width, dropout):
    """Make the layers, one a kind."""
    return DualEncoder(
        *(
            Projection(
                width,
                settings.embedding_dim,
                settings.hidden_dims,
                dropout,
                normalize=settings.similarity == "cosine",
            )
            for width in (image_width, skeleton_width)
        )
    )


def new_criterion(settings):
    """Make the loss, with what is added to it in training."""
    if isinstance(settings.loss, nn.Module):
        loss = copy.deepcopy(settings.loss)
    else:
        loss = LOSSES[settings.loss](settings.get_params(deep=False))
    return MatchingLoss(loss, settings.within_kind, settings.embedding_l2)


# ---- the steps of `learn` ------------------------------------------------------------------------


def _fit_encoder(settings, encoder, halves, split, checkpoint, background):
    rows = _train_rows(halves, split)
    codes = split.codes_of(split.train)
    joint = settings.training == "joint"
    # jointly, towers stay as they start until they learn together with the layers
    encoder.fit_halves(
        *rows, codes, split.cases, checkpoint=checkpoint, learn=not joint, background=background
    )
    if joint:
        _measure_batch_norm(settings, encoder, rows)


def _train_rows(halves, split):
    return [half.take(split.train[half.kind]) for half in halves]


def _measure_batch_norm(settings, encoder, halves):
    device = resolve_device(settings.device)
    for half in halves:
        tower = getattr(encoder.towers_, half.kind)
        measure_batch_norm(tower, half, encoder.batch_size, device)


def _encode(settings, encoder, halves):
    encoded = encoder.encode_halves(*halves, verbose=settings.verbose)
    return [feature_half(part, half.kind) for part, half in zip(encoded, halves, strict=True)]


def _rows(settings, halves, split, batch_size, augment=None):
    """Make the rows to train on, and those held out (None if there are none)."""
    device = resolve_device(settings.device)

    def rows(parts, augment):
        rng = np.random.RandomState(split.seed)
        codes = split.codes_of(parts)
        sampler = PairSampler(codes["image"], batch_size, settings.sampler, rng, codes["skeleton"])
        taken = [half.take(parts[half.kind]) for half in halves]
        return TrainingRows(taken, codes["image"], sampler, device, augment)

    if not settings.early_stopping:
        return rows(split.train, augment), None
    valid = rows(_validation(split), None)
    valid.batches = list(valid.batches)  # the same pairs in every epoch
    return rows(split.train, augment), valid


def _validation(split):
    """Give the rows held out; where no skeleton of a case is, those that are learned from."""
    images, codes = split.held_out["image"], split.codes["skeleton"]
    asked = np.unique(split.codes["image"][images])
    held_out, known = split.held_out["skeleton"], split.train["skeleton"]
    held_out = held_out[np.isin(codes[held_out], asked)]
    lent = np.isin(codes[known], np.setdiff1d(asked, codes[held_out]))
    return {"image": images, "skeleton": np.sort(np.concatenate([held_out, known[lent]]))}


def _train(settings, encoders, criterion, rows, stage, *, rates=None, factor=1.0, epochs=None):
    """Train encoders and a loss, in place; `rates` has the rates, if not `settings`."""
    rates = rates or settings
    rows, valid = rows
    return fit_net(
        WithLoss(encoders, criterion.loss),
        criterion,
        rows,
        valid=valid,
        patience=settings.n_iter_no_change,
        lr=factor * rates.lr,
        weight_decay=rates.weight_decay,
        max_epochs=epochs or rates.max_epochs,
        precision=resolve_precision(rates.precision, rows.device, rows.layout),
        callbacks=settings.callbacks,
        verbose=settings.verbose,
        stage=stage,
    )


def _train_together(settings, encoder, layers, criterion, halves, split, stage):
    """Train the towers of an encoder and the layers, in place."""
    augment = make_augment(encoder.augment, halves[0].layout, split.seed)
    rows = _rows(settings, halves, split, encoder.batch_size, augment)
    less = {}
    if settings.training == "fine_tune":
        less = {"factor": 0.1, "epochs": max(1, encoder.max_epochs // 2)}
    module = encoder.towers_.followed_by(layers)
    net = _train(settings, module, criterion, rows, stage, rates=encoder, **less)
    _measure_batch_norm(settings, encoder, _train_rows(halves, split))
    return net


# ---- the first stage -----------------------------------------------------------------------------


def name_cases(
    settings, dual, width, kinds, halves, codes, n_cases, seed, checkpoint, background=None
):
    """Train towers to name the cases, in place.

    Parameters
    ----------
    settings : PairEncoder
        Its parameters.
    dual : DualEncoder
        The towers.
    width : int
        Columns of their encodings.
    kinds : list of str
        Which of the towers learn.
    halves : dict of str to Half
        The rows, by kind.
    codes : dict of str to ndarray of int
        Codes of their cases, by kind.
    n_cases : int
        Number of cases.
    seed : int
        Of the sampler and of augmentation; one more for skeletons.
    checkpoint : Checkpoint
        Keeps the state.
    background : Half or None
        Images of no case: one case more for the tower of images.

    Returns
    -------
    dict of str to skorch.history.History
        By kind.
    """
    device = resolve_device(settings.device)
    cancelled = threading.Event()
    classifiers = {
        kind: Classifier(
            getattr(dual, kind), width, n_cases + (kind == "image" and background is not None)
        )
        for kind in kinds
    }
    if background is not None:
        halves = halves | {"image": halves["image"].followed_by(background)}
        more = np.full(len(background), n_cases)
        codes = codes | {"image": np.concatenate([codes["image"], more])}

    def train(kind):
        half, classifier = halves[kind], classifiers[kind]
        own_seed = seed + (kind == "skeleton")
        rng = np.random.RandomState(own_seed)
        net = fit_net(
            classifier,
            nn.CrossEntropyLoss(label_smoothing=0.1),
            TrainingRows(
                [half],
                codes[kind],
                PairSampler(codes[kind], settings.batch_size, settings.sampler, rng),
                device,
                make_augment(settings.augment, half.layout, own_seed),
                cancelled,
            ),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            max_epochs=settings.max_epochs,
            precision=resolve_precision(settings.precision, device, half.layout),
            callbacks=settings.callbacks,
            verbose=settings.verbose,
            stage=checkpoint.stage(kind),
        )
        measure_batch_norm(classifier.tower, half, settings.batch_size, device)
        return net.history

    # nothing of the user's may draw or print
    quiet = not (settings.verbose or settings.callbacks or callable(settings.augment))
    encoders = {"image": settings.image_encoder, "skeleton": settings.skeleton_encoder}
    small = quiet and all(encoders[kind] == "cnn" for kind in kinds)
    if small and device == "cpu" and torch.get_num_threads() > 1:
        # two small towers on a thread each are faster than one after the other on all; but
        # workers run one thread each, and have no core to spare
        histories = side_by_side([functools.partial(train, kind) for kind in kinds], cancelled)
    else:
        histories = map(train, kinds)
    return dict(zip(kinds, histories, strict=True))
