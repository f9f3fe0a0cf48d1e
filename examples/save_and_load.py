"""Keep a fitted matcher in a file, and use it in another process.

Learns digits with a network of one's own for the images, saves the matcher, and names the test
images in a fresh process, as it may be on another machine. No figure is drawn::

    python examples/save_and_load.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from torch import nn

from skpair import PairEncoder, PairMatcher
from skpair.datasets import load_digit_pairs


class Net(nn.Module):
    """A network of one's own; a file holds its weights, but not this code."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )

    def forward(self, x):
        """Encode a batch."""
        return self.layers(x)


def main():
    """Fit, save, and compare what two processes say."""
    data = load_digit_pairs(image_size=16, random_state=0)
    images, new_images, skeletons, _, y, new_y = train_test_split(
        data.images, data.skeletons, data.y, stratify=data.y, random_state=0
    )
    encoder = PairEncoder(image_encoder=Net(), frozen=False, max_epochs=5)
    matcher = PairMatcher(encoder, random_state=0).fit(images, skeletons, y)
    score = balanced_accuracy_score(new_y, matcher.predict(new_images))
    print(f"Fitted on {len(y)} pairs; balanced accuracy on {len(new_y)} others {score:.3f}.")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "digits.skpair")
        matcher.save(path)
        print(f"{path.name} takes {path.stat().st_size / 1e6:.1f} MB.")
        np.save(Path(folder, "images.npy"), new_images)
        subprocess.run([sys.executable, __file__, folder], check=True)
        elsewhere = np.load(Path(folder, "proba.npy"))
    same = np.array_equal(elsewhere, matcher.predict_proba(new_images))
    print(f"The probabilities of both processes are {'the same to the bit' if same else 'unlike'}.")


def name_elsewhere(folder):
    """Load the matcher, and let it name images: what the other process does."""
    # without the network, load would say which is missing
    matcher = PairMatcher.load(folder / "digits.skpair", encoder__image_encoder=Net())
    proba = matcher.predict_proba(np.load(folder / "images.npy"))
    np.save(folder / "proba.npy", proba)
    print(f"Another process has loaded it and named {len(proba)} images.")


if __name__ == "__main__":
    if sys.argv[1:]:
        name_elsewhere(Path(sys.argv[1]))
    else:
        main()
