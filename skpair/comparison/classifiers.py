"""The classifiers of the controls: what None and "lda" stand for, each at its best untuned."""

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.class_weight import compute_sample_weight

from ..checks import check_choice

C_GRID = np.logspace(-5, 1, 13)  # from very strong to weak
C_OF_FEW_ROWS = 0.01  # where a case has one row only, and no fold can be held out
MAX_FOLDS = 5
_PATH = {"class_weight": "balanced", "max_iter": 1000, "tol": 1e-3}


def make_classifier(classifier=None):
    """Return the classifier that None or a name stands for; any other object as it is."""
    if isinstance(classifier, str):
        check_choice("classifier", classifier, ["lda"], ", None or a classifier")
        return FlatDiscriminantAnalysis()
    return BalancedLogisticRegression() if classifier is None else classifier


class BalancedLogisticRegression(LogisticRegression):
    """Logistic regression with balanced weights of the cases that chooses its own strength.

    It is fitted for each of 13 C from 1e-5 to 10 in inner folds, and takes the one with the
    highest log likelihood of the rows held out, each case counting alike. There are five folds, or
    as many as the rarest case has different rows. Copies of a row (a drawing that is dealt to
    several images) stay in one fold. The same rows get the same C, in any order.

    Parameters
    ----------
    C : "auto" or float, default="auto"
        Inverse of the strength of regularization, more than 0. With "auto" it is 0.01 where a
        case has no two different rows: there is nothing to hold out.

    Attributes
    ----------
    C_ : float
        The C that was taken.
    classes_, coef_, intercept_ :
        As in :class:`~sklearn.linear_model.LogisticRegression`.
    """

    def __init__(self, C="auto"):
        super().__init__(C=C, **_PATH)

    def fit(self, X, y):
        """Choose C, and learn to name the cases.

        Parameters
        ----------
        X : ndarray of shape (n, p)
            Feature rows, best standardized.
        y : ndarray of shape (n,)
            Case of each row.

        Returns
        -------
        self : object
        """
        if isinstance(self.C, str):
            check_choice("C", self.C, ["auto"], " or a number")
            fitted, self.C_ = _fit_best(X, y)
        else:
            fitted, self.C_ = _fit_fixed(X, y, self.C)
        for name in ("classes_", "coef_", "intercept_", "n_features_in_"):
            setattr(self, name, getattr(fitted, name))
        self.n_iter_ = np.array([np.max(fitted.n_iter_)])  # of all C, where one was chosen
        return self


class FlatDiscriminantAnalysis(LinearDiscriminantAnalysis):
    """Linear discriminant analysis that holds all cases for equally frequent; nothing is tuned.

    The covariance is the mean over cases of what each case's rows give, shrunk by the rule of
    Ledoit and Wolf (``solver="lsqr", shrinkage="auto"``). A case with one row has no
    covariance, and no part in that mean; one case at least must have two rows.

    Attributes
    ----------
    priors_ : ndarray of shape (n_cases,)
        1 / n_cases each.
    classes_, coef_, intercept_, means_ :
        As in :class:`~sklearn.discriminant_analysis.LinearDiscriminantAnalysis`.
    """

    def __init__(self):
        super().__init__(solver="lsqr", covariance_estimator=_ShrunkCovariance())

    def fit(self, X, y):
        """Take the means of cases and their shrunk covariance.

        Parameters
        ----------
        X : ndarray of shape (n, p)
            Feature rows.
        y : ndarray of shape (n,)
            Case of each row.

        Returns
        -------
        self : object
        """
        counts = np.unique(y, return_counts=True)[1]
        n_cases = len(counts)
        self.priors = np.full(n_cases, 1 / n_cases)
        super().fit(X, y)
        share = np.mean(counts > 1)  # cases of one row have added a covariance of zero
        if share < 1:
            of_prior = np.log(1 / n_cases) if n_cases > 2 else 0  # two cases have one column
            self.covariance_ /= share
            self.coef_ *= share
            self.intercept_ = (self.intercept_ - of_prior) * share + of_prior
        return self


class _ShrunkCovariance:
    """The covariance of ``shrinkage="auto"``, which is zero, without a warning, of a single row."""

    def fit(self, X):
        scale = X.std(axis=0)
        scale[scale == 0] = 1
        shrunk = ledoit_wolf(X / scale)[0] if len(X) > 1 else np.zeros((X.shape[1],) * 2)
        self.covariance_ = scale[:, None] * shrunk * scale
        return self


def _fit_fixed(X, y, C):
    return LogisticRegression(C=C, **_PATH).fit(X, y), C


def _fit_best(X, y):
    """Fit with the C that is best in inner folds, or the fixed one where there are none."""
    folds = _inner_folds(X, y)
    if not folds:
        return _fit_fixed(X, y, C_OF_FEW_ROWS)
    search = LogisticRegressionCV(Cs=C_GRID, cv=folds, scoring=_balanced_log_likelihood, **_PATH)
    if "use_legacy_attributes" in search.get_params():  # scikit-learn 1.8 and later
        search.set_params(l1_ratios=(0,), use_legacy_attributes=False)
    search.fit(X, y)
    return search, float(np.ravel(search.C_)[0])  # one C a class before `use_legacy_attributes`


def _balanced_log_likelihood(classifier, X, y):
    """Score by the log likelihood, mean over cases: rare ones have a say in the strength."""
    weights = compute_sample_weight("balanced", y)
    probabilities = classifier.predict_proba(X)
    return -log_loss(y, probabilities, sample_weight=weights, labels=classifier.classes_)


def _inner_folds(X, y):
    """Return pairs of row numbers (train, test), copies of a row together; [] if none can be."""
    codes = np.unique(y, return_inverse=True)[1]
    different, number = np.unique(np.column_stack([codes, X]), axis=0, return_inverse=True)
    cases = different[:, 0].astype(int)
    n_folds = min(MAX_FOLDS, np.bincount(cases).min())
    if n_folds < 2:
        return []
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    is_test = [np.isin(number.ravel(), test) for _, test in splitter.split(different, cases)]
    return [(np.flatnonzero(~test), np.flatnonzero(test)) for test in is_test]
