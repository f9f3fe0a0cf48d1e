"""How well images and skeletons are matched, whatever the frequencies of the cases.

Most functions compare every image with every skeleton: they take the cases of n images, those of m
skeletons, and the similarity of each pair. A *query* is one image, which asks for skeletons of its
case; with ``direction="skeleton_to_image"`` it is one skeleton. Under ``average="macro"`` every
case counts alike, however many queries it has. `pair_scorer` makes of a function what scikit-learn
takes as `scoring`.

Where a case has no match or nothing but matches, it has no value: NaN in a table, left out of
"macro". If no case has one, the result is NaN, with an UndefinedMetricWarning.
"""

from .naming import coverage_accuracy_curve, expected_calibration_error
from .new_cases import harmonic_mean_accuracy, known_new_auc, known_new_curve
from .pairs import (
    pair_average_precision,
    pair_balanced_accuracy,
    pair_equal_error_rate,
    pair_roc_auc,
)
from .retrieval import mean_average_precision_at_r, precision_at_1, recall_at_k
from .scorers import SCORERS, PairScorer, last_step, pair_scorer

__all__ = [
    "SCORERS",
    "PairScorer",
    "coverage_accuracy_curve",
    "expected_calibration_error",
    "harmonic_mean_accuracy",
    "known_new_auc",
    "known_new_curve",
    "last_step",
    "mean_average_precision_at_r",
    "pair_average_precision",
    "pair_balanced_accuracy",
    "pair_equal_error_rate",
    "pair_roc_auc",
    "pair_scorer",
    "precision_at_1",
    "recall_at_k",
]
