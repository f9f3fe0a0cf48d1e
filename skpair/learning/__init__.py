"""Whatever learns, by torch: networks, batches of rows, devices, the net that trains, its schemes.

It knows rows (`skpair.rows`) and losses, but no estimator. skorch is imported by `net` only.
"""

from .net import DivergenceError, StopTraining
from .sampling import PairSampler

__all__ = ["DivergenceError", "PairSampler", "StopTraining"]
