"""Search one kind with the other: images by skeletons, and skeletons by images.

A `MatchIndex` holds what a fitted matcher has embedded, in memory, in a file that is mapped, or, by
a `LanceStore`, in a database on disk.
"""

from ..known.nearest import top_k
from .index import MatchIndex

__all__ = ["LanceStore", "MatchIndex", "top_k"]


def __dir__():
    return __all__


def __getattr__(name):
    """Import what needs the extra `lancedb` when it is first asked for."""
    if name == "LanceStore":
        from .lance import LanceStore

        return LanceStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
