"""Tests of skpair.datasets: what the pairs look like, and what the parameters promise."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from skpair.datasets import copepods as module
from skpair.datasets import load_digit_pairs, make_copepods

EIGHT_CONNECTED = np.ones((3, 3))


@pytest.fixture(scope="module")
def copepods():
    return make_copepods(240, n_cases=6, random_state=0)


@pytest.fixture(scope="module")
def digits():
    return load_digit_pairs(random_state=0)


def digest(data):
    parts = b"".join(data[name].tobytes() for name in ("images", "skeletons", "y"))
    return hashlib.sha256(parts).hexdigest()


def n_distinct(drawings):
    return len(np.unique(drawings.reshape(len(drawings), -1), axis=0))


def accuracy(drawings, y):
    """Accuracy of a simple classifier on drawings blurred enough to overlap."""
    rows = ndimage.gaussian_filter(drawings.astype(float), (0, 1, 1)).reshape(len(y), -1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return cross_val_score(SVC(C=10), rows, y, cv=3).mean()


# make_copepods


def test_copepods_shapes_and_dtypes(copepods):
    assert copepods.images.shape == copepods.skeletons.shape == (240, 64, 64)
    assert copepods.images.dtype == copepods.skeletons.dtype == np.uint8
    assert copepods.y.shape == (240,)
    assert copepods.y.dtype == np.int64
    assert set(np.unique(copepods.skeletons)) == {0, 1}
    assert len(set(copepods.case_names)) == 6
    assert set(copepods.y) == set(range(6))
    assert "copepods" in copepods.DESCR


def test_copepods_photographs_have_content_and_light(copepods):
    by_row = copepods.images.reshape(240, -1).astype(float)
    assert n_distinct(copepods.images) == 240
    assert (by_row.std(axis=1) > 3).all()
    # The specimen is darker than what surrounds it: the centre against the rim.
    centre = copepods.images[:, 22:42, 22:42].mean(axis=(1, 2))
    rim = copepods.images[:, [0, -1]].mean(axis=(1, 2))
    assert (centre < rim).mean() > 0.85  # light may fall off towards the rim


def test_copepods_drawings_are_thin_and_inside(copepods):
    ink = copepods.skeletons.mean(axis=(1, 2))
    assert ((ink > 0.01) & (ink < 0.15)).all()
    assert n_distinct(copepods.skeletons) == 240
    # Nothing but lines: hardly a block of 5 x 5 is filled.
    blocks = ndimage.minimum_filter(copepods.skeletons, (1, 5, 5))
    assert blocks.sum() < 0.002 * copepods.skeletons.sum()


@pytest.mark.parametrize("image_size", [16, 45, 96])
def test_copepods_image_size(image_size):
    data = make_copepods(6, n_cases=3, image_size=image_size, random_state=0)
    assert data.images.shape == data.skeletons.shape == (6, image_size, image_size)
    assert data.skeletons.any(axis=(1, 2)).all()


@pytest.mark.parametrize("n_cases", [2, 5, 24, 48])
def test_copepods_any_number_of_cases(n_cases):
    data = make_copepods(2 * n_cases, n_cases=n_cases, image_size=16, random_state=0)
    assert len(set(data.case_names)) == n_cases
    np.testing.assert_array_equal(np.bincount(data.y), 2)


def test_copepods_case_names_name_the_traits():
    names = make_copepods(16, n_cases=8, image_size=16, random_state=0).case_names
    words = [
        {w for w in name.replace(",", "").split() if w not in ("antennules", "sac", "sacs")}
        for name in names
    ]
    for i in range(8):
        for j in range(i):
            assert len(words[i] - words[j]) >= 2


def test_copepods_frequencies_follow_the_power_law():
    y = make_copepods(800, n_cases=5, imbalance=1.0, image_size=16, random_state=0).y
    sizes = np.bincount(y)
    expected = 2 + 790 / np.arange(1, 6) / (1 / np.arange(1, 6)).sum()
    assert sizes.sum() == 800
    np.testing.assert_allclose(sizes, expected, atol=1)


def test_copepods_imbalance_zero_is_equal_and_huge_keeps_two():
    equal = make_copepods(62, n_cases=4, imbalance=0, image_size=16, random_state=0).y
    assert sorted(np.bincount(equal)) == [15, 15, 16, 16]
    skewed = make_copepods(40, n_cases=4, imbalance=50, image_size=16, random_state=0).y
    np.testing.assert_array_equal(np.bincount(skewed), [34, 2, 2, 2])


@pytest.mark.parametrize("k", [1, 3])
def test_copepods_share_k_drawings_per_case(k):
    data = make_copepods(90, n_cases=3, skeletons_per_case=k, random_state=0)
    for case in range(3):
        drawings = data.skeletons[data.y == case]
        assert n_distinct(drawings) == k
        assert drawings.any(axis=(1, 2)).all()
    assert n_distinct(data.skeletons) == 3 * k
    assert n_distinct(data.images) == 90


def test_copepods_with_fewer_rows_than_drawings():
    data = make_copepods(40, n_cases=2, imbalance=50, skeletons_per_case=5, random_state=0)
    assert n_distinct(data.skeletons[data.y == 0]) == 5
    assert n_distinct(data.skeletons[data.y == 1]) == 2


def test_copepods_photographs_do_not_depend_on_the_drawings():
    few = make_copepods(12, n_cases=2, skeletons_per_case=1, random_state=3)
    many = make_copepods(12, n_cases=2, random_state=3)
    np.testing.assert_array_equal(few.images, many.images)
    np.testing.assert_array_equal(few.y, many.y)


def test_copepods_ambiguity_makes_cases_harder_to_tell():
    clear, medium, vague = (
        accuracy(data.skeletons, data.y)
        for data in (
            make_copepods(300, n_cases=2, imbalance=0, ambiguity=a, image_size=32, random_state=0)
            for a in (0, 0.5, 1)
        )
    )
    assert clear > 0.95
    assert clear > medium + 0.02
    assert medium > vague + 0.05
    assert vague > 0.55  # chance is 0.5


def test_copepods_photographs_tell_the_case():
    # Photographs lie in any direction: compare how dark they are by distance from the centre.
    data = make_copepods(300, n_cases=2, imbalance=0, ambiguity=0, image_size=32, random_state=0)
    y, x = np.mgrid[-15.5:16, -15.5:16]
    ring = np.hypot(y, x).astype(int)
    dark = np.median(data.images, axis=(1, 2))[:, None, None] - data.images.astype(float)
    profile = np.array([np.bincount(ring.ravel(), d.ravel()) for d in dark])
    profile /= np.abs(profile).sum(axis=1, keepdims=True)
    assert cross_val_score(KNeighborsClassifier(5), profile, data.y, cv=3).mean() > 0.8


def test_copepods_image_and_skeleton_are_different_specimens(monkeypatch):
    drawn = {}

    def spy(name):
        draw = getattr(module, name)

        def record(traits, image_size, rng):
            drawn[name] = traits
            return draw(traits, image_size, rng)

        monkeypatch.setattr(module, name, record)

    spy("draw_photographs")
    spy("draw_sketches")
    y = make_copepods(400, n_cases=2, imbalance=0, image_size=16, random_state=0).y
    for case in (0, 1):
        photographed, sketched = (traits[y == case].T for traits in drawn.values())
        for i in range(5):
            assert photographed[i].std() > 0.1
            assert abs(np.corrcoef(photographed[i], sketched[i])[0, 1]) < 0.25


def test_copepods_traits_are_those_of_their_cases():
    data = make_copepods(600, n_cases=8, imbalance=0, ambiguity=0, image_size=16, random_state=0)
    names = data.case_names[data.y]
    sacs = np.array([["no sacs", "one sac", "two sacs"].index(n.split(", ")[-1]) for n in names])
    for table in (data.traits, data.skeleton_traits):
        assert len(table) == 600
        assert table.index.tolist() == list(range(600))
        np.testing.assert_array_equal(table["sacs"], sacs)
        for column, word in (
            ("breadth", "slender"),
            ("bend", "straight"),
            ("antennule_length", "short"),
            ("antennule_posture", "spread"),
        ):
            of_word = np.char.find(names, word) >= 0
            assert table[column][of_word].max() < table[column][~of_word].min(), column
    assert data.traits["bend"].between(0, 120).all()
    assert data.traits["antennule_posture"].between(45, 170).all()


def test_copepods_images_and_drawings_have_traits_of_their_own():
    data = make_copepods(400, n_cases=2, imbalance=0, image_size=16, random_state=0)
    for column in ("breadth", "bend", "antennule_length", "antennule_posture"):
        of_case = data.y == 0
        pair = [table[column][of_case] for table in (data.traits, data.skeleton_traits)]
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.25


def test_copepods_that_share_a_drawing_share_its_traits():
    data = make_copepods(60, n_cases=3, skeletons_per_case=2, random_state=0)
    drawings = data.skeletons.reshape(60, -1)
    _, drawing = np.unique(drawings, axis=0, return_inverse=True)
    assert (data.skeleton_traits.groupby(drawing.ravel()).nunique() == 1).all(axis=None)
    assert data.skeleton_traits["breadth"].nunique() == 6
    assert data.traits["breadth"].nunique() == 60


def test_copepods_accept_a_random_state_instance():
    seeded = make_copepods(8, n_cases=2, random_state=7)
    instance = np.random.RandomState(7)
    assert digest(make_copepods(8, n_cases=2, random_state=instance)) == digest(seeded)
    assert digest(make_copepods(8, n_cases=2, random_state=instance)) != digest(seeded)
    assert digest(make_copepods(8, n_cases=2, random_state=8)) != digest(seeded)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_samples": 15}, ValueError, "n_samples=15 is too small for n_cases=8"),
        ({"n_samples": 0}, ValueError, "n_samples == 0"),
        ({"n_samples": 20.0}, TypeError, "n_samples must be"),
        ({"n_cases": 1}, ValueError, "n_cases == 1"),
        ({"n_cases": 49}, ValueError, "n_cases == 49"),
        ({"imbalance": -0.1}, ValueError, "imbalance == -0.1"),
        ({"imbalance": float("inf")}, ValueError, "imbalance must be a finite number"),
        ({"ambiguity": 1.5}, ValueError, "ambiguity == 1.5"),
        ({"ambiguity": float("nan")}, ValueError, "ambiguity must be a finite number"),
        ({"ambiguity": "high"}, TypeError, "ambiguity must be"),
        ({"image_size": 8}, ValueError, "image_size == 8"),
        ({"image_size": (64, 64)}, TypeError, "image_size must be"),
        ({"skeletons_per_case": 0}, ValueError, "skeletons_per_case == 0"),
        ({"random_state": "seed"}, ValueError, "seed"),
    ],
)
def test_copepods_parameter_errors(parameters, error, message):
    with pytest.raises(error, match=message):
        make_copepods(**{"n_samples": 20, **parameters})


# load_digit_pairs


def test_digits_shapes_and_dtypes(digits):
    assert digits.images.shape == digits.skeletons.shape == (1797, 32, 32)
    assert digits.images.dtype == digits.skeletons.dtype == np.uint8
    assert digits.y.dtype == np.int64
    assert set(np.unique(digits.skeletons)) == {0, 1}
    np.testing.assert_array_equal(digits.y, load_digits().target)
    np.testing.assert_array_equal(digits.case_names, list("0123456789"))
    assert "CC BY 4.0" in digits.DESCR


def test_digits_are_the_scans_in_dark_ink_on_white(digits):
    scans = load_digits().images
    inner = 255 - digits.images[:, 4:28, 4:28].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4))
    for row in range(0, 1797, 100):
        assert np.corrcoef(inner[row].ravel(), scans[row].ravel())[0, 1] > 0.85
    assert (digits.images[:, 0].mean(axis=1) > 250).mean() > 0.95


def test_digit_skeletons_are_thin_and_in_one_piece(digits):
    for skeleton in digits.skeletons:
        assert ndimage.label(skeleton, structure=EIGHT_CONNECTED)[1] == 1
    # Thin: (nearly) no pixel has all of its 8 neighbours, or is part of a 2 x 2 block.
    blocks = ndimage.minimum_filter(digits.skeletons, (1, 2, 2))
    assert blocks.sum() < 0.01 * digits.skeletons.sum()
    assert digits.skeletons.sum(axis=(1, 2)).min() >= 8


def test_digit_skeletons_look_like_their_class(digits):
    n_holes = np.array([ndimage.label(np.pad(s == 0, 1))[1] - 1 for s in digits.skeletons])
    assert (n_holes[digits.y == 0] == 1).mean() > 0.9
    assert (n_holes[digits.y == 1] == 0).mean() > 0.95
    assert (n_holes[digits.y == 8] == 2).mean() > 0.6
    assert accuracy(digits.skeletons[::3], digits.y[::3]) > 0.9


def likeness(skeletons, images):
    """Correlation (n, m) of each skeleton, drawn with a thick pen, with the ink of each image."""
    thick = ndimage.gaussian_filter(skeletons.astype(float), (0, 1, 1))
    lines, ink = (
        (a - a.mean(axis=1, keepdims=True)) / a.std(axis=1, keepdims=True)
        for a in (thick.reshape(len(thick), -1), 255.0 - images.reshape(len(images), -1))
    )
    return lines @ ink.T / lines.shape[1]


def test_digit_skeleton_comes_from_another_scan_of_the_class(digits):
    for digit in range(10):
        rows = digits.y == digit
        alike = likeness(digits.skeletons[rows], digits.images[rows])
        source = alike.argmax(axis=1)
        assert (source == np.arange(len(source))).mean() < 0.05  # hardly the own scan
        assert alike.max(axis=1).mean() > np.diag(alike).mean() + 0.08
        assert len(set(source)) > 0.2 * len(source)  # and not a favourite few


def test_digit_pairs_of_two_rows_swap_their_skeletons():
    data = load_digit_pairs(imbalance=50, random_state=0)
    np.testing.assert_array_equal(np.bincount(data.y), [178] + [2] * 9)
    for digit in range(1, 10):
        rows = data.y == digit
        alike = likeness(data.skeletons[rows], data.images[rows])
        assert alike[0, 1] + alike[1, 0] > alike[0, 0] + alike[1, 1]


def test_digit_skeletons_are_each_lent_once(digits):
    assert n_distinct(digits.skeletons) > 0.95 * n_distinct(digits.images)
    other = load_digit_pairs(random_state=1)
    assert (other.skeletons != digits.skeletons).any(axis=(1, 2)).mean() > 0.95
    for digit in (0, 7):  # another pairing of the same skeletons
        ours, theirs = (
            np.unique(d.skeletons[d.y == digit].reshape(-1, 32 * 32), axis=0)
            for d in (digits, other)
        )
        np.testing.assert_array_equal(ours, theirs)


def test_digits_imbalance_follows_the_power_law(digits):
    data = load_digit_pairs(imbalance=1.5, random_state=0)
    expected = np.bincount(digits.y) * np.arange(1, 11) ** -1.5
    np.testing.assert_allclose(np.bincount(data.y), expected, atol=0.5)
    whole = {image.tobytes() for image in digits.images}
    assert {image.tobytes() for image in data.images} < whole


@pytest.mark.parametrize("image_size", [16, 50])
def test_digits_image_size(image_size):
    data = load_digit_pairs(imbalance=3, image_size=image_size, random_state=0)
    assert data.images.shape[1:] == data.skeletons.shape[1:] == (image_size, image_size)
    for skeleton in data.skeletons:
        assert ndimage.label(skeleton, structure=EIGHT_CONNECTED)[1] == 1


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"image_size": 15}, ValueError, "image_size == 15"),
        ({"image_size": 32.0}, TypeError, "image_size must be"),
        ({"imbalance": -1}, ValueError, "imbalance == -1"),
        ({"imbalance": None}, TypeError, "imbalance must be"),
        ({"imbalance": float("nan")}, ValueError, "imbalance must be a finite number"),
    ],
)
def test_digits_parameter_errors(parameters, error, message):
    with pytest.raises(error, match=message):
        load_digit_pairs(**parameters)


# Both


LOADERS = {
    "copepods": (make_copepods, {"n_samples": 12, "n_cases": 2, "random_state": 0}),
    "digits": (load_digit_pairs, {"imbalance": 2.0, "random_state": 0}),
}


@pytest.mark.parametrize("name", LOADERS)
def test_return_X_y_is_the_pixel_layout(name):
    load, parameters = LOADERS[name]
    data = load(**parameters)
    X, y = load(**parameters, return_X_y=True)
    assert X.shape == (len(y), 2, *data.images.shape[1:])
    assert X.dtype == np.uint8
    np.testing.assert_array_equal(X[:, 0], data.images)
    np.testing.assert_array_equal(X[:, 1], 255 * data.skeletons)
    np.testing.assert_array_equal(y, data.y)


def digests(**parameters):
    return [digest(load(**{**kept, **parameters})) for load, kept in LOADERS.values()]


@pytest.mark.slow
def test_random_state_alone_decides():
    """Equal in a new process with another global seed; the global generator is left alone."""
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    here = digests()
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert not set(here) & set(digests(random_state=1))
    code = (
        "import runpy, numpy as np; np.random.seed(2); "
        f"print(*runpy.run_path({__file__!r})['digests']())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.split() == here
