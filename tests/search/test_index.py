import copy
import json
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skpair import PairEncoder, PairMatcher
from skpair.search import MatchIndex, index_file
from skpair.search import index as index_module
from skpair.search.stores import MemoryStore

COLUMNS = ["query", "rank", "id", "score", "case"]


@pytest.fixture(params=["memory", "loaded", "lance"])
def index(request, features, matcher, tmp_path):
    """120 images with metadata, and 20 skeletons with names, in each kind of store."""
    X, y = features
    store = None
    if request.param == "lance":
        pytest.importorskip("lancedb")
        from skpair.search import LanceStore

        store = LanceStore(tmp_path / "lance")
    index = MatchIndex(matcher, store)
    metadata = {"depth": np.arange(120) / 2, "station": [f"S{i % 3}" for i in range(120)]}
    index.add_images(X[:50], metadata={k: v[:50] for k, v in metadata.items()})
    index.add_images(X[50:], metadata={k: v[50:] for k, v in metadata.items()})
    index.add_skeletons(X[:20], ids=[f"skéleton '{i}'" for i in range(20)])
    if request.param == "loaded":
        index.save(tmp_path / "index")
        index = MatchIndex.load(tmp_path / "index", matcher)
    return index


@pytest.mark.slow
def test_images_by_skeletons(index, features, matcher):
    X, _ = features
    found = index.search_images(X[:7], k=4)
    assert found.columns.tolist() == [*COLUMNS, "depth", "station"]
    assert found["query"].tolist() == np.repeat(np.arange(7), 4).tolist()
    assert found["rank"].tolist() == [1, 2, 3, 4] * 7
    similarity = matcher.similarity_matrix(X, X[:7])  # (images, skeletons)
    best = -np.sort(-similarity, axis=0)[:4].T.ravel()
    np.testing.assert_allclose(found["score"], best, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found["score"], similarity[found["id"], found["query"]], rtol=1e-5, atol=1e-6
    )
    assert found["score"].dtype == np.float32 and found["id"].dtype == np.int64
    assert found["case"].tolist() == matcher.predict(X[found["id"]]).tolist()
    np.testing.assert_array_equal(found["depth"], found["id"] / 2)
    assert found["station"].tolist() == [f"S{i % 3}" for i in found["id"]]


@pytest.mark.slow
def test_skeletons_by_images(index, features, matcher):
    X, y = features
    found = index.search_skeletons(X[5:8], k=100)
    assert found.columns.tolist() == COLUMNS
    assert len(found) == 3 * 20  # as many as there are
    row = found["id"].str.extract(r"skéleton '(\d+)'")[0].astype(int)
    assert sorted(row[:20]) == list(range(20))
    similarity = matcher.similarity_matrix(X[5:8], X[:20])
    np.testing.assert_allclose(
        found["score"], similarity[found["query"], row], rtol=1e-5, atol=1e-6
    )
    assert (found.groupby("query")["score"].diff().dropna() <= 0).all()
    # layers that learned for a moment name most skeletons rightly
    assert (found["case"].to_numpy() == y[row]).mean() > 0.8


def test_adding_and_removing(index, features):
    X, _ = features
    assert len(index) == 140
    assert repr(index) == "MatchIndex(120 images, 20 skeletons)"
    best = index.search_images(X[:1], k=1)["id"][0]
    assert index.remove([best, "skéleton '3'"]) is index
    assert repr(index) == "MatchIndex(119 images, 19 skeletons)"
    assert best not in set(index.search_images(X[:1], k=200)["id"])
    metadata = pd.DataFrame({"station": ["T"], "depth": [7]}, index=["any"])
    index.add_images(X[[best]], ids=[best], metadata=metadata)
    found = index.search_images(X[:1], k=1)
    assert found["id"][0] == best
    assert found.loc[0, ["depth", "station"]].tolist() == [7.0, "T"]
    index.add_images(X[:1], metadata=metadata)
    assert set(index.search_images(X[:1], k=200)["id"]) == set(range(121))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": [5, 300, 7, 300]}, "given more than once: 300"),
        ({"ids": [500, 7, 501, 5]}, "ids of images are in the index already: "),
        ({"ids": ["a", "b", "c", "d"]}, "ids of the images: int64 before, but now str"),
        ({"ids": [1.5, 2, 3, 4]}, "int or str, got 1.5"),
        ({"ids": [900, "b", 901, 902]}, "got both: 900, 'b'"),
        ({"ids": [True, 2, 3, 4]}, "int or str, got True"),
        ({"ids": [500]}, "ids has 1 values, but there are 4 images"),
        ({"ids": [2**70, 1, 2, 3]}, "fit into 64 bits"),
        ({"ids": ["a", "\udc80", "b", "c"]}, r"ids must be text that UTF-8 can hold, .*udc80"),
        ({"ids": [[500, 501, 502, 503]]}, r"shape \(n,\)"),
        ({"metadata": None}, r"columns \['depth', 'station'\], but those of the new ones are \[\]"),
        ({"metadata": {"depth": [1.0], "station": ["a"]}}, "'depth' has 1 values, .* 4 images"),
        (
            {"metadata": {"depth": list("abcd"), "station": list("abcd")}},
            "float64 before.* now str",
        ),
        ({"metadata": {"depth": [[1]] * 4, "station": list("abcd")}}, "'depth' is of the type"),
        ({"metadata": {"score": [1.0] * 4}}, "by none of"),
        ({"metadata": {3: [1.0] * 4}}, "different strings"),
        ({"metadata": {"a\ud800": [1.0] * 4}}, r"names of metadata columns must be text.*ud800"),
        (
            {"metadata": {"depth": [1.0] * 4, "station": ["a", "b", "\ud800", None]}},
            r"column 'station' must be text that UTF-8 can hold, got '\\ud800'",
        ),
    ],
)
def test_a_refused_add_changes_nothing(index, features, arguments, message):
    X, _ = features
    before = index.search_images(X[:3], k=130)
    arguments = {"metadata": {"depth": [1.0] * 4, "station": list("abcd")}} | arguments
    with pytest.raises(ValueError, match=message):
        index.add_images(X[:4], **arguments)
    assert len(index) == 140
    pd.testing.assert_frame_equal(index.search_images(X[:3], k=130), before)


