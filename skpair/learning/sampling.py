"""Which rows make a batch."""

import math

import numpy as np

#: Fewest steps in an epoch, so that a few dozen rows still get a training worth its name.
MIN_STEPS = 8


class PairSampler:
    """Draw the image rows and the skeleton rows of every step of an epoch.

    Rows of a case are taken without replacement, the least used first, and go on where the last
    epoch stopped, so that none is starved. Images and skeletons are drawn independently: any
    skeleton of a case is a valid positive for any image of it.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Case of each image.
    batch_size : int
        Most rows in a step.
    strategy : {"balanced", "natural"}
        "balanced": a step holds several tuples, each with every case once (with a subset, taken
        in turns, when there are more cases than `batch_size`). "natural": rows as they come.
    rng : numpy.random.RandomState
        Source of the order.
    y_skeletons : ndarray of shape (m,) or None, default=None
        Cases of the skeletons, the same as those of the images; None where row i of both is a pair.
        An epoch is a pass over the larger kind.
    """

    def __init__(self, y, batch_size, strategy, rng, y_skeletons=None):
        cases, self.y = np.unique(y, return_inverse=True)
        self.y_skeletons = self.y if y_skeletons is None else np.searchsorted(cases, y_skeletons)
        self.rng = rng
        self.strategy = strategy
        self.n_cases = len(cases)
        n_rows = max(len(self.y), len(self.y_skeletons))
        self.n_steps = max(MIN_STEPS, math.ceil(n_rows / batch_size))
        rows = min(batch_size, n_rows)
        if strategy == "balanced":
            self.cases_per_step = min(batch_size, self.n_cases)
            self.rows_per_step = self.cases_per_step * max(1, rows // self.cases_per_step)
        else:
            self.rows_per_step = rows
        self.image_uses = np.zeros(len(self.y), int)
        self.skeleton_uses = np.zeros(len(self.y_skeletons), int)
        self.case_uses = np.zeros(self.n_cases, int)

    def __len__(self):
        """Return the number of steps in an epoch."""
        return self.n_steps

    def __iter__(self):
        """Yield `(image_rows, skeleton_rows)`; position by position they share a case."""
        if self.strategy == "balanced":
            cases = self._cases()
            images = self._draw(self.y, self.image_uses, cases)
        else:
            slots = np.zeros(self.n_steps * self.rows_per_step, int)
            images = self._draw(np.zeros_like(self.y), self.image_uses, slots)
            cases = self.y[images]
        skeletons = self._draw(self.y_skeletons, self.skeleton_uses, cases)
        shape = (self.n_steps, self.rows_per_step)
        yield from zip(images.reshape(shape), skeletons.reshape(shape), strict=True)

    def _cases(self):
        """Give each slot of a balanced epoch its case."""
        if self.cases_per_step == self.n_cases:
            return np.tile(
                np.arange(self.n_cases), self.n_steps * self.rows_per_step // self.n_cases
            )
        steps = []
        for _ in range(self.n_steps):
            order = self.case_uses + self.rng.uniform(size=self.n_cases)
            chosen = np.argpartition(order, self.cases_per_step)[: self.cases_per_step]
            self.case_uses[chosen] += 1
            steps.append(chosen)
        return np.concatenate(steps)

    def _draw(self, groups, uses, slots):
        """Fill each slot with a row of its group, the least used first, and count the uses.

        Every row has a ticket for each time that it may be used. Sorted by the number of that
        use, and then by chance, the tickets of a group are cycles without replacement.
        """
        needed = np.bincount(slots, minlength=groups.max() + 1)  # slots of each group
        cycles = 1 + -(-needed // np.bincount(groups))  # the one under way, and those to come
        tickets = np.repeat(np.arange(len(groups)), cycles[groups])  # rows
        use = uses[tickets] + _rank(tickets)
        chance = self.rng.uniform(size=len(tickets))  # below 1, the whole step of a use
        tickets = tickets[np.argsort(groups[tickets] * (use.max() + 1.0) + use + chance)]
        drawn = tickets[_rank(groups[tickets]) < needed[groups[tickets]]]
        uses += np.bincount(drawn, minlength=len(uses))
        filled = np.empty(len(slots), int)
        filled[np.argsort(slots, kind="stable")] = drawn  # both are sorted by group
        return filled


def _rank(values):
    """Count each value among its equals, in sorted values: [3, 3, 5] gives [0, 1, 0]."""
    return np.arange(len(values)) - np.searchsorted(values, values)
