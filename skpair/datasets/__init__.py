"""Pairs of images and skeletons that come with the package; nothing is downloaded."""

from .copepods import make_copepods
from .digits import load_digit_pairs

__all__ = ["load_digit_pairs", "make_copepods"]