def test_no_integers_are_left(index, features):
    X, _ = features
    metadata = {"depth": [1.0] * 2, "station": ["a", "b"]}
    index.add_images(X[:2], ids=[2**63 - 2, -(2**63)], metadata=metadata)
    with pytest.raises(ValueError, match="highest id of the images is 9223372036854775806: no 2 "):
        index.add_images(X[:2], metadata=metadata)
    index.add_images(X[:1], metadata={"depth": [1.0], "station": ["a"]})
    with pytest.raises(ValueError, match="highest id of the images is 9223372036854775807: no 1 "):
        index.add_images(X[:1], metadata={"depth": [1.0], "station": ["a"]})
    found = index.search_images(X[:1], k=200)["id"]
    assert found.dtype == np.int64 and found.max() == 2**63 - 1


@pytest.mark.parametrize("id_", [-(2**63), 2**63 - 1, -1, 0])
def test_extreme_integers_are_known_and_removed(index, features, id_):
    X, _ = features
    metadata = {"depth": [1.0], "station": ["a"]}
    index.remove(range(120)).add_images(X[:1], ids=[id_], metadata=metadata)
    with pytest.raises(ValueError, match=f"in the index already: {id_}"):
        index.add_images(X[:1], ids=[id_], metadata=metadata)
    assert index.search_images(X[:1])["id"].tolist() == [id_]
    assert repr(index.remove(id_)) == "MatchIndex(0 images, 20 skeletons)"


@pytest.mark.parametrize("id_", [2**63, -(2**63) - 1, 2**70, "\ud800"])
def test_ids_that_cannot_be_there_are_not(index, id_):
    for some in (id_, [id_]):
        with pytest.raises(KeyError, match="not in the index"):
            index.remove(some)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["a\0", "a\0b", "\0", "\U0001f990", "'; --", ""])
def test_any_text_is_an_id_and_a_value(index, features, text):
    X, _ = features
    index.remove(range(120)).add_images(X[:2], ids=[text, "a"], metadata={"m": [text, "a"]})
    found = index.search_images(X[:1], k=3)
    assert (
        sorted(found["id"]) == sorted([text, "a"]) and found["m"].tolist() == found["id"].tolist()
    )
    assert index.remove(text).search_images(X[:1])["id"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ("M8[ns]", np.array(["2020-01-01", "3000-01-01"], "M8[s]"), "cannot hold 3000-01-01T00"),
        ("m8[ns]", np.array([1, 2**40], "m8[s]"), "cannot hold 1099511627776 seconds"),
        ("f8", [2**53, 2**53 + 1], "float64 before, which cannot hold 9007199254740993"),
        ("m8[s]", [1, 2], r"timedelta64\[s\] before, but now int64"),
        ("m8[s]", [True, False], r"timedelta64\[s\] before, but now bool"),
    ],
)
def test_no_value_turns_into_another_one(features, matcher, first, then, message):
    X, _ = features
    index = MatchIndex(matcher).add_images(X[:2], metadata={"m": np.array([1, 2], first)})
    with pytest.raises(ValueError, match=f"column 'm' of the images: .*{message}"):
        index.add_images(X[:2], metadata={"m": then})
    assert repr(index) == "MatchIndex(2 images, 0 skeletons)"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("M8[ns]", np.array(["NaT", "2021-05-05"], "M8[s]")),
        ("f8", np.array([np.nan, 0.1], "f4")),
        ("f8", [2**53, -(2**53)]),
        ("i8", [True, False]),
    ],
)
def test_values_of_a_narrower_type_stay_what_they_are(features, matcher, first, then):
    X, _ = features
    index = MatchIndex(matcher).add_images(X[:2], metadata={"m": np.array([1, 2], first)})
    found = index.add_images(X[:2], metadata={"m": then}).search_images(X[:1])
    values = found.set_index("id")["m"].loc[[2, 3]]
    assert values.dtype == np.dtype(first)
    assert [None if pd.isna(value) else value for value in values] == [
        None if pd.isna(value) else value for value in then
    ]


