"""Peak memory of encoding files: it must not grow with their number.

    python tests/benchmarks/files_memory.py [n_pairs ...]

Draws PNG files into a temporary folder, and encodes each number of pairs in a process of its own.
"""

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

SIZE = 64
BASELINE = 64  # pairs: what the libraries and the network take by themselves


def draw(folder, n_pairs):
    """Write `n_pairs` images of noise, each with a skeleton of one line."""
    rng = np.random.default_rng(0)
    for i in range(n_pairs):
        image = rng.integers(256, size=(SIZE, SIZE), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"image_{i}.png", compress_level=1)
        skeleton = np.zeros((SIZE, SIZE), np.uint8)
        skeleton[:, i % SIZE] = 255
        Image.fromarray(skeleton).save(folder / f"skeleton_{i}.png", compress_level=1)


def encode(folder, n_pairs):
    """Encode the first `n_pairs`; print seconds and the peak of resident memory in MiB."""
    import pandas as pd

    from skpair import PairEncoder

    kinds = ("image", "skeleton")
    X = pd.DataFrame({k: [f"{folder}/{k}_{i}.png" for i in range(n_pairs)] for k in kinds})
    encoder = PairEncoder(frozen=True, random_state=0).fit(X[:BASELINE])
    started = time.perf_counter()
    shape = encoder.transform(X).shape
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = X.shape[0] * shape[1] * 4 / 2**20
    print(f"{n_pairs:7d} pairs {seconds:7.1f} s   peak {peak:6.0f} MiB, {result:.0f} of the result")


def main(counts):
    """Draw the files once, then encode each number of pairs."""
    with tempfile.TemporaryDirectory() as folder:
        draw(pathlib.Path(folder), max(counts))
        for n_pairs in counts:
            subprocess.run([sys.executable, __file__, "--encode", folder, str(n_pairs)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--encode"]:
        encode(sys.argv[2], int(sys.argv[3]))
    else:
        main([int(n) for n in sys.argv[1:]] or [2_000, 20_000])
