import numpy as np
import pytest
import torch

from skpair.known import gallery as module
from skpair.known.gallery import Gallery, nearest, unit

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


class Compared(torch.nn.Module):
    """A loss that compares by rounded products, so that many are equal; it tells how many."""

    most = 0

    def pair_logits(self, images, skeletons):
        logits = (images * skeletons).sum(-1).round()
        self.most = max(self.most, logits.numel())
        return logits


def test_of_equal_skeletons_the_lower_row_is_nearer():
    rng = np.random.default_rng(0)
    images, skeletons = (rng.normal(size=(n, 2)).astype(np.float32) for n in (20, 300))
    logits = np.round(images @ skeletons.T)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :50]
    scores, rows = nearest(images, skeletons, 50, Compared())
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(logits, expected, axis=1))


@pytest.mark.parametrize("query_is_image", [True, False])
def test_probabilities_of_many_queries_go_by_blocks(monkeypatch, query_is_image):
    queries = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    whole, blocks = Compared(), Compared()
    expected = known().case_probability(queries, whole, query_is_image=query_is_image)
    assert whole.most == 1500
    monkeypatch.setattr(module, "_BLOCK", 400)
    found = known().case_probability(queries, blocks, query_is_image=query_is_image)
    np.testing.assert_array_equal(found, expected)
    assert blocks.most <= 100
    others, cases = (SKELETONS, SKELETON_CASES) if query_is_image else (IMAGES, IMAGE_CASES)
    p = 1 / (1 + np.exp(-np.round(queries @ others.T)))
    for c in (0, 1):
        np.testing.assert_allclose(found[:, c], p[:, cases == c].mean(axis=1), rtol=1e-5)


def test_the_gallery_is_averaged_once(monkeypatch):
    gallery = known()
    before = similarity(gallery, "both")
    monkeypatch.setattr(Gallery, "_mean_examples", None)
    np.testing.assert_array_equal(similarity(gallery, "both"), before)
    with pytest.raises(TypeError):  # not the means of other kinds
        similarity(gallery, "images")