def test_embeddings_that_are_not_finite_are_refused(index, features, monkeypatch):
    X, _ = features
    broken = np.ones((3, 64), np.float32)
    broken[1, 5] = np.nan
    monkeypatch.setattr(index.matcher, "embed_skeletons", lambda X: broken, raising=False)
    with pytest.raises(ValueError, match="not finite: rows 1"):
        index.add_skeletons(X[:3], ids=list("abc"))
    assert len(index) == 140


def test_ids_that_cannot_be_removed_are_named(index):
    with pytest.raises(KeyError, match="not in the index: 777"):
        index.remove([1, 777])
    with pytest.raises(KeyError, match="not in the skeletons of the index: 1"):
        index.remove(1, kind="skeletons")
    with pytest.raises(KeyError, match="'nobody'"):
        index.remove("nobody")
    with pytest.raises(ValueError, match="kind='birds' is unknown"):
        index.remove(1, kind="birds")
    assert len(index.remove([])) == 140


def test_ids_of_both_kinds_are_ambiguous(features, matcher):
    X, _ = features
    index = MatchIndex(matcher).add_images(X[:5]).add_skeletons(X[:3])
    with pytest.raises(ValueError, match="Both an image and a skeleton have these ids: 1, 2"):
        index.remove([1, 2, 4])
    index.remove([1, 2], kind="skeletons").remove(2)
    assert repr(index) == "MatchIndex(4 images, 1 skeletons)"
    with pytest.raises(KeyError):
        index.remove(1, kind="skeletons")


def test_an_empty_index(features, matcher):
    X, _ = features
    index = MatchIndex(matcher)
    for found in (index.search_images(X[:3]), index.search_skeletons(X[:3])):
        assert found.columns.tolist() == COLUMNS
        assert len(found) == 0
    index.add_images(X[:3], ids=list("abc")).remove(list("abc"))
    assert len(index) == 0 and len(index.search_images(X[:3])) == 0
    index.add_images(X[:2])  # ids of another kind, now that there are none
    assert sorted(index.search_images(X[:1])["id"]) == [0, 1]


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(index, features, k):
    with pytest.raises(ValueError, match="k must be >= 1"):
        index.search_images(features[0][:1], k=k)


def test_cases_of_the_metadata_are_taken_as_they_are(features, matcher):
    X, y = features
    names = np.array(["w", "x", "y", "z"])[y]
    index = MatchIndex(matcher).add_skeletons(X, metadata=pd.DataFrame({"a": y, "case": names}))
    found = index.search_skeletons(X[:2], k=3)
    assert found.columns.tolist() == [*COLUMNS, "a"]
    assert found["case"].tolist() == names[found["id"]].tolist()


def test_cases_follow_what_the_matcher_knows(features):
    X, y = features
    matcher = PairMatcher(max_epochs=3, gallery="skeletons", random_state=0).fit(X, y)
    index = MatchIndex(matcher).add_images(X)
    assert set(index.search_images(X[:1], k=200)["case"]) == {0, 1, 2, 3}
    matcher.remove_cases(3)  # no training: the embeddings are the same
    assert set(index.search_images(X[:1], k=200)["case"]) == {0, 1, 2}
    matcher.set_params(unknown_label=9)
    found = index.search_images(X[:1], k=200)
    # an index has embeddings, and no encodings
    named = matcher.judge_.name(matcher.embed_images(X[found["id"]]), "image")
    assert found["case"].tolist() == named.tolist()
    matcher.novelty_threshold_ = -1.0
    assert set(index.search_images(X[:1], k=200)["case"]) == {9}


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([True, False, True]),
        pd.Series([1, 2, 3], dtype=np.uint8),
        pd.Series([1.5, np.nan, 3], dtype=np.float32),
        pd.Series(["a", "", "ß"]),
        pd.to_datetime(pd.Series(["2020-01-01", None, "2021-05-05"])),
    ],
)
def test_metadata_come_back_as_they_were(index, features, matcher, values, tmp_path):
    X, _ = features
    index.remove(range(120))
    index.add_images(X[:3], metadata=pd.DataFrame({"m": values}))
    found = index.search_images(X[:1], k=3)
    expected = values[found["id"]].reset_index(drop=True)
    pd.testing.assert_series_equal(found["m"], expected, check_names=False)


