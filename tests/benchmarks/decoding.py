"""Fitting files: against fitting the same pictures as arrays, and decoding all of them once.

    python tests/benchmarks/decoding.py [max_epochs]

Draws three sets of pairs into a temporary folder: 200 JPEGs and 200 PNGs of 1500 pixels, and 2,000
PNGs of 300; each fit is with `max_epochs` (35 by default) of the towers, and as many of the layers.
Then the peak memory of fitting 2,000 and 20,000 pairs of 64 pixels for an epoch, in a process each.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
from files_memory import draw as draw_small
from PIL import Image
from speed import seconds

from skpair import PairEncoder, PairMatcher, stack_pairs
from skpair.rows import reading

N_CASES = 10
SETS = [(200, 1500, "jpg"), (200, 1500, "png"), (2000, 300, "png")]


def draw(folder, n_pairs, size, ending):
    """Write images that are smooth, as photographs are, each with a drawing of a few lines."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n_pairs):
        coarse = Image.fromarray(rng.integers(256, size=(24, 24), dtype=np.uint8))
        image = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
        grain = rng.integers(8, size=image.shape, dtype=np.uint8)
        drawing = np.full((size, size), 255, np.uint8)
        drawing[:, rng.integers(size, size=6)] = 0
        row = [str(folder / f"{kind}_{i}.{ending}") for kind in ("image", "skeleton")]
        for path, picture in zip(row, (image // 2 + grain, drawing), strict=True):
            Image.fromarray(picture).save(path, compress_level=1)
        rows.append(row)
    return pd.DataFrame(rows, columns=["image", "skeleton"]), np.arange(n_pairs) % N_CASES


def matcher(max_epochs):
    """Make a matcher whose encoder learns; with default parameters, but for the epochs."""
    encoder = PairEncoder(max_epochs=max_epochs)
    return PairMatcher(encoder, max_epochs=max_epochs, random_state=0)


def decode(X):
    """Decode all files once, and give them as pixels."""
    encoder = PairEncoder("identity", "identity").fit(X[:1])
    images, drawings = (half.read(slice(None))[:, 0] for half in reading.pair_halves(encoder, X))
    return stack_pairs(images, drawings, ink="light")


def compare(n_pairs, size, ending, max_epochs):
    """Print the times of both sides and their ratio, for one set."""
    with tempfile.TemporaryDirectory() as folder:
        X, y = draw(pathlib.Path(folder), n_pairs, size, ending)
        decoding = seconds(lambda: decode(X))
        pixels = decode(X)
        ratios = []
        for _ in range(2):
            arrays = seconds(lambda: matcher(max_epochs).fit(pixels, y))
            files = seconds(lambda: matcher(max_epochs).fit(X, y))
            ratios.append(files / (arrays + decoding))
            print(
                f"{n_pairs} pairs of {size} pixels, {ending}: decode {decoding:.1f} s, fit arrays "
                f"{arrays:.1f} s, fit files {files:.1f} s: ratio {ratios[-1]:.2f} (bar 1.15)",
                flush=True,
            )


def fit_small(folder, n_pairs):
    """Fit the first `n_pairs`; print seconds and the peak of resident memory in MiB."""
    kinds = ("image", "skeleton")
    X = pd.DataFrame({k: [f"{folder}/{k}_{i}.png" for i in range(n_pairs)] for k in kinds})
    started = time.perf_counter()
    PairEncoder(max_epochs=1, random_state=0).fit(X, np.arange(n_pairs) % N_CASES)
    elapsed = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n_pairs:7d} pairs of 64 pixels, an epoch: {elapsed:6.1f} s   peak {peak:5.0f} MiB")


def main(max_epochs):
    """Compare the sets, then measure memory."""
    for n_pairs, size, ending in SETS:
        compare(n_pairs, size, ending, max_epochs)
    counts = (2_000, 20_000)
    with tempfile.TemporaryDirectory() as folder:
        draw_small(pathlib.Path(folder), max(counts))
        for n_pairs in counts:
            subprocess.run([sys.executable, __file__, "--fit", folder, str(n_pairs)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit"]:
        fit_small(sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 35)
