import numpy as np
import pytest

from skpair.learning.sampling import MIN_STEPS, PairSampler

UNEQUAL = np.repeat([0, 1, 2, 3], [40, 13, 5, 1])  # the last case has one row
STRATEGIES = pytest.mark.parametrize("strategy", ["balanced", "natural"])


def sampler(y, batch_size, strategy="balanced", seed=0):
    return PairSampler(np.asarray(y), batch_size, strategy, np.random.RandomState(seed))


def counts(batches, n_rows):
    """How often every row was used, as image and as skeleton."""
    kinds = [np.concatenate(rows) for rows in zip(*batches, strict=True)]
    return [np.bincount(rows, minlength=n_rows) for rows in kinds]


@STRATEGIES
@pytest.mark.parametrize("batch_size", [2, 3, 16, 128])
def test_image_and_skeleton_share_a_case_position_by_position(strategy, batch_size):
    draws = sampler(UNEQUAL, batch_size, strategy)
    steps = list(draws)
    assert len(steps) == len(draws)
    for images, skeletons in steps:
        assert len(images) == len(skeletons) <= batch_size
        np.testing.assert_array_equal(UNEQUAL[images], UNEQUAL[skeletons])


@STRATEGIES
def test_skeletons_are_dealt_anew_to_the_images_of_their_case(strategy):
    y = np.repeat([0, 1], 6)
    draws = sampler(y, 12, strategy)
    partners = {}
    for _ in range(20):
        for images, skeletons in draws:
            for image, skeleton in zip(images, skeletons, strict=True):
                partners.setdefault(image, set()).add(skeleton)
    # in some 160 steps every image meets every skeleton of its case, and no other
    assert {image: sorted(met) for image, met in partners.items()} == {
        image: list(range(6 * y[image], 6 * y[image] + 6)) for image in range(12)
    }


@pytest.mark.parametrize("batch_size, tuples", [(4, 1), (7, 1), (8, 2), (59, 14), (1000, 14)])
def test_a_balanced_step_holds_every_case_equally_often(batch_size, tuples):
    for images, _ in sampler(UNEQUAL, batch_size):
        assert np.bincount(UNEQUAL[images]).tolist() == [tuples] * 4
        # a tuple is every case once
        assert (np.sort(UNEQUAL[images].reshape(tuples, 4)) == [0, 1, 2, 3]).all()


def test_more_cases_than_fit_come_in_turns():
    y = np.repeat(np.arange(10), [30, 20, 10, 1, 1, 2, 2, 3, 3, 4])
    draws = sampler(y, 4)
    used = np.zeros(10, int)
    for _ in range(7):
        for images, _ in draws:
            assert len(set(y[images])) == len(images) == 4
            used[y[images]] += 1
            assert np.ptp(used) <= 1


@STRATEGIES
@pytest.mark.parametrize("y", [UNEQUAL, np.arange(30) % 10, np.arange(20) // 2 * 3, [0, 1]])
@pytest.mark.parametrize("batch_size", [2, 7, 32, 128])
def test_no_row_is_starved(y, batch_size, strategy):
    y = np.asarray(y)
    draws = sampler(y, batch_size, strategy)
    total = np.zeros((2, len(y)), int)
    for _ in range(11):
        total += counts(draws, len(y))
        for used in total:
            for case in np.unique(y):
                assert np.ptp(used[y == case]) <= 1


def test_natural_steps_follow_the_frequencies():
    y = np.random.RandomState(0).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    draws = sampler(y, 100, "natural")
    assert len(draws) == 10
    steps = list(draws)
    for used in counts(steps, 1000):
        np.testing.assert_array_equal(used, 1)  # an epoch is every row once
    by_step = np.array([np.bincount(y[images], minlength=3) for images, _ in steps])
    assert by_step.std(axis=0).max() < 8  # hypergeometric: sqrt(100 * 0.6 * 0.4 * 0.9) is 4.6


@STRATEGIES
def test_few_rows_still_make_several_steps_of_an_epoch(strategy):
    y = [0, 0, 0, 1, 1]
    steps = list(sampler(y, 128, strategy))
    assert len(steps) == MIN_STEPS
    assert {len(images) for images, _ in steps} == {4 if strategy == "balanced" else 5}
    if strategy == "natural":
        assert all(sorted(images) == [0, 1, 2, 3, 4] for images, _ in steps)


@STRATEGIES
def test_rows_of_a_case_come_in_random_order(strategy):
    orders = {tuple(images) for images, _ in sampler(np.arange(6) % 2, 6, strategy)}
    assert len(orders) > 1


@STRATEGIES
def test_the_rng_decides(strategy):
    def epochs(seed):
        draws = sampler(UNEQUAL, 16, strategy, seed)
        return np.array([[np.stack(step) for step in draws] for _ in range(3)])

    np.testing.assert_array_equal(epochs(3), epochs(3))
    assert (epochs(3) != epochs(4)).any()
    assert (epochs(3)[0] != epochs(3)[1]).any()  # epochs differ
    state = np.random.get_state()[1].copy()
    epochs(3)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@STRATEGIES
def test_any_codes_name_the_cases(strategy):
    codes = np.array([5, 0, 0, 5, 0, 5, 0])
    plain = [np.stack(step) for step in sampler(codes // 5, 4, strategy)]
    np.testing.assert_array_equal(plain, [np.stack(step) for step in sampler(codes, 4, strategy)])
    words = np.array(["wide", "narrow"])[codes // 5]
    assert all((words[i] == words[s]).all() for i, s in sampler(words, 4, strategy))


@pytest.mark.parametrize("strategy", ["balanced", "natural"])
def test_two_sets_of_different_size(strategy):
    y, y_skeletons = np.repeat([2, 5], [30, 10]), np.repeat([5, 2], [60, 3])
    sampler = PairSampler(y, 8, strategy, np.random.RandomState(0), y_skeletons)
    assert len(sampler) == -(-63 // 8)  # a pass over the larger kind
    images, skeletons = (np.concatenate(part) for part in zip(*sampler, strict=True))
    np.testing.assert_array_equal(y[images], y_skeletons[skeletons])
    for labels, rows in ((y, images), (y_skeletons, skeletons)):
        for case in (2, 5):
            times = np.bincount(rows, minlength=len(labels))[labels == case]
            assert np.ptp(times) <= 1  # each as often as the others
