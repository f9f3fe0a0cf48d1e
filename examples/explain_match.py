"""Show what names a copepod: the known drawing nearest to it, and where the two agree.

Draws photographs, learns from most of them, and explains one of each of four cases: red pixels
speak for the match of the photograph with its nearest drawing, blue ones against it. Needs the
extras `explain` and `plot`::

    python examples/explain_match.py [docs/images/explain.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from skpair import PairEncoder, PairMatcher
from skpair.datasets import make_copepods
from skpair.inspection import explain


def main(path):
    """Learn, explain, and draw."""
    data = make_copepods(600, ambiguity=0.0, random_state=0)
    train, test = np.arange(450), np.arange(450, 600)
    matcher = PairMatcher(PairEncoder(max_epochs=15), random_state=0)
    matcher.fit(data.images[train], data.skeletons[train], data.y[train])
    print(f"Named rightly: {matcher.score(data.images[test], data.y[test]):.2f} of the test rows.")

    shown = test[np.unique(data.y[test], return_index=True)[1][:4]]  # one of each of four cases
    images = data.images[shown]
    scores, known = matcher.kneighbors(images, n_neighbors=3)
    drawings = data.skeletons[train[known]]  # (4, 3, H, W)
    explanation = explain(matcher, images, drawings[:, 0])
    for row, name in enumerate(data.case_names[data.y[shown]]):
        print(
            f"{name}: score {explanation.scores[row]:.2f}; "
            f"{explanation.without_image[row]:.2f} with an empty image, "
            f"{explanation.without_skeleton[row]:.2f} with an empty drawing"
        )

    figure = Figure(figsize=(9, 1.75 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 6)
    for row, name in enumerate(data.case_names[data.y[shown]]):
        explanation.draw(row, axes[row, :4])
        axes[row, 0].set_ylabel(name.replace(", ", "\n").replace(" ant", "\nant"), fontsize=8)
        for rank in (1, 2):  # the first is the one explained
            axis = axes[row, 3 + rank]
            axis.imshow(drawings[row, rank], cmap="gray_r")
            axis.set_title(
                f"{'second' if rank == 1 else 'third'} {scores[row, rank]:.2f}", fontsize=9
            )
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/images/explain.png")
