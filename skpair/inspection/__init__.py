"""A look into a matcher: which rows a person should look at, and where in a pair a score lies."""

from .displays import NewCaseCurveDisplay
from .explanation import Explanation, explain
from .review import review

__all__ = ["Explanation", "NewCaseCurveDisplay", "explain", "review"]
