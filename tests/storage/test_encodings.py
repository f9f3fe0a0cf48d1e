import copy
import errno
import importlib
import os
import pickle
import queue
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from skpair import PairEncoder, PairMatcher
from skpair.storage import EncodingCache, fingerprints

#: Rows of each batch that went through a network. (A list would be part of the network.)
ROWS = queue.SimpleQueue()


def drain():
    """Count the rows that went through a network since this was last called."""
    return sum(ROWS.get() for _ in range(ROWS.qsize()))


class Counting(nn.Module):
    """Projects pixels, and notes how many rows it has seen."""

    def __init__(self, width=5, scale=1.0, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layer = nn.Linear(256, width)
        self.scale = scale

    def forward(self, x):
        ROWS.put(len(x))
        return self.layer(x.flatten(1)) * self.scale


@pytest.fixture
def X(digits):
    return digits[0]


def encode(X, folder, **parameters):
    """Encode X; give the encodings, and the number of rows that went through a network."""
    tower = Counting(**parameters)
    drain()
    encodings = PairEncoder(tower, Counting(), memory=folder).fit_transform(X)
    return encodings, drain()


def test_a_later_run_sends_no_row_through_the_towers(X, tmp_path):
    plain, _ = encode(X, None)
    first, n_first = encode(X, tmp_path)
    again, n_again = encode(X, str(tmp_path))
    few, n_few = encode(X[::-1][:20], tmp_path)
    np.testing.assert_allclose(first, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(few, first[::-1][:20])
    assert n_first >= 2 * len(X)
    assert n_again == n_few == 0


def test_only_new_rows_are_encoded(X, tmp_path):
    encode(X[:30], tmp_path)
    whole, n_whole = encode(X[:50], tmp_path)
    assert n_whole == 2 * 20
    np.testing.assert_allclose(whole, encode(X[:50], None)[0], rtol=1e-5, atol=1e-6)


def test_the_same_picture_is_encoded_once(X, tmp_path):
    twice = np.concatenate([X[:10], X[:10], X[5:15]])
    encodings, _ = encode(twice, tmp_path)
    np.testing.assert_array_equal(encodings[:10], encodings[10:20])
    assert len(EncodingCache(tmp_path)) == 2 * 15 + 1  # and the width, the same for both


@pytest.mark.parametrize("parameters", [{"width": 4}, {"scale": 2.0}, {"seed": 1}])
def test_another_network_is_not_answered(X, tmp_path, parameters):
    encode(X, tmp_path)
    changed, n_changed = encode(X, tmp_path, **parameters)
    assert n_changed >= len(X)
    np.testing.assert_allclose(changed, encode(X, None, **parameters)[0], rtol=1e-5, atol=1e-6)


def test_other_code_of_a_network_is_not_answered(X, tmp_path):
    class Twice(Counting):
        def forward(self, x):
            return 2 * super().forward(x)

    drain()
    plain = PairEncoder(Counting(), Counting(), memory=tmp_path).fit_transform(X)
    Twice.__module__, Twice.__qualname__ = Counting.__module__, Counting.__qualname__
    twice = PairEncoder(Twice(), Counting(), memory=tmp_path).fit_transform(X)
    np.testing.assert_allclose(twice[:, :5], 2 * plain[:, :5], rtol=1e-5)


NET = """
import functools
import torch
from torch import nn

SCALE = 1.0

def prepare(x):
    return x.flatten(1)[:, :4] * 1.0

class Base(nn.Module):
    power = 1.125

    @torch.no_grad()
    def last(self, x, *, shift=0.5):
        return prepare(x) * SCALE + shift * 1.25

class Net(Base):
    @functools.cached_property
    def late(self):
        return 1.75

    @property
    def factor(self):
        return 1.5

    @staticmethod
    def first(x):
        return x * 3.25

    def forward(self, x):
        return self.first(self.last(x) * self.factor * self.power) * self.late
"""


def fingerprints_of(codes, folder, monkeypatch):
    """Import a network of a user from each code, under one name: its fingerprints."""
    monkeypatch.syspath_prepend(folder)
    for number, code in enumerate(codes):
        (folder / "net_of_a_user.py").write_text(code + "\n" * number)
        sys.modules.pop("net_of_a_user", None)
        importlib.invalidate_caches()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "dont_write_bytecode", True)
            net = importlib.import_module("net_of_a_user").Net()
        yield fingerprints.fingerprint(net)


@pytest.mark.parametrize(
    "old, new",
    [
        ("return x * 3.25", "return x * 4.25"),
        ("return 1.5", "return 3.0"),
        ("return 1.75", "return 2.75"),
        ("* 1.25", "* 2.25"),  # of the class that it is derived from, under a decorator
        ("shift=0.5", "shift=1.5"),
        ("power = 1.125", "power = 2.125"),
    ],
)
def test_the_code_of_its_classes_counts(tmp_path, monkeypatch, old, new):
    assert old in NET
    codes = NET, NET.replace(old, new), NET
    first, other, again = fingerprints_of(codes, tmp_path, monkeypatch)
    assert first == again != other


@pytest.mark.parametrize("old, new", [("SCALE = 1.0", "SCALE = 2.0"), (":4] * 1.0", ":4] * 2.0")])
def test_code_elsewhere_is_not_seen(tmp_path, monkeypatch, old, new):
    assert old in NET
    first, other = fingerprints_of((NET, NET.replace(old, new)), tmp_path, monkeypatch)
    assert first == other  # EncodingCache says so


def test_a_class_that_was_typed_in_counts_by_its_code():
    digests = []
    for factor in (1, 1000, 1):
        names = {}
        exec(
            "from torch import nn\nclass M(nn.Module):\n"
            f"    def forward(self, x): return x.mean(dim=(2, 3)) * {factor}",
            names,
        )
        digests.append(fingerprints.fingerprint(names["M"]()))
    assert digests[0] == digests[2] != digests[1]


def test_a_class_that_is_changed_in_place_is_another(monkeypatch):
    digest = fingerprints.fingerprint(Counting())
    monkeypatch.setattr(Counting, "scale", 7, raising=False)
    changed = fingerprints.fingerprint(Counting())
    monkeypatch.setattr(Counting, "forward", lambda self, x: x)
    assert len({digest, changed, fingerprints.fingerprint(Counting())}) == 3


def test_a_layer_that_is_used_twice_counts_twice():
    layer = nn.Linear(4, 4)
    once, twice = nn.Sequential(layer), nn.Sequential(layer, layer)
    assert fingerprints.fingerprint(once) != fingerprints.fingerprint(twice)


def test_parametrized_networks_can_be_kept(X, tmp_path):
    digests = set()
    for bound in (False, True):
        network = Counting()
        if bound:
            nn.utils.parametrizations.weight_norm(network.layer)
        digests.add(fingerprints.fingerprint(network))
        PairEncoder(network, "identity", memory=tmp_path).fit_transform(X)
    assert len(digests) == 2


@pytest.mark.slow
def test_another_process_finds_the_same(tmp_path):
    (tmp_path / "net_of_a_user.py").write_text(NET)
    code = (
        "import net_of_a_user as n; from skpair.storage.fingerprints import fingerprint; "
        "m = fingerprint(n.Net())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code + "; print(m.hex())"],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
        )
        for seed in "12"
    ]
    digests = {process.communicate()[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, ">f4", ">i2"])
