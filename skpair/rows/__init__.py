"""What X is: pixels, features or files, a row per pair; how it is checked, split and read.

No other folder knows the shapes of X. torch is not imported here.
"""

from .layouts import split_pairs, stack_pairs
from .pairing import pair_up

__all__ = ["pair_up", "split_pairs", "stack_pairs"]
