"""Speed against what one would write by hand, both sides in turn in one run.

    python tests/benchmarks/speed.py [name ...]

Prints, for each comparison, the median of the ratios of ours to theirs, the smallest and the
largest one, and the bar. Run it on a machine that does nothing else.
"""

import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from skorch import NeuralNet
from torch import nn

from skpair import PairEncoder, PairMatcher
from skpair.datasets import make_copepods
from skpair.known.gallery import Gallery
from skpair.learning.augment import Augment
from skpair.learning.sampling import PairSampler
from skpair.learning.towers import DualEncoder, Projection, SmallCNN
from skpair.losses import MatchingLoss, NPairLoss


def versus(what, ours, theirs, bar, repeats=7, faster=False):
    """Time two functions in turn, and print the ratio of ours to theirs (or the reverse)."""
    ours(), theirs()  # warm up
    pairs = np.array([[seconds(ours), seconds(theirs)] for _ in range(repeats)])
    ratios = pairs[:, 1] / pairs[:, 0] if faster else pairs[:, 0] / pairs[:, 1]
    middle = np.median(pairs, axis=0)
    word = "x faster" if faster else "x its time"
    print(
        f"{what:58s} {middle[0]:9.4f} s : {middle[1]:9.4f} s   {np.median(ratios):5.2f}{word} "
        f"({ratios.min():.2f} to {ratios.max():.2f}), bar {bar}",
        flush=True,
    )


def seconds(function, *arguments):
    """Time one call."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


# ---- the two layers, on encodings ----------------------------------------------------------------

EPOCHS = 60


def encodings(n=1376, columns=512, n_cases=9):
    """Rows of encodings of unequally frequent cases, that are not too easy to tell apart."""
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, n_cases + 1)
    y = rng.choice(n_cases, n, p=p / p.sum())
    centres = rng.normal(size=(n_cases, columns)) / 2
    return (centres[y] + rng.normal(size=(n, columns))).astype(np.float32), y


class Layers(nn.Module):
    """The two layers as one would write them, for encodings that are standardized already."""

    def __init__(self, width):
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.image, self.skeleton = nn.Linear(width, 64), nn.Linear(width, 64)

    def forward(self, image, skeleton):
        """Embed a batch of both kinds."""
        image, skeleton = self.image(self.dropout(image)), self.skeleton(self.dropout(skeleton))
        return F.normalize(image, dim=1), F.normalize(skeleton, dim=1)


def standardized(X):
    """Give columns a mean of zero and a deviation of one."""
    return (X - X.mean(axis=0)) / X.std(axis=0)


def rate(t, highest=0.003, warm_up=0.1):
    """Learning rate at a fraction of the training."""
    if t < warm_up:
        return highest * t / warm_up
    return highest * (1 + math.cos(math.pi * (t - warm_up) / (1 - warm_up))) / 2


def loop(module, criterion, x, y, batches, n_epochs, lr, weight_decay, augment=lambda x: x):
    """Train as one would by hand."""
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=weight_decay, fused=True)
    n_steps, step = n_epochs * len(batches), 0
    module.train()
    for _ in range(n_epochs):
        total = 0.0
        for image_rows, skeleton_rows in batches:
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = rate(step / (n_steps + 1), lr)
            optimizer.zero_grad(set_to_none=True)
            output = module(augment(x[0][image_rows]), augment(x[1][skeleton_rows]))
            loss = criterion(output, y[image_rows])
            loss.backward()
            optimizer.step()
            total += loss.item()
    module.eval()


def layers_by_hand(X, y):
    """Two layers, the same batches and loss."""
    X, middle = standardized(X), X.shape[1] // 2
    x = torch.from_numpy(X[:, :middle].copy()), torch.from_numpy(X[:, middle:].copy())
    batches = PairSampler(y, 128, "balanced", np.random.RandomState(0))
    criterion = MatchingLoss(NPairLoss(0.1), 0.5, 0.002)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster than two, for layers as small as these; ours does the same
    loop(Layers(middle), criterion, x, torch.from_numpy(y), batches, EPOCHS, 0.003, 0.01)
    torch.set_num_threads(threads)


class Rows(torch.utils.data.Dataset):
    """Rows one by one, as skorch's default loader collects them."""

    def __init__(self, X, y):
        self.X, self.y, self.middle = X, y, X.shape[1] // 2

    def __len__(self):
        """Count the rows."""
        return len(self.y)

    def __getitem__(self, row):
        """Give one row."""
        x = self.X[row]
        return {"image": x[: self.middle], "skeleton": x[self.middle :]}, self.y[row]


