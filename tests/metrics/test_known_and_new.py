"""Metrics of known and new cases together."""

import numpy as np
import pytest

from skpair.metrics import harmonic_mean_accuracy, known_new_auc, known_new_curve

CLASSES = np.array(["a", "b", "x", "y"])


def test_harmonic_mean_of_means_over_cases():
    y = ["a"] * 8 + ["b"] * 2 + ["x"] * 4 + ["y"] * 1
    named = ["a"] * 6 + ["x"] * 2 + ["b", "a"] + ["x"] * 1 + ["a"] * 3 + ["y"]
    known, new = (6 / 8 + 1 / 2) / 2, (1 / 4 + 1) / 2
    expected = 2 * known * new / (known + new)
    assert harmonic_mean_accuracy(y, named, ["x", "y"]) == pytest.approx(expected)
    assert harmonic_mean_accuracy(y, ["a"] * 15, ["x", "y"]) == 0
    assert harmonic_mean_accuracy(y, ["unknown"] * 15, ["x", "y"]) == 0
    assert harmonic_mean_accuracy(y, y, "x") == harmonic_mean_accuracy(y, y, ["x"]) == 1


def test_the_curve_is_what_the_offsets_do():
    rng = np.random.default_rng(0)
    y = rng.choice(CLASSES, size=200, p=[0.5, 0.2, 0.2, 0.1])
    scores = np.round(8 * rng.normal(size=(200, 4))) / 8 + 0.75 * (y[:, None] == CLASSES)
    known, new, offsets = known_new_curve(y, scores, classes=CLASSES, new_cases=["x", "y"])
    assert offsets[0] == -np.inf and (np.diff(offsets) > 0).all()
    assert (np.diff(known) <= 1e-12).all() and (np.diff(new) >= -1e-12).all()
    assert new[0] == 0 and known[-1] == pytest.approx(0)
    for i in range(1, len(offsets) - 1, 7):
        between = (offsets[i] + offsets[i + 1]) / 2
        named = CLASSES[(scores + between * np.isin(CLASSES, ["x", "y"])).argmax(axis=1)]
        by_case = [np.mean(named[y == case] == case) for case in CLASSES]
        assert known[i] == pytest.approx(np.mean(by_case[:2]))
        assert new[i] == pytest.approx(np.mean(by_case[2:]))
    area = known_new_auc(y, scores, classes=CLASSES, new_cases=["x", "y"])
    assert area == pytest.approx(np.trapezoid(known, new)) and 0 < area < 1


def test_areas_of_the_perfect_and_the_worst():
    y = np.repeat(CLASSES, 3)
    perfect = (y[:, None] == CLASSES).astype(float)
    how = {"classes": CLASSES, "new_cases": ["y"]}
    assert known_new_auc(y, perfect, **how) == 1
    assert known_new_auc(y, -perfect, **how) == 0
    equal = np.zeros((12, 4))
    known, new, offsets = known_new_curve(y, equal, **how)
    assert known.tolist() == pytest.approx([1 / 3, 0]) and new.tolist() == [0, 1]
    assert offsets.tolist() == [-np.inf, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new_cases": ["a", "b", "x", "y"]}, "y_true holds new cases only"),
        ({"new_cases": ["z"]}, "y_true holds known cases only"),
        ({"new_cases": [1]}, "Mix of label input types"),
        ({"classes": CLASSES[:3]}, "4 columns, but there are 3 cases"),
        ({"classes": ["a", "b", "c", "d"]}, "some of the classes, but not all"),
        ({"y_true": ["a", "x"]}, "inconsistent numbers of samples"),
        ({"scores": np.full((8, 4), np.nan)}, "scores contains NaN"),
    ],
)
def test_odd_input(change, message):
    given = {
        "y_true": np.repeat(CLASSES, 2),
        "scores": np.zeros((8, 4)),
        "classes": CLASSES,
        "new_cases": ["x"],
        **change,
    }
    y, scores = given.pop("y_true"), given.pop("scores")
    with pytest.raises((ValueError, TypeError), match=message):
        known_new_curve(y, scores, **given)
