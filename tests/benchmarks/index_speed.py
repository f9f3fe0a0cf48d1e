"""Searching an index: its time against the bare matrix product, its memory, its file, LanceDB.

    python tests/benchmarks/index_speed.py [repeats]

1,000 queries in 1,000,000 embeddings of 64 columns, the top 10; both sides alternate in one run, on
two threads. Takes some three minutes; run it on a machine that does nothing else. LanceDB's part,
with 100,000 embeddings, needs the extra [lancedb].
"""

import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from speed import encodings

from skpair import PairMatcher
from skpair.known import nearest
from skpair.search import MatchIndex, top_k

M, N, D, K = 1_000_000, 1_000, 64, 10


def embeddings(n, seed):
    """Random unit vectors: the case in which no part of the gallery can be ruled out."""
    x = np.random.default_rng(seed).standard_normal((n, D), dtype=np.float32)
    x /= np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
    return x


def multiply(queries, gallery):
    """Compute the same blocks of scores as `top_k`, and nothing else."""
    gallery = torch.from_numpy(gallery)
    for part in torch.from_numpy(queries).split(nearest._QUERIES):
        columns = part.T.contiguous()
        block = torch.empty(nearest._SCORES // len(part) // 32 * 32, len(part))
        for rows in gallery.split(len(block)):
            torch.mm(rows, columns, out=block[: len(rows)])


def seconds(function, *arguments):
    """Time one call."""
    started = perf_counter()
    function(*arguments)
    return perf_counter() - started


def speed(repeats):
    """Print the times of both sides, their ratio, and how far a full sort agrees."""
    gallery, queries = embeddings(M, 0), embeddings(N, 1)
    for function, *more in ((multiply,), (top_k, K)):
        function(queries, gallery[:100_000], *more)  # warm up
    times = np.array(
        [
            (seconds(multiply, queries, gallery), seconds(top_k, queries, gallery, K))
            for _ in range(repeats)
        ]
    )
    ratios = times[:, 1] / times[:, 0]
    product, search = np.median(times, axis=0)
    print(
        f"search {search:.3f} s, matrix product {product:.3f} s (medians of {repeats}); ratio "
        f"{np.median(ratios):.2f}, from {ratios.min():.2f} to {ratios.max():.2f}"
    )
    print(f"{seconds(top_k, queries[:1], gallery, K) * 1e3:.0f} ms for one query alone")
    _, found = top_k(queries[:100], gallery, K)
    agree = [
        np.isin(np.argsort(-(gallery @ query), kind="stable")[:K], rows).mean()
        for query, rows in zip(queries, found, strict=False)
    ]
    print(f"agreement with a full sort, of 100 queries: {np.mean(agree):.4f}", flush=True)


def resident():
    """Give the memory of this process, in MiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def memory():
    """Print how much more memory a search takes than its data, in a process of its own."""
    gallery, queries = embeddings(M, 0), embeddings(N, 1)
    top_k(queries[:10], gallery[:1000], K)
    before = resident()
    top_k(queries, gallery, K)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"a search takes {peak - before:.0f} MiB at most beside its data", flush=True)


def index_of(n, store=None):
    """Fit a matcher, and index `n` images of its cases, with string ids and metadata."""
    X, y = encodings(n + 1000, columns=2 * D)
    matcher = PairMatcher(random_state=0, max_epochs=5).fit(X[:1000], y[:1000])
    new = X[1000:]
    metadata = {"station": [f"station {i % 50}" for i in range(n)], "depth": np.arange(n) % 400}
    ids = [f"specimen {i}" for i in range(n)]
    index = MatchIndex(matcher, store)
    took = seconds(index.add_images, new, ids, metadata)
    return index, matcher, new, took


def file():
    """Print how long saving, opening and the first search of a file take."""
    index, matcher, X, _ = index_of(M)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        saved = seconds(index.save, path)
        before = resident()
        started = perf_counter()
        loaded = MatchIndex.load(path, matcher)
        opened, memory = perf_counter() - started, resident() - before
        first = seconds(loaded.search_images, X[:10])
        added = seconds(loaded.add_images, X[:10], [f"new {i}" for i in range(10)], _ten(0))
        more = seconds(
            lambda: [
                loaded.add_images(X[:10], [f"{i} {j}" for j in range(10)], _ten(0))
                for i in range(1000)
            ]
        )
        size = os.path.getsize(path) / 2**20
    print(
        f"an index of {M} images, string ids, two columns: {size:.0f} MiB; saved in {saved:.2f} s, "
        f"opened in {opened:.3f} s with {memory:.0f} MiB, first search {first:.2f} s, first add "
        f"{added:.2f} s, 1000 times 10 images added in {more:.1f} s",
        flush=True,
    )


def _ten(depth):
    return {"station": ["new"] * 10, "depth": [depth] * 10}


def lance(n=100_000, n_queries=200):
    """Print recall and time of LanceDB, exact and approximate, against the exact search."""
    from skpair.search import LanceStore

    exact, matcher, X, _ = index_of(n)
    rows = np.arange(0, n, n // n_queries)
    exact_time = seconds(exact.search_images, X[rows])
    expected = exact.search_images(X[rows], k=K)
    with tempfile.TemporaryDirectory() as folder:
        index, _, _, added = index_of(n, LanceStore(folder))
        index.matcher = matcher
        print(f"{n} rows: added to LanceDB in {added:.1f} s; exact in memory {exact_time:.2f} s")
        for name in ("exact", "approximate"):
            if name == "approximate":
                print(f"LanceDB: index built in {seconds(index.store.build_index):.1f} s")
            took = seconds(index.search_images, X[rows])
            found = index.search_images(X[rows], k=K)
            recall = len(found.merge(expected, on=["query", "id"])) / len(expected)
            print(f"LanceDB, {name}: {n_queries} queries {took:.2f} s, recall@10 {recall:.4f}")
        took = seconds(lambda: index.search_images(X[rows], where="depth < 40"))
        print(
            f"LanceDB, approximate, under a condition that a tenth fulfils: {took:.2f} s",
            flush=True,
        )


def main(repeats):
    """Run every part in a process of its own."""
    parts = ["speed", "memory", "file"]
    if importlib.util.find_spec("lancedb") is not None:
        parts.append("lance")
    for part in parts:
        subprocess.run([sys.executable, __file__, part, str(repeats)], check=True)


if __name__ == "__main__":
    torch.set_num_threads(2)
    if len(sys.argv) > 1 and not sys.argv[1].isdigit():
        part = globals()[sys.argv[1]]
        part(int(sys.argv[2])) if part is speed else part()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
