"""A drawing as lines: its skeleton as a graph of pixels, and the body axis among its paths."""

import functools
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label, uniform_filter
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from skimage.morphology import skeletonize

#: Spurs, lines that end after so many pixels, are pruned; after one width of the pen, if wider.
SPUR = 2.5
#: Steps to one side, of which the others are reflections: down, right, and the two diagonals.
_STEPS = ((1, 0), (0, 1), (1, 1), (1, -1))
_ROUNDS = 4  # of smoothing: a line of any direction has its length within 1 %
_MOST_ENDS = 48  # for a hairy drawing: those farthest from its middle
_MOST_PATHS, _MOST_POINTS = 64, 200  # more are left out, of points every second or further one
_KEPT = 0.6  # of the axis, where its tail goes on to a tip
N_STATIONS, _CELL = 13, 2  # points of a path; cells of symmetry are twice as far apart


# ---- lines ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lines:
    """The thinned lines of a drawing as a graph, a node a pixel.

    Attributes
    ----------
    points : ndarray of shape (m, 2)
        Rows and columns of the pixels, smoothed along the lines.
    edges : ndarray of shape (k, 2), int
        Neighbouring pixels.
    lengths : ndarray of shape (k,)
        Of the edges, in pixels.
    degree : ndarray of shape (m,), int
        Number of neighbours: 1 at a tip, 3 or more at a junction.
    part : ndarray of shape (m,), int
        Which of the connected parts a pixel belongs to.
    graph : csr_array of shape (m, m)
        The lengths of the edges, symmetric.
    """

    points: np.ndarray
    edges: np.ndarray
    lengths: np.ndarray
    degree: np.ndarray
    part: np.ndarray
    graph: csr_array

    @functools.cached_property
    def cluster(self):
        """The cluster of each pixel (m,) int: those of one junction share one, above 0."""
        meet = np.flatnonzero(self.degree > 2)
        pixels = tuple(self.points[meet].astype(int).T)  # of junctions, they are not smoothed
        picture = np.zeros([side.max(initial=0) + 1 for side in pixels], dtype=bool)
        picture[pixels] = True
        cluster = -np.arange(len(self.points))
        cluster[meet] = label(picture, np.ones((3, 3)))[0][pixels]
        return cluster

    def count_junctions(self):
        """Count the clusters of pixels where lines meet."""
        return len(np.unique(self.cluster[self.degree > 2]))

    def largest_part(self):
        """Return the connected part of the greatest length."""
        if not self.part.any():
            return self
        lengths = np.bincount(
            self.part[self.edges[:, 0]], self.lengths, minlength=self.part.max() + 1
        )
        chosen = self.part == lengths.argmax()
        inside = chosen[self.edges].all(axis=1)
        edges = (np.cumsum(chosen) - 1)[self.edges[inside]]
        return Lines(
            self.points[chosen],
            edges,
            self.lengths[inside],
            self.degree[chosen],
            self.part[chosen],
            self.graph[chosen][:, chosen],
        )


def thin(ink):
    """Thin ink (H, W), bool, to lines of one pixel, without spurs: (H, W) bool."""
    skeleton = skeletonize(ink)
    if not skeleton.any():
        return skeleton
    limit = max(SPUR, np.count_nonzero(ink) / np.count_nonzero(skeleton))
    pixels, edges = _neighbours(skeleton)
    spurs = _find_spurs(pixels, edges, limit)
    skeleton[tuple(pixels[spurs].T)] = False
    return skeletonize(skeleton) if spurs else skeleton


def trace(skeleton):
    """Make a graph of thinned lines (H, W), bool."""
    pixels, edges = _neighbours(skeleton)
    n = len(pixels)
    points, degree = pixels.astype(float), _count_neighbours(edges, n)
    along, (one, other) = (degree == 2)[:, None], edges.T
    for _ in range(_ROUNDS):  # the steps of a slanted line would make it too long
        beside = [
            np.bincount(one, part[other], n) + np.bincount(other, part[one], n) for part in points.T
        ]
        points = np.where(along, (points + np.stack(beside, axis=1)) / 3, points)
    lengths = np.hypot(*(points[edges[:, 0]] - points[edges[:, 1]]).T)
    graph = _symmetric(edges, lengths, n)
    _, part = connected_components(graph)
    return Lines(points, edges, lengths, degree, part, graph)


