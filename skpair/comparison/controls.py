"""Controls that never match: how much of a result the matching itself carries."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..checks import NestedParameters, check_cases, codes_by_kind
from ..known.thresholds import PairCounts
from ..matcher import PairMatcher
from ..rows import layouts, reading
from .classifiers import make_classifier


def image_only(classifier=None):
    """Make the control that names cases without a look at any skeleton.

    What a matcher names better, it owes to the matching. It has no opinion on pairs.

    Parameters
    ----------
    classifier : classifier, "lda" or None, default=None
        Learns from the encodings of images, on standardized columns. None means logistic
        regression with balanced weights of the cases, which chooses its C among 13 from 1e-5 to 10
        inside the training rows: by the log likelihood, mean over cases, of the rows held out in
        five stratified folds, or in as many as the rarest case has different rows. Copies of a
        row stay in one fold. Where a case has no two different rows, C is 0.01. On the output of
        a `PairEncoder` that has learned these very rows the chosen C is too weak: give one.
        "lda" means linear discriminant analysis that shrinks the covariance (Ledoit and Wolf) and
        holds all cases for equally frequent. Nothing in it is tuned; a case of two rows or more is
        needed.

    Returns
    -------
    ImageOnly
        Takes feature rows (put a PairEncoder before it for others). Searches reach the classifier
        as `classifier`: ``{"classifier__C": [0.01, 0.1, 1]}``.

    Raises
    ------
    ValueError
        If `classifier` is another string.
    """
    return ImageOnly(make_classifier(classifier))


def two_classifiers(classifier=None):
    """Make the control that reads both kinds, but never compares them.

    One classifier a kind; the probability that an image and a skeleton share a case is the sum
    over cases of P(case given image) times P(case given skeleton).

    Parameters
    ----------
    classifier : classifier, "lda" or None, default=None
        Cloned for each kind, which gets a C of its own; must have `predict_proba`. None and "lda"
        mean what they mean for `image_only`.

    Returns
    -------
    TwoClassifiers
        Takes feature rows (put a PairEncoder before it for others).

    Raises
    ------
    ValueError
        If `classifier` is another string.
    """
    return TwoClassifiers(make_classifier(classifier))


def one_hot_skeletons(matcher=None, random_state=None):
    """Make the control that learns from the codes of cases in the place of skeletons.

    What it names as well as the same matcher with real skeletons, the drawings had no part in.

    Parameters
    ----------
    matcher : PairMatcher or None, default=None
        Learns from the encodings of images and, as skeletons, one column per case. None means a
        default one.
    random_state : int, RandomState instance or None, default=None
        That of the default matcher.

    Returns
    -------
    OneHotSkeletons
        Takes feature rows (put a PairEncoder before it for others).
    """
    return OneHotSkeletons(matcher, random_state)


def _standardized(classifier):
    """Make a new pipeline, whose own steps hand over arrays whatever the user's output setting."""
    classifier = clone(make_classifier(classifier))
    return make_pipeline(StandardScaler().set_output(transform="default"), classifier)