def test_metadata_go_by_position(features, matcher):
    X, _ = features
    columns = {"a": pd.Series([1, 2, 3]), "b": pd.Series([1, 2, 3], index=[2, 1, 0])}
    found = MatchIndex(matcher).add_images(X[:3], metadata=columns).search_images(X[:1])
    assert found["a"].tolist() == found["b"].tolist() == (found["id"] + 1).tolist()
    with pytest.raises(TypeError, match="a DataFrame or a dict of columns"):
        MatchIndex(matcher).add_images(X[:3], metadata=[1, 2, 3])
    with pytest.raises(ValueError, match="'a' has 1 values, but there are 3 images"):
        MatchIndex(matcher).add_images(X[:3], metadata={"a": 1})


def test_missing_strings_and_categories(index, features):
    X, _ = features
    index.remove(range(120))
    metadata = {"s": ["a", None, "b"], "c": pd.Categorical(["x", "y", "x"])}
    found = index.add_images(X[:3], metadata=metadata).search_images(X[:1], k=3).set_index("id")
    assert found["s"].isna().tolist() == (found.index == 1).tolist()
    assert found["c"].sort_index().tolist() == ["x", "y", "x"]


# ---- the matcher ---------------------------------------------------------------------------------


def test_a_matcher_that_learns_anew_is_not_mixed(features, tmp_path):
    X, y = features
    matcher = PairMatcher(max_epochs=1, random_state=0).fit(X, y)
    index = MatchIndex(matcher).add_images(X)
    index.save(tmp_path / "index")
    index.search_images(X[:1])
    matcher.fit(X, y)  # the same once more: the same networks
    index.search_images(X[:1])
    matcher.set_params(random_state=1).fit(X, y)
    for use in (index.search_images, index.search_skeletons, index.add_images, index.add_skeletons):
        with pytest.raises(ValueError, match="has learned anew"):
            use(X[:1])
    with pytest.raises(ValueError, match="has learned anew, or is another one"):
        MatchIndex.load(tmp_path / "index", matcher)
    index.remove(range(120))
    index.add_images(X[:2])  # nothing is mixed


def test_the_same_fit_again_finds_its_index(features, tmp_path):
    X, y = features
    matcher = PairMatcher(max_epochs=1, random_state=0).fit(X, y)
    MatchIndex(matcher).add_images(X).save(tmp_path / "index")
    again = PairMatcher(max_epochs=1, random_state=0).fit(X, y)
    again.add_cases(X[:2], [7, 7]).remove_cases([3])  # embeddings stay as they are
    again.save(tmp_path / "matcher")
    for matcher in (again, PairMatcher.load(tmp_path / "matcher")):
        assert len(MatchIndex.load(tmp_path / "index", matcher).search_images(X[:1])) == 10


