"""From scores to decisions: thresholds of pairs, and probabilities that can be believed.

Learns from half of 1000 drawn copepods, sets the thresholds and the temperature by a quarter, and
judges them on the last quarter. Writes a figure; it needs matplotlib::

    python examples/thresholds.py [docs/images/thresholds.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

from skpair import PairMatcher
from skpair.datasets import make_copepods
from skpair.metrics import expected_calibration_error

STRATEGIES = [
    {"strategy": "balanced_accuracy"},
    {"strategy": "accuracy"},
    {"strategy": "f_beta", "beta": 1.0},
    {"strategy": "max_tpr", "min_rate": 0.99},
    {"strategy": "max_tnr", "min_rate": 0.9},
]


def main(path):
    """Print the decisions on the test rows, and draw what they rest on."""
    X, y = make_copepods(1000, image_size=32, random_state=0, return_X_y=True)
    X, held_X, y, held_y = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    held_X, test_X, held_y, test_y = train_test_split(
        held_X, held_y, test_size=0.5, stratify=held_y, random_state=0
    )
    matcher = PairMatcher(random_state=0).fit(X, y)
    same = (test_y[:, None] == test_y).ravel()
    proba = matcher.pair_proba_matrix(test_X).ravel()

    print(f"{proba.size} pairs of test rows, {same.mean():.0%} of them of one case\n")
    print("strategy                       threshold  same called same  different called different")
    rows = [("by the training rows", matcher.threshold_)]
    for how in STRATEGIES:
        matcher.calibrate_threshold(held_X, held_y, **how)
        more = "".join(f", {k}={v}" for k, v in how.items() if k != "strategy")
        rows.append((how["strategy"] + more, matcher.threshold_))
    for name, threshold in rows:
        rates = confusion_matrix(same, proba >= threshold, normalize="true").diagonal()
        print(f"{name:30s} {threshold:9.3f} {rates[1]:17.3f} {rates[0]:27.3f}")

    before = matcher.predict_proba(test_X)
    matcher.calibrate_probabilities(held_X, held_y)
    after = matcher.predict_proba(test_X)
    print(f"\ntemperature {matcher.temperature} -> {matcher.temperature_:.3f}")
    for name, probabilities in (("before", before), ("after", after)):
        held_out = matcher.calibration_error_[name]
        error = expected_calibration_error(test_y, probabilities, classes=matcher.classes_)
        print(
            f"expected calibration error {name}: {held_out:.3f} held out, {error:.3f} on test rows"
        )
    draw(path, same, proba, rows, test_y, {"before": before, "after": after})
    print(f"\nWritten to {path}.")


def draw(path, same, proba, rows, y, probabilities):
    """Write the pairs by their probability with the thresholds, and confidence against truth."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.linspace(0, 1, 41)
    left.hist(proba[~same], bins, label="two cases", alpha=0.6, density=True)
    left.hist(proba[same], bins, label="one case", alpha=0.6, density=True)
    for color, (name, threshold) in enumerate(rows, 2):
        left.axvline(threshold, label=name, color=f"C{color}", linewidth=1)
    left.set(yscale="log", xlabel="pair_proba", ylabel="density", title="Pairs and thresholds")
    left.legend(fontsize=7)
    right.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for name, p in probabilities.items():
        confidence, named_rightly = p.max(axis=1), p.argmax(axis=1) == y
        groups = np.array_split(np.argsort(confidence), 8)  # as many rows in each
        means = [(confidence[g].mean(), named_rightly[g].mean()) for g in groups]
        right.plot(*zip(*means, strict=True), marker="o", label=name)
    right.set(
        xlabel="probability of the named case",
        ylabel="how often it is the case",
        title="Calibration of predict_proba",
    )
    right.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "docs/images/thresholds.png")