def test_any_dtype_can_be_kept(X, tmp_path, dtype):
    rows = (X / 255 if np.dtype(dtype).kind == "f" else X).astype(dtype)
    encoder = PairEncoder(frozen=True, random_state=0)
    plain = clone(encoder).fit_transform(rows)
    kept = encoder.set_params(memory=tmp_path)
    for _ in range(2):
        np.testing.assert_allclose(kept.fit_transform(rows), plain, rtol=1e-4, atol=1e-5)


def test_ink_is_found_whatever_its_number(X, tmp_path):
    drawings = X[:, 1]
    _, n = encode(X, tmp_path)
    assert n > 0
    encoder = PairEncoder(Counting(), Counting(), memory=tmp_path).fit(X)
    drain()
    encoder.encode_skeletons(drawings)
    encoder.encode_skeletons(drawings != 0)
    ones = X.copy()
    ones[:, 1] = drawings != 0
    encoder.transform(ones)
    assert drain() == 0


def test_a_file_that_changes_meanwhile_is_not_kept(files, tmp_path):
    paths, y = files
    path = str(tmp_path / "moving.png")
    Image.new("L", (16, 16), 0).save(path)

    class Changing(EncodingCache):
        def _find(self, keys):
            Image.new("L", (16, 16), 200).save(path)  # after its key was taken
            return super()._find(keys)

    X = pd.DataFrame({"image": [path], "skeleton": [paths.skeleton[0]]})
    encoder = PairEncoder(Counting(), "identity", image_size=16, memory=tmp_path / "cache").fit(X)
    encoder.memory = Changing(tmp_path / "cache")
    Image.new("L", (16, 16), 0).save(path)
    bright = encoder.encode_images([path])
    Image.new("L", (16, 16), 0).save(path)
    encoder.memory = tmp_path / "cache"
    assert not np.allclose(encoder.encode_images([path]), bright)


