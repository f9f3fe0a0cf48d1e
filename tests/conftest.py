import os

import numpy as np
import pytest

# scipy reads it when it is first imported: with it, scikit-learn skips none of its checks
os.environ["SCIPY_ARRAY_API"] = "1"


def pytest_configure(config):
    """Let workers that run side by side compute on one thread each."""
    if hasattr(config, "workerinput"):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """90 pairs of 16 x 16 pixels, of three cases of 50, 30 and 10 rows."""
    from skpair.datasets import load_digit_pairs

    X, y = load_digit_pairs(image_size=16, random_state=0, return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == c)[:n] for c, n in ((0, 50), (1, 30), (4, 10))])
    rows = np.random.default_rng(0).permutation(rows)
    return X[rows], y[rows]


@pytest.fixture(scope="session")
def features():
    """120 feature rows of 2 x 10 columns, of four unequal cases that are easy to tell apart."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], [60, 30, 20, 10])
    centres = rng.normal(size=(4, 20)) * 2
    X = (centres[y] + rng.normal(size=(len(y), 20))).astype(np.float32)
    order = rng.permutation(len(y))
    return X[order], y[order]


@pytest.fixture(scope="session")
def files(digits, tmp_path_factory):
    """The digits as a data frame of PNG files, with their cases."""
    import pandas as pd
    from PIL import Image

    from skpair import split_pairs

    X, y = digits
    folder = tmp_path_factory.mktemp("files")
    halves = zip(("image", "skeleton"), split_pairs(X), (1, 255), strict=True)
    paths = {}
    for kind, pictures, ink in halves:
        paths[kind] = [str(folder / f"{kind}_{i}.png") for i in range(len(X))]
        for path, picture in zip(paths[kind], pictures, strict=True):
            Image.fromarray(picture * np.uint8(ink)).save(path)
    return pd.DataFrame(paths), y


@pytest.fixture
def layouts(digits, features, files):
    """X and y of each layout, by its name."""
    return {"pixels": digits, "features": features, "files": files}
