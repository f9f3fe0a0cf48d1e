"""Two labelled sets of any size become rows of pairs."""

import numpy as np
from sklearn.utils import _safe_indexing, check_random_state

from ..checks import as_labels, check_both_kinds
from .layouts import as_table, stack_pairs


def pair_up(images, y_images, skeletons, y_skeletons, *, random_state=None, return_rows=False):
    """Pair two separately labelled sets, so that each image and each skeleton is in some row.

    In a case, the kind of which there are fewer is dealt to the other in random order, each as
    often as the others (or once more).

    Parameters
    ----------
    images : array-like
        n images: pixels, features or files, as in `stack_pairs`.
    y_images : array-like of shape (n,)
        The case of each image.
    skeletons : array-like
        m skeletons of the same layout.
    y_skeletons : array-like of shape (m,)
        The case of each skeleton.
    random_state : int, RandomState or None, default=None
        Decides what is dealt to what.
    return_rows : bool, default=False
        Whether to tell which image and which skeleton each row holds.

    Returns
    -------
    X : ndarray
        In the layout that `stack_pairs` returns, as many rows a case as the larger kind has: first
        a row for each image, in their order, then those of the skeletons that are left.
    y : ndarray of shape (n_rows,)
        The case of each row.
    image_rows, skeleton_rows : ndarray of shape (n_rows,), int
        With `return_rows`: positions in `images` and `skeletons`. As `groups` of a
        cross-validation, they keep copies of one image (or skeleton) in one fold.

    Raises
    ------
    ValueError
        If a case has images but no skeleton, or skeletons but no image; if lengths differ, or
        labels are missing or of two kinds.

    Examples
    --------
    >>> from skpair import pair_up
    >>> X, y = pair_up(["1.png", "2.png", "3.png"], ["a", "b", "a"], ["A.png", "B.png"], ["a", "b"])
    >>> X[:, 1]
    array(['A.png', 'B.png', 'A.png'], dtype=object)
    """
    images, skeletons = as_table(images), as_table(skeletons)
    for name, part, labels in (
        ("images", images, y_images),
        ("skeletons", skeletons, y_skeletons),
    ):
        if np.ndim(labels) != 1 or len(labels) != len(part):
            raise ValueError(
                f"y_{name} must hold a case for each of the {len(part)} {name}, which it follows: "
                "pair_up(images, y_images, skeletons, y_skeletons); it has the shape "
                f"{np.shape(labels)}."
            )
    if not len(images) or not len(skeletons):
        raise ValueError(
            f"There are {len(images)} images and {len(skeletons)} skeletons; every case needs one "
            "of each at least."
        )
    y_images = as_labels(y_images, np.asarray(y_images), "y_images")
    y_skeletons = as_labels(y_skeletons, y_images, "y_skeletons")
    cases = np.union1d(y_images, y_skeletons)
    check_both_kinds(cases, np.searchsorted(cases, y_images), np.searchsorted(cases, y_skeletons))
    random = check_random_state(random_state)
    dealt = np.empty(len(y_images), dtype=int)
    more = [np.empty((2, 0), dtype=int)]  # images and skeletons of the rows that follow
    for case in cases:
        of_case = random.permutation(np.flatnonzero(y_images == case))
        drawings = random.permutation(np.flatnonzero(y_skeletons == case))
        dealt[of_case] = np.resize(drawings, len(of_case))  # cycles through the drawings
        left = drawings[len(of_case) :]
        more.append(np.stack([np.resize(of_case, len(left)), left]))
    more = np.concatenate(more, axis=1)
    image_rows = np.concatenate([np.arange(len(y_images)), more[0]])
    skeleton_rows = np.concatenate([dealt, more[1]])
    X = stack_pairs(_safe_indexing(images, image_rows), _safe_indexing(skeletons, skeleton_rows))
    y = y_images[image_rows]
    return (X, y, image_rows, skeleton_rows) if return_rows else (X, y)