def _neighbours(skeleton):
    """Return the pixels (m, 2) of lines and their pairs (k, 2) of neighbours.

    Pixels that touch by a corner are neighbours unless a third one touches both by a side.
    """
    padded = np.pad(skeleton, 1)
    number = np.cumsum(padded).reshape(padded.shape) - 1
    pairs = []
    for down, right in _STEPS:
        there = np.roll(padded, (-down, -right), (0, 1))
        both = padded & there
        if down and right:
            beside = np.roll(padded, -down, 0) | np.roll(padded, -right, 1)
            both &= ~beside
        rows, columns = np.nonzero(both)
        pairs.append((number[rows, columns], number[rows + down, columns + right]))
    return np.argwhere(skeleton), np.concatenate(pairs, axis=1).T


def _count_neighbours(edges, n):
    return np.bincount(edges.ravel(), minlength=n)


def _symmetric(edges, values, n):
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    return coo_array((np.tile(values, 2), (rows, columns)), shape=(n, n)).tocsr()


def lengths_along(line):
    """Return the distance of each point of a line (p, 2) from its start, along the line: (p,)."""
    return np.concatenate([[0.0], np.hypot(*np.diff(line, axis=0).T).cumsum()])


def resample(line, n_points):
    """Return points (n_points, 2) at equal distances along a line (p, 2), p of 2 or more."""
    along = lengths_along(line)
    places = np.linspace(0, along[-1], n_points)
    return np.column_stack([np.interp(places, along, part) for part in line.T])


def _find_spurs(pixels, edges, limit):
    """Return the pixels of lines that end within `limit` pixels of a junction."""
    neighbours = [[] for _ in pixels]
    for one, other in edges.tolist():
        neighbours[one].append(other)
        neighbours[other].append(one)
    spurs = []
    for tip in [pixel for pixel, near in enumerate(neighbours) if len(near) == 1]:
        walked, here = [], tip
        while len(neighbours[here]) < 3 and len(walked) < limit:
            walked.append(here)
            onwards = [pixel for pixel in neighbours[here] if pixel not in walked]
            if not onwards:
                break  # a line of its own, no spur
            here = onwards[0]
        if len(neighbours[here]) >= 3:
            spurs += walked
    return spurs


# ---- the axis ------------------------------------------------------------------------------------


def find_axis(lines):
    """Find the body axis of connected lines.

    It is a shortest way between two tips or junctions: a long and straight one, off which much
    branches, and about which the rest is symmetrical. So no antennule is the axis, however long.
    The head is the end near to which the longest branch leaves, or the upper end where there is no
    branch; a tail that does not end at a tip goes on to the farthest one behind it.

    Parameters
    ----------
    lines : Lines
        Of one part.

    Returns
    -------
    ndarray of shape (p,), int
        The pixels from head to tail.
    """
    path = _best_path(lines)
    length, place, _ = find_branches(lines, path)
    high = lines.points[path[0], 0] <= lines.points[path[-1], 0]
    if (place[0] > 0.5) if len(length) else not high:
        path = path[::-1]
    return path if lines.degree[path[-1]] == 1 else _go_on(lines, path)


def find_branches(lines, path):
    """Find the lines from the body axis to a tip, the longest first.

    Parameters
    ----------
    lines : Lines
        Of one part.
    path : ndarray of shape (p,), int
        The pixels of its axis.

    Returns
    -------
    length : ndarray of shape (b,)
        From the axis to the tip.
    place : ndarray of shape (b,)
        Where the branch leaves the axis: 0 at its first end, 1 at its last.
    side : ndarray of shape (b,)
        1 or -1, the side of the axis that the tip lies on; 0 straight ahead or behind.
    """
    away, _, source = dijkstra(lines.graph, indices=path, min_only=True, return_predecessors=True)
    tips = np.flatnonzero((lines.degree == 1) & (away > 0))
    tips = tips[np.argsort(-away[tips], kind="stable")]
    line = lines.points[path]
    along = lengths_along(line)
    station = np.zeros(len(away), dtype=int)
    station[path] = np.arange(len(path))
    station = station[source[tips]]
    tangent = (np.gradient(line, axis=0) if len(path) > 1 else np.zeros((1, 2)))[station]
    reach = lines.points[tips] - line[station]
    side = np.sign(tangent[:, 0] * reach[:, 1] - tangent[:, 1] * reach[:, 0])
    return away[tips], along[station] / max(along[-1], 1e-9), side