def test_towers_that_learned_with_the_layers_are_not_kept(X, digits, tmp_path):
    encoder = PairEncoder(Counting(), Counting(), max_epochs=1, memory=tmp_path)
    matcher = PairMatcher(encoder, training="fine_tune", max_epochs=1, random_state=0)
    matcher.fit(X, digits[1])
    n = len(EncodingCache(tmp_path))
    matcher.predict(X)
    matcher.fit(X, digits[1])
    assert len(EncodingCache(tmp_path)) == n


def test_a_cleared_cache_takes_no_space(X, tmp_path):
    encode(X, tmp_path, width=2000)
    file = tmp_path / "encodings.sqlite"
    full = file.stat().st_size
    EncodingCache(tmp_path).clear()
    assert len(EncodingCache(tmp_path)) == 0
    assert file.stat().st_size < full / 4
    file.write_bytes(b"garbage" * 1000)
    with pytest.raises(OSError, match="If its encodings.sqlite is damaged, clear it"):
        encode(X, tmp_path)
    EncodingCache(tmp_path).clear()
    assert encode(X, tmp_path)[1] > 0


def test_a_changed_picture_is_not_answered(X, tmp_path):
    before, _ = encode(X, tmp_path)
    changed = X.copy()
    changed[3, 0, 5, 5] ^= 1
    after, n_after = encode(changed, tmp_path)
    assert n_after == 1
    assert (before[3] != after[3]).any()
    np.testing.assert_array_equal(np.delete(before, 3, axis=0), np.delete(after, 3, axis=0))


def test_other_dtypes_and_sizes_are_not_answered(X, tmp_path):
    encode(X, tmp_path)
    _, n_float = encode((X / 255).astype(np.float32), tmp_path)
    assert n_float >= 2 * len(X)
    encoder = PairEncoder(frozen=True, random_state=0, memory=tmp_path)
    small = encoder.fit_transform(X)
    large = clone(encoder).set_params(image_size=32).fit_transform(X)
    assert not np.allclose(small, large)


def test_files_are_known_by_their_content(files, tmp_path):
    paths, _ = files
    paths = paths[:20].copy()
    encoder = PairEncoder(Counting(), Counting(), image_size=16, memory=tmp_path / "cache")
    before = encoder.fit_transform(paths)
    copy = str(tmp_path / "copy.png")
    Image.open(paths["image"][7]).save(copy)
    moved = paths.copy()
    moved.loc[7, "image"] = copy
    drain()
    np.testing.assert_array_equal(encoder.fit_transform(moved), before)
    assert drain() == 0
    Image.fromarray(255 - np.array(Image.open(copy))).save(copy)
    after = encoder.fit_transform(moved)
    assert drain() == 1
    assert (after[7] != before[7]).any()
    with pytest.raises(FileNotFoundError, match="Row 7: the image file"):
        os.remove(copy)
        encoder.transform(moved)


