"""A look into a matcher: which rows a person should look at, and where in a pair a score lies."""

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..checks import as_labels, check_number
from ..matcher import PairMatcher
from ..metrics import last_step
from ..rows.reading import image_half


def review(matcher, X, y=None, *, n_cases=3, cv=None, n_jobs=None):
    """Queue rows for a person to look at, the most doubtful first.

    With labels, wrong ones come first; without, images that lie between two cases.

    A matcher partly remembers the labels that it has learned from, the wrong ones too. To find
    errors in the very rows that you have, give `cv`: each row is then judged by a matcher that
    has learned from other rows.

    Parameters
    ----------
    matcher : PairMatcher, Pipeline or search
        One that ends in a PairMatcher. Fitted, unless `cv` is given; it is not changed.
    X : array-like or DataFrame
        Rows of pairs, of which only the image is judged; without `cv`, what `predict` takes.
    y : array-like of shape (n,) or None, default=None
        The label of each row, which may be missing (None or NaN).
    n_cases : int, default=3
        How many cases to list for each row, the most probable first; at most all there are.
    cv : int, splitter, iterable or None, default=None
        None: `matcher` judges as it is. Otherwise the folds: for each, a clone learns from the
        labelled rows of the others and judges those of the fold. An integer means stratified
        folds. Rows of one specimen belong into one fold: give
        ``list(StratifiedGroupKFold(5).split(X, y, specimens))``. Clones know nothing of what
        came after `fit`, such as added cases and calibrations.
    n_jobs : int or None, default=None
        Number of folds at a time, in processes.

    Returns
    -------
    DataFrame
        A row for each row of X, indexed by its position there (``row``), with the columns

        label
            As given in `y` (only with `y`, as the next two).
        label_error
            In 0..1, high where the label is likely wrong, and above 0.5 where another case is
            more probable: ``(1 + probability of the best other case - label_proba) / 2``, one
            minus the normalised margin of confident learning. NaN without a label.
        label_proba
            Probability of the label's case: 0 for a case that the matcher does not know.
        case_1, proba_1, case_2, proba_2, ...
            The most probable cases and their probabilities.
        margin
            ``proba_1 - proba_2``: low where two cases are alike.
        novelty
            `novelty_score` of the matcher: high where nothing known is like the image. Rows that
            it was fitted on are known themselves.

        Sorted by `label_error`, highest first, where there are labels, then by `margin`, lowest
        first. ``to_csv(path)`` writes it for a spreadsheet, ``pandas.read_csv(path,
        index_col="row")`` reads it again.

    Raises
    ------
    ValueError
        If labels are not of the kind of the cases, `cv` is given without `y`, or its test parts
        do not hold every row once.

    Warns
    -----
    UserWarning
        If, under `cv`, all rows of a case are in one fold: who judges them does not know the case.

    References
    ----------
    Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
    JAIR 70, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair import PairMatcher
    >>> from skpair.inspection import review
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["egg", "nauplius", "adult"], 20)
    >>> X = np.repeat(np.eye(3), 20, axis=0)[:, [0, 1, 2, 0, 1, 2]]
    >>> X += 0.1 * rng.normal(size=X.shape)
    >>> y[7] = "adult"
    >>> queue = review(PairMatcher(max_epochs=5, random_state=0), X, y, cv=3)
    >>> int(queue.index[0]), queue[["label", "case_1"]].iloc[0].tolist()
    (7, ['adult', 'egg'])
    """
    check_number("n_cases", n_cases, Integral, 1)
    if y is None:
        if cv is not None:
            raise ValueError("cv needs y: matchers are fitted on the labels of the other folds.")
        return _judge(matcher, X, None, n_cases).sort_values("margin", kind="stable")
    y = column_or_1d(y)
    check_consistent_length(X, y)
    if cv is None:
        table = _judge(matcher, X, y, n_cases)
    else:
        jobs = (
            delayed(_judge_fold)(clone(matcher), X, y, train, test, n_cases)
            for train, test in _folds(cv, X, y)
        )
        table = pd.concat(Parallel(n_jobs=n_jobs)(jobs)).sort_index()
    return table.sort_values(["label_error", "margin"], ascending=[False, True], kind="stable")


def _folds(cv, X, y):
    """Split rows: labelled ones to learn from, all to judge."""
    codes = pd.factorize(y)[0]  # rows without a label, -1, are spread over the folds as well
    with warnings.catch_warnings():
        # of a case with fewer rows than folds, each row is still judged by what knows the others
        warnings.filterwarnings("ignore", message="The least populated class")
        folds = list(check_cv(cv, codes, classifier=True).split(X, codes))
    times = np.bincount(np.concatenate([test for _, test in folds]), minlength=len(y))
    if not (times == 1).all():
        raise ValueError(
            "The test parts of cv must hold every row once, but they hold row "
            f"{np.argmax(times != 1)} {times[times != 1][0]} times. Give an integer, or a splitter "
            "such as StratifiedKFold."
        )
    folds = [(train[codes[train] >= 0], test) for train, test in folds]
    strange = np.zeros(len(y), bool)  # rows whose judge will not know their case
    for train, test in folds:
        strange[test] = (codes[test] >= 0) & ~np.isin(codes[test], codes[train])
    if strange.any():
        cases = sorted(set(y[strange].tolist()))
        warnings.warn(
            f"{strange.sum()} rows are judged by a matcher that does not know their case, so their "
            f"label_proba is 0: no other fold has a row of {cases}.",
            UserWarning,
            stacklevel=3,
        )
    return folds


def _judge_fold(estimator, X, y, train, test, n_cases):
    labels = y[train]
    if labels.dtype == object:  # what had gaps is of a plain type without them
        labels = pd.Series(labels).infer_objects().to_numpy()
    estimator.fit(_safe_indexing(X, train), labels)
    return _judge(estimator, _safe_indexing(X, test), y[test], n_cases).set_index(
        pd.Index(test, name="row")
    )


def _judge(estimator, X, y, n_cases):
    """Make the table, in the order of the rows."""
    matcher, X = last_step(estimator, X)
    if not isinstance(matcher, PairMatcher):
        raise TypeError(
            f"review asks for an estimator that ends in a PairMatcher, got {estimator}."
        )
    judge, (encoded,) = matcher.judge_, matcher.encode_halves(image_half(matcher, X))
    images = judge.embed(encoded)
    proba = judge.proba(judge.score(images, "image"))
    table = pd.DataFrame(index=pd.RangeIndex(len(proba), name="row"))
    if y is not None:
        table["label"] = y
        table["label_error"], table["label_proba"] = _doubt_labels(proba, matcher.classes_, y)
    order = np.argsort(-proba, axis=1, kind="stable")
    best = np.take_along_axis(proba, order, axis=1)
    for place in range(min(n_cases, len(matcher.classes_))):
        table[f"case_{place + 1}"] = matcher.classes_[order[:, place]]
        table[f"proba_{place + 1}"] = best[:, place]
    table["margin"] = best[:, 0] - best[:, 1]
    table["novelty"] = judge.novelty(images, judge.foreign(encoded))
    return table


def _doubt_labels(proba, classes, y):
    """Give the error score and the probability of each label, NaN where there is none."""
    given = np.flatnonzero(pd.notna(y))
    codes = pd.Index(classes).get_indexer(as_labels(y[given], classes, "y"))
    known, codes = given[codes >= 0], codes[codes >= 0]
    of_label = np.full(len(y), np.nan)
    of_label[given] = 0
    of_label[known] = proba[known, codes]
    others = proba.copy()
    others[known, codes] = 0
    return (1 + others.max(axis=1) - of_label) / 2, of_label
