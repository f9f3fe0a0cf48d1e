"""Draw the picture of the README: one pair of every case of `make_copepods`.

Run it from the root of the repository; it needs matplotlib::

    python examples/draw_pairs.py [docs/images/pairs.png]
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from skpair.datasets import make_copepods


def draw_pairs(path):
    """Write one photograph of each case, above a skeleton of its case, to `path`."""
    data = make_copepods(200, ambiguity=0.0, image_size=128, random_state=0)
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(2, len(data.case_names))
    for case, name in enumerate(data.case_names):
        row = np.flatnonzero(data.y == case)[0]
        photograph, skeleton = axes[:, case]
        photograph.set_title(name.replace(", ", "\n").replace(" ant", "\nant"), fontsize=9)
        photograph.imshow(data.images[row], cmap="gray", vmin=0, vmax=255)
        skeleton.imshow(data.skeletons[row], cmap="gray_r")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("image")
    axes[1, 0].set_ylabel("skeleton")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    draw_pairs(sys.argv[1] if len(sys.argv) > 1 else "docs/images/pairs.png")
