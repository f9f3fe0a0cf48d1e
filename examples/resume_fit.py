"""A fit that is killed, and goes on: `PairMatcher(checkpoint=...)`.

Fits in another process, kills it half way, fits again with the same parameters, and compares the
weights with those of a fit that was left in peace. No figure: there is nothing to see::

    python examples/resume_fit.py
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

import torch

from skpair import PairEncoder, PairMatcher
from skpair.datasets import load_digit_pairs


def fit(checkpoint):
    """Fit on some digits."""
    X, y = load_digit_pairs(random_state=0, return_X_y=True)
    encoder = PairEncoder(max_epochs=10)
    return PairMatcher(encoder, checkpoint=checkpoint, random_state=0).fit(X[:300], y[:300])


def main():
    """Kill a fit, and let it go on."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "state"
        process = multiprocessing.get_context("spawn").Process(target=fit, args=(checkpoint,))
        process.start()
        while process.is_alive() and not (checkpoint / "skeleton.state.safetensors").exists():
            time.sleep(0.1)
        time.sleep(2)
        process.kill()
        process.join()
        print("Killed. It left", ", ".join(sorted(path.name for path in checkpoint.iterdir())))
        started = time.perf_counter()
        resumed = fit(checkpoint)
        print(f"The rest took {time.perf_counter() - started:.1f} s, ", end="")
        print("and the folder is gone." if not checkpoint.exists() else "and the folder is left.")
    started = time.perf_counter()
    whole = fit(None)
    print(f"A whole fit took {time.perf_counter() - started:.1f} s.")
    for name in ("layers_", "encoder_"):
        parts = [getattr(matcher, name) for matcher in (resumed, whole)]
        states = [getattr(part, "towers_", part).state_dict().values() for part in parts]
        same = all(torch.equal(a, b) for a, b in zip(*states, strict=True))
        print(f"{name}: {'the same to the bit' if same else 'different'}")


if __name__ == "__main__":
    main()
