"""Search the loss, its temperature and the size of the embedding, on the encodings of digits.

The pipeline keeps its first step in a cache: the towers of `PairEncoder` learn once for each fold,
from the training part of that fold only, and every candidate's layers learn on their encodings::

    python examples/grid_search.py
"""

import tempfile
from time import perf_counter

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from skpair import PairEncoder, PairMatcher
from skpair.datasets import load_digit_pairs
from skpair.metrics import pair_average_precision, pair_scorer

#: Average precision of "same case?" over all pairs of an image and a skeleton.
PAIR_PRECISION = pair_scorer(pair_average_precision)

GRID = [
    {  # every image is compared with the skeletons of all other cases at once
        "pairmatcher__loss": ["n_pair"],
        "pairmatcher__temperature": [0.05, 0.1, 0.3],
        "pairmatcher__embedding_dim": [16, 64],
    },
    {  # the traditional way: one image, one skeleton, same or not
        "pairmatcher__loss": ["binary_cross_entropy", "contrastive"],
        "pairmatcher__embedding_dim": [16, 64],
    },
]


def main():
    """Run the search, and print its table."""
    X, y = load_digit_pairs(imbalance=1.0, random_state=0, return_X_y=True)
    print(f"{len(y)} pairs; of each digit {np.bincount(y).tolist()}")
    started = perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        pipeline = make_pipeline(
            PairEncoder(random_state=0), PairMatcher(random_state=0), memory=cache
        )
        search = GridSearchCV(
            pipeline,
            GRID,
            scoring={"balanced_accuracy": "balanced_accuracy", "pair_precision": PAIR_PRECISION},
            refit="balanced_accuracy",
            cv=StratifiedKFold(3, shuffle=True, random_state=0),
        ).fit(X, y)
    print(f"{len(search.cv_results_['params'])} candidates in {perf_counter() - started:.0f} s\n")
    table = pd.DataFrame(search.cv_results_["params"]).rename(columns=lambda c: c.split("__")[1])
    for score in ("balanced_accuracy", "pair_precision"):
        table[score] = search.cv_results_[f"mean_test_{score}"]
    table = table.sort_values("balanced_accuracy", ascending=False)
    print(table.to_string(index=False, na_rep="-", float_format="%.3f"))
    print(f"\nBest: {search.best_params_}")


if __name__ == "__main__":
    main()
