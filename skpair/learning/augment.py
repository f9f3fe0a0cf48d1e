"""Random variants of pictures, drawn in training."""

import torch
import torch.nn.functional as F
from torch import nn


class Augment(nn.Module):
    """Random rotation, flip, scale and shift of every picture of a batch.

    Pictures are continued by reflection, so that no border appears that clean pictures lack.

    Parameters
    ----------
    degrees : float
        Largest rotation, either way.
    scale : float
        Largest relative change of size.
    shift : float
        Largest shift, as a fraction of the side.
    flip : float
        Probability of a mirror image.
    generator : torch.Generator or None
        Source of chance, on the CPU; None takes torch's global one.
    """

    def __init__(self, degrees=30.0, scale=0.15, shift=0.08, flip=0.5, generator=None):
        super().__init__()
        self.generator = generator
        self.degrees = degrees
        self.scale = scale
        self.shift = shift
        self.flip = flip

    def forward(self, x):  # (b, C, H, W) float
        """Augment a batch."""
        n = len(x)
        chance = torch.rand(5, n, generator=self.generator).to(x.device)
        uniform = chance[:4] * 2 - 1
        angle = uniform[0] * self.degrees * torch.pi / 180
        zoom = 1 + uniform[1] * self.scale
        flip = torch.where(chance[4] < self.flip, -1.0, 1.0)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        shift_x, shift_y = uniform[2:4] * self.shift * 2  # the grid runs from -1 to 1
        aspect = x.shape[2] / x.shape[3]  # both ways, so a rotation must mind the sides
        theta = torch.stack(
            [
                torch.stack([cos * flip, -sin * aspect, shift_x], 1),
                torch.stack([sin * flip / aspect, cos, shift_y], 1),
            ],
            dim=1,
        )  # (b, 2, 3)
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def make_augment(augment, layout, seed=0):
    """Turn the parameter `augment` into a callable on batches, or None."""
    if isinstance(augment, str) and augment == "auto":
        generator = torch.Generator().manual_seed(seed)
        return None if layout == "features" else Augment(generator=generator)
    if augment is None or callable(augment):
        return augment
    raise ValueError(f"augment must be 'auto', None or a callable on batches, got {augment!r}.")
