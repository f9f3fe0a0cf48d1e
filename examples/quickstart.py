"""Match drawn copepods with skeletons: name cases, decide pairs, find skeletons.

Draws 1969 photographs and as many skeletons in 8 very unequally frequent cases, learns from three
quarters of them, and reports on the rest. Where matplotlib is installed, a picture of test
photographs with the skeletons found for them is written to the working folder::

    python examples/quickstart.py
"""

import importlib.util
from time import perf_counter

import numpy as np
from sklearn.metrics import balanced_accuracy_score, classification_report
from sklearn.model_selection import train_test_split

from skpair import PairMatcher
from skpair.datasets import make_copepods
from skpair.metrics import pair_average_precision


def main():
    """Run the whole job, and print what comes out."""
    data = make_copepods(random_state=0)
    train, test = train_test_split(np.arange(len(data.y)), stratify=data.y, random_state=0)
    images, skeletons, y = data.images[test], data.skeletons[test], data.y[test]
    print(f"{len(train)} pairs to learn from, {len(test)} to test on. Pairs to learn each case:")
    for name, count in zip(data.case_names, np.bincount(data.y[train]), strict=True):
        print(f"{count:6d}  {name}")

    started = perf_counter()
    matcher = PairMatcher(random_state=0)
    matcher.fit(data.images[train], data.skeletons[train], data.y[train])
    print(f"Fitted in {perf_counter() - started:.0f} s.")

    print("\n1. Name the case of a photograph; no skeleton of the test rows is looked at\n")
    named = matcher.predict(images)
    print(classification_report(y, named, target_names=data.case_names, zero_division=0))
    print(f"Balanced accuracy {balanced_accuracy_score(y, named):.3f}")

    print("\n2. Decide whether a photograph and a skeleton share a case\n")
    proba = matcher.pair_proba_matrix(images, skeletons)  # every photograph with every skeleton
    print(
        f"Average precision over all {proba.size} pairs {pair_average_precision(y, y, proba):.3f}: "
        f"mean over the photographs' cases, {1 / len(np.unique(y)):.3f} by chance"
    )
    print(f"Pairs with a probability of at least {matcher.threshold_:.3f} are called the same:")
    as_they_are = np.arange(len(y))
    shuffled = np.random.default_rng(0).permutation(len(y))
    for name, rows in (("as they are", as_they_are), ("shuffled", shuffled)):
        called_same = matcher.predict_pairs(images, skeletons[rows])
        for kind, truth in (("the same case", y == y[rows]), ("two cases", y != y[rows])):
            if truth.any():
                share = f"{called_same[truth].sum():3d} of {truth.sum():3d}"
                print(f"  skeletons {name}: {share} pairs of {kind}")

    print("\n3. Find the known skeletons that fit a photograph best\n")
    if importlib.util.find_spec("matplotlib") is None:
        print("No picture: matplotlib is not installed (pip install '.[plot]').")
        return
    shown = np.unique(y, return_index=True)[1]  # one photograph of each case
    scores, found = matcher.kneighbors(images[shown])
    right = data.y[train[found]] == y[shown][:, None]
    names = data.case_names[y[shown]]
    draw("quickstart.png", images[shown], names, data.skeletons[train[found]], scores, right)
    print("Written to quickstart.png; frames are green where the case is right, else red.")


def draw(path, images, names, skeletons, scores, right):
    """Write photographs, each with its best skeletons beside it, to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.5 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 1 + skeletons.shape[1])
    for row, name in enumerate(names):
        photograph = axes[row, 0]
        photograph.imshow(images[row], cmap="gray", vmin=0, vmax=255)
        label = name.replace(", ", "\n").replace(" ant", "\nant")
        photograph.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        for rank, axis in enumerate(axes[row, 1:]):
            axis.imshow(skeletons[row, rank], cmap="gray_r")
            axis.set_title(f"{scores[row, rank]:.2f}", fontsize=8)
            for spine in axis.spines.values():
                spine.set(color="tab:green" if right[row, rank] else "tab:red", linewidth=3)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
