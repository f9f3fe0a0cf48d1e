"""None of these: abstain on digits of a case that was never learned.

Learns all digits but one. Images of that one come among the test rows: they should be called
unknown. Beside it stands the usual practice, a classifier of images that abstains where its highest
probability is low. Writes a figure; it needs matplotlib::

    python examples/unknown_cases.py [docs/images/unknown_cases.png]

With `all`, leaves out each digit in turn, and prints the means (a few minutes)::

    python examples/unknown_cases.py all
"""

import sys

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skpair import PairEncoder, PairMatcher
from skpair.comparison import image_only
from skpair.datasets import load_digit_pairs
from skpair.metrics import coverage_accuracy_curve

UNKNOWN = -1


def judge(new):
    """Leave out the digit `new`: gives the scores, and the curves of both ways to abstain."""
    X, y = load_digit_pairs(imbalance=1.0, random_state=0, return_X_y=True)
    known = np.flatnonzero(y != new)
    train, test = train_test_split(known, test_size=0.4, stratify=y[known], random_state=0)
    held_out, test = train_test_split(test, test_size=0.6, stratify=y[test], random_state=0)
    unknown = np.flatnonzero(y == new)[: len(test) // 4]  # every fifth image, at most
    asked = np.concatenate([test, unknown])
    is_known = np.isin(asked, known)

    encoder = PairEncoder(random_state=0).fit(X[train], y[train])
    features = encoder.transform(X)
    matcher = PairMatcher(unknown_label=UNKNOWN, random_state=0).fit(features[train], y[train])
    matcher.calibrate_novelty(features[held_out], false_alarm=0.05)
    # The encoder knows these rows, so that a C chosen on them would be too weak.
    control = image_only().set_params(classifier__C=0.01).fit(features[train], y[train])

    found = matcher.predict(features[asked])
    named = matcher.classes_[matcher.predict_proba(features[asked]).argmax(axis=1)]
    scores = {"skpair": {}, "image only": {}}
    curves = {}
    for name, novelty, names in (
        ("skpair", matcher.novelty_score(features[asked]), named),
        (
            "image only",
            1 - control.predict_proba(features[asked]).max(axis=1),
            control.predict(features[asked]),
        ),
    ):
        of_known = coverage_accuracy_curve(y[asked][is_known], names[is_known], novelty[is_known])
        curves[name] = coverage_accuracy_curve(y[asked], names, novelty)
        scores[name] = {
            "AUROC of novelty": roc_auc_score(~is_known, novelty),
            "known, all named": of_known[1][-1],
            "known, 90 % named": at_coverage(of_known),
            "all, all named": curves[name][1][-1],
            "all, 90 % named": at_coverage(curves[name]),
        }
    scores["skpair"] |= {
        "false alarms": (found[is_known] == UNKNOWN).mean(),
        "unknown found": (found[~is_known] == UNKNOWN).mean(),
    }
    return pd.DataFrame(scores), curves


def at_coverage(curve, wanted=0.9):
    """Give the accuracy where at least so much is named."""
    coverage, accuracy, _ = curve
    return accuracy[np.argmax(coverage >= wanted)]


def draw(path, curves):
    """Write the curves of coverage and accuracy."""
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axis = figure.subplots()
    for name, (coverage, accuracy, _) in curves.items():
        axis.plot(coverage, accuracy, label=name)
    axis.set(
        xlabel="coverage: fraction of images that are named",
        ylabel="accuracy on these",
        title="Digits, every fifth of a case never learned",
    )
    axis.legend()
    figure.savefig(path, dpi=100)


def main(argument):
    """Judge one digit or all, and print the scores."""
    if argument == "all":
        scores = [judge(new)[0] for new in range(10)]
        print("Means over the ten digits that were left out:\n")
        print(pd.concat(scores).groupby(level=0, sort=False).mean().round(3).to_string())
        return
    scores, curves = judge(new=8)
    print("The digit 8 was left out:\n")
    print(scores.round(3).to_string(na_rep=""))
    draw(argument, curves)
    print(f"\nWritten to {argument}.")


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "docs/images/unknown_cases.png")
