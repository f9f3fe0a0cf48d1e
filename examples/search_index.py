"""Index scans of digits and skeletons, search each with the other, save and load the index.

Takes half a minute. Where matplotlib is installed, a figure of queries with their best hits is
written::

    python examples/search_index.py [docs/images/search.png]
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from skpair import PairEncoder, PairMatcher
from skpair.datasets import load_digit_pairs
from skpair.search import MatchIndex


def main(path):
    """Run the whole job, and print what comes out."""
    data = load_digit_pairs(imbalance=0.5, random_state=0)
    train, new = train_test_split(np.arange(len(data.y)), stratify=data.y, random_state=0)
    matcher = PairMatcher(PairEncoder(max_epochs=8), random_state=0)
    matcher.fit(data.images[train], data.skeletons[train], data.y[train])

    index = MatchIndex(matcher)
    index.add_images(data.images[new], metadata={"digit": data.y[new]})
    names = [f"drawing {row}" for row in new]
    index.add_skeletons(data.skeletons[new], ids=names, metadata={"digit": data.y[new]})
    print(index)

    print("\n1. The images that fit a skeleton best; `case` is what the matcher takes them for\n")
    queries = np.unique(data.y[new], return_index=True)[1]  # one row of each digit
    images = index.search_images(data.skeletons[new[queries]], k=6)
    print(images.head(6).to_string(index=False))
    right = images["digit"] == data.y[new[queries]][images["query"]]
    print(f"\n{right.mean():.2f} of the hits show the digit that was drawn (0.1 by chance)")

    print("\n2. The skeletons that fit an image best\n")
    skeletons = index.search_skeletons(data.images[new[queries]], k=6)
    print(skeletons.head(6).to_string(index=False))
    right = skeletons["digit"] == data.y[new[queries]][skeletons["query"]]
    print(f"\n{right.mean():.2f} of the hits show the digit of the image")

    print("\n3. Save, load, change\n")
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "digits.index")
        loaded = MatchIndex.load(Path(folder) / "digits.index", matcher)
        again = loaded.search_images(data.skeletons[new[queries]], k=6)
        print(f"Loaded {loaded}; it finds the same: {again.equals(images)}")
        print(f"Without the first hit: {loaded.remove(images['id'][0], kind='images')}")

    if importlib.util.find_spec("matplotlib") is None:
        print("\nNo figure: matplotlib is not installed (pip install '.[plot]').")
        return
    drawings = dict(zip(names, data.skeletons[new], strict=True))
    draw(
        path,
        ("images, found by a skeleton", data.skeletons[new[queries]], "gray_r", images),
        [data.images[new[id_]] for id_ in images["id"]],
        ("skeletons, found by an image", data.images[new[queries]], "gray", skeletons),
        [drawings[id_] for id_ in skeletons["id"]],
    )
    print(f"\nWritten to {path}.")


def draw(path, images, found_images, skeletons, found_skeletons):
    """Write queries, each with its hits beside it, to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    for part, (title, queries, colours, hits), found in zip(
        figure.subfigures(1, 2),
        (images, skeletons),
        (found_images, found_skeletons),
        strict=True,
    ):
        part.suptitle(title)
        axes = part.subplots(len(queries), 1 + hits["rank"].max())
        for row, query in enumerate(queries):
            axes[row, 0].imshow(query, cmap=colours)
        axes[0, 0].set_title("query", fontsize=9)
        other = "gray" if colours == "gray_r" else "gray_r"
        for (row, rank, score), picture in zip(
            hits[["query", "rank", "score"]].itertuples(index=False), found, strict=True
        ):
            axes[row, rank].imshow(picture, cmap=other)
            axes[row, rank].set_title(f"{score:.2f}", fontsize=8, pad=2)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/images/search.png")
