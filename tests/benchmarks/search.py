"""A grid search over frozen encodings that are kept: its time, and its peak memory.

    python tests/benchmarks/search.py [repeats]

12 candidates, 5 folds, 1969 drawn pairs of 96 pixels, resnet18 for both kinds, against encoding
the data once and the same search on the encodings. Takes some ten minutes; run it on a machine that
does nothing else. Every part runs in a process of its own.
"""

import resource
import subprocess
import sys
import tempfile
import time

from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skpair import PairEncoder, PairMatcher
from skpair.datasets import make_copepods
from skpair.storage import EncodingCache

GRID = {"temperature": [0.05, 0.1, 0.2], "dropout": [0.1, 0.3], "embedding_dim": [16, 64]}


def data():
    """1969 drawn pairs of 96 pixels."""
    return make_copepods(image_size=96, random_state=0, return_X_y=True)


def encoder(memory=None):
    """Frozen networks: random weights cost what pretrained ones do."""
    return PairEncoder("resnet18", "resnet18", frozen=True, random_state=0, memory=memory)


def with_memory(X, y, folder, n_jobs):
    """Search a pipeline that begins with the encoder."""
    pipeline = make_pipeline(encoder(folder), PairMatcher(random_state=0))
    grid = {f"pairmatcher__{name}": values for name, values in GRID.items()}
    GridSearchCV(pipeline, grid, cv=5, refit=False, n_jobs=int(n_jobs)).fit(X, y)


def by_hand(X, y, n_jobs):
    """Encode once, search on the encodings."""
    encodings = encoder().fit_transform(X)
    matcher = PairMatcher(random_state=0)
    GridSearchCV(matcher, GRID, cv=5, refit=False, n_jobs=int(n_jobs)).fit(encodings, y)


def encode_once(X, y):
    """Encode all rows."""
    encoder().fit_transform(X)


def one_fit(X, y):
    """Fit the pipeline once."""
    make_pipeline(encoder(), PairMatcher(random_state=0)).fit(X, y)


def run(*arguments):
    """Run a part in a process of its own: seconds, and peak memory in MiB."""
    command = [sys.executable, __file__, *map(str, arguments)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return map(float, out.split())


def part(name, *arguments):
    """Do a part, and print what it took; the data are drawn before the clock starts."""
    X, y = data()
    started = time.perf_counter()
    globals()[name](X, y, *arguments)
    took = time.perf_counter() - started
    get_reusable_executor().shutdown(wait=True)  # the memory of workers is known at their end
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(took, max(resource.getrusage(who).ru_maxrss for who in processes) / 1024)


def main(repeats):
    """Print times, ratios and peaks."""
    encode, _ = run("encode_once")
    _, fit_peak = run("one_fit")
    for _ in range(repeats):
        times = {}
        for n_jobs in (1, 2):
            hand, _ = run("by_hand", n_jobs)
            with tempfile.TemporaryDirectory() as folder:
                times[n_jobs], peak = run("with_memory", folder, n_jobs)
                stored = len(EncodingCache(folder))
            ours = times[n_jobs]
            print(
                f"n_jobs={n_jobs}: search with memory {ours:.0f} s, encode once + 60 fits "
                f"{hand:.0f} s, ratio {ours / hand:.2f} (bar 1.3); without memory, 60 encodings of "
                f"{encode:.0f} s would make it {(hand + 59 * encode) / ours:.1f} times as long; "
                f"{stored} entries; peak {peak:.0f} MiB, of a fit {fit_peak:.0f} MiB",
                flush=True,
            )
        print(f"n_jobs=2 : n_jobs=1, with memory: {times[2] / times[1]:.2f} (bar 1)", flush=True)


if __name__ == "__main__":
    if not sys.argv[1:] or sys.argv[1].isdigit():
        main(int(*sys.argv[1:2] or [1]))
    else:
        part(*sys.argv[1:])
