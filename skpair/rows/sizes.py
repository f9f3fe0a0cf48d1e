"""Pictures come to a size: cut, whole within it, or distorted."""

import numpy as np
from PIL import Image

RESIZES = ("pad", "stretch")


def crop_bottom(images, cut):
    """Cut rows off the bottom of images (..., H, W): a number of them, or a share below 1."""
    if not cut:
        return images
    height = images.shape[-2]
    kept = height - (round(cut * height) if cut < 1 else int(cut))
    if kept < 1:
        raise ValueError(f"crop_bottom={cut!r} leaves nothing of images of {height} rows.")
    return images[..., :kept, :]


def fit_inside(given, size, resize):
    """Say how large a picture of `given` (height, width) becomes within `size`, and where it lies.

    Returns
    -------
    inner : (int, int)
    place : (slice, slice)
    """
    if resize == "stretch":
        return tuple(size), (slice(None), slice(None))
    scale = min(new / old for new, old in zip(size, given, strict=True))
    inner = tuple(
        min(new, max(1, round(old * scale))) for new, old in zip(size, given, strict=True)
    )
    first = [(new - part) // 2 for new, part in zip(size, inner, strict=True)]
    return inner, tuple(slice(f, f + part) for f, part in zip(first, inner, strict=True))


def resize_images(images, size, resize="pad"):
    """Resize (..., h, w) uint8 or float32 to (..., *size), bilinear and antialiased."""
    if images.shape[-2:] == tuple(size):
        return images
    inner, place = fit_inside(images.shape[-2:], size, resize)
    planes = np.ascontiguousarray(images).reshape(-1, *images.shape[-2:])
    resized = np.empty((len(planes), *size), images.dtype)
    for whole, plane in zip(resized, planes, strict=True):
        part = np.asarray(Image.fromarray(plane).resize(inner[::-1], Image.BILINEAR))
        if inner != tuple(size):
            whole[:] = shade_of_border(part)
        whole[place] = part
    return resized.reshape(*images.shape[:-2], *size)


def shade_of_border(plane):
    """Give the median of the outermost pixels of a plane (H, W)."""
    sides = plane[[0, -1]], plane[:, [0, -1]]
    return np.median(np.concatenate([side.ravel() for side in sides])).astype(plane.dtype)


def resize_ink(ink, size, resize="pad"):
    """Resize (..., h, w) bool to (..., *size) so that no line is lost.

    Shrinking, every pixel falls into one cell, and a cell with any ink is ink; growing, the
    nearest pixel decides.
    """
    inner, place = fit_inside(ink.shape[-2:], size, resize)
    for axis, new in zip((-2, -1), inner, strict=True):
        old, cells = ink.shape[axis], np.arange(new)
        if new < old:
            first = -((new - 2 * cells * old) // (2 * new))  # ceil(cell * old / new - 1/2)
            ink = np.logical_or.reduceat(ink, first, axis=axis)
        elif new > old:
            ink = np.take(ink, (2 * cells + 1) * old // (2 * new), axis=axis)
    if inner == tuple(size):
        return ink
    whole = np.zeros((*ink.shape[:-2], *size), bool)
    whole[(..., *place)] = ink
    return whole
