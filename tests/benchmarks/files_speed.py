"""Encoding files: against the slower of decoding alone and encoding alone, in turn in one run.

    python tests/benchmarks/files_speed.py [n_files]

Draws JPEGs of 128 pixels into a temporary folder (20,000 by default).
"""

import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image
from speed import seconds

from skpair import PairEncoder, pairs

SIZE = 128


def draw(folder, n_files):
    """Write images that are smooth, as photographs are."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n_files):
        coarse = rng.integers(256, size=(16, 16), dtype=np.uint8)
        paths.append(str(folder / f"{i}.jpg"))
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(paths[-1])
    return np.array(paths, dtype=object)


def main(n_files):
    """Print the three times and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(pathlib.Path(folder), n_files)
        X = np.stack([paths, paths], axis=1)
        encoder = PairEncoder("cnn", "identity", frozen=True, image_size=SIZE, random_state=0)
        encoder.fit(X[:64])
        half = pairs.image_half(encoder, paths)
        pixels = np.empty((n_files, 1, SIZE, SIZE), np.uint8)

        def decode():
            start = 0
            for batch in half.batches(encoder.batch_size):
                pixels[start : start + len(batch)] = batch
                start += len(batch)

        ratios = []
        for _ in range(3):
            decoding = seconds(decode)
            tower_only = PairEncoder("cnn", "identity", frozen=True, random_state=0).fit(
                np.concatenate([pixels[:64]] * 2, axis=1)
            )
            encoding = seconds(lambda e=tower_only: e.encode_images(pixels))
            both = seconds(lambda: encoder.encode_images(paths))
            ratios.append(both / max(decoding, encoding))
            print(
                f"{n_files} files: decode {decoding:.1f} s, encode {encoding:.1f} s, both "
                f"{both:.1f} s, ratio to the slower {ratios[-1]:.2f} (bar 1.15)",
                flush=True,
            )
        print(f"median {np.median(ratios):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20_000)
