"""Match images with hand-drawn skeletons: N-pair metric learning as a scikit-learn estimator."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoder import PairEncoder
    from .matcher import PairMatcher
    from .rows import pair_up, split_pairs, stack_pairs

__all__ = ["PairEncoder", "PairMatcher", "pair_up", "split_pairs", "stack_pairs"]
__version__ = "0.1.0"

_HOMES = {"PairEncoder": ".encoder", "PairMatcher": ".matcher"}


def __dir__():
    return [*globals(), *__all__]


def __getattr__(name):
    """Import what is asked for when it is: `skpair --help` does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, ".rows"), __name__), name)