def measure_symmetry(points, paths):
    """Compare what lies left and right of each path.

    Every point has a place, that of the path's nearest point, and a distance from the path.
    Symmetry is the part of the points that have a counterpart on the other side, at about the same
    place and distance.

    Parameters
    ----------
    points : ndarray of shape (m, 2)
        Points of the lines.
    paths : ndarray of shape (P, K, 2)
        Points along each path, at equal distances.

    Returns
    -------
    ndarray of shape (P,)
        In [0, 1]; 1 where there is nothing beside the path.
    """
    n_paths, n_stations = paths.shape[:2]
    squares = (paths**2).sum(axis=2)[
        ..., None
    ] - 2 * paths @ points.T  # and what all stations share
    place = squares.argmin(axis=1)  # (P, m)
    rows = np.arange(n_paths)[:, None]
    away = points - paths[rows, place]
    tangent = np.gradient(paths, axis=1)[rows, place]
    spacing = np.maximum(np.hypot(tangent[..., 0], tangent[..., 1]), 1e-9)
    offset = (tangent[..., 0] * away[..., 1] - tangent[..., 1] * away[..., 0]) / spacing
    distance = np.hypot(away[..., 0], away[..., 1]) / spacing
    cells = np.minimum(distance / _CELL, n_stations - 1).astype(int)
    cells += (rows * n_stations + place // _CELL) * n_stations
    shape = (n_paths, n_stations, n_stations)
    left, right = (
        _blur(np.bincount(cells[side], minlength=np.prod(shape)).reshape(shape))
        for side in (offset > 1, offset < -1)
    )
    total, common = (left + right).sum(axis=(1, 2)), np.minimum(left, right).sum(axis=(1, 2))
    return np.where(total > 0, 2 * common / np.maximum(total, 1), 1.0)


def _blur(counts):
    """Spread counts (P, K, K) over the neighbouring cells: nine times the mean."""
    # of integers: the running sums of floats leave less than zero where there is nothing
    return uniform_filter(9 * counts, (0, 3, 3), mode="constant")


def _best_path(lines):
    ends = _find_ends(lines)
    distances, before = dijkstra(lines.graph, indices=ends, return_predecessors=True)
    first, second = np.triu_indices(len(ends), 1)
    length = distances[first, ends[second]]
    if not length.any():  # one pixel
        return ends[:1]
    longest = np.argsort(-length, kind="stable")[:_MOST_PATHS]
    first, second, length = first[longest], second[longest], length[longest]
    seen = np.arange(0, len(lines.points), 1 + len(lines.points) // _MOST_POINTS)
    along = distances[first][:, seen]  # (P, m)
    along[along + distances[second][:, seen] > length[:, None] + 1e-6] = np.inf  # beside the path
    around = distances[first][:, ends] + distances[second][:, ends] - length[:, None]
    branching = ((around < 1e-6) & (lines.degree[ends] > 2)).sum(axis=1)
    places = length[:, None] * np.linspace(0, 1, N_STATIONS)  # (P, K)
    stations = np.abs(along[:, None] - places[..., None]).argmin(axis=2)
    symmetry = measure_symmetry(lines.points[seen], lines.points[seen[stations]])
    chord = np.hypot(*(lines.points[ends[first]] - lines.points[ends[second]]).T)
    # one half: of an animal that lies on its side, all limbs are on one side of the axis
    rank = np.sqrt(length) * (1 + branching) * (0.5 + symmetry) * (chord / length) ** 3
    best = rank.argmax()
    return _walk_back(before[first[best]], ends[second[best]])


def _go_on(lines, path):
    """Let a tail end at the farthest tip that is reached from the head by most of the path."""
    ends = path[0], path[int(_KEPT * len(path))]
    distances, before = dijkstra(lines.graph, indices=ends, return_predecessors=True)
    behind = distances[0, ends[1]] + distances[1] <= distances[0] + 1e-6
    tips = np.flatnonzero(behind & (lines.degree == 1))
    return _walk_back(before[0], tips[distances[0, tips].argmax()]) if len(tips) else path


def _find_ends(lines):
    """Return pixels between which the axis may run: tips and junctions, or opposite points."""
    ends = np.flatnonzero(lines.degree != 2)
    ends = ends[np.unique(lines.cluster[ends], return_index=True)[1]]  # one pixel a junction
    if len(ends) > _MOST_ENDS:
        away = np.hypot(*(lines.points[ends] - lines.points.mean(axis=0)).T)
        ends = np.sort(ends[np.argsort(-away, kind="stable")[:_MOST_ENDS]])
    while len(ends) < 2:  # a ring, or a single pixel
        start = ends[0] if len(ends) else 0
        far = dijkstra(lines.graph, indices=start).argmax()
        ends = np.array([start, far])
    return ends


def _walk_back(before, end):
    path = [end]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return np.array(path[::-1])
