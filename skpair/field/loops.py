"""Closed outlines in a drawing, such as egg sacs: found, made whole, and counted."""

import itertools

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import dijkstra
from skimage.draw import line

from .strokes import lengths_along

#: Gap, in lengths of the axis, over which a hand that closes an outline may miss the line.
_GAP = 0.16
_DETOUR = 4  # times the gap: the least way around, else there is no outline to close
_HIND = 0.58  # place along the axis from which on outlines count
_SMALLEST = 0.004  # area that counts, in squares of the axis
_ROUNDEST, _SHARPNESS = 0.7, 3  # least roundness that counts; its weight in what belongs together
_GAIN = 0.12  # of roundness, without which pieces stay apart
_AROUND = np.array(list(itertools.product((-1, 0, 1), repeat=2)))


def count_loops(skeleton, lines, axis):
    """Count the closed outlines beside the hind part of the body axis.

    What legs and antennules enclose in front does not count, nor do very small or very hollow
    holes. An outline that the hand has not quite closed is closed; one that other lines cut into
    pieces counts once, where the pieces make a rounder whole.

    Parameters
    ----------
    skeleton : ndarray of shape (H, W), bool
        Thinned lines.
    lines : Lines
        Their graph.
    axis : ndarray of shape (p, 2)
        Points of the body axis, from head to tail.

    Returns
    -------
    int
    """
    along = lengths_along(axis)
    if along[-1] == 0:
        return 0
    holes = [
        hole
        for hole in _find_holes(_close_gaps(skeleton, lines, _GAP * along[-1]))
        if along[np.hypot(*(axis - hole.mean(axis=0)).T).argmin()] >= _HIND * along[-1]
    ]
    large = _SMALLEST * along[-1] ** 2
    return sum(len(whole) >= large and roundness(whole) >= _ROUNDEST for whole in _join(holes))


def roundness(pixels):
    """Divide the area of pixels (n, 2) by that of the ellipse that has the same moments.

    1 for an ellipse, 0.95 for a rectangle, 0.83 for a triangle, less for what is hollow.
    """
    spread = np.cov(pixels.T, bias=True) + np.eye(2) / 12  # within a pixel
    return min(len(pixels) / (4 * np.pi * np.sqrt(np.linalg.det(spread))), 1.0)


def _close_gaps(skeleton, lines, reach):
    """Draw a line from each tip to the nearest line that is far away along the lines only."""
    pixels, tips = np.argwhere(skeleton), np.flatnonzero(lines.degree == 1)
    closed = skeleton.copy()
    if not len(tips):
        return closed
    around = dijkstra(lines.graph, indices=tips)
    for tip, way in zip(tips, around, strict=True):
        gap = np.hypot(*(pixels - pixels[tip]).T)
        gap[(gap > reach) | (way <= _DETOUR * np.maximum(gap, 1)) | np.isinf(way)] = np.inf
        nearest = gap.argmin()
        if np.isfinite(gap[nearest]):
            closed[line(*pixels[tip], *pixels[nearest])] = True
    return closed


def _find_holes(closed):
    """Return the pixels (n, 2) of each hole that lines enclose."""
    ground, _ = ndimage.label(np.pad(~closed, 1, constant_values=True))
    inside = np.argwhere(ground > 1)  # 1 is the ground around the drawing
    number = ground[tuple(inside.T)]
    order = np.argsort(number, kind="stable")
    holes = np.split(inside[order] - 1, np.flatnonzero(np.diff(number[order])) + 1)
    return [hole for hole in holes if len(hole)]


def _join(holes):
    """Join holes that make a rounder whole; returns the pixels (n, 2) of each whole."""
    lines = _lines_between(holes)
    wholes = [[number] for number in range(len(holes))]

    def pixels(whole):
        pairs = [pair for pair in itertools.combinations(sorted(whole), 2) if pair in lines]
        return np.concatenate([*(holes[number] for number in whole), *(lines[p] for p in pairs)])

    def worth(whole):
        area = sum(len(holes[number]) for number in whole)
        return area * roundness(pixels(whole)) ** _SHARPNESS, area

    def gain(one, other):
        if not any((min(pair), max(pair)) in lines for pair in itertools.product(one, other)):
            return -np.inf
        value, area = worth(one + other)
        return (value - worth(one)[0] - worth(other)[0]) / area

    while len(wholes) > 1:
        pairs = list(itertools.combinations(wholes, 2))
        gains = [gain(*pair) for pair in pairs]
        if max(gains) <= _GAIN:
            break
        one, other = pairs[int(np.argmax(gains))]
        wholes = [whole for whole in wholes if whole not in (one, other)] + [one + other]
    return [pixels(whole) for whole in wholes]


def _lines_between(holes):
    """Return the pixels (k, 2) that touch two holes, by the numbers of these."""
    edges = []
    for hole in holes:
        around = np.unique((hole[:, None] + _AROUND).reshape(-1, 2), axis=0)
        edges.append(set(map(tuple, around.tolist())) - set(map(tuple, hole.tolist())))
    lines = {}
    for one, other in itertools.combinations(range(len(holes)), 2):
        common = edges[one] & edges[other]
        if len(common) > 1:
            lines[one, other] = np.array(sorted(common))
    return lines
