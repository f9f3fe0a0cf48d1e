"""Search and encode on a Dask cluster: here, two processes of this machine.

For a real cluster, start `dask scheduler` on one machine and `dask worker ADDRESS` on the others,
each with skpair installed, and give the scheduler's address. Nothing else changes::

    python examples/dask_cluster.py [address, such as tcp://10.0.0.1:8786]

Needs the extra: pip install '.[dask]'
"""

import sys
from time import perf_counter

import dask.array
import joblib
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skpair import PairEncoder, PairMatcher
from skpair.datasets import load_digit_pairs


def main(client):
    """Search the temperature, then name images block by block."""
    print(f"Watch it at {client.dashboard_link}")
    X, y = load_digit_pairs(imbalance=1.0, random_state=0, return_X_y=True)
    pipeline = make_pipeline(
        PairEncoder(max_epochs=10, random_state=0), PairMatcher(random_state=0)
    )
    grid = {"pairmatcher__temperature": [0.05, 0.1, 0.3]}
    search = GridSearchCV(pipeline, grid, scoring="balanced_accuracy", cv=3)
    started = perf_counter()
    # the data travel to the workers once, not with every fit
    with joblib.parallel_config(backend="dask", scatter=[X, y]):
        search.fit(X, y)
    print(f"9 fits in {perf_counter() - started:.0f} s: {search.best_params_}")

    # for more images than memory holds: blocks that are read, named and forgotten one by one
    encoder, matcher = search.best_estimator_.named_steps.values()
    blocks = dask.array.from_array(X, chunks=(100, *X.shape[1:]))
    encodings = blocks.map_blocks(
        encoder.transform,
        chunks=(blocks.chunks[0], (2 * encoder.width_,)),
        drop_axis=[2, 3],
        meta=np.empty((0, 0), np.float32),
    )
    names = encodings.map_blocks(matcher.predict, drop_axis=1, meta=np.empty(0, y.dtype))
    right = (names.compute() == y).mean()
    print(f"{encodings.numblocks[0]} blocks; right names of these training rows: {right:.3f}")


if __name__ == "__main__":
    if sys.argv[1:]:
        with Client(sys.argv[1]) as client:
            main(client)
    else:
        with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
            main(client)