def test_towers_that_learn_are_not_kept(digits, tmp_path):
    X, y = digits
    PairEncoder(max_epochs=1, random_state=0, memory=tmp_path).fit(X, y).transform(X)
    assert not (tmp_path / "encodings.sqlite").exists()
    half = PairEncoder("cnn", Counting(), max_epochs=1, random_state=0, memory=tmp_path)
    half.fit(X, y).transform(X)
    assert len(EncodingCache(tmp_path)) == len(np.unique(X[:, 1], axis=0)) + 1


def test_fine_tuned_towers_are_not_answered_as_they_were(digits, tmp_path):
    X, y = digits
    encoder = PairEncoder(Counting(), Counting(), max_epochs=2, memory=tmp_path)
    matchers = [
        PairMatcher(e, training="fine_tune", max_epochs=2, random_state=0).fit(X, y)
        for e in (encoder, clone(encoder).set_params(memory=None))
    ]
    with_memory, without = (m.transform(X) for m in matchers)
    np.testing.assert_allclose(with_memory, without, rtol=1e-4, atol=1e-5)


def test_a_search_encodes_every_picture_once(digits, tmp_path):
    X, y = digits
    pipeline = make_pipeline(
        PairEncoder(Counting(), Counting(), memory=tmp_path), PairMatcher(max_epochs=1)
    )
    drain()
    search = GridSearchCV(pipeline, {"pairmatcher__temperature": [0.1, 0.3]}, cv=3).fit(X, y)
    distinct = sum(len(np.unique(X[:, kind], axis=0)) for kind in (0, 1))
    assert drain() <= distinct + 4  # two rows of zeros find each width
    assert pickle.loads(pickle.dumps(search)).predict(X).shape == y.shape


@pytest.mark.slow
def test_workers_share_the_work(X, tmp_path):
    log = tmp_path / "log"

    def work(me, other):
        encoder = PairEncoder(Logging(log), Counting(), memory=tmp_path / "cache").fit(X)
        (tmp_path / me).touch()
        while not (tmp_path / other).exists():  # both look before either has encoded
            time.sleep(0.01)
        return encoder.transform(X)

    first, second = Parallel(2)(delayed(work)(*names) for names in ("ab", "ba"))
    np.testing.assert_array_equal(first, second)
    n_rows = sum(map(int, log.read_text().split()))
    assert n_rows <= len(np.unique(X[:, 0], axis=0)) + 4


class Logging(Counting):
    """Writes the number of rows of each batch to a file, that processes share."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, x):
        with open(self.path, "a") as log:
            log.write(f"{len(x)}\n")
        time.sleep(0.5)  # so that the other one looks meanwhile
        return super().forward(x)


KILLED = """
    import os, signal, sys
    import numpy as np
    from skpair.rows import halves
    from skpair.storage import encodings

    class Rows:
        def __init__(self, rows):
            self.rows = rows

        def contents(self):
            return [b"%d" % i for i in self.rows]

        def take(self, rows):
            return Rows(self.rows[rows])

        def afresh(self):
            return self

    done = []

    def encode(part):
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(part)
        return np.repeat(part.rows[:, None], 3, axis=1).astype(np.float32)

    encodings._ROWS_AT_ONCE = 10
    encodings.EncodingCache(sys.argv[1]).encode(b"key", Rows(np.arange(40)), encode)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_what_it_has_finished(tmp_path):
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), tmp_path])
    assert killed.returncode == -signal.SIGKILL
    cache, asked = EncodingCache(tmp_path), []

    def encode(part):
        asked.extend(part.rows.tolist())
        return np.repeat(part.rows[:, None], 3, axis=1).astype(np.float32)

    encodings = cache.encode(b"key", Rows(np.arange(40)), encode)
    assert asked == list(range(20, 40))
    np.testing.assert_array_equal(encodings, np.repeat(np.arange(40.0)[:, None], 3, axis=1))


