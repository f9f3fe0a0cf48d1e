"""The commands: each takes parsed arguments, and returns what was wrong with files of the data."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from .. import PairEncoder, PairMatcher
from ..field import drawings
from ..field.ecotaxa import write
from ..field.files import fault
from ..field.tables import read_folder, read_table
from ..inspection import review as review_rows
from ..rows.reading import image_half
from ..search import MatchIndex
from ..storage.sealed import write_atomically
from .files import as_png, find_images, object_ids, plan_targets, read_whole
from .page import make_page
from .score import estimate


def fit(arguments):
    """Learn from labelled images and drawings: report, score, save."""
    data = _read_data(arguments)
    print(data.report())
    matcher = _new_matcher(arguments.epochs)
    if not arguments.no_score:
        print("", estimate(matcher, data), sep="\n")
    matcher.fit(data.images, data.drawings, data.y_images, data.y_drawings)
    matcher.save(arguments.output)
    print(f"\nLearned from all {len(data.images)} images; saved as {arguments.output}.")
    return _tell_passed_over(data)


def name(arguments):
    """Name the case of each image, in a table and for EcoTaxa."""
    matcher = PairMatcher.load(arguments.model)
    if arguments.unknown is not None:
        matcher.set_params(unknown_label=arguments.unknown)
    faults = []
    batches = read_whole(find_images(arguments.images), faults, "naming")
    tables = [_name_batch(matcher, paths) for paths in batches]
    if not tables:
        return _tell_no_image(arguments, faults)
    table = pd.concat(tables, ignore_index=True)
    if arguments.ecotaxa is not None:
        table["object_id"] = object_ids(table["path"])
    _write_csv(arguments.output, table)
    if arguments.ecotaxa is not None:
        write(
            arguments.ecotaxa,
            table["object_id"],
            table["case"],
            scores=table["probability"],
            novelty=table["novelty"],
            unknown_label=matcher.unknown_label,
            images=table["path"],
        )
    print(table["case"].value_counts().rename("images").to_string())
    print(f"\nNamed {len(table)} images; written to {arguments.output}.")
    return _tell(faults)


def find(arguments):
    """Find the images that fit a drawing best, and make a page of them."""
    index = MatchIndex(PairMatcher.load(arguments.model))
    faults = []
    for paths in read_whole(find_images(arguments.images), faults, "searching"):
        index.add_images(paths, ids=paths)
    if not len(index):
        return _tell_no_image(arguments, faults)
    hits = index.search_images([arguments.drawing], k=arguments.k)
    write_atomically(arguments.output, make_page(arguments.drawing, hits, len(index)).encode())
    print(hits[["rank", "score", "case", "id"]].head(5).to_string(index=False))
    print(f"\n{len(hits)} of {len(index)} images; written to {arguments.output}.")
    return _tell(faults)


def clean(arguments):
    """Bring scans of drawings to their ink, a PNG each."""
    faults, n_written = [], 0
    targets = plan_targets(arguments.scans, arguments.output, faults)
    for (scan,) in read_whole(targets, faults, "cleaning", batch_size=1):
        ink = drawings.clean(scan)
        if not ink.any():
            faults.append(fault(scan, "no ink", "no ink was found"))
            continue
        targets[scan].parent.mkdir(parents=True, exist_ok=True)
        write_atomically(targets[scan], as_png(ink))
        n_written += 1
    print(f"Cleaned {n_written} of {len(targets)} scans; written to {arguments.output}.")
    return _tell(faults)


def review(arguments):
    """Queue labelled images for a person to look at, likely wrong labels first."""
    matcher = PairMatcher.load(arguments.model)
    data = _read_data(arguments)
    queue = review_rows(matcher, data.images, data.y_images)
    queue.insert(0, "path", data.images[queue.index])
    _write_csv(arguments.output, queue)
    doubtful = (queue["label_error"] > 0.5).sum()
    print(
        f"Of {doubtful} of {len(queue)} images another case is more probable than the label; they "
        f"come first in {arguments.output}."
    )
    return _tell_passed_over(data)


# ---- steps ---------------------------------------------------------------------------------------


def _read_data(arguments):
    """Read the table or folder that was given; what is broken is passed over."""
    if not os.path.isdir(arguments.data):
        return read_table(
            arguments.data,
            images=arguments.images,
            case=arguments.case,
            drawings=arguments.drawing_names,
            groups=arguments.groups,
            folder=arguments.folder,
            drawings_folder=arguments.drawings,
            on_error="skip",
        )
    data = read_folder(arguments.data, arguments.drawings)
    if arguments.groups is None:
        return data
    below = data.table["subfolder"]
    # what lies in no subfolder is a specimen of its own
    groups = np.where(below == "", data.images, data.y_images + "/" + below)
    return dataclasses.replace(data, groups=groups)


def _new_matcher(epochs):
    if epochs is None:
        return PairMatcher(random_state=0)
    return PairMatcher(PairEncoder(max_epochs=epochs), max_epochs=epochs, random_state=0)


def _name_batch(matcher, paths):
    """Name images by one pass through the network: a DataFrame."""
    judge = matcher.judge_
    (encoded,) = matcher.encode_halves(image_half(matcher, paths))
    images, foreign = judge.embed(encoded), judge.foreign(encoded)
    return pd.DataFrame(
        {
            "path": paths,
            "case": judge.name(images, "image", foreign),
            "probability": judge.proba(judge.score(images, "image")).max(axis=1),
            "novelty": judge.novelty(images, foreign),
        }
    )


def _write_csv(path, table):
    write_atomically(path, table.to_csv(index=False, float_format="%.4f").encode())


def _tell_passed_over(data):
    """List the files that are broken, or not found; what is no picture may lie anywhere."""
    faulty = data.passed_over[data.passed_over["fault"] != "no image"]
    return _tell(faulty.to_dict("records"))


def _tell_no_image(arguments, faults):
    _tell(faults)
    raise ValueError(
        f"there is no image to use in {', '.join(arguments.images)}; nothing was written"
    )


def _tell(faults):
    """List what is wrong on stderr; return it."""
    if faults:
        print(f"skpair: {len(faults)} file(s) were passed over:", file=sys.stderr)
    for one in faults:
        print(f"    {Path(one['file'])}: {one['detail']}", file=sys.stderr)
    return faults
