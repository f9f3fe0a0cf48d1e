"""How many labels of digits that were flipped on purpose come first in the review queue.

    python tests/benchmarks/label_errors.py

Takes a quarter of an hour; nothing is timed, so the machine may do other work.
"""

import numpy as np

from skpair import PairMatcher
from skpair.datasets import load_digit_pairs
from skpair.inspection import review


def main():
    """Print the share of them in the first tenth, for each seed."""
    for imbalance in (1.0, 0.0):
        for seed in range(3):
            X, y = load_digit_pairs(imbalance=imbalance, random_state=seed, return_X_y=True)
            rng = np.random.default_rng(seed)
            wrong = rng.choice(len(y), round(0.05 * len(y)), replace=False)
            labels = y.copy()
            labels[wrong] = (y[wrong] + rng.integers(1, 10, len(wrong))) % 10
            matcher = PairMatcher(random_state=seed)
            queues = {
                "as fitted on them": review(matcher.fit(X, labels), X, labels),
                "cv=5": review(matcher, X, labels, cv=5),
            }
            tenth = -(-len(y) // 10)  # rounded up
            found = (
                f"{how} {np.isin(wrong, queue.index[:tenth]).mean():.3f}"
                for how, queue in queues.items()
            )
            print(
                f"{len(y):4d} rows, {len(wrong)} wrong, seed {seed}:", *found, sep="  ", flush=True
            )


if __name__ == "__main__":
    main()