class Scaled(torch.nn.Module):
    """A tower without weights."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor
        self.activation = torch.nn.LeakyReLU(0.01)

    def forward(self, x):
        return self.activation(x.flatten(1).float() * self.factor - 1)


@pytest.mark.slow
def test_a_copy_in_another_process_is_the_same(digits, tmp_path):
    X, y = digits
    encoder = PairEncoder(Scaled(), Scaled(), frozen=True)
    matcher = PairMatcher(encoder, max_epochs=1, random_state=0).fit(X, y)
    MatchIndex(matcher).add_images(X[:20, 0]).save(tmp_path / "index")
    (tmp_path / "pickle").write_bytes(pickle.dumps(matcher))
    command = (
        "import pickle, sys; from skpair.search import MatchIndex; "
        "matcher = pickle.load(open(sys.argv[1], 'rb')); "
        "print(len(MatchIndex.load(sys.argv[2], matcher)))"
    )
    paths = [tmp_path / "pickle", tmp_path / "index"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", command, *paths], check=True, capture_output=True, env=environment
    )
    assert told.stdout.split() == [b"20"]


def test_only_fitted_matchers_with_a_similarity(features):
    with pytest.raises(NotFittedError):
        MatchIndex(PairMatcher())
    matcher = PairMatcher(max_epochs=1, loss="binary_cross_entropy").fit(*features)
    with pytest.raises(ValueError, match="'binary_cross_entropy', compares .* by a network"):
        MatchIndex(matcher)


def test_bad_rows_raise_what_the_matcher_raises(index, features):
    X, _ = features
    with pytest.raises(ValueError, match="features"):
        index.search_images(X[:3, :3])
    with pytest.raises(ValueError, match="0 sample"):
        index.add_images(X[:0])


# ---- growth, threads, copies ---------------------------------------------------------------------


def test_adding_moves_rows_a_few_times_only(features, matcher, monkeypatch):
    from skpair.search import stores

    moved = []
    merge = stores.merge
    monkeypatch.setattr(stores, "merge", lambda s: moved.append(sum(map(len, s))) or merge(s))
    monkeypatch.setattr(matcher, "transform", lambda X: X[:, :5], raising=False)
    X = np.random.default_rng(0).normal(size=(2000, 20)).astype(np.float32)
    index = MatchIndex(matcher)
    for start in range(0, 2000, 10):
        index.add_images(X[start : start + 10])
    assert sum(moved) < 2000 * 10  # copying all every time would be 200,000
    store = index.store
    hits = store.search("images", X[:4, :5], 6, None)
    expected = np.argsort(-X[:4, :5] @ X[:, :5].T, axis=1)[:, :6]
    assert hits.columns["id"].tolist() == expected.ravel().tolist()


def test_searches_beside_additions(features, matcher):
    X, _ = features
    index = MatchIndex(matcher).add_images(X[:10])
    failed = []

    def search():
        try:
            for _ in range(20):
                found = index.search_images(X[:2], k=1000)
                assert (
                    found["id"].is_unique
                    or found.groupby("query")["id"].nunique().eq(len(found) // 2).all()
                )
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(10):
        index.add_images(X[10 + i : 11 + i])
        index.remove(i)
    for thread in threads:
        thread.join()
    assert not failed
    assert len(index) == 10


def test_an_index_that_is_emptied_when_a_search_begins(index, features, monkeypatch):
    X, _ = features
    count = index.store.count

    def count_and_empty(kind):
        n = count(kind)
        if n and kind == "images":
            monkeypatch.setattr(index.store, "count", count)
            index.remove(range(120))
        return n

    embed = index.matcher.embed_skeletons

    def embed_and_wait(X):
        embedded = embed(X)
        monkeypatch.setattr(index.store, "count", count_and_empty)
        return embedded

    monkeypatch.setattr(index.matcher, "embed_skeletons", embed_and_wait, raising=False)
    found = index.search_images(X[:3], k=4)
    assert found.columns.tolist()[:5] == COLUMNS
    assert found["id"].dtype == np.int64
    assert len(found) in (0, 12)


def interrupt(call, step):
    """Interrupt a call before one of its steps, as Ctrl-C does; False if it has fewer."""
    left = step

    def trace(frame, event, arg):
        nonlocal left
        path = frame.f_code.co_filename
        if f"{os.sep}skpair{os.sep}" not in path:
            return None
        frame.f_trace_opcodes = path.endswith("stores.py")  # where rows change: every bytecode
        if event in ("line", "opcode"):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


CHANGES = {
    "add": lambda index, X: index.add_images(X[:3]),
    "add strings": lambda index, X: index.add_skeletons(X[:2], ids=["x", "y"]),
    "merge": lambda index, X: index.add_images(X[:4]),
    "first": lambda index, X: index.remove([*range(8), *"abc"]).add_images(X[:2], ids=["u", "v"]),
    "remove both": lambda index, X: index.remove([0, 3, 7, "b"]),
    "remove a kind": lambda index, X: index.remove(list("abc"), kind="skeletons"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("searched", [False, True])
def test_an_interrupted_change_is_none_or_whole(features, matcher, change, searched, monkeypatch):
    X, _ = features
    monkeypatch.setattr(index_module, "_WRITING", threading.RLock())  # tracing can leave it locked
    monkeypatch.setattr(matcher, "transform", lambda X: X[:, :4], raising=False)
    monkeypatch.setattr(matcher, "embed_skeletons", lambda X: X[:, :4], raising=False)
    index = MatchIndex(matcher).add_images(X[:6]).add_images(X[6:8])
    index.add_skeletons(X[:3], ids=list("abc"))
    if searched:  # what is known of ids is made already
        index.remove([])

    def rows():
        """Give the ids of the rows, which must be those that are known."""
        ids = {}
        for kind in ("images", "skeletons"):
            hits = index.store.search(kind, X[:1, :4], 1000, None)
            ids[kind] = sorted(hits.columns["id"], key=str)
            assert index.store.count(kind) == len(ids[kind])
            assert sorted(index.store.known(kind, [*range(99), *"abcuvxy"]), key=str) == ids[kind]
        return ids

    store = index.store
    before = rows() if searched else None
    index.store = copy.copy(store)
    change(index, X)
    after = rows()
    step, seen = 0, []
    while True:
        index.store = copy.copy(store)
        if not interrupt(lambda: change(index, X), step):
            break
        seen.append(rows())
        step += 1
    assert rows() == after and step > 50
    between = {"images": [], "skeletons": []}  # of two changes, one after the other
    before = before or seen[0]
    assert all(ids in (before, between, after) for ids in seen)
    assert seen[0] == before and seen[-1] == after


def test_adding_does_not_read_all_ids_again(saved, features, matcher, monkeypatch):
    from skpair.search.columns import Segment

    X, _ = features
    _, path = saved
    index = MatchIndex.load(path, matcher).add_images(X[:1], metadata={"s": ["a"]})
    read, ids = [], Segment.ids
    monkeypatch.setattr(Segment, "ids", lambda self: read.append(len(self)) or ids(self))
    for _ in range(9):
        index.add_images(X[:3], metadata={"s": list("abc")})
    assert sum(read) <= 1 + 9 * 3  # each new row once, and none of the 120
    index.remove(140)
    index.add_images(X[:1], metadata={"s": ["a"]})
    assert sum(read) < 100


def test_pickle(features, matcher):
    X, _ = features
    index = MatchIndex(matcher).add_images(X)
    copied = pickle.loads(pickle.dumps(index))
    pd.testing.assert_frame_equal(copied.search_images(X[:3]), index.search_images(X[:3]))


# ---- the file ------------------------------------------------------------------------------------


@pytest.fixture
def saved(features, matcher, tmp_path):
    X, _ = features
    index = MatchIndex(matcher).add_images(X, metadata={"s": list("abc") * 40})
    index.add_skeletons(X[:9], ids=list("abcdefghi"))
    path = tmp_path / "an.index"
    index.save(path)
    return index, path


def test_what_is_loaded_is_what_was_saved(saved, features, matcher):
    X, _ = features
    index, path = saved
    loaded = MatchIndex.load(path, matcher)
    assert repr(loaded) == repr(index)
    for name in ("search_images", "search_skeletons"):
        found = [getattr(i, name)(X[:5], k=7) for i in (index, loaded)]
        pd.testing.assert_frame_equal(*found)
    with pytest.raises(ValueError, match="in the index already: 5"):
        loaded.add_images(X[:1], ids=[5], metadata={"s": ["a"]})


def test_a_matcher_that_was_saved_itself_is_the_same(saved, features, matcher):
    index, path = saved
    matcher.save(path.with_suffix(".matcher"))
    loaded = MatchIndex.load(path, PairMatcher.load(path.with_suffix(".matcher")))
    found = [i.search_images(features[0][:5]) for i in (index, loaded)]
    pd.testing.assert_frame_equal(*found)


def test_saving_over_the_file_that_is_mapped(saved, features, matcher):
    X, _ = features
    _, path = saved
    loaded = MatchIndex.load(path, matcher)
    loaded.remove(range(100)).remove(["a", "i"])
    loaded.add_images(X[:1], metadata={"s": ["new"]})
    before = loaded.search_images(X[:3], k=50)
    loaded.save(path)
    again = MatchIndex.load(path, matcher)
    assert repr(again) == "MatchIndex(21 images, 7 skeletons)"
    for index in (loaded, again):
        pd.testing.assert_frame_equal(index.search_images(X[:3], k=50), before)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failed_save_leaves_the_file_as_it_was(saved, features, matcher, monkeypatch):
    _, path = saved
    before = path.read_bytes()
    index = MatchIndex.load(path, matcher).remove(range(50))

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="No space left"):
            index.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_empty_index_can_be_saved(matcher, tmp_path, features):
    MatchIndex(matcher).save(tmp_path / "empty")
    index = MatchIndex.load(tmp_path / "empty", matcher)
    assert len(index.add_images(features[0][:2])) == 2


@pytest.mark.parametrize("keep", [0, 5, 8, 300, -1])
def test_truncated_files_are_refused(saved, matcher, keep):
    _, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"an\.index' is not the file of an index"):
        MatchIndex.load(path, matcher)


def change_header(path, change):
    """Change a header, and seal it: only other checks can refuse it."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    header = json.loads(entries["__metadata__"]["skpair"])
    del header["sha256"]
    change(entries, header)
    for _ in range(2):
        entries["__metadata__"]["skpair"] = json.dumps(header)
        text = json.dumps(entries).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        header["sha256"] = index_file._digest(
            {k: v for k, v in header.items() if k != "sha256"}, safetensors.numpy.load_file(path)
        )


