"""Rows of an index in a LanceDB database."""

import re

import numpy as np
import pandas as pd
import pytest

from skpair import PairMatcher
from skpair.search import MatchIndex

# ---- LanceDB -------------------------------------------------------------------------------------


COLUMNS = ["query", "rank", "id", "score", "case"]


@pytest.fixture
def lance(tmp_path):
    pytest.importorskip("lancedb")
    from skpair.search import LanceStore

    return lambda **kwargs: LanceStore(tmp_path / "specimens", **kwargs)


def test_a_database_is_searched_under_a_condition(lance, features, matcher):
    X, _ = features
    metadata = {"depth": np.arange(120), "station": ["A", "B'"] * 60}
    index = MatchIndex(matcher, lance()).add_images(X, metadata=metadata)
    found = index.search_images(X[:3], k=5, where="depth < 40 AND station = 'B'''")
    assert len(found) == 15
    assert (found["depth"] < 40).all() and set(found["station"]) == {"B'"}
    scores = matcher.similarity_matrix(X[1:40:2], X[:3])
    np.testing.assert_allclose(found["score"][::5], scores.max(axis=0), rtol=1e-5, atol=1e-6)
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 3
    assert len(index.search_images(X[:3], where="depth > 1000")) == 0
    assert index.search_images(X[:1], where="depth > 1000").columns.tolist()[:5] == COLUMNS
    with pytest.raises(ValueError, match="where='height < 3' cannot be asked: .*height"):
        index.search_images(X[:3], where="height < 3")


def test_a_database_is_opened_again(lance, features, matcher):
    X, y = features
    index = MatchIndex(matcher, lance()).add_images(X).add_skeletons(X[:5], ids=list("abcde"))
    again = MatchIndex(matcher, lance())
    assert repr(again) == "MatchIndex(120 images, 5 skeletons)"
    pd.testing.assert_frame_equal(again.search_images(X[:9]), index.search_images(X[:9]))
    with pytest.raises(ValueError, match="already: 'c'"):
        again.add_skeletons(X[:1], ids=["c"])
    assert len(again.add_images(X[:1])) == 126
    with pytest.raises(ValueError, match="on disk already"):
        again.save("anywhere")
    other = PairMatcher(max_epochs=1, random_state=7).fit(X, y)
    with pytest.raises(ValueError, match="or is another one"):
        MatchIndex(other, lance())


def test_a_database_does_not_change_within_a_search(lance, features, matcher, monkeypatch):
    from skpair.search import lance as module

    X, _ = features
    index = MatchIndex(matcher, lance()).add_images(X)
    before = index.search_images(X, k=3)
    monkeypatch.setattr(module, "_QUERIES", 30)
    open_table = index.store._database.open_table

    class Disturbed:
        """A table whose rows go when it is searched for the second time."""

        def __init__(self, kind):
            self.table, self.searches = open_table(kind), 0
            self.version, self.checkout = self.table.version, self.table.checkout

        def search(self, *args):
            self.searches += 1
            if self.searches == 2:
                MatchIndex(matcher, lance()).remove(range(120)).add_images(X[:1], ids=[777])
            return self.table.search(*args)

    with monkeypatch.context() as patch:
        patch.setattr(index.store._database, "open_table", Disturbed)
        pd.testing.assert_frame_equal(index.search_images(X, k=3), before)
    assert index.search_images(X[:1])["id"].tolist() == [777]


def test_two_stores_on_one_new_folder(lance, features, matcher):
    X, _ = features
    first, second = (MatchIndex(matcher, lance()) for _ in range(2))
    first.add_images(X[:5])
    assert second.add_images(X[5:7]).search_images(X[:1])["id"].nunique() == 7
    assert len(first) == 7
    first.remove(range(7))
    assert len(second.search_images(X[:1])) == 0
    second.add_images(X[:2], ids=["a", "b"])  # of another type, now that there are none
    assert sorted(first.search_images(X[:1])["id"]) == ["a", "b"]


def test_two_processes_that_make_a_database_at_once(
    lance, features, matcher, monkeypatch, tmp_path
):
    X, _ = features
    first, second = (MatchIndex(matcher, lance()) for _ in range(2))
    create = second.store._database.create_table

    def too_late(*args, **kwargs):
        first.add_images(X[:5])
        return create(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(second.store._database, "create_table", too_late)
        with pytest.raises(FileExistsError, match="just made the table 'images'.* Nothing was add"):
            second.add_images(X[:2])
    assert repr(first) == repr(second) == "MatchIndex(5 images, 0 skeletons)"
    assert len(second.add_images(X[:2])) == 7
    (tmp_path / "specimens" / "skeletons.lance").mkdir()  # as far as another one has come
    third = MatchIndex(matcher, lance())
    assert len(third) == 7
    assert len(third.add_skeletons(X[:2])) == 9


def test_an_emptied_database_takes_another_matcher(lance, features, matcher):
    X, y = features
    MatchIndex(matcher, lance()).add_images(X[:5]).remove(range(5))
    other = PairMatcher(max_epochs=1, random_state=7).fit(X, y)
    MatchIndex(other, lance()).add_skeletons(X[:5])
    assert len(MatchIndex(other, lance()).add_images(X[:5])) == 10


def test_a_database_finds_what_an_exact_search_finds(lance, features, matcher, monkeypatch):
    X, _ = features
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(3000, 64)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    monkeypatch.setattr(matcher, "transform", lambda X: embeddings, raising=False)
    index = MatchIndex(matcher, lance(n_probes=30)).add_images(embeddings)
    exact = MatchIndex(matcher).add_images(embeddings)
    expected = exact.search_images(X, k=10)
    found = index.search_images(X, k=10)
    assert (found["id"] == expected["id"]).mean() > 0.999
    index.store.build_index(n_partitions=50)
    found = index.search_images(X, k=10)
    both = found.merge(expected, on=["query", "id"])
    assert 0.7 < len(both) / len(expected)
    np.testing.assert_allclose(both["score_x"], both["score_y"], rtol=1e-4, atol=1e-6)


def test_odd_databases_are_refused(lance, features, matcher, tmp_path):
    import lancedb

    X, _ = features
    index = MatchIndex(matcher, lance())
    for name in ("vector", "query_index", "_distance", "_rowid", "", "a.b", "a`b", "a\0b"):
        shown = re.escape(repr(name))
        with pytest.raises(ValueError, match=f"can be called {shown}: 'vector', 'query_index'"):
            index.add_images(X[:2], metadata={name: [1, 2]})
    assert len(index) == 0
    lancedb.connect(tmp_path / "foreign").create_table("images", data=[{"id": 1}])
    from skpair.search import LanceStore

    with pytest.raises(ValueError, match="'images' in .* is not of skpair"):
        LanceStore(tmp_path / "foreign")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        LanceStore(tmp_path / "file")
