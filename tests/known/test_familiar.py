import numpy as np
import pytest

from skpair import PairEncoder, PairMatcher, split_pairs
from skpair.known.familiar import Familiar


def clusters(n=300, p=40, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(4, size=n)
    spread = np.r_[5 * np.ones(3), np.ones(p - 3)]
    rows = rng.normal(size=(n, p)) * spread
    rows[np.arange(n), codes + 5] += 6
    return rows, codes


@pytest.mark.parametrize("p", [40, 100])  # as many directions as are kept, and more
def test_the_distance_is_that_of_mahalanobis(p):
    rows, codes = clusters(p=p)
    known = Familiar.of(rows, codes)
    assert len(known.axes) == min(64, p) and known.axes.flags.c_contiguous
    axes, variances = known.axes.astype(float), known.variances.astype(float)
    others = np.eye(p) - axes.T @ axes
    covariance = axes.T * variances[:-1] @ axes + variances[-1] * others
    queries = np.random.default_rng(1).normal(size=(20, p)) * 3
    means = np.stack([rows[codes == c].mean(axis=0) for c in range(4)])
    gaps = queries[:, None] - means
    squares = np.einsum("nci,ij,ncj->nc", gaps, np.linalg.inv(covariance), gaps)
    np.testing.assert_allclose(
        known.signs(queries)[:, 0], np.sqrt(squares.min(axis=1) / p), rtol=1e-4
    )


def test_the_covariance_is_that_within_cases():
    rows, codes = clusters(n=4000)
    known = Familiar.of(rows, codes)
    np.testing.assert_allclose(known.variances[:3], 25, rtol=0.1)  # not of the cases' 6 columns
    np.testing.assert_allclose(known.variances[3:40], 1, rtol=0.2)
    assert known.signs(rows).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("codes", [np.arange(3), np.zeros(3, int)])
def test_few_rows(codes):
    known = Familiar.of(np.arange(12.0).reshape(3, 4), codes)
    assert np.isfinite(known.signs(np.ones((2, 4)))).all()


def test_distances_come_to_the_scale_of_novelty():
    rows, codes = clusters()
    novelty = np.random.default_rng(2).uniform(size=100)
    known = Familiar.of(rows, codes)
    distances = known.signs(rows[:100])
    scaled = known.on_scale_of(novelty, distances).novelty(distances)
    np.testing.assert_allclose(np.quantile(scaled, [0.5, 0.95]), np.quantile(novelty, [0.5, 0.95]))
    assert (np.argsort(scaled) == np.argsort(distances[:, 0])).all()


def test_background_leads_away():
    rows, codes = clusters()
    rng = np.random.default_rng(3)
    background, other = (rng.normal(size=(60, 40)) + np.eye(40)[30] * away for away in (3, -3))
    known = Familiar.of(rows, codes, background)
    signs = known.signs(rows)
    assert signs.shape == (300, 2)
    np.testing.assert_array_equal(signs[:, 0], Familiar.of(rows, codes).signs(rows)[:, 0])
    scaled = known.on_scale_of(rng.uniform(size=300), signs)
    usual = np.quantile(scaled.novelty(signs), 0.95)
    assert (scaled.novelty(known.signs(background)) > usual).mean() > 0.9
    assert (known.signs(other)[:, 1] < np.quantile(signs[:, 1], 0.95)).all()  # the other way


@pytest.fixture(scope="module")
def fitted(features):
    X, y = features
    return PairMatcher(max_epochs=10, random_state=0).fit(X, y)


def test_what_is_foreign_to_the_encodings_is_unknown(fitted, features, tmp_path):
    X, _ = features
    matcher = fitted
    foreign = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32) * 30
    # the layers see a direction only, and so take much of it for known
    by_embedding = matcher.judge_.novelty(matcher.embed_images(foreign))
    assert (by_embedding > matcher.novelty_threshold_).mean() < 0.9
    assert (matcher.novelty_score(foreign) > matcher.novelty_threshold_).all()
    assert (matcher.novelty_score(X) > matcher.novelty_threshold_).mean() < 0.1
    matcher.save(tmp_path / "matcher")
    loaded = PairMatcher.load(tmp_path / "matcher")
    np.testing.assert_array_equal(loaded.novelty_score(foreign), matcher.novelty_score(foreign))
    assert loaded.judged_by_ == "rehearsal"


def test_skeletons_have_a_novelty(fitted, features):
    X, _ = features
    skeletons = split_pairs(X)[1]
    novelty = fitted.novelty_score(X, kind="skeleton")
    np.testing.assert_allclose(fitted.novelty_score(skeletons, kind="skeleton"), novelty)
    away = fitted.novelty_score(30 - 10 * skeletons, kind="skeleton")
    assert away.min() > novelty.max()
    with pytest.raises(ValueError, match="kind='drawing' is unknown"):
        fitted.novelty_score(X, kind="drawing")


@pytest.mark.parametrize("layout", ["features", "pixels", "files"])
def test_background_is_unknown(layout, request, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    if layout == "features":
        X, y = request.getfixturevalue("features")
        rubbish = rng.normal(size=(60, 10)).astype(np.float32)  # between the cases
        encoder = None
    else:
        X, y = request.getfixturevalue("digits")
        rubbish = rng.integers(0, 255, size=(60, 16, 16)).astype(np.uint8)
        rubbish[:, 4:12] = 200
        encoder = PairEncoder(max_epochs=4, image_size=16 if layout == "files" else None)
    if layout == "files":
        X, y = request.getfixturevalue("files")
        for i, picture in enumerate(rubbish):
            Image.fromarray(picture).save(tmp_path / f"{i}.png")
        rubbish = np.array([str(tmp_path / f"{i}.png") for i in range(60)])
    background, unseen = rubbish[:40], rubbish[40:]
    matcher = PairMatcher(encoder, max_epochs=5, unknown_label=-1, random_state=0)
    matcher.fit(X, y, background=background)
    found = (matcher.predict(unseen) == -1).mean()
    assert found > 0.6
    assert (matcher.predict(X) == -1).mean() < 0.15
    assert matcher.classes_.tolist() == np.unique(y).tolist()
    assert len(matcher.gallery_.images) <= len(y)
    matcher.save(tmp_path / "matcher")
    loaded = PairMatcher.load(tmp_path / "matcher")
    np.testing.assert_array_equal(loaded.novelty_score(unseen), matcher.novelty_score(unseen))
    assert set(matcher.set_params(unknown_label=None).predict(unseen)) <= set(y)
    matcher.set_params(unknown_label=-1).fit(X, y)  # without
    assert not matcher.familiar_["image"].away.size
    assert (matcher.predict(unseen) == -1).mean() <= found


def test_bad_background(features, digits, files):
    frame, y = files
    with pytest.raises(ValueError, match="background holds pixels, but X files: give both alike"):
        PairMatcher(PairEncoder(max_epochs=1)).fit(frame, y, background=digits[0][:5, 0])
    X, y = features
    matcher = PairMatcher(max_epochs=1)
    with pytest.raises(ValueError, match="background must hold 2 images or more, got 1"):
        matcher.fit(X, y, background=X[:1])
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        matcher.fit(X, y, background=X[:0])
    with pytest.raises(ValueError, match="features, but"):
        matcher.fit(X, y, background=np.zeros((3, 7), np.float32))
    with pytest.raises(ValueError, match="NaN"):
        matcher.fit(X, y, background=np.full((3, 10), np.nan))
    X, y = digits
    with pytest.raises(ValueError, match="background holds float64, but X uint8"):
        PairMatcher(PairEncoder(max_epochs=1)).fit(X, y, background=X[:5, 0] / 255)
