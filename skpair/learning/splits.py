"""Which pictures are learned from, and which are held out to judge by."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import train_test_split

from ..checks import users_level


@dataclass(frozen=True, eq=False)
class Split:
    """Images and skeletons: those to learn from, and those held out to judge by.

    By kind, "image" and "skeleton"; all are ndarrays of int.
    """

    cases: np.ndarray  # (n_cases,)
    codes: dict  # positions of their cases in `cases`
    train: dict  # rows to learn from
    held_out: dict  # none where nothing needs them
    seed: int  # which drew it, and draws what follows

    def codes_of(self, rows):
        """Give the codes of some rows, by kind."""
        return {kind: self.codes[kind][of_kind] for kind, of_kind in rows.items()}


def split_rows(settings, cases, codes, seed, *, learned):
    """Split images and skeletons into those to learn from and those held out.

    Rows are held out for early stopping, and where towers learn: these recognise the rows that they
    have learned, so only others tell how far unseen ones lie from what is known.

    Parameters
    ----------
    settings : PairMatcher
        Its parameters.
    cases : ndarray of shape (n_cases,)
        The cases.
    codes : dict of str to ndarray of int
        Positions of their cases, by kind.
    seed : int
        Draws the rows held out.
    learned : bool
        Whether an encoder learns from the rows.

    Returns
    -------
    Split
    """
    parts = {}
    for kind, of_kind in codes.items():
        rows = np.arange(len(of_kind))
        parts[kind] = rows, rows[:0]
        if settings.early_stopping:
            parts[kind] = _hold_out(settings, cases, of_kind, seed, kind)
        elif learned and (kind == "image" or len(parts["image"][1])):
            parts[kind] = _take_share(settings.validation_fraction, of_kind, seed)
    train, held_out = ({kind: part[i] for kind, part in parts.items()} for i in (0, 1))
    return Split(cases, codes, train, held_out, seed)


def check_held_out(settings, cases, codes):
    """Raise where early stopping finds too few images to hold out; `codes` are theirs, (n,)."""
    if settings.early_stopping and not _count_held_out(settings, codes)[0]:
        raise ValueError(
            f"early_stopping=True needs some rows of at least 2 cases to hold out, but of "
            f"{len(codes)} rows in {len(cases)} cases too few repeat a case; give more "
            "rows or early_stopping=False."
        )


def _count_held_out(settings, codes):
    """Give how many rows to hold out, 0 where they are too few, and which are alone in a case."""
    alone = np.bincount(codes)[codes] == 1
    n_cases = len(np.unique(codes[~alone]))
    n_held_out = max(n_cases, round(settings.validation_fraction * len(codes)))
    possible = n_cases >= 2 and (~alone).sum() - n_held_out >= n_cases
    return n_held_out * possible, alone


def _hold_out(settings, cases, codes, seed, kind):
    """Split rows of one kind; cases with one row only stay on the side of the training."""
    rows = np.arange(len(codes))
    n_held_out, alone = _count_held_out(settings, codes)
    if kind == "image":
        check_held_out(settings, cases, codes)
        if alone.any():
            warnings.warn(
                f"These cases have one row only, which cannot be held out for early stopping: "
                f"{cases[codes[alone]].tolist()}.",
                stacklevel=users_level(),
            )
    if not n_held_out:
        return rows, rows[:0]  # few drawings: the known ones judge the images held out
    train, held_out = train_test_split(
        rows[~alone], test_size=n_held_out, stratify=codes[~alone], random_state=seed
    )
    return np.sort(np.concatenate([train, rows[alone]])), np.sort(held_out)


def _take_share(share, codes, seed):
    """Split rows, such that each case whose share is half a row or more gives it, all in all."""
    shuffled = np.random.RandomState(seed).permutation(len(codes))
    by_case = shuffled[np.argsort(codes[shuffled], kind="stable")]
    by_case = by_case[(share * np.bincount(codes) >= 0.5)[codes[by_case]]]
    held_out = by_case[np.diff(np.floor(share * np.arange(len(by_case) + 1) + 0.5)) > 0]
    if share > 0.5 or len(np.unique(codes[held_out])) < 2:
        held_out = held_out[:0]
    rows = np.arange(len(codes))
    return rows[~np.isin(rows, held_out)], np.sort(held_out)