@pytest.mark.parametrize("type_", [">i4", ">f8", ">M8[ns]", "<i4"])
def test_the_order_of_bytes_does_not_matter(features, matcher, tmp_path, type_):
    X, _ = features
    values = np.array([1, 256, 3]).astype(type_)
    index = MatchIndex(matcher).add_images(X[:3], metadata={"m": values})
    index.save(tmp_path / "index")
    found = MatchIndex.load(tmp_path / "index", matcher).search_images(X[:1])
    expected = pd.Series(values[found["id"]].astype(np.dtype(type_).newbyteorder("=")))
    pd.testing.assert_series_equal(found["m"], expected, check_names=False)


def change_columns(path, change):
    """Change columns, and seal them."""
    header, arrays = index_file_parts(path)
    change(header, arrays)
    text = json.dumps({"sha256": index_file._digest(header, arrays), **header})
    path.write_bytes(b"".join(index_file._safetensors(arrays, text)))


def index_file_parts(path):
    with safetensors.safe_open(path, "np") as file:
        header = json.loads(file.metadata()["skpair"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    del header["sha256"]
    return header, arrays


def columns_of(header):
    return header["rows"]["images"]["columns"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, a: h.update(format=True), "format must be int, but is True"),
        (lambda h, a: h.update(format=1.0), "format must be int"),
        (lambda h, a: h.update(format=3), "format 3, but this version .* knows 2: update skpair"),
        (lambda h, a: h.update(kind="PairMatcher"), r"kind are \(2, 'PairMatcher'\)"),
        (lambda h, a: h.update(format=1), "an earlier version of skpair wrote it"),
        (lambda h, a: h.update(colour=1), r"header holds unknown ones: \['colour'\]"),
        (lambda h, a: h.update(space=7), "space must be str or NoneType, but is 7"),
        (lambda h, a: h.update(space=None), "space must say which networks"),
        (lambda h, a: h.update(rows=[]), "rows must be dict"),
        (lambda h, a: h["rows"].update(birds={}), r"unknown ones: \['birds'\]"),
        (lambda h, a: h["rows"].update(images=3), "images must be dict"),
        (lambda h, a: h["rows"]["images"].update(n=3), "rows of images holds unknown"),
        (lambda h, a: h["rows"]["images"].update(n_segments=True), "n_segments must be int"),
        (lambda h, a: h["rows"]["images"].update(n_segments=-1), "images have -1 segments"),
        (lambda h, a: h["rows"]["images"].update(n_segments=10**9), "images/1/embeddings is miss"),
        (lambda h, a: columns_of(h).__setitem__(1, "str"), "must be a name and a type"),
        (lambda h, a: columns_of(h).__setitem__(1, ["s", 3]), "must be a name and a type"),
        (lambda h, a: columns_of(h)[1].__setitem__(1, "<U3"), "'s' of images has the type '<U3'"),
        (lambda h, a: columns_of(h)[2].__setitem__(1, "datetime64[D]"), "has the type 'datetime"),
        (lambda h, a: columns_of(h)[2].__setitem__(1, "float64"), "must hold float64 .* int64"),
        *(
            (lambda h, a, name=name: columns_of(h)[1].__setitem__(0, name), "by none of")
            for name in ("query", "rank", "id", "score")
        ),
        (lambda h, a: columns_of(h)[1].__setitem__(0, "n"), "called by different strings"),
        (lambda h, a: columns_of(h)[1].__setitem__(0, "\ud800"), "UTF-8"),
        (lambda h, a: columns_of(h).reverse(), "images have no ids"),
        (lambda h, a: a["images/0/0/values"].__setitem__(3, 7), "ids of images are there twice"),
        (lambda h, a: a["skeletons/0/0/text"].__setitem__(3, ord("a")), "there twice"),
        (lambda h, a: a["skeletons/0/0/missing"].__setitem__(3, True), "missing and have text"),
        (lambda h, a: a["images/0/1/ends"].__setitem__(3, 0), "do not follow"),
        (lambda h, a: a["images/0/1/ends"].__setitem__(0, -(2**63)), "do not follow"),
        (lambda h, a: a["images/0/1/ends"].__setitem__(119, 2**62), "do not follow"),
        (lambda h, a: a["images/0/1/text"].__setitem__(0, 0xFF), "can't decode byte 0xff"),
        (
            lambda h, a: a["images/0/1/text"].__setitem__(slice(2), list("ß".encode())),
            "ends within a character",
        ),
        (lambda h, a: a["images/0/3/values"].view(np.uint8).__setitem__(0, 2), "are no bool"),
        (lambda h, a: a.update(more=np.zeros(2)), r"belong to nothing: \['more'\]"),
        (lambda h, a: a.pop("images/0/1/text"), "images/0/1/text is missing"),
        (
            lambda h, a: a.update({"images/0/embeddings": np.zeros((120, 5), np.float32)}),
            "different numbers of columns",
        ),
        (
            lambda h, a: a.update(
                {k: v[:, :5].copy() for k, v in a.items() if k.endswith("embeddings")}
            ),
            "Its embeddings have 5 columns, not 64",
        ),
        (lambda h, a: h.update(space="0" * 64), "The matcher is not as it was"),
    ],
)
def test_wrong_content_under_a_right_checksum_is_refused(
    features, matcher, tmp_path, change, message
):
    X, _ = features
    metadata = {"s": list("abc") * 40, "n": range(120), "b": [True, False] * 60}
    index = MatchIndex(matcher).add_images(X, metadata=metadata)
    index.add_skeletons(X[:9], ids=list("abcdefghi")).save(tmp_path / "an.index")
    change_columns(tmp_path / "an.index", lambda h, a: None)
    assert len(MatchIndex.load(tmp_path / "an.index", matcher)) == 129
    change_columns(tmp_path / "an.index", change)
    with pytest.raises(ValueError, match=rf"an\.index.*{message}"):
        MatchIndex.load(tmp_path / "an.index", matcher)