class _Control(NestedParameters, ClassifierMixin, BaseEstimator):
    """What the controls with a `fit` of their own share."""

    def _read_rows(self, X, y):
        layout = layouts.layout_name(X)
        if layout != "features":
            raise ValueError(
                f"X holds {layout}, but {type(self).__name__} takes feature rows; put a "
                "PairEncoder before it: make_pipeline(PairEncoder(), ...)."
            )
        *halves, self.layout_, y = reading.fit_pairs(self, X, y)
        return halves, y

    def _fit_images(self, X, y):
        halves, y = self._read_rows(X, y)
        self.classes_, codes = check_cases(y)
        (images, _), codes = reading.distinct_halves(halves, (codes, codes))
        return images.read(slice(None)), codes["image"]

    def _images(self, X):
        check_is_fitted(self)
        return reading.image_half(self, X).read(slice(None))

    def __sklearn_tags__(self):
        """Tell scikit-learn that half of the columns is ignored when naming cases."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags


def _classifier_has(method):
    """Whether the classifier, fitted or not, has a method."""

    def check(control):
        classifier = getattr(control, "classifier_", None)
        return hasattr(
            _standardized(control.classifier) if classifier is None else classifier, method
        )

    return check


class ImageOnly(_Control):
    """A classifier of images that looks at no skeleton: see `image_only`.

    `predict_proba` and `decision_function` are there where the classifier has them.

    Parameters
    ----------
    classifier : classifier, "lda" or None, default=None
        It is cloned. None and "lda" mean what they mean for `image_only`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_cases,)
        The cases.
    classifier_ : Pipeline
        Fitted on standardized columns of the images. ``classifier_[-1].C_`` is the C that the
        default has chosen.
    """

    def __init__(self, classifier=None):
        self.classifier = classifier

    def fit(self, X, y):
        """Learn to name the cases of images.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Feature rows; their second halves are not looked at. As in a PairMatcher, the same
            image of a case counts once.
        y : array-like of shape (n,)
            Case of each row.

        Returns
        -------
        self : object
        """
        images, codes = self._fit_images(X, y)
        self.classifier_ = _standardized(self.classifier).fit(images, self.classes_[codes])
        return self

    def predict(self, X):
        """Name the case of each image, of full rows or images alone: (n,) labels."""
        images = self._images(X)
        return self.classifier_.predict(images)

    @available_if(_classifier_has("predict_proba"))
    def predict_proba(self, X):
        """Give the probability of each case for each image: (n, n_cases)."""
        images = self._images(X)
        return self.classifier_.predict_proba(images)

    @available_if(_classifier_has("decision_function"))
    def decision_function(self, X):
        """Give the score of each case for each image: (n, n_cases), or (n,) of two cases."""
        images = self._images(X)
        return self.classifier_.decision_function(images)


class TwoClassifiers(_Control):
    """Two classifiers, one a kind, that are never compared in training: see `two_classifiers`.

    Parameters
    ----------
    classifier : classifier, "lda" or None, default=None
        Cloned for each kind. None and "lda" mean what they mean for `image_only`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_cases,)
        The cases.
    image_classifier_, skeleton_classifier_ : Pipeline
        Fitted on standardized columns. ``image_classifier_[-1].C_`` is the C that the default has
        chosen for images.
    threshold_ : float
        `pair_proba_matrix` from which on a pair is called the same, by the training rows.
    """

    def __init__(self, classifier=None):
        self.classifier = classifier

    def fit(self, X, y, *rest):
        """Learn to name the cases of images, and those of skeletons.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Feature rows; or the encodings of images, followed by those of skeletons and the cases:
            ``fit(X_img, X_skel, y)``, or, for two sets of any size, ``fit(X_img, X_skel, y_img,
            y_skel)``. As in a PairMatcher, the same row of a case counts once.
        y : array-like of shape (n,)
            Case of each row.
        *rest : array-like
            The cases, in the other forms.

        Returns
        -------
        self : object
        """
        X, y, sets = reading.as_pairs(X, y, rest)
        halves, y = self._read_rows(X, y)
        self.classes_, codes = codes_by_kind(y, sets)
        if not hasattr(_standardized(self.classifier), "predict_proba"):
            raise TypeError(f"classifier must have predict_proba, got {self.classifier!r}.")
        (images, skeletons), codes = reading.distinct_halves(halves, codes)
        for half in (images, skeletons):
            classifier = _standardized(self.classifier)
            classifier.fit(half.read(slice(None)), self.classes_[codes[half.kind]])
            setattr(self, f"{half.kind}_classifier_", classifier)
        same = codes["image"][:, None] == codes["skeleton"]
        proba = self._pair_proba(images, skeletons)
        self.threshold_ = PairCounts().add(same, proba).best_threshold()
        return self

    def predict(self, X):
        """Name the case of each image: (n,) labels."""
        images = self._images(X)
        return self.image_classifier_.predict(images)

    def predict_proba(self, X):
        """Give the probability of each case for each image: (n, n_cases)."""
        images = self._images(X)
        return self.image_classifier_.predict_proba(images)

    def pair_proba_matrix(self, X, *rest):
        """Give the probability that every image and every skeleton share a case.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Feature rows; or the encodings of n images, followed by those of m skeletons.
        *rest : array-like
            The skeletons, in the form ``pair_proba_matrix(X_img, X_skel)``.

        Returns
        -------
        ndarray of shape (n, m)
        """
        check_is_fitted(self, "skeleton_classifier_")
        return self._pair_proba(*reading.pair_halves(self, X, rest, aligned=False))

    def _pair_proba(self, images, skeletons):
        p = self.image_classifier_.predict_proba(images.read(slice(None)))
        q = self.skeleton_classifier_.predict_proba(skeletons.read(slice(None)))
        return p @ q.T


class OneHotSkeletons(_Control):
    """A matcher that learns from one-hot codes in the place of skeletons: see `one_hot_skeletons`.

    Parameters
    ----------
    matcher : PairMatcher or None, default=None
        It is cloned. None means a default one.
    random_state : int, RandomState instance or None, default=None
        That of the default matcher.

    Attributes
    ----------
    classes_ : ndarray of shape (n_cases,)
        The cases.
    matcher_ : PairMatcher
        The fitted matcher.
    """

    def __init__(self, matcher=None, random_state=None):
        self.matcher = matcher
        self.random_state = random_state

    def fit(self, X, y):
        """Learn to match images with the codes of their cases.

        Parameters
        ----------
        X : array-like of shape (n, p)
            Feature rows; their second halves are not looked at.
        y : array-like of shape (n,)
            Case of each row.

        Returns
        -------
        self : object
        """
        images, codes = self._fit_images(X, y)
        if self.matcher is None:
            matcher = PairMatcher(random_state=self.random_state)
        else:
            matcher = clone(self.matcher)
        one_hot = np.eye(len(self.classes_), dtype=np.float32)[codes]
        self.matcher_ = matcher.fit(layouts.stack_pairs(images, one_hot), self.classes_[codes])
        return self

    def predict(self, X):
        """Name the case of each image: (n,) labels."""
        X = self._padded(X)
        return self.matcher_.predict(X)

    def predict_proba(self, X):
        """Give the probability of each case for each image: (n, n_cases)."""
        X = self._padded(X)
        return self.matcher_.predict_proba(X)

    def _padded(self, X):
        images = self._images(X)
        return layouts.stack_pairs(images, np.zeros((len(images), len(self.classes_))))
