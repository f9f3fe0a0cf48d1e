"""Pictures of what a matcher does."""

import matplotlib
import numpy as np
import pytest

from skpair import PairMatcher
from skpair.inspection import NewCaseCurveDisplay
from skpair.metrics import known_new_auc

matplotlib.use("Agg")


@pytest.fixture
def close():
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.mark.usefixtures("close")
def test_the_curve_of_a_matcher_and_where_it_is(features):
    X, y = features
    known = y != 3
    matcher = PairMatcher(max_epochs=5, random_state=0).fit(X[known], y[known])
    matcher.add_cases(X[~known], y[~known])
    matcher.new_case_offsets_[3] = 0.3
    display = NewCaseCurveDisplay.from_estimator(matcher, X, y, name="drawings", linestyle="--")
    scores = matcher.decision_function(X)
    area = known_new_auc(y, scores, classes=[0, 1, 2, 3], new_cases=[3])
    assert display.area == pytest.approx(area)
    named = matcher.predict(X)
    recall = [np.mean(named[y == case] == case) for case in range(4)]
    assert display.taken == pytest.approx((np.mean(recall[:3]), recall[3]))
    assert display.line_.get_label() == f"drawings (area {area:.2f})"
    assert display.line_.get_linestyle() == "--" and display.ax_.figure is display.figure_
    again = display.plot(display.ax_, name="again")
    assert len(again.ax_.lines) == 4 and again.line_.get_label().startswith("again")


@pytest.mark.usefixtures("close")
def test_rows_of_equal_scores_stay_known():
    display = NewCaseCurveDisplay.from_predictions(
        ["a", "b"], [[0.0, 0.0], [0.0, 0.0]], classes=["a", "b"], new_cases=["b"]
    )
    assert display.taken == (1, 0) and display.line_.get_label() == "area 0.50"
