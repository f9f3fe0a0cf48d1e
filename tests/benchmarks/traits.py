"""Measured drawings of copepods against what is true of them.

    python tests/benchmarks/traits.py

Prints how often the number of loops is that of egg sacs, and the rank correlations of the length of
antennules and of the bend with the true ones, on clean drawings and on ambiguous ones; and the time
for 10,000 drawings on two processes.
"""

import time

import numpy as np

from skpair.datasets import make_copepods
from skpair.field.traits import measure


def compare(ambiguity, imbalance, seed, n=1000):
    """Print the figures of one data set."""
    data = make_copepods(n, ambiguity=ambiguity, imbalance=imbalance, random_state=seed)
    table, true = measure(data.skeletons, n_jobs=2), data.skeleton_traits
    behind = table["axis_length"] * (1 - table["antennule_place"])  # the head may be very short
    antennules = (table["antennule_length"] / behind).corr(true["antennule_length"], "spearman")
    bend = table["bend"].corr(true["bend"], "spearman")
    print(
        f"ambiguity {ambiguity}, imbalance {imbalance}: loops as sacs "
        f"{(table['loops'] == true['sacs']).mean():.3f}; Spearman of antennules {antennules:.3f} "
        f"({table['antennule_length'].isna().mean():.3f} without), of bend {bend:.3f}",
        flush=True,
    )


def main():
    """Print all figures."""
    for ambiguity, imbalance in ((0, 1.5), (0, 0), (0.5, 1.5), (0.5, 0)):
        compare(ambiguity, imbalance, seed=11)
    drawings = np.resize(make_copepods(1000, random_state=0).skeletons, (10_000, 64, 64))
    started, cpu = time.perf_counter(), time.process_time()
    measure(drawings[:2000], n_jobs=1)
    print(f"one process: {(time.process_time() - cpu) / 2:.2f} ms of processor time each")
    started = time.perf_counter()
    measure(drawings, n_jobs=2, verbose=1)
    print(f"10,000 drawings on two processes: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
