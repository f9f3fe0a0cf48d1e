"""How far the scores of cases that were added must rise, so that images are named by them.

Training draws the known cases together; a case that came later stays where it is, and its scores
are lower, whatever is meant. The mend is an offset (calibrated stacking).

References
----------
Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
Recognition in the Wild", ECCV 2016.
"""

import numpy as np

from .thresholds import count_allowed


def lead_of_known(logits, is_new):
    """Say by how much the best known case is ahead of each new one.

    Parameters
    ----------
    logits : ndarray of shape (n, n_cases), float
        Of images of known cases, with the prior, without any offset of new cases.
    is_new : ndarray of shape (n_cases,), bool
        Which cases were added.

    Returns
    -------
    ndarray of shape (n, n_new), float64
    """
    logits = logits.astype(np.float64)
    return logits[:, ~is_new].max(axis=1, keepdims=True) - logits[:, is_new]


def offset_of(lead, false_alarm):
    """Find the largest offset by which a new case takes at most a share of the images.

    Parameters
    ----------
    lead : ndarray of shape (n,), float
        Of images of known cases over the new one.
    false_alarm : float
        The share, in [0, 1).

    Returns
    -------
    float
        A bit less than the lead of an image that it must not take.
    """
    first_kept = np.sort(lead)[count_allowed(false_alarm, len(lead))]
    return float(first_kept - 1e-6 * max(1.0, abs(first_kept)))
