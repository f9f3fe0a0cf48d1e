"""Find wrong labels: digits, 5 % of them labelled wrongly on purpose.

Prints how many of the wrong labels are in the first tenth of the queue, and writes the queue as
CSV, by default into the folder for temporary files. Where matplotlib is installed, the head of
the queue is drawn as well::

    python examples/review_labels.py [queue.csv [docs/images/review.png]]
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

from skpair import PairEncoder, PairMatcher
from skpair.datasets import load_digit_pairs
from skpair.inspection import review


def main(csv, figure):
    """Spoil labels, queue the rows, and print how many spoilt ones come first."""
    X, y = load_digit_pairs(image_size=24, imbalance=1.0, random_state=0, return_X_y=True)
    labels, wrong = spoil(y, 0.05, np.random.default_rng(0))
    print(f"{len(y)} rows, {wrong.sum()} with a wrong label.")
    matcher = PairMatcher(PairEncoder(max_epochs=10), random_state=0)
    queues = {
        "by the matcher that learned from them": review(matcher.fit(X, labels), X, labels),
        "by one that learned from other rows": review(matcher, X, labels, cv=5),
    }
    tenth = -(-len(y) // 10)  # rounded up
    print(f"Of the wrong labels, in the first {tenth} rows of the queue:")
    for how, queue in queues.items():
        print(f"  judged {how}: {wrong[queue.index[:tenth]].sum()} of {wrong.sum()}")
    queue.to_csv(csv)
    columns = ["label", "label_error", "case_1", "proba_1", "case_2", "margin", "novelty"]
    print(
        f"\nThe second queue is written to {csv}. It begins:\n\n{queue[columns].head(8).round(4)}"
    )
    if importlib.util.find_spec("matplotlib") is None:
        print("No picture: matplotlib is not installed (pip install '.[plot]').")
        return
    draw(queue.head(30), X, wrong, figure)


def spoil(y, share, rng):
    """Give a share of the rows another label: the labels, and which of them are wrong."""
    wrong = np.zeros(len(y), dtype=bool)
    wrong[rng.choice(len(y), round(share * len(y)), replace=False)] = True
    shift = rng.integers(1, 10, len(y))
    return np.where(wrong, (y + shift) % 10, y), wrong


def draw(queue, X, wrong, path):
    """Write the images of some rows of the queue, with both opinions, to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axis, entry in zip(figure.subplots(3, 10).flat, queue.itertuples(), strict=True):
        axis.imshow(X[entry.Index, 0], cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"labelled {entry.label}\nnamed {entry.case_1}", fontsize=9)
        for spine in axis.spines.values():
            spine.set(color="tab:red" if wrong[entry.Index] else "tab:green", linewidth=3)
        axis.set(xticks=[], yticks=[])
    figure.supxlabel(
        "framed red: labelled wrongly on purpose; green: as in the data set", fontsize=9
    )
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        given[0] if given else Path(tempfile.gettempdir(), "queue.csv"),
        given[1] if len(given) > 1 else "docs/images/review.png",
    )
