"""From your own folders and scans to names, hits and a file for EcoTaxa.

Draws small files as people have them: photographs of odd sizes in folders by case and haul, scans
of pencil drawings, and new photographs without names. Then it does what the command line does, and
prints each command. Takes less than a minute; the last argument names a folder to keep the files
in::

    python examples/own_files.py [folder]
"""

import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from skpair.app.command_line import main as skpair
from skpair.datasets import make_copepods

N_KNOWN, N_NEW, N_SCANS = 90, 30, 6  # the scans are of each case


def main(folder):
    """Run the whole job, and print what comes out."""
    truth = draw_files(folder)
    images, new, scans = folder / "photographs", folder / "cruise7", folder / "scans"
    drawings, model = folder / "drawings", folder / "copepods.skpair"

    print("1. Scans of pencil drawings become drawings of ink alone\n")
    run("clean", scans, "-o", drawings)

    print("\n2. Learn; how good will the names be on specimens that were not learned?\n")
    data = images, "--drawings", drawings, "--groups", "subfolder"
    run("fit", *data, "--epochs", 6, "-o", model)

    print("\n3. Name what the new cruise has brought, in a table and for EcoTaxa\n")
    table, ecotaxa = folder / "names.csv", folder / "import"
    run("name", model, new, "-o", table, "--ecotaxa", ecotaxa, "--unknown", "other")
    names = pd.read_csv(table)
    names["path"] = names["path"].map(lambda path: Path(path).name)
    named = names[names["case"] != "other"]
    right = (named["case"] == named["path"].map(truth)).sum()
    print(f"Of {len(named)} names, {right} are right. The first lines of {table.name}:\n")
    print(names.head().to_string(index=False))
    n_images = len(list(ecotaxa.glob("*.jpg")))
    print(
        f"\nEcoTaxa takes the folder {ecotaxa.name}: {n_images} images, and a table that begins\n"
    )
    print(*(ecotaxa / "ecotaxa_skpair.tsv").read_text("utf-8-sig").splitlines()[:4], sep="\n")

    print("\n4. Which new photographs fit a drawing best?\n")
    sketch = min(drawings.rglob("*.png"))
    run("find", model, sketch, new, "-k", 12, "-o", folder / "hits.html")

    print("\n5. Which names of a colleague should someone look at again?\n")
    labels = truth.rename_axis("file").reset_index(name="stage")
    labels.loc[0, "stage"] = next(case for case in truth.unique() if case != truth.iloc[0])
    labels.to_csv(folder / "labels.csv", index=False)
    columns = "--images", "file", "--case", "stage", "--folder", new
    run("review", model, folder / "labels.csv", *columns, "-o", folder / "queue.csv")
    queue = pd.read_csv(folder / "queue.csv")
    place = next(i for i, path in enumerate(queue["path"]) if Path(path).name == labels["file"][0])
    print(f"One label was made wrong on purpose: it is at place {place + 1} of {len(queue)}.")


def run(*arguments):
    """Print a command as it is typed, and run it."""
    arguments = list(map(str, arguments))
    print(f"$ skpair {shlex.join(arguments)}\n")
    code = skpair(arguments)
    if code:
        sys.exit(code)


def draw_files(folder):
    """Write photographs, scans and new photographs; return the cases of the new ones."""
    rng = np.random.default_rng(0)
    n_samples = N_KNOWN + N_NEW
    data = make_copepods(n_samples, n_cases=3, imbalance=0.5, ambiguity=0.2, random_state=0)
    cases = np.array(["slender", "broad", "bent"], dtype=object)[data.y]
    for row, (image, case) in enumerate(zip(data.images, cases, strict=True)):
        known = folder / "photographs" / case / f"haul {row % 3 + 1}" / f"IMG_{row:03}.jpg"
        write(
            known if row < N_KNOWN else folder / "cruise7" / f"IMG_{row:03}.jpg",
            stretch(image, rng),
        )
    for case in np.unique(cases):
        for row in np.flatnonzero(cases[:N_KNOWN] == case)[:N_SCANS]:
            scan = folder / "scans" / case / f"sheet {row:03}.jpg"
            write(scan, on_paper(data.skeletons[row], rng))
    files = [f"IMG_{row:03}.jpg" for row in range(N_KNOWN, n_samples)]
    return pd.Series(cases[N_KNOWN:], index=files)


def stretch(image, rng):
    """Enlarge an image (H, W) to a size of its own."""
    height, width = rng.integers(90, 260, size=2)
    return np.asarray(Image.fromarray(image).resize((int(width), int(height))))


def on_paper(skeleton, rng):
    """Draw a skeleton (H, W) in pencil on shaded paper."""
    strokes = ndimage.zoom(skeleton.astype(float), 6, order=1)
    strokes = ndimage.gaussian_filter(strokes, 1.5)
    shade = np.linspace(rng.uniform(150, 200), 235, strokes.shape[1])
    return (shade * (1 - 0.6 * strokes) + rng.normal(0, 3, strokes.shape)).clip(0, 255).astype("u1")


def write(path, pixels):
    """Write an image file, and the folders on the way to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
