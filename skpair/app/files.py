"""The files of a command: which there are, which of them are whole, and what becomes of them."""

import io
import os
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..field.files import fault, has_image_ending, list_files, look_at


def find_images(places):
    """List images.

    Parameters
    ----------
    places : list of str
        Files, which are listed whatever they are, and folders, in which files that end as images
        do are looked for, also in those below.

    Returns
    -------
    list of str
        Paths, each once.

    Raises
    ------
    OSError
        If a folder cannot be listed.
    """
    return list(dict.fromkeys(os.fspath(path) for path, _ in _walk(places)))


def _walk(places):
    """Yield the path of each image, and where it lies below the place that was given."""
    for place in map(Path, places):
        if place.is_dir():
            for path in filter(has_image_ending, list_files(place)):
                yield path, path.relative_to(place)
        else:
            yield place, Path(place.name)


def read_whole(paths, faults, what, *, batch_size=256):
    """Look at images batch by batch, under a progress bar on stderr.

    Parameters
    ----------
    paths : collection of str
    faults : list
        What is wrong with the others is added to it.
    what : str
        The word beside the bar.
    batch_size : int, default=256

    Yields
    ------
    list of str
        Those of a batch that are whole; at least one.
    """
    paths = list(paths)
    with tqdm(total=len(paths), desc=what, unit="file", disable=None) as bar:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            looks = dict(zip(batch, look_at(list(map(Path, batch))), strict=True))
            faults += [
                fault(path, look.fault, f"{look.fault}: {look.detail}")
                for path, look in looks.items()
                if look.fault
            ]
            whole = [path for path, look in looks.items() if not look.fault]
            if whole:
                yield whole
            bar.update(len(batch))


def object_ids(paths):
    """Make an id of each path: its name without the ending, numbered where it is there already.

    Parameters
    ----------
    paths : iterable of str

    Returns
    -------
    list of str

    Examples
    --------
    >>> from skpair.app.files import object_ids
    >>> object_ids(["net1/a.png", "net2/a.png", "net2/b.png"])
    ['a', 'a_2', 'b']
    """
    ids = {}
    for path in paths:
        stem, again = Path(path).stem, 1
        name = stem
        while name in ids:
            again += 1
            name = f"{stem}_{again}"
        ids[name] = path
    return list(ids)


def plan_targets(scans, folder, faults):
    """Say where the clean drawing of each scan goes to.

    Parameters
    ----------
    scans : list of str
        Files, and folders that are searched for them.
    folder : str
        Where the drawings go to, in the subfolders that the scans are in.
    faults : list
        What is wrong with scans that are left out is added to it.

    Returns
    -------
    dict of str to Path
        The target of each scan: a PNG, which is no scan, and of no other scan.
    """
    found = {os.fspath(path): below for path, below in _walk(scans)}
    there = {Path(scan).resolve() for scan in found}
    targets, taken = {}, {}
    for scan, below in found.items():
        target = Path(folder, below).with_suffix(".png")
        place = target.resolve()
        if place in there:
            faults.append(fault(scan, "overwritten", f"{target} is a scan: give another folder"))
        elif place in taken:
            faults.append(fault(scan, "twice", f"{target} is already that of {taken[place]}"))
        else:
            targets[scan] = target
            taken[place] = scan
    return targets


def as_png(pixels):
    """Return pixels (H, W), uint8, as the bytes of a PNG file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()
