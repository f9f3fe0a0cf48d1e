"""One seed, one result; and nobody else's random numbers are touched."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

from skpair import PairEncoder, PairMatcher
from skpair.learning import batches


def fit_and_embed(X, y):
    """Fit on pixels with one torch thread, as workers have, and give the embeddings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        encoder = PairEncoder(max_epochs=2)
        matcher = PairMatcher(encoder, training="fine_tune", max_epochs=3, random_state=0)
        return matcher.fit(X, y).transform(X)
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def expected(digits):
    return fit_and_embed(*digits)


@pytest.mark.slow
def test_again_in_one_process(digits, expected):
    np.testing.assert_array_equal(fit_and_embed(*digits), expected)


def test_another_seed_gives_another_result(digits):
    X, y = digits
    first, second = (
        PairMatcher(PairEncoder(max_epochs=1), max_epochs=1, random_state=seed).fit(X, y)
        for seed in (0, 1)
    )
    assert not np.array_equal(first.transform(X), second.transform(X))


@pytest.mark.slow
def test_in_workers(digits, expected):
    results = joblib.Parallel(n_jobs=2)(joblib.delayed(fit_and_embed)(*digits) for _ in range(2))
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.slow
def test_in_threads(digits):
    # the number of torch threads belongs to a thread: leave it alone, and compare among threads
    X, y = digits

    def fit(_):
        matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=2, random_state=0)
        return matcher.fit(X, y).transform(X)

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(fit, range(4))
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.slow
def test_in_a_new_process(digits, expected, tmp_path):
    np.savez(tmp_path / "digits.npz", X=digits[0], y=digits[1])
    code = (
        "import sys, hashlib, numpy as np; sys.path.insert(0, sys.argv[2])\n"
        "from test_reproducibility import fit_and_embed\n"
        "data = np.load(sys.argv[1])\n"
        "print(hashlib.sha256(fit_and_embed(data['X'], data['y']).tobytes()).hexdigest())"
    )
    folder = __file__.rpartition("/")[0]
    command = [sys.executable, "-c", code, str(tmp_path / "digits.npz"), folder]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert printed == hashlib.sha256(expected.tobytes()).hexdigest()


def test_feature_rows_do_not_depend_on_the_number_of_threads(features):
    def fit(X, y):
        return PairMatcher(max_epochs=5, random_state=0).fit(X, y).transform(X)

    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(fit(*features))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.slow
def test_small_towers_do_not_depend_on_the_number_of_threads(digits):
    X, y = digits
    before = torch.get_num_threads()
    try:
        weights = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            encoder = PairEncoder(max_epochs=2, random_state=0).fit(X, y)
            weights.append(torch.cat([p.detach().ravel() for p in encoder.towers_.parameters()]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*weights)


def test_a_fitted_matcher_hardly_depends_on_the_number_of_threads(digits):
    X, y = digits
    matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=2, random_state=0).fit(X, y)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(matcher.transform(X))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("random_state", [0, None])
def test_global_generators_are_left_alone(features, random_state):
    X, y = features
    np.random.seed(1)
    torch.manual_seed(1)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    PairMatcher(PairEncoder(max_epochs=1), max_epochs=1, random_state=random_state).fit(X, y)
    np.testing.assert_array_equal(np.random.get_state()[1], state[0])
    assert torch.equal(torch.get_rng_state(), state[1])


def test_global_seeds_do_not_matter(features):
    X, y = features
    results = []
    for seed in (0, 1):
        np.random.seed(seed)
        torch.manual_seed(seed)
        results.append(PairMatcher(max_epochs=2, random_state=0).fit(X, y).transform(X))
    np.testing.assert_array_equal(*results)


def test_a_generator_gives_fresh_results_in_a_reproducible_order(features):
    X, y = features
    runs = []
    for _ in range(2):
        rng = np.random.RandomState(0)
        matcher = PairMatcher(max_epochs=1, random_state=rng)
        runs.append([matcher.fit(X, y).transform(X) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][0], runs[0][1])


@pytest.mark.slow
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fit_works_without_gradients_around_it(digits, expected, mode):
    with mode():
        inside = fit_and_embed(*digits)
    np.testing.assert_array_equal(inside, expected)


def test_number_of_threads_is_left_alone(features):
    X, y = features
    before = torch.get_num_threads()
    PairMatcher(max_epochs=1).fit(X, y)
    assert torch.get_num_threads() == before


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pixels", "features"])
def test_rows_that_stay_on_the_device_are_the_same_rows(layouts, layout, monkeypatch):
    X, y = layouts[layout]
    matcher = PairMatcher(max_epochs=2, random_state=0)
    if layout == "pixels":
        matcher.set_params(encoder=PairEncoder(max_epochs=2), training="fine_tune")
    embedded = []
    for stay in (True, False):
        monkeypatch.setattr(batches, "_fits", lambda halves, device, stay=stay: stay)
        embedded.append(clone(matcher).fit(X, y).transform(X))
    np.testing.assert_array_equal(*embedded)
