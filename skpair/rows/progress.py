"""Progress bars, on stderr."""

import contextlib

from tqdm import tqdm

#: Seconds after which a bar appears: what is done by then needs none.
DELAY = 1
_COUNTED = {"image": "images", "skeleton": "drawings"}


@contextlib.contextmanager
def progress_bar(doing, kind, total, verbose):
    """Show a bar while a block runs that takes long, named by what it counts.

    Parameters
    ----------
    doing : str
        What is done, such as "decoding".
    kind : {"image", "skeleton"}
        Of what.
    total : int
        How many there are.
    verbose : int
        0 shows nothing.

    Yields
    ------
    callable
        To be called with the number of those that were done since.
    """
    if not verbose:  # a silent bar would still start a thread
        yield lambda n: None
        return
    name = f"{doing} {_COUNTED[kind]}"
    with tqdm(desc=name, total=total, delay=DELAY, leave=False) as bar:
        yield bar.update
