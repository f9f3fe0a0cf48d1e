"""What follows on a training: thresholds, probabilities, unknown cases, new cases."""

import warnings
from numbers import Real

import numpy as np
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from .checks import (
    as_labels,
    check_choice,
    check_number,
    common_codes,
    first_of,
    users_level,
    warn_of_lookalikes,
)
from .known import thresholds
from .known.judge import temperature_of
from .known.new_cases import offset_of
from .metrics import expected_calibration_error
from .rows import reading
from .rows.layouts import KINDS


class Decisions:
    """The methods of `PairMatcher` that change what it decides, not what it has learned.

    They ask its `judge_`, `embed_images`, `embed_pairs` and `embed_halves`, and set its attributes.
    """

    def calibrate_threshold(
        self,
        X,
        y,
        *rest,
        strategy="balanced_accuracy",
        beta=1.0,
        min_rate=None,
        per_case=False,
        y_skeletons=None,
    ):
        """Set `threshold_` from all pairs of an image and a skeleton of rows that were held out.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs that `fit` has not seen; or n images, followed by m skeletons and the
            cases, ``calibrate_threshold(X_img, X_skel, y)``, or the cases of each,
            ``calibrate_threshold(X_img, X_skel, y_img, y_skel)``. Their cases need not be known.
        y : array-like of shape (n,)
            Case of each row.
        *rest : array-like
            The cases, in the other forms.
        strategy : str, default="balanced_accuracy"
            What is to be as high as possible, over pairs: "balanced_accuracy"; "accuracy";
            "f_beta"; "max_tpr", the rate of true positives, while that of true negatives is at
            least `min_rate`; "max_tnr", the rate of true negatives, while that of true positives
            is at least `min_rate`.
        beta : float, default=1.0
            Weight of recall over precision, for "f_beta".
        min_rate : float or None, default=None
            In 0..1, for "max_tpr" and "max_tnr".
        per_case : bool, default=False
            Whether to set `case_thresholds_`, too: a threshold for the images named each case.
            Where these have only one kind of pairs, it is `threshold_`.
        y_skeletons : array-like of shape (m,) or None, default=None
            The same as `y_skel`, by name.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If no pair is of one case, or none of two.
        """
        check_is_fitted(self)
        thresholds.check_strategy(strategy, beta, min_rate)
        if len(rest) == 2 and y_skeletons is None:
            *rest, y_skeletons = rest
        if rest:
            rest, y = (y, *rest[1:]), rest[0]
        images, skeletons = self.embed_pairs(X, rest, aligned=False)
        self._check_unseen(images)
        y_skeletons = y if y_skeletons is None else y_skeletons
        codes, skeleton_codes = _codes_of(images, y, skeletons, y_skeletons)
        judge = self.judge_
        named = judge.choose(images, "image") if per_case else codes * 0
        total, by_case = thresholds.PairCounts(), {}
        for case in np.unique(named):
            counts = judge.count_pairs(
                images[named == case], codes[named == case], skeletons, skeleton_codes
            )
            total.merge(counts)
            if counts.both_kinds():
                by_case[case] = counts.best_threshold(strategy, beta, min_rate)
        if not total.both_kinds():
            raise ValueError(
                "A threshold needs pairs of one case and pairs of two, but all pairs of these "
                "images and skeletons are alike. Give rows of at least two cases."
            )
        self.threshold_ = total.best_threshold(strategy, beta, min_rate)
        self.case_thresholds_ = None
        if per_case:
            self.case_thresholds_ = np.full(len(self.classes_), self.threshold_)
            self.case_thresholds_[list(by_case)] = list(by_case.values())
        return self

    def calibrate_probabilities(self, X, y):
        """Set `temperature_`, so that `predict_proba` is neither too sure nor too unsure.

        The order of the cases stays, and so does `predict`. `pair_proba` follows: it is made of
        probabilities without the prior, for which `pair_temperature_` is set. So `threshold_` is
        set anew, where the balanced accuracy over the pairs of these images and the known skeletons
        is best, and `case_thresholds_` are None again. `calibrate_threshold`, with skeletons that
        were not learned, is to be called after this. (The loss "binary_cross_entropy" has
        probabilities of pairs of its own, which stay.)

        Parameters
        ----------
        X : array-like or DataFrame
            Images that `fit` has not seen, or rows of pairs, of which only the image is looked at.
        y : array-like of shape (n,)
            Their cases, all of them known; `classes_` stays as it is if some are absent.

        Returns
        -------
        self : object
            With `calibration_error_`, on these same rows. It is what is said of the true cases that
            becomes more probable; the error need not fall where it is small.
        """
        images, judge = self._unseen(X), self.judge_
        scores = judge.score(images, "image")
        labels = as_labels(y, self.classes_, "y")
        check_consistent_length(scores, labels)
        new = np.setdiff1d(labels, self.classes_)
        if len(new):
            raise ValueError(
                f"y holds cases that are not known: {new.tolist()}. Leave their rows out, or let "
                "add_cases join them first."
            )
        codes = np.searchsorted(self.classes_, labels)
        fitted = temperature_of(self.loss_, self.learned_with_["temperature"])
        best = thresholds.best_temperature(judge.logits(scores), codes, fitted)
        self.calibration_error_ = {
            name: expected_calibration_error(
                labels, judge.proba(scores, temperature), classes=self.classes_
            )
            for name, temperature in (("before", fitted), ("after", best))
        }
        self.temperature_ = best
        plain = judge.without_prior.logits(scores)
        self.pair_temperature_ = thresholds.best_temperature(plain, codes, fitted)
        if not judge.compares_itself:
            known = self.gallery_
            counts = self.judge_.count_pairs(images, codes, known.skeletons, known.skeleton_cases)
            self.threshold_ = counts.best_threshold()
            self.case_thresholds_ = None
        return self

    def novelty_score(self, X, *, kind="image"):
        """Say how far each picture is from all known cases.

        Parameters
        ----------
        X : array-like or DataFrame
            Pictures of one kind alone, or rows of pairs, of which only that kind is looked at.
        kind : {"image", "skeleton"}, default="image"
            Of what.

        Returns
        -------
        ndarray of shape (n,), float32
            The larger of two: one minus the similarity to the nearest known example of the kinds in
            `gallery` (with the loss "binary_cross_entropy", probabilities of a pair take the place
            of similarities); and how far the encoding lies from those of the known cases, brought
            to the same scale. Of images that are named a case that was added, the first alone.

        References
        ----------
        Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.

        Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
        Adversarial Attacks", NeurIPS 2018.
        """
        check_choice("kind", kind, KINDS)
        check_is_fitted(self)
        half = (reading.image_half if kind == "image" else reading.skeleton_half)(self, X)
        return self._novelty(half)[1]

    def _novelty(self, half):
        """Embed a half, and say how novel it is: (n, d) and (n,)."""
        (encoded,), judge = self.encode_halves(half), self.judge_
        embedded = judge.embed(encoded)
        return embedded, judge.novelty(embedded, judge.foreign(encoded), kind=half.kind)

    def calibrate_novelty(self, X, *, false_alarm=0.05, coverage=None):
        """Set `novelty_threshold_`, above which `predict` gives `unknown_label`.

        Parameters
        ----------
        X : array-like or DataFrame
            Images that `fit` has not seen: of known cases for a false-alarm rate, as they come
            for a coverage. Or rows of pairs, of which only the image is looked at.
        false_alarm : float, default=0.05
            Largest fraction of them to be called unknown, in [0, 1).
        coverage : float or None, default=None
            Least fraction of them to be named, in (0, 1]; if given, in place of `false_alarm`.

        Returns
        -------
        self : object
        """
        if coverage is not None:
            check_number(
                "coverage", coverage, Real, 0, low_allowed=False, high=1, high_allowed=True
            )
            false_alarm = 1 - coverage
        check_number("false_alarm", false_alarm, Real, 0, high=1)
        check_is_fitted(self)
        images, novelty = self._novelty(reading.image_half(self, X))
        self._check_unseen(images)
        self.novelty_threshold_ = thresholds.best_novelty_threshold(novelty, false_alarm)
        return self

    def _unseen(self, X):
        """Embed images to calibrate with, which must not be among the known ones."""
        images = self.embed_images(X)
        self._check_unseen(images)
        return images

    def _check_unseen(self, images):
        """Raise where embedded images are known: they are recognised, and say nothing of others."""
        known = self.gallery_.images
        nearest = known[pairwise_distances_argmin(images, known)]
        length = np.linalg.norm(nearest, axis=1)
        rows = np.flatnonzero(np.linalg.norm(images - nearest, axis=1) <= 1e-5 * length)
        if len(rows):
            raise ValueError(
                f"{len(rows)} of {len(images)} images are known from fit (rows {first_of(rows)}): "
                "they are recognised at once, and what is set by them would not hold for others. "
                "Give images that fit has not seen; train_test_split keeps some apart."
            )

    # ---- new cases -------------------------------------------------------------------------------

    def calibrate_new_cases(self, X, *, false_alarm=0.1):
        """Set `new_case_offsets_`, by which the scores of cases that were added are raised.

        Training draws the known cases together, and one that comes later stays behind: an image of
        it is hardly ever named so, though it scores higher than others do. So each added case, now
        or later, gets the largest offset by which it takes no more than a share of images of known
        cases. (Each by itself: several take more together.)

        Set it again after ``set_params(gallery=..., aggregate=..., prior=...)``. A later `fit`
        starts afresh.

        Parameters
        ----------
        X : array-like or DataFrame
            Images of known cases that `fit` has not seen, or rows of pairs, of which only the image
            is looked at. What tells of them is kept, and saved, for cases that are added later.
        false_alarm : float, default=0.1
            Largest fraction of them that an added case may take, in [0, 1): the more, the more
            images of new cases are found.

        Returns
        -------
        self : object

        References
        ----------
        Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
        Recognition in the Wild", ECCV 2016.
        """
        check_number("false_alarm", false_alarm, Real, 0, high=1)
        self.new_case_images_ = self._unseen(X)
        self.new_case_false_alarm_ = float(false_alarm)
        return self._raise_new_cases()

    def _raise_new_cases(self):
        """Set the offsets of cases that were added, by the images that were given for that."""
        is_new = self.gallery_.is_new
        if not is_new.any():
            self.new_case_offsets_ = None
            return self
        self.new_case_offsets_ = np.zeros(len(is_new), np.float32)
        if is_new.all():
            return self
        if self.new_case_images_ is not None:
            lead = self.judge_.lead_of_known(self.new_case_images_)
            share = self.new_case_false_alarm_
            self.new_case_offsets_[is_new] = [offset_of(of_case, share) for of_case in lead.T]
        elif self.new_case_offset_ is not None:
            self.new_case_offsets_[is_new] = self.new_case_offset_
        return self

    def add_cases(self, X_skel, y, *, ids=None):
        """Let skeletons join the known examples, without training.

        `classes_` and all that is named follow; the layers stay as they are. A later `fit` starts
        afresh. The scores of new cases are raised to those of the others, see `new_case_offsets_`;
        `calibrate_new_cases` sets by how much. Drawings of a new case that can hardly be told from
        those of a known one (most are nearer to these than to one another) are warned of.

        Parameters
        ----------
        X_skel : array-like or DataFrame
            k skeletons alone, or rows of pairs, of which only the skeleton is looked at.
        y : array-like of shape (k,)
            Their cases, known or new, of the kind of labels that `fit` has seen.
        ids : array-like of shape (k,) or None, default=None
            An int or a str for each, which `gallery_.skeleton_ids` keeps. None takes the paths
            of files, and for others the integers after the highest.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        labels = as_labels(y, self.classes_, "y")
        new = np.setdiff1d(labels, self.classes_)
        if self.unknown_label is not None and self.unknown_label in new:
            raise ValueError(
                f"{self.unknown_label!r} is the unknown_label, so it cannot be a case."
            )
        if len(new) and self.gallery == "images":
            raise ValueError(
                f"gallery='images' names an image by known images, but of the new cases "
                f"{new.tolist()} only skeletons would be known. Use set_params(gallery='both')."
            )
        half = reading.skeleton_half(self, X_skel)
        check_consistent_length(half.rows, labels)
        if len(new):
            warn_of_lookalikes(np.union1d(self.classes_, new), new)
        (embedded,) = self.embed_halves(half)
        grown = self.gallery_.with_skeletons(embedded, labels, half.names() if ids is None else ids)
        self._warn_of_doubles(embedded, labels, new)
        return self._know(grown)

    def remove_cases(self, labels):
        """Forget cases, with all their known images and skeletons.

        Those that remain move up in `gallery_`, and so do the rows that `kneighbors` gives; their
        `skeleton_ids` stay.

        Parameters
        ----------
        labels : array-like of shape (k,) or a single label
            Some of `classes_`; at least two others must remain.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        labels = as_labels(np.atleast_1d(labels), self.classes_, "labels")
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(
                f"There is no case {unknown.tolist()}; known are {self.classes_.tolist()}."
            )
        if len(self.classes_) - len(np.unique(labels)) < 2:
            raise ValueError(
                f"At least 2 cases must remain, but of {self.classes_.tolist()} all but "
                f"{np.setdiff1d(self.classes_, labels).tolist()} would go."
            )
        return self._know(self.gallery_.without_cases(labels))

    def _warn_of_doubles(self, drawings, labels, new):
        """Warn of new cases whose drawings are nearer to a known case than to one another."""
        judge = self.judge_
        for case in new:
            of_case = drawings[labels == case]
            likely = judge.double_of(of_case)
            if likely is not None:
                warnings.warn(
                    f"The {len(of_case)} drawings of the new case {str(case)!r} can hardly be told "
                    f"from those of {str(likely)!r}, which they are nearer to than to one another: "
                    "images of one will be named the other.",
                    UserWarning,
                    stacklevel=users_level(),
                )

    def _know(self, known):
        """Take another gallery."""

        def carry(values, of_new):
            """Bring a number for each of the cases so far to the cases from now on."""
            carried = np.full(known.n_cases, of_new)
            stay = np.isin(self.classes_, known.cases)
            carried[np.isin(known.cases, self.classes_)] = values[stay]
            return carried

        if self.case_thresholds_ is not None:
            self.case_thresholds_ = carry(self.case_thresholds_, self.threshold_)
        prior = carry(self.prior_, np.exp(np.log(self.prior_).mean()))  # neutral for new ones
        self.prior_ = prior / prior.sum()
        self.gallery_ = known
        self.classes_ = known.cases
        return self._raise_new_cases()


def _codes_of(images, y, skeletons, y_skeletons):
    """Turn the cases of images and of skeletons, known or not, into common codes."""
    for name, labels, embedded in (("y", y, images), ("y_skeletons", y_skeletons, skeletons)):
        if len(column_or_1d(labels)) != len(embedded):
            raise ValueError(
                f"{name} has {len(labels)} cases, but there are {len(embedded)} "
                f"{'images' if name == 'y' else 'skeletons'}. Where their numbers differ, give "
                "y_skeletons=..., too."
            )
    return common_codes(y, y_skeletons)[1:]
