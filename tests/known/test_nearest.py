import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

from skpair.known import nearest
from skpair.search import top_k

RNG = np.random.default_rng(0)


def sorted_search(queries, gallery, k):
    """The same by a full sort, in float64; of equal scores the lower row first."""
    scores = queries.astype(float) @ gallery.astype(float).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def whole_numbers(n, d, high=3):
    """Embeddings whose products are exact, with many ties."""
    return RNG.integers(-high, high + 1, size=(n, d)).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 128 rows and 8 queries: what takes many blocks is small."""
    monkeypatch.setattr(nearest, "_SCORES", 1024)
    monkeypatch.setattr(nearest, "_QUERIES", 8)
    monkeypatch.setattr(nearest, "_RESULTS", 512)
    monkeypatch.setattr(nearest, "_NUMBERS", 200)


@pytest.mark.parametrize("k", [1, 5, 33, 200, 1000, 5000])
@pytest.mark.parametrize("n", [1, 7, 20])
def test_equals_a_full_sort_with_ties(small_blocks, n, k):
    queries, gallery = whole_numbers(n, 4), whole_numbers(1000, 4)
    scores, rows = top_k(queries, gallery, k)
    expected, order = sorted_search(queries, gallery, k)
    assert scores.dtype == np.float32 and rows.dtype == np.int64
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(rows, order)


@pytest.mark.parametrize("k", [1, 10, 60, 300])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_sorted_gallery(small_blocks, direction, k):
    queries, gallery = whole_numbers(5, 4), whole_numbers(3000, 4, high=50)
    gallery = gallery[np.argsort(direction * gallery @ queries[0], kind="stable")]
    np.testing.assert_array_equal(
        top_k(queries, gallery, k)[1], sorted_search(queries, gallery, k)[1]
    )


@pytest.mark.slow
def test_real_numbers_in_blocks_of_the_real_size():
    queries = RNG.normal(size=(600, 16)).astype(np.float32)
    gallery = RNG.normal(size=(20_000, 16)).astype(np.float32)
    scores, rows = top_k(queries, gallery, 10)
    expected, order = sorted_search(queries, gallery, 10)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert (rows == order).mean() > 0.999


def test_negative_scores_of_a_last_chunk_that_is_not_full():
    gallery = -np.ones((33, 2), np.float32)
    scores, rows = top_k(np.ones((1, 2)), gallery, 33)
    assert (scores == -2).all()
    assert rows.tolist() == [list(range(33))]


@pytest.mark.parametrize(
    ("n", "m", "shape"), [(0, 5, (0, 3)), (2, 0, (2, 0)), (2, 2, (2, 2)), (0, 0, (0, 0))]
)
def test_few_rows_or_none(n, m, shape):
    scores, rows = top_k(whole_numbers(n, 4), whole_numbers(m, 4), 3)
    assert scores.shape == rows.shape == shape


def test_a_gallery_on_disk_is_read_in_blocks(tmp_path, small_blocks):
    gallery = whole_numbers(2000, 4)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    queries = whole_numbers(3, 4)
    expected = top_k(queries, gallery, 5)
    for other in (mapped, np.asfortranarray(gallery), gallery.astype(float), gallery.tolist()):
        for found, wanted in zip(top_k(queries, other, 5), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)

    class Sliced:
        shape = gallery.shape
        longest = 0

        def __getitem__(self, rows):
            self.longest = max(self.longest, rows.stop - rows.start)
            return gallery[rows]

    sliced = Sliced()
    np.testing.assert_array_equal(top_k(queries, sliced, 5)[1], expected[1])
    assert 0 < sliced.longest <= 50


MEMORY = """
import numpy as np
from skpair.search import top_k

def memory(name):  # in MiB; getrusage would tell the peak of the process that started this one
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024

rng = np.random.default_rng(0)
queries = rng.standard_normal((420, 16), dtype=np.float32)
gallery = rng.standard_normal((1_200_000, 16), dtype=np.float32)
top_k(queries[:2], gallery[:1000], 5)
before = memory("VmRSS")
for n, m, k in [(420, 300_000, 10), (420, 60_000, 5_000), (2, 1_200_000, 1_000_000)]:
    results = top_k(queries[:n], gallery[:m], k)
    own = sum(x.nbytes for x in results) / 2**20
    print(memory("VmHWM") - before - own)
    del results
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it so")
def test_memory_is_bounded():
    """In a process of its own, and as the system sees it: torch's memory is not Python's."""
    command = [sys.executable, "-c", MEMORY]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peaks = [float(line) for line in told.split()]
    assert len(peaks) == 3 and max(peaks) < 256  # MiB


def test_a_copy_of_the_gallery_would_be_seen():
    gallery = RNG.normal(size=(300_000, 8))  # float64, 18 MiB
    tracemalloc.start()
    try:
        top_k(np.ones((1, 8)), gallery, 10)
        assert tracemalloc.get_traced_memory()[1] < 18 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("k", [3, 40, 400])
@pytest.mark.parametrize("direction", [1, -1])
def test_zeros_of_both_signs_are_equal_and_infinity_is_a_number(small_blocks, k, direction):
    gallery = np.array([[0.0], [-0.0], [1.0], [-np.inf], [-2.0], [np.inf]], np.float32) * direction
    gallery = np.repeat(gallery, 70, axis=0)
    scores, rows = top_k([[1.0], [2.0]], gallery, k)
    expected, order = sorted_search(np.array([[1.0], [2.0]]), gallery, k)
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(rows, order)


@pytest.mark.parametrize("where", ["queries", "gallery"])
def test_what_is_not_a_number_is_refused(where):
    queries, gallery = whole_numbers(3, 4), whole_numbers(100, 4)
    {"queries": queries, "gallery": gallery}[where][2, 1] = np.nan
    with pytest.raises(ValueError, match="not a number"):
        top_k(queries, gallery, 2)


@pytest.mark.parametrize(
    ("queries", "gallery"), [((3, 4), (5, 3)), ((4,), (5, 4)), ((3, 4), (5, 4, 1))]
)
def test_odd_shapes_are_refused(queries, gallery):
    with pytest.raises(ValueError, match=r"of the shapes \(n, d\) and \(m, d\)"):
        top_k(np.ones(queries), np.ones(gallery), 1)


def test_odd_k_is_refused():
    with pytest.raises(ValueError, match="k must be >= 1"):
        top_k(np.ones((1, 2)), np.ones((3, 2)), 0)
    with pytest.raises(TypeError, match="k must be an integer"):
        top_k(np.ones((1, 2)), np.ones((3, 2)), 1.5)


def test_threads_do_not_disturb_one_another():
    queries, gallery = whole_numbers(50, 8), whole_numbers(20_000, 8)
    expected = top_k(queries, gallery, 5)[1]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(top_k(queries, gallery, 5)[1]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for rows in found:
        np.testing.assert_array_equal(rows, expected)
