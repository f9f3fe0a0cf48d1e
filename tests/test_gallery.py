import numpy as np
import pytest

from skpair.gallery import Gallery, unit

# Two cases in the plane. The known images of case 0 are spread, its skeletons are not.
IMAGES = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
IMAGE_CASES = np.array([0, 0, 1])
SKELETONS = np.array([[1, 0], [1, 0], [0, -1]], np.float32)
SKELETON_CASES = np.array([0, 0, 1])
QUERY = np.array([[1, 0]], np.float32)


def known(images=IMAGES, image_cases=IMAGE_CASES):
    return Gallery(np.arange(2), images, image_cases, SKELETONS, SKELETON_CASES)


def similarity(gallery, kinds, aggregate="mean", normalize=True):
    return gallery.case_similarity(QUERY, kinds=kinds, aggregate=aggregate, normalize=normalize)


@pytest.mark.parametrize(
    ("kinds", "examples"),
    [
        ("images", [[1, 1], [-1, 0]]),
        ("skeletons", [[1, 0], [0, -1]]),
        # each kind counts alike: (0.71, 0.71) + (1, 0), not the mean of all four examples
        ("both", [[2**-0.5 + 1, 2**-0.5], [-1, -1]]),
    ],
)
def test_mean_is_the_cosine_with_the_mean_direction(kinds, examples):
    expected = QUERY @ unit(np.array(examples, float)).T
    np.testing.assert_allclose(similarity(known(), kinds), expected, rtol=1e-6)


def test_mean_without_the_cosine_keeps_lengths():
    expected = [[(0.5 + 1) / 2, -0.5]]
    np.testing.assert_allclose(similarity(known(), "both", normalize=False), expected)


def test_max_takes_the_most_similar_example_of_each_kind():
    np.testing.assert_allclose(similarity(known(), "both", "max"), [[1, -0.5]])


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_a_case_known_by_one_kind_is_compared_with_that(aggregate):
    gallery = known(IMAGES[:2], IMAGE_CASES[:2])
    both = similarity(gallery, "both", aggregate)
    np.testing.assert_allclose(both[:, 1], similarity(gallery, "skeletons", aggregate)[:, 1])
    assert gallery.counts.tolist() == [[2, 2], [0, 1]]


def test_the_gallery_is_averaged_once(monkeypatch):
    gallery = known()
    before = similarity(gallery, "both")
    monkeypatch.setattr(Gallery, "_mean_examples", None)
    np.testing.assert_array_equal(similarity(gallery, "both"), before)
    with pytest.raises(TypeError):  # not the means of other kinds
        similarity(gallery, "images")
