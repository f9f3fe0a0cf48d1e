"""Match images with hand-drawn skeletons: N-pair metric learning as a scikit-learn estimator."""

from .encoder import PairEncoder
from .matcher import PairMatcher
from .rows import pair_up, split_pairs, stack_pairs

__all__ = ["PairEncoder", "PairMatcher", "pair_up", "split_pairs", "stack_pairs"]
__version__ = "0.1.0"
