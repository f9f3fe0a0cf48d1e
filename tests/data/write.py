"""Write the files that later versions must load, with what they computed: run once a format."""

from pathlib import Path

import numpy as np

from skpair import PairEncoder, PairMatcher
from skpair.storage import sealed

FOLDER = Path(__file__).parent


def write(name, matcher, X):
    matcher.save(FOLDER / f"{name}.skpair")
    np.savez_compressed(
        FOLDER / f"{name}.npz",
        X=X,
        predict=matcher.predict(X),
        predict_proba=matcher.predict_proba(X),
        transform=matcher.transform(X),
        pair_proba=matcher.pair_proba(X),
        predict_pairs=matcher.predict_pairs(X),
        neighbors=matcher.kneighbors(X, 2)[1],
        novelty=matcher.novelty_score(X),
    )


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    names = np.array(["ant", "bee", "wasp"])[y]
    few = {"max_epochs": 2, "embedding_dim": 4, "random_state": 0, "device": "cpu"}
    X = (rng.normal(size=(30, 8)) + 3 * np.eye(8)[y] + 3 * np.eye(8)[y + 4]).astype(np.float32)
    matcher = PairMatcher(hidden_dims=(3,), unknown_label="none", **few).fit(X, names)
    others = 1.01 * X  # those of fit are refused
    matcher.calibrate_probabilities(others, names)
    matcher.calibrate_threshold(others, names, per_case=True)
    write(f"features_format{sealed.FORMAT}", matcher, X)
    pictures = rng.integers(0, 100, size=(30, 2, 6, 6)).astype(np.uint8)
    pictures[np.arange(30), :, y] += 150
    flat = PairMatcher(PairEncoder("identity", "identity", device="cpu"), **few)
    write(f"pixels_format{sealed.FORMAT}", flat.fit(pictures, y), pictures)
