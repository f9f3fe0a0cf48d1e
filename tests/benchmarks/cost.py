"""What each part costs, by the size of pictures and the number of rows: for plans on paper.

    python tests/benchmarks/cost.py

Takes two minutes; run it on a machine that does nothing else.
"""

import tempfile

import numpy as np
from PIL import Image
from speed import encodings, seconds

from skpair import PairEncoder, PairMatcher
from skpair.datasets import make_copepods
from skpair.rows import reading


def pictures(n=512):
    """Print milliseconds a picture, to encode it and to learn from it once."""
    for network, sizes in (("cnn", (32, 64, 96, 128)), ("resnet18", (64, 96, 128))):
        for size in sizes:
            X, y = make_copepods(n, image_size=size, random_state=0, return_X_y=True)
            frozen = PairEncoder(network, network, frozen=True, random_state=0).fit(X)
            encode = min(seconds(lambda e=frozen, X=X: e.transform(X)) for _ in range(3))
            line = f"{network:9s} {size:4d} px: encode {encode / (2 * n) * 1e3:6.3f} ms a picture"
            if network == "cnn":
                # the difference of two fits is that of their epochs alone
                few, many = (
                    seconds(PairEncoder(max_epochs=e, random_state=0).fit, X, y) for e in (1, 4)
                )
                line += f", learn {(many - few) / (3 * 2 * n) * 1e3:6.3f} ms a picture and epoch"
            print(line, flush=True)


def photographs(n=32):
    """Print milliseconds to decode a JPEG of 12 megapixels for a network of 64 pixels."""
    coarse = np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype=np.uint8)
    photograph = Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC)
    with tempfile.TemporaryDirectory() as folder:
        paths = np.array([f"{folder}/{i}.jpg" for i in range(n)], dtype=object)
        for path in paths:
            photograph.save(path, quality=90)
        encoder = PairEncoder("cnn", "identity", frozen=True, image_size=64, random_state=0)
        half = reading.image_half(encoder.fit(np.stack([paths, paths], axis=1)), paths)
        decode = min(seconds(half.read, slice(None)) for _ in range(3))
    print(f"JPEG of 12 megapixels: decode {decode / n * 1e3:6.1f} ms a photograph", flush=True)


def layers():
    """Print seconds to train the layers on rows of encodings, and to use them."""
    for n in (500, 5000, 50_000):
        X, y = encodings(n, columns=256)
        matcher = PairMatcher(random_state=0)
        fit = seconds(matcher.fit, X, y)
        similarity = seconds(matcher.similarity_matrix, X[:5000])
        print(
            f"layers, {n:6d} rows of 2 x 128 columns: fit {fit:6.1f} s, predict "
            f"{seconds(matcher.predict, X) / n * 1e6:5.1f} us an image, similarities "
            f"{similarity / min(n, 5000) ** 2 * 1e9:5.1f} ns a pair, nearest of all "
            f"{seconds(matcher.kneighbors, X[:1000]) / min(n, 1000) * 1e6:6.0f} us an image",
            flush=True,
        )


if __name__ == "__main__":
    pictures()
    photographs()
    layers()
