"""More than one machine, on Dask; here, its workers are processes of this one."""

import os
import signal
import threading
import time

import dask.array
import dask.dataframe
import joblib
import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skpair import PairEncoder, PairMatcher

pytestmark = [
    pytest.mark.filterwarnings("ignore:Port 8787 is already in use"),
    pytest.mark.filterwarnings("ignore:Sending large graph"),
]


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def search(X, y, max_epochs=2):
    pipeline = make_pipeline(
        PairEncoder(max_epochs=1, random_state=0),
        PairMatcher(max_epochs=max_epochs, random_state=0),
    )
    grid = {"pairmatcher__temperature": [0.05, 0.1, 0.3]}
    return GridSearchCV(pipeline, grid, cv=3).fit(X, y)


@pytest.mark.slow
def test_a_search_on_a_cluster_is_the_local_one(client, digits):
    X, y = digits
    local = search(X, y)
    with joblib.parallel_config(backend="dask", scatter=[X, y]):
        remote = search(X, y)
    scores = "mean_test_score"
    np.testing.assert_array_equal(remote.cv_results_[scores], local.cv_results_[scores])
    np.testing.assert_array_equal(remote.transform(X), local.transform(X))


@pytest.mark.slow
def test_a_search_survives_a_worker(client, digits):
    X, y = digits
    local = search(X, y, max_epochs=20)
    killed = []

    def kill_one(client):
        """Kill a worker that is at work."""
        pids, deadline = client.run(os.getpid), time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            for worker, tasks in client.processing().items():
                if tasks and not killed:
                    os.kill(pids[worker], signal.SIGKILL)
                    killed.append(pids[worker])
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one, args=(client,))
    with joblib.parallel_config(backend="dask", scatter=[X, y]):
        killer.start()
        remote = search(X, y, max_epochs=20)
    killer.join()
    assert killed
    assert killed[0] not in client.run(os.getpid).values()
    scores = "mean_test_score"
    np.testing.assert_array_equal(remote.cv_results_[scores], local.cv_results_[scores])


@pytest.mark.slow
def test_blocks_are_encoded_and_named_lazily(client, digits):
    X, y = digits
    matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=1, random_state=0).fit(X, y)
    encoder = matcher.encoder_
    blocks = dask.array.from_array(X, chunks=(40, *X.shape[1:]))
    encodings = blocks.map_blocks(
        encoder.transform,
        chunks=(blocks.chunks[0], (2 * encoder.width_,)),
        drop_axis=[2, 3],
        meta=np.empty((0, 0), np.float32),
    )
    names = blocks.map_blocks(
        matcher.predict, drop_axis=[1, 2, 3], meta=np.empty(0, matcher.classes_.dtype)
    )
    assert encodings.shape == (len(X), 2 * encoder.width_)
    np.testing.assert_allclose(encodings.compute(), encoder.transform(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(names.compute(), matcher.predict(X))


@pytest.mark.slow
def test_partitions_of_paths_are_encoded_and_named(client, files):
    paths, y = files
    encoder = PairEncoder(max_epochs=1, image_size=16)
    matcher = PairMatcher(encoder, max_epochs=1, random_state=0).fit(paths, y)
    parts = dask.dataframe.from_pandas(paths, npartitions=3)

    def named(part):
        return pd.Series(matcher.predict(part), index=part.index)

    names = parts.map_partitions(named, meta=pd.Series(dtype=y.dtype))
    np.testing.assert_array_equal(names.compute(), matcher.predict(paths))