def test_missing_ids_and_empty_parts_are_refused(saved, matcher):
    _, path = saved

    def lose(header, arrays):
        arrays["skeletons/0/0/text"] = arrays["skeletons/0/0/text"][1:]
        arrays["skeletons/0/0/ends"] -= 1
        arrays["skeletons/0/0/missing"][0] = True

    def empty(header, arrays):
        for name, array in arrays.items():
            if name.startswith("images"):
                arrays[name] = array[:0].copy()

    before = path.read_bytes()
    for change, message in ((lose, "ids of skeletons/0 are missing"), (empty, "images/0 has no")):
        path.write_bytes(before)
        change_columns(path, change)
        with pytest.raises(ValueError, match=message):
            MatchIndex.load(path, matcher)


@pytest.mark.parametrize(
    "part", ["space", "images/0/0/values", "images/0/1/text", "images/0/1/ends"]
)
@pytest.mark.parametrize("bit", [1, 128])
def test_a_damaged_byte_is_found(saved, matcher, part, bit):
    _, path = saved
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    if part == "space":
        place = data.index(b"space") + 12
    else:
        place = 8 + length + json.loads(data[8 : 8 + length])[part]["data_offsets"][0]
    data[place] ^= bit
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"an\.index' is not the file of an index, or it is damaged"
    ):
        MatchIndex.load(path, matcher)


