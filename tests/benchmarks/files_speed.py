"""Encoding files: against the slower of decoding alone and encoding alone, in turn in one run.

    python tests/benchmarks/files_speed.py [n_files]

Draws JPEGs of 128 pixels into a temporary folder (20,000 by default). Beside the ratio stands the
least that the cores allow: the processor time of both alone, spread over all cores.
"""

import pathlib
import sys
import tempfile
import time

import joblib
import numpy as np
from PIL import Image
from speed import seconds

from skpair import PairEncoder
from skpair.rows import reading

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
        half = reading.image_half(encoder, paths)
        pixels = np.empty((n_files, 1, SIZE, SIZE), np.uint8)

        def decode():
            start = 0
            for batch in half.batches(encoder.batch_size):
                pixels[start : start + len(batch)] = batch
                start += len(batch)

        ratios, bounds = [], []
        for _ in range(3):
            busy = time.process_time()
            decoding = seconds(decode)
            decoder_cores = (time.process_time() - busy) / decoding
            tower_only = PairEncoder("cnn", "identity", frozen=True, random_state=0).fit(
                np.concatenate([pixels[:64]] * 2, axis=1)
            )
            busy = time.process_time()
            encoding = seconds(lambda e=tower_only: e.encode_images(pixels))
            encoder_cores = (time.process_time() - busy) / encoding
            both = seconds(lambda: encoder.encode_images(paths))
            slower = max(decoding, encoding)
            work = decoding * decoder_cores + encoding * encoder_cores  # seconds of one core
            ratios.append(both / slower)
            bounds.append(work / joblib.cpu_count() / slower)
            print(
                f"{n_files} files: decode {decoding:.1f} s on {decoder_cores:.2f} cores, encode "
                f"{encoding:.1f} s on {encoder_cores:.2f}, both {both:.1f} s; ratio to the slower "
                f"{ratios[-1]:.2f} (bar 1.15; with every core busy throughout {bounds[-1]:.2f})",
                flush=True,
            )
        print(f"median {np.median(ratios):.2f}; with every core busy {np.median(bounds):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20_000)
