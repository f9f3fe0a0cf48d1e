"""New cases without training: a few drawings teach a fitted matcher another digit.

Learns eight digits, is shown drawings of two others, and names images of all ten, before and after
the scores of the new ones are raised by images of the eight that were held out. Writes a figure; it
needs matplotlib::

    python examples/new_cases.py [docs/images/new_cases.png]
"""

import sys

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.model_selection import train_test_split

from skpair import PairMatcher
from skpair.datasets import load_digit_pairs
from skpair.inspection import NewCaseCurveDisplay
from skpair.metrics import harmonic_mean_accuracy

NEW = (4, 7)
DRAWINGS = 5


def main(path):
    """Add two cases, count what is named rightly before and after, and remove one again."""
    data = load_digit_pairs(imbalance=0.7, random_state=0)
    images, skeletons, y = data.images, data.skeletons, data.y
    train, test = train_test_split(np.arange(len(y)), stratify=y, random_state=0)
    learned = train[~np.isin(y[train], NEW)]
    learned, held_out = train_test_split(
        learned, test_size=0.15, stratify=y[learned], random_state=0
    )
    matcher = PairMatcher(random_state=0)
    matcher.fit(images[learned], skeletons[learned], y[learned])
    report("Learned", matcher, images[test], y[test])

    few = np.concatenate([train[y[train] == digit][:DRAWINGS] for digit in NEW])
    matcher.add_cases(skeletons[few], y[few])
    report(f"{DRAWINGS} drawings each of {NEW} added", matcher, images[test], y[test])
    matcher.calibrate_new_cases(images[held_out], false_alarm=0.1)
    report("Their scores raised", matcher, images[test], y[test])
    curve = NewCaseCurveDisplay.from_estimator(matcher, images[test], y[test])
    print(f"  area under the curve of known and new accuracy: {curve.area:.3f}")
    print(f"  {matcher.gallery_}, by case:")
    kinds = ["images", "skeletons"]
    print(pd.DataFrame(matcher.gallery_.counts.T, kinds, matcher.gallery_.cases).to_string())

    shown = np.concatenate([test[y[test] == digit][:4] for digit in NEW])
    scores, found = matcher.kneighbors(images[shown], 3)
    known = np.concatenate([skeletons[learned], skeletons[few]])  # as the gallery has them
    draw(path, images[shown], known[found], y[np.concatenate([learned, few])][found], y[shown])
    print(f"  Their nearest drawings are in {path}.")

    matcher.remove_cases([NEW[0]])
    report(f"{NEW[0]} removed", matcher, images[test], y[test])


def report(title, matcher, images, y):
    """Print how many images of old and of new cases are named rightly."""
    named = matcher.predict(images)
    old = [np.mean(named[y == digit] == digit) for digit in np.unique(y) if digit not in NEW]
    print(f"{title}: cases {matcher.classes_.tolist()}")
    print(f"  balanced accuracy on the old ones {np.mean(old):.3f}")
    print(f"  harmonic mean with that on the new ones {harmonic_mean_accuracy(y, named, NEW):.3f}")
    for digit in NEW:
        print(f"  of images of {digit}, {(named == y)[y == digit].mean():.0%} are named so")


def draw(path, images, found, cases, y):
    """Write images, each above the drawings that are nearest to it."""
    figure = Figure(figsize=(1.2 * len(images), 5), layout="constrained")
    axes = figure.subplots(1 + found.shape[1], len(images))
    for column, digit in enumerate(y):
        axes[0, column].imshow(images[column], cmap="gray")
        for axis, drawing, case in zip(axes[1:, column], found[column], cases[column], strict=True):
            axis.imshow(drawing, cmap="gray_r")
            for spine in axis.spines.values():
                spine.set(color="tab:green" if case == digit else "tab:red", linewidth=3)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("nearest drawing")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "docs/images/new_cases.png")
