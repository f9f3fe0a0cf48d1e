"""New cases without training: a few drawings teach a fitted matcher another digit.

Learns eight digits, is shown drawings of two others, and names images of all ten: as the scores
come, as they are raised by images that `fit` has held out, and by others that were kept apart for
it. Writes a figure; it needs matplotlib. With `all`, it leaves out each case of two data sets in
turn and prints the table of the page "N-pair loss and pairwise training" of the documentation::

    python examples/new_cases.py [docs/images/new_cases.png]
    python examples/new_cases.py all
"""

import copy
import sys

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from scipy import ndimage
from sklearn.model_selection import StratifiedKFold, train_test_split

from skpair import PairMatcher
from skpair.datasets import load_digit_pairs, make_copepods
from skpair.inspection import NewCaseCurveDisplay
from skpair.metrics import harmonic_mean_accuracy, known_new_auc

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
    offsets, matcher.new_case_offsets_ = matcher.new_case_offsets_, None
    report(
        f"{DRAWINGS} drawings each of {NEW} added, as scores come", matcher, images[test], y[test]
    )
    matcher.new_case_offsets_ = offsets
    report("Raised by what fit held out", matcher, images[test], y[test])
    matcher.calibrate_new_cases(images[held_out], false_alarm=0.1)
    report("Raised by others", matcher, images[test], y[test])
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


# ---- each case in turn ---------------------------------------------------------------------------


def leave_out_all():
    """Print what becomes of each case that was left out, in the mean."""
    digits = load_digit_pairs(imbalance=1.0, random_state=0)
    copepods = make_copepods(image_size=32, random_state=0)
    for name, data in (("digits", digits), ("drawn copepods", copepods)):
        jobs = (delayed(leave_out)(data, new) for new in np.unique(data.y))
        rows = sum(Parallel(2)(jobs), [])
        columns = ["new found", "known right", "harmonic mean", "area", "taken"]
        table = pd.DataFrame(rows, columns=["way", "drawings", *columns])
        means = table.groupby(["way", "drawings"], sort=False)[columns].mean()
        print(f"{name}, each of {len(np.unique(data.y))} cases in turn")
        print(means.round(3).to_string(), end="\n\n")


def leave_out(data, new):
    """Learn without a case, and name by 1, 3 and 10 of its drawings: a row for each way."""
    images, skeletons, y = data.images, data.skeletons, data.y
    train, test = next(StratifiedKFold(2, shuffle=True, random_state=0).split(y, y))
    known, drawn = train[y[train] != new], train[y[train] == new]
    matcher = PairMatcher(random_state=0).fit(images[known], skeletons[known], y[known])
    rows = []
    for n in (1, 3, 10):
        few = drawn[:n]
        grown = copy.deepcopy(matcher).add_cases(skeletons[few], y[few])
        scores, offsets = grown.decision_function(images[test]), grown.new_case_offsets_
        pixels, offset = by_pixels(images, skeletons, y, known, few, test, grown.classes_)
        column = (grown.classes_ == new) * offset
        for way, scored in (
            ("N-pair, scores as they come", scores - offsets),
            ("N-pair, as add_cases leaves it", scores),
            ("nearest pixels, as they come", pixels),
            ("nearest pixels, raised alike", pixels + column),
        ):
            rows.append((way, n, *judge(y[test], scored, grown.classes_, new)))
    return rows


def judge(y, scores, classes, new):
    """Accuracy on the new case and the known ones, their harmonic mean, area, share taken."""
    named = classes[scores.argmax(axis=1)]
    known = [np.mean(named[y == case] == case) for case in classes if case != new]
    return (
        np.mean(named[y == new] == new),
        np.mean(known),
        harmonic_mean_accuracy(y, named, [new]),
        known_new_auc(y, scores, classes=classes, new_cases=[new]),
        np.mean(named[y != new] == new),
    )


def by_pixels(images, skeletons, y, known, few, test, classes):
    """Compare blurred pixels without training: scores, and an offset by a tenth of known images."""
    dark, ink = blurred(255.0 - images), blurred(skeletons)
    sums = np.stack([ink[known[y[known] == case]].sum(axis=0) for case in classes])
    counts = np.array([(y[known] == case).sum() for case in classes])[:, None]
    new = counts[:, 0] == 0
    sums[new], counts[new] = ink[few].sum(axis=0), len(few)
    means = sums / counts
    # what is known does not count its own drawing
    own = np.searchsorted(classes, y[known])
    scores = dark[known] @ means.T
    others = (sums[own] - ink[known]) / np.maximum(counts[own] - 1, 1)
    scores[np.arange(len(known)), own] = (dark[known] * others).sum(axis=1)
    lead = scores[:, ~new].max(axis=1) - scores[:, new][:, 0]
    return dark[test] @ means.T, np.quantile(lead, 0.1)


def blurred(pictures):
    """Blurred, standardized rows of pixels."""
    smooth = ndimage.gaussian_filter(pictures.astype(float), (0, 2, 2))[:, ::3, ::3]
    rows = smooth.reshape(len(smooth), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


if __name__ == "__main__":
    if sys.argv[1:] == ["all"]:
        leave_out_all()
    else:
        main(sys.argv[1] if sys.argv[1:] else "docs/images/new_cases.png")
