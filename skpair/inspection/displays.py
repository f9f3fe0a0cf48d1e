"""Pictures of what a matcher does, in the way of scikit-learn's displays; they need matplotlib."""

import numpy as np

from ..metrics import known_new_auc, known_new_curve


class NewCaseCurveDisplay:
    """The accuracy on known and on new cases, for every offset of the new ones.

    Make it by `from_estimator` or `from_predictions`.

    Parameters
    ----------
    known_accuracy, new_accuracy : ndarray of shape (n_offsets,)
        As `skpair.metrics.known_new_curve` gives them.
    area : float
        The area under the curve (AUSUC).
    taken : tuple of float, or None, default=None
        Known and new accuracy of the offsets that the matcher has.
    name : str or None, default=None
        What the curve is called in a legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning for Object
    Recognition in the Wild", ECCV 2016.
    """

    def __init__(self, *, known_accuracy, new_accuracy, area, taken=None, name=None):
        self.known_accuracy = known_accuracy
        self.new_accuracy = new_accuracy
        self.area = area
        self.taken = taken
        self.name = name

    def plot(self, ax=None, *, name=None, **kwargs):
        """Draw the curve, and a disc where the matcher is.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        name : str or None, default=None
            In place of the `name` of the display.
        **kwargs
            For matplotlib's `plot`.

        Returns
        -------
        self : NewCaseCurveDisplay
        """
        from matplotlib import pyplot

        if ax is None:
            ax = pyplot.subplots()[1]
        name = self.name if name is None else name
        label = f"area {self.area:.2f}" if name is None else f"{name} (area {self.area:.2f})"
        (self.line_,) = ax.plot(
            self.new_accuracy, self.known_accuracy, **{"label": label, **kwargs}
        )
        if self.taken is not None:
            known, new = self.taken
            ax.plot(new, known, "o", color=self.line_.get_color())
        ax.set(
            xlabel="accuracy on new cases",
            ylabel="accuracy on known cases",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_predictions(cls, y_true, scores, *, classes, new_cases, ax=None, name=None, **kwargs):
        """Draw the curve of scores.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            The true cases.
        scores : array-like of shape (n, n_cases)
            Of each case, as `decision_function` gives them; where they are, the disc is drawn.
        classes : array-like of shape (n_cases,)
            The cases of the columns.
        new_cases : array-like of shape (k,)
            Those of `classes` that no training has seen.
        ax, name, **kwargs
            For `plot`.

        Returns
        -------
        NewCaseCurveDisplay
        """
        how = {"classes": classes, "new_cases": new_cases}
        known, new, offsets = known_new_curve(y_true, scores, **how)
        here = np.searchsorted(offsets, 0, side="left") - 1  # rows of equal scores stay known
        display = cls(
            known_accuracy=known,
            new_accuracy=new,
            area=known_new_auc(y_true, scores, **how),
            taken=(known[here], new[here]),
            name=name,
        )
        return display.plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, matcher, X, y, *, new_cases=None, ax=None, name=None, **kwargs):
        """Draw the curve of a fitted matcher to which cases were added.

        Parameters
        ----------
        matcher : PairMatcher
            Fitted, with cases that were added.
        X : array-like or DataFrame
            Images, or rows of pairs, of known and of new cases.
        y : array-like of shape (n,)
            Their cases.
        new_cases : array-like of shape (k,) or None, default=None
            The new ones; None: those of which no image is known.
        ax, name, **kwargs
            For `plot`.

        Returns
        -------
        NewCaseCurveDisplay
        """
        if new_cases is None:
            new_cases = matcher.classes_[matcher.gallery_.is_new]
        scores = matcher.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        return cls.from_predictions(
            y, scores, classes=matcher.classes_, new_cases=new_cases, ax=ax, name=name, **kwargs
        )
