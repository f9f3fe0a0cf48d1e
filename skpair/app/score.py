"""How good the names of a model will be: an estimate on images that were held out."""

import warnings

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from ..metrics import pair_average_precision

#: Most folds; of rare cases there are fewer.
_MOST_FOLDS = 5


def estimate(matcher, data):
    """Cross-validate a matcher on images that are held out; all drawings are known, as in use.

    Images of one group, and copies of one file, are in one fold.

    Parameters
    ----------
    matcher : PairMatcher
        It is cloned for each fold.
    data : FieldData
        Images and drawings.

    Returns
    -------
    str
        Balanced accuracy of all names, average precision of pairs (mean over folds), and how often
        each case is named right; or why there is no score.
    """
    folds = make_folds(data)
    if not folds:
        return "No score: two cases need two images (or groups) each, to be held out in turn."
    names, precision = _judge(matcher, data, folds)
    accuracy, chance = balanced_accuracy_score(data.y_images, names), 1 / len(set(data.y_images))
    kept = "" if data.groups is None else ", those of one group together"
    return "\n".join(
        [
            f"On images that were held out, in {len(folds)} folds{kept}; all drawings are known:",
            f"  balanced accuracy of the names   {accuracy:.3f}   ({chance:.3f} by chance)",
            f"  average precision of pairs       {precision:.3f}   ({chance:.3f} by chance)",
            "",
            by_case(data.y_images, names).to_string(),
            *_warn_of_alone(data),
        ]
    )


def make_folds(data):
    """Split the images into as many folds as the rarest case has groups, from 2 to 5.

    Parameters
    ----------
    data : FieldData

    Returns
    -------
    list of (train, test)
        Rows of `data.images`; empty where fewer than two cases have two groups.
    """
    counts = _count_groups(data)
    if (counts >= 2).sum() < 2:
        return []
    n_folds = min(_MOST_FOLDS, max(2, counts.min()))
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # what cases of one image mean for the score is told beside it
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(data.images, data.y_images, _groups(data)))


def by_case(y, names):
    """Tell how often each case is named right.

    Parameters
    ----------
    y, names : array-like of shape (n,)
        Cases, and what they were named.

    Returns
    -------
    DataFrame
        A row a case, with the columns images, right (a share) and mostly_taken_for (the most
        frequent wrong name, "" for none).

    Examples
    --------
    >>> from skpair.app.score import by_case
    >>> by_case(["egg", "egg", "adult"], ["egg", "adult", "adult"])["right"].tolist()
    [1.0, 0.5]
    """
    rows = pd.DataFrame({"case": y, "name": names})
    rows["right"] = rows["case"] == rows["name"]
    table = rows.groupby("case").agg(images=("right", "size"), right=("right", "mean"))
    wrong = rows[~rows["right"]].groupby("case")["name"].agg(lambda name: name.mode().iloc[0])
    return table.round(2).assign(mostly_taken_for=wrong.reindex(table.index).fillna(""))


def _judge(matcher, data, folds):
    """Return the name of each image by a matcher that has not seen it, and the precision."""
    names, precisions = np.empty(len(data.images), dtype=object), []
    for train, test in tqdm(folds, desc="scoring", unit="fold", disable=None):
        images, y = data.images[train], data.y_images[train]
        # a case whose images are all held out is not learned, and counts as named wrong
        learned = np.isin(data.y_drawings, y)
        learner = clone(matcher).fit(images, data.drawings[learned], y, data.y_drawings[learned])
        names[test] = learner.predict(data.images[test])
        proba = learner.pair_proba_matrix(data.images[test], data.drawings)
        precisions.append(pair_average_precision(data.y_images[test], data.y_drawings, proba))
    return names, np.mean(precisions)


def _groups(data):
    if data.groups is not None:
        return data.groups
    return data.files.loc[data.files["kind"] == "image", "digest"].to_numpy(dtype=object)


def _count_groups(data):
    """Count the groups of each case, a Series."""
    return pd.Series(_groups(data)).groupby(data.y_images).nunique()


def _warn_of_alone(data):
    counts = _count_groups(data)
    alone = counts.index[counts < 2].tolist()
    if not alone:
        return []
    return ["", f"Of one image or group only, so that none is learned when it is asked: {alone}"]
