"""What the data sets share."""

import math
from numbers import Real

import numpy as np
from sklearn.utils import Bunch, check_scalar


def check_real(value, name, *, max_val=None):
    """Check a number of 0 or more."""
    check_scalar(value, name, Real, min_val=0, max_val=max_val)
    if not math.isfinite(value):  # comparisons with NaN let it through
        raise ValueError(f"{name} must be a finite number, got {value}.")


def as_result(images, skeletons, y, case_names, description, *, return_X_y, **more):
    """Give what the loaders return: X and y, or both kinds with their names, and `more`."""
    y = y.astype(np.int64)
    if return_X_y:
        return np.stack([images, skeletons * np.uint8(255)], axis=1), y
    return Bunch(
        images=images,
        skeletons=skeletons,
        y=y,
        case_names=case_names,
        DESCR=description,
        **more,
    )
