"""Fitted matchers in files: `save` and `load`, and what no file holds."""

import os
import reprlib
import warnings

from sklearn.utils.validation import check_is_fitted
from torch import nn

from .checks import users_level
from .learning.devices import resolve_device
from .matcher_file import describe, restore, still_left_out
from .storage.sealed import (
    of_later_version,
    pack,
    read_file,
    take,
    unpack,
    unpack_header,
    write_atomically,
)

#: What parameters, numpy and torch raise on wrong values, types and sizes.
_WRONG = (ValueError, TypeError, OverflowError, RuntimeError)


class Persistence:
    """The methods of `PairMatcher` that write it into a file, and read it; of nothing else."""

    def save(self, path):
        """Write the fitted matcher into one file, which `load` reads, also on another machine.

        The file is in the format safetensors: tensors, and a JSON header. It holds parameters,
        networks, the gallery, thresholds and the history; not the rows of `fit`. It holds the state
        of modules of your own (`loss`, networks of the encoder) but not their code, and neither
        `callbacks`, `memory`, `checkpoint`, nor parameters that are functions or a RandomState.

        Parameters
        ----------
        path : str or path-like
            Of the file, with any suffix. A file that is there is replaced at once, or stays whole
            if anything fails.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If no file could hold the matcher.
        OSError
            If the file cannot be written; FileNotFoundError if its folder is missing.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from skpair import PairMatcher
        >>> X, y = np.eye(4)[[0, 1, 0, 1]], ["a", "b", "a", "b"]
        >>> matcher = PairMatcher(max_epochs=1, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "matcher.skpair")
        ...     matcher.save(path)
        ...     loaded = PairMatcher.load(path)
        >>> (loaded.predict(X) == matcher.predict(X)).all()
        np.True_
        """
        check_is_fitted(self)
        try:
            content, tensors, modules = describe(self)
            data = pack("PairMatcher", content, tensors)
            # what cannot be loaded is not written
            restore(type(self), *unpack(data, "PairMatcher"), modules)
        except _WRONG as error:
            raise ValueError(f"This {type(self).__name__} cannot be saved: {error}") from error
        write_atomically(path, data)

    @classmethod
    def load(cls, path, *, device=None, **missing):
        """Read a fitted matcher that `save` has written; nothing in the file is run.

        Parameters
        ----------
        path : str or path-like
            Of the file.
        device : str or None, default=None
            Where to compute from now on, the encoder too; None leaves the parameters `device` as
            they were.
        **missing
            What the file does not hold, by the names of parameters that `get_params` gives:
            modules of your own, as in ``load(path, loss=MyLoss(), encoder__image_encoder=Net())``,
            which get their state from the file (of a network, in `encoder_`); and, if you like,
            what only a training needs, such as `callbacks`.

        Returns
        -------
        PairMatcher
            What it computes is what the saved one did, to the bit on the same machine.

        Raises
        ------
        ValueError
            If the file is none of `save`, is damaged, is of a newer version, or does not fit the
            modules; or if a module is missing.
        OSError
            If the file is missing or cannot be read.

        Notes
        -----
        Parameters that the saved matcher had and that no file holds have their defaults;
        `left_out_` names them, and a later `fit` warns of them.
        """
        if device is not None:
            resolve_device(device)
        data, later = read_file(path), ""
        try:
            header, tensors = unpack_header(data, "PairMatcher")
            content = header["content"]
            _check_given(content, missing)
            later = of_later_version(header)
            matcher = restore(cls, content, tensors, missing, device)
        except RecursionError:
            raise ValueError(f"The file {os.fspath(path)!r} cannot be loaded: too deep.") from None
        except _WRONG as error:
            reason = str(error)[:500].rstrip(".")
            raise ValueError(
                f"The file {os.fspath(path)!r} cannot be loaded: {reason}. {later}".rstrip()
            ) from error
        matcher.left_out_ = [name for name in content["left_out"] if name not in missing]
        return matcher


def warn_of_left_out(matcher):
    """Warn before a training of a loaded matcher that lacks what its file could not hold."""
    missing = still_left_out(matcher)
    if missing:
        warnings.warn(
            f"The file that this {type(matcher).__name__} was loaded from does not hold "
            f"{', '.join(missing)}, which a training needs: defaults are in their place. Set them "
            "by set_params, or give them to load by name.",
            UserWarning,
            stacklevel=users_level(),
        )


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