@pytest.mark.parametrize(
    "change",
    [
        lambda entries, header: header.update(format=99),
        lambda entries, header: header.update(kind="PairMatcher"),
        lambda entries, header: header["rows"]["images"].update(n_segments=2),
        lambda entries, header: header["rows"]["images"].update(n_segments=0),
        lambda entries, header: header["rows"].pop("skeletons"),
        lambda entries, header: header["rows"]["images"]["columns"][0].__setitem__(1, "object"),
        lambda entries, header: header["rows"]["images"]["columns"][0].__setitem__(1, "float64"),
        lambda entries, header: entries["images/0/embeddings"].update(shape=[64, 120]),
        lambda entries, header: entries["images/0/embeddings"].update(dtype="I32"),
        lambda entries, header: header["rows"]["images"]["columns"][0].__setitem__(0, "name"),
        lambda entries, header: header["rows"]["images"]["columns"].clear(),
    ],
)
def test_headers_that_do_not_fit_are_refused(saved, matcher, change):
    _, path = saved
    change_header(path, change)
    with pytest.raises(ValueError, match="is not the file of an index(?!.*checksum)"):
        MatchIndex.load(path, matcher)


def test_strings_that_do_not_follow_one_another_are_refused(saved, matcher):
    index, path = saved
    index.store._state.segments["skeletons"][0].columns["id"].ends[3] = 2**40
    index.save(path)
    with pytest.raises(ValueError, match="do not follow one another"):
        MatchIndex.load(path, matcher)


def test_foreign_files_are_refused(matcher, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "opened"), "w")

    foreign = {
        "pickle": pickle.dumps(Evil()),
        "text": b"station,depth\n1,2\n" * 100,
        "safetensors": safetensors.numpy.save({"images/0/embeddings": np.ones((2, 3))}),
    }
    for name, data in foreign.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}' is not the file of an index"):
            MatchIndex.load(tmp_path / name, matcher)
    assert not (tmp_path / "opened").exists()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MatchIndex.load(tmp_path / "nowhere", matcher)
    with pytest.raises(IsADirectoryError):
        MatchIndex.load(tmp_path, matcher)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MatchIndex(matcher).save(tmp_path / "nowhere" / "index")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
def test_opening_reads_no_embeddings(saved, matcher):
    _, path = saved
    index = MatchIndex.load(path, matcher)
    with open("/proc/self/maps") as maps:
        assert str(path) in maps.read()
    assert len(index) == 129


def test_where_needs_a_database(features, matcher):
    with pytest.raises(ValueError, match="LanceStore"):
        MatchIndex(matcher).search_images(features[0][:1], where="depth < 3")


@pytest.mark.parametrize("store", ["folder", MemoryStore, {}])
def test_a_store_is_no_path(matcher, store):
    with pytest.raises(TypeError, match="store must be a LanceStore or None"):
        MatchIndex(matcher, store)


def test_a_pipeline_is_no_matcher(matcher):
    with pytest.raises(TypeError, match="Of a pipeline, give the last step"):
        MatchIndex(make_pipeline(matcher))
