import pytest

from skpair import PairMatcher


@pytest.fixture(scope="module")
def matcher(features):
    return PairMatcher(max_epochs=3, random_state=0).fit(*features)