class Rows:
    """Rows whose content is their number."""

    def __init__(self, rows):
        self.rows = rows

    def contents(self):
        return [b"%d" % i for i in self.rows]

    def take(self, rows):
        return Rows(self.rows[rows])

    def afresh(self):
        return self


def test_a_damaged_entry_is_computed_again(X, tmp_path):
    whole, _ = encode(X, tmp_path)
    with sqlite3.connect(tmp_path / "encodings.sqlite") as database:
        value = database.execute("SELECT max(value) FROM encodings WHERE length(value) = 20")
        value = value.fetchone()[0]
        flipped = bytes([value[0] ^ 1]) + value[1:]
        database.execute("UPDATE encodings SET value = ? WHERE value = ?", (flipped, value))
    database.close()
    again, n_again = encode(X, tmp_path)
    np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-6)
    assert n_again == 1


def test_a_foreign_file_is_named(X, tmp_path):
    (tmp_path / "encodings.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(OSError, match=r"cannot be used.*encodings\.sqlite is damaged, clear it"):
        encode(X, tmp_path)


def test_a_full_cache_lets_the_oldest_go(X, tmp_path):
    cache = EncodingCache(tmp_path, max_bytes=20 * 60)  # 5 columns of 4 bytes
    with pytest.warns(UserWarning, match="is full: its .* oldest encodings were dropped"):
        whole, _ = encode(X, cache)
    np.testing.assert_allclose(whole, encode(X, None)[0], rtol=1e-5, atol=1e-6)
    assert len(cache) <= 60
    assert encode(X[-20:], EncodingCache(tmp_path))[1] <= 20 + 4  # the newest are skeletons


def test_random_towers_are_not_kept_in_vain(X, tmp_path):
    encoder = PairEncoder("cnn", "identity", frozen=True, memory=tmp_path)
    with pytest.warns(UserWarning, match="memory will not find these encodings again"):
        encoder.fit(X)
    encoder.set_params(random_state=0).fit(X)


def test_clear(X, tmp_path):
    cache = EncodingCache(tmp_path)
    encode(X, cache)
    cache.clear()
    assert len(cache) == 0
    assert encode(X, cache)[1] >= 2 * len(X)


def test_joblibs_memory_keeps_and_clears_encodings(X, tmp_path):
    store = joblib.Memory(tmp_path, verbose=0)
    encode(X, store)
    assert encode(X, store)[1] == 0
    store.clear(warn=False)
    assert encode(X, store)[1] >= 2 * len(X)
    assert encode(X, joblib.Memory(None))[1] >= 2 * len(X)  # this one keeps nothing


def test_bad_memory(X, tmp_path):
    with pytest.raises(TypeError, match="memory must be None, a folder.*got 3"):
        encode(X, 3)
    with pytest.raises(ValueError, match="max_bytes must be > 0"):
        EncodingCache(tmp_path, max_bytes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cache in .*file' cannot be used.*must be a folder"):
        encode(X, tmp_path / "file")
    with pytest.raises(ValueError, match="must not be an empty string"):
        encode(X, "")
    with pytest.raises(TypeError, match="folder must be a str or a path, got 5"):
        EncodingCache(5)


@pytest.mark.parametrize(
    "one, other",
    [
        ([[1], 2, 3], [[1, 2], 3]),
        ({"a": (1, None)}, {"a": (1, True)}),
        (np.zeros(3), np.ones(3)),
        (np.float32(1), np.float32(2)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
        (torch.zeros(3), torch.ones(3)),
        (torch.float16, torch.float32),
        (1, 1.0),
        (torch.relu, torch.sigmoid),
        (len, max),
        (np.add, np.subtract),
        (lambda x: x, lambda x: x + 1),
        (dict, list),
    ],
)
def test_plain_attributes_count(one, other):
    digests = []
    for attribute in (one, other, copy.deepcopy(one)):
        network = Counting()
        network.attribute = attribute
        digests.append(fingerprints.fingerprint(network))
    assert digests[0] == digests[2] != digests[1]


def test_other_attributes_do_not_count():
    digests = set()
    for attribute in (threading.Lock(), queue.SimpleQueue(), {1, 2}, [len]):
        network = Counting()
        network.attribute = attribute
        network.others = {"self": [network], "method": network.forward}
        digests.add(fingerprints.fingerprint(network))
    assert len(digests) == 1


# ---- what happens to the store -------------------------------------------------------------------


def entries(n, size=100):
    return {os.urandom(20): os.urandom(size) for _ in range(n)}


CLEARING = """
    import sys, time
    from skpair.storage import EncodingCache

    print("ready", flush=True)
    while True:
        EncodingCache(sys.argv[1]).clear()
        time.sleep(0.01)  # or nobody else gets hold of it
"""


@pytest.mark.slow
def test_a_running_encode_survives_a_clear(tmp_path):
    EncodingCache(tmp_path)._store(entries(1))
    store = tmp_path / "encodings.sqlite"
    file = store.stat().st_ino
    command = [sys.executable, "-c", textwrap.dedent(CLEARING), tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"ready\n"
            cleared, cache, end = 0, EncodingCache(tmp_path), time.monotonic() + 60
            while not cleared and time.monotonic() < end:  # on a busy machine, it takes a while
                cache._store(entries(20))
                cleared += len(cache) < 20
                rows = Rows(np.arange(30))
                found = cache.encode(
                    b"key", rows, lambda part: np.float32(part.rows)[:, None].repeat(3, axis=1)
                )
                np.testing.assert_array_equal(found[:, 0], rows.rows)
            assert cleared
        finally:
            other.kill()
    assert store.stat().st_ino == file  # emptied, not replaced


def test_a_clear_needs_little_room(tmp_path, monkeypatch):
    cache, largest = EncodingCache(tmp_path), []
    cache._store(entries(1000, 20_000))
    connect = sqlite3.connect

    def watched(*args, **how):
        database = connect(*args, **how)
        journal = tmp_path / "encodings.sqlite-journal"

        def look():
            largest.append(journal.stat().st_size if journal.exists() else 0)

        database.set_progress_handler(look, 1)
        return database

    monkeypatch.setattr(sqlite3, "connect", watched)
    cache.clear()
    assert 0 < max(largest) < 1_000_000  # of 20,000,000
    assert len(cache) == 0


def test_clearing_nothing_makes_nothing(tmp_path):
    EncodingCache(tmp_path / "none").clear()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_full(tmp_path, monkeypatch):
    cache = EncodingCache(tmp_path)
    cache._store(entries(5))
    connect = sqlite3.connect

    def full(*args, **how):
        database = connect(*args, **how)
        database.execute("PRAGMA max_page_count = 8")
        return database

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(
        OSError, match=r"database or disk is full.*No space left.*make room"
    ) as error:
        cache._store(entries(100, 20_000))
    assert error.value.errno == errno.ENOSPC
    assert "clear it" not in str(error.value)
    assert len(cache) == 5


LIMITED = """
    import resource, sys
    from skpair.storage import EncodingCache

    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    cache = EncodingCache(sys.argv[1])
    cache._store({b"%d" % i: bytes(100) for i in range(10)})
    try:
        cache._store({b"%d" % i: bytes(20_000) for i in range(50)})
    except OSError as error:
        print(error)
    print(len(cache))
    cache.clear()
    print(len(cache))
"""


@pytest.mark.slow
def test_what_a_disk_refuses_is_named(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), tmp_path]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert "over a quota, not local, or failing (SQLITE_IOERR_WRITE)" in said[0]
    assert said[1:] == ["10", "0"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_cannot_be_made_on_a_full_disk(tmp_path, monkeypatch, number):
    def full(*args, **how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="make room, or give a folder on another disk") as error:
        len(EncodingCache(tmp_path / "new"))
    assert error.value.errno == number


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_a_store_that_is_no_file(tmp_path, make):
    make(tmp_path / "encodings.sqlite")
    with pytest.raises(OSError, match="is not a file|symbolic links"):
        len(EncodingCache(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(OSError, match="must be a folder, but is a file or a dead link"):
        len(EncodingCache(tmp_path / "link"))
