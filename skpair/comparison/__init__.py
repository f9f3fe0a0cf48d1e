"""Compare estimators on the same splits, beside controls, by a test that minds repeated splits."""

from .compare import compare, encode_splits
from .controls import (
    ImageOnly,
    OneHotSkeletons,
    TwoClassifiers,
    image_only,
    one_hot_skeletons,
    two_classifiers,
)
from .statistics import Comparison, corrected_t_test

__all__ = [
    "Comparison",
    "ImageOnly",
    "OneHotSkeletons",
    "TwoClassifiers",
    "compare",
    "corrected_t_test",
    "encode_splits",
    "image_only",
    "one_hot_skeletons",
    "two_classifiers",
]