def layers_by_skorch(X, y):
    """A NeuralNet as it comes, with shuffled batches of the same size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    NeuralNet(
        Layers(X.shape[1] // 2),
        MatchingLoss(NPairLoss(0.1), 0.5, 0.002),
        optimizer=torch.optim.AdamW,
        lr=0.003,
        max_epochs=EPOCHS,
        batch_size=128,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(Rows(standardized(X), y), None)
    torch.set_num_threads(threads)


def layers():
    """Training on encodings: 1376 rows of 512 columns, batches of 128, 60 epochs."""
    X, y = encodings()

    def ours():
        PairMatcher(max_epochs=EPOCHS, random_state=0).fit(X, y)

    versus("layers : hand-written loop", ours, lambda: layers_by_hand(X, y), "<= 1.15")
    versus(
        "layers : skorch as it comes", ours, lambda: layers_by_skorch(X, y), ">= 1.4", faster=True
    )


# ---- pixels --------------------------------------------------------------------------------------


EPOCHS_OF_TOWERS = 35


def joint():
    """Joint training on pixels: 64 px, the small CNN, augmentation."""
    X, y = make_copepods(512, image_size=64, random_state=0, return_X_y=True)

    def ours():
        encoder = PairEncoder(max_epochs=EPOCHS_OF_TOWERS, random_state=0)
        PairMatcher(encoder, training="joint", random_state=0).fit(X, y)

    def theirs():
        x = [torch.from_numpy(part).float().div_(255) for part in (X[:, :1], X[:, 1:])]
        encoders = [nn.Sequential(SmallCNN(1), Projection(128, 64, (), 0.3, True)) for _ in x]
        batches = PairSampler(y, 64, "balanced", np.random.RandomState(0))
        criterion = MatchingLoss(NPairLoss(0.1), 0.5, 0.002)
        module = DualEncoder(*encoders)
        loop(
            module,
            criterion,
            x,
            torch.from_numpy(y),
            batches,
            EPOCHS_OF_TOWERS,
            0.003,
            0.05,
            Augment(),
        )

    versus("joint training on pixels : hand-written loop", ours, theirs, "<= 1.10", repeats=3)


def encode():
    """Encode pixels: 1969 pairs of 64 px."""
    X, _ = make_copepods(image_size=64, random_state=0, return_X_y=True)
    encoder = PairEncoder(frozen=True, random_state=0).fit(X)

    def theirs():
        with torch.inference_mode():
            for tower, part in zip(encoder.towers_.children(), (X[:, :1], X[:, 1:]), strict=True):
                for start in range(0, len(part), encoder.batch_size):
                    batch = torch.from_numpy(part[start : start + encoder.batch_size].copy())
                    tower(batch.float().div_(255))

    versus("transform : bare module", lambda: encoder.transform(X), theirs, "<= 1.05")


def matrix():
    """Similarity of 1969 images with 1969 skeletons, from pixels."""
    X, y = make_copepods(image_size=64, random_state=0, return_X_y=True)
    matcher = fitted(X[:400], y[:400])

    def theirs():
        matcher.transform(X)
        matcher.embed_skeletons(X)

    def ours():
        matcher.similarity_matrix(X)

    versus("similarity matrix 1969 x 1969 : n + m encodings", ours, theirs, "<= 1.10")


def fitted(X, y):
    """A matcher with untrained towers: speed does not depend on what they know."""
    encoder = PairEncoder(frozen=True, random_state=0)
    return PairMatcher(encoder, max_epochs=1, random_state=0).fit(X, y)


def one_image():
    """Name one image of 64 px, with small and large galleries."""
    X, y = make_copepods(image_size=64, random_state=0, return_X_y=True)
    matcher = fitted(X, y)
    image = X[:1, 0]
    batch = torch.from_numpy(image[:, None].copy()).float().div_(255)
    tower = matcher.encoder_.towers_.image

    def theirs():
        with torch.inference_mode():
            for _ in range(100):
                tower(batch)

    def ours():
        for _ in range(100):
            matcher.predict(image)

    versus("predict, 100 times one image : bare module", ours, theirs, "<= 1.5")
    known = matcher.gallery_
    rows = np.resize(np.arange(len(known.skeletons)), 100_000)
    large = fitted(X, y)
    large.gallery_ = Gallery(
        known.cases,
        known.images,
        known.image_cases,
        known.skeletons[rows],
        known.skeleton_cases[rows],
    )

    def with_many():
        for _ in range(100):
            large.predict(image)

    versus("predict, 100,000 drawings : 1969 drawings", with_many, ours, "about 1")


# ---- sampling ------------------------------------------------------------------------------------


def sampler():
    """Time of a step: batches of 128, up to 10,000 rows and 1,000 cases."""
    for n_rows, n_cases in ((1376, 9), (10_000, 9), (10_000, 1000)):
        y = np.random.default_rng(0).permutation(np.arange(n_rows) % n_cases)
        for strategy in ("balanced", "natural"):
            batches = PairSampler(y, 128, strategy, np.random.RandomState(0))
            times = [seconds(lambda b=batches: list(b)) / len(batches) * 1e6 for _ in range(20)]
            what = f"sampler, {n_rows} rows, {n_cases} cases, {strategy}"
            print(f"{what:58s} {np.median(times):9.1f} us a step, bar < 100", flush=True)


BENCHMARKS = {
    "layers": layers,
    "joint": joint,
    "encode": encode,
    "matrix": matrix,
    "one_image": one_image,
    "sampler": sampler,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
