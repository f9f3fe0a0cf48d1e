"""Pictures: images and drawings, in memory and in files, brought to 8 bits and to one size.

Images become uint8 of 0..255 or float32 of 0..1, drawings become ink: True on a line, False on the
ground. Which rows and columns of X they come from is not known here.
"""

import contextlib
import functools
import itertools
import numbers
import os
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin
from sklearn.utils import check_array

from ..checks import as_file

with contextlib.suppress(ImportError):  # the extra [images]: photographs of telephones
    import pillow_heif

    pillow_heif.register_heif_opener()

INKS = ("auto", "light", "dark")
#: On which grounds to look for the ink of transparent drawings.
_GROUNDS = {"auto": ("white", "black"), "dark": ("white",), "light": ("black",)}
#: Formats whose first picture is the picture: previews, other eyes, depths or layers follow it.
_PICTURE_FIRST = ("MPO", "HEIF", "PSD")
#: Tag of a TIFF page that says what it is, and the bits for a smaller version and a mask.
_SUBFILE_TYPE, _NO_PAGE = 254, 0b101


# ---- checks --------------------------------------------------------------------------------------


def check_ink(ink):
    """Raise unless `ink` is one of `INKS`."""
    if ink not in INKS:
        raise ValueError(f"ink must be one of {list(INKS)}, but {ink!r} was given.")


def check_size(size, name="size"):
    """Return `size`, an int or a pair of them, as (height, width)."""
    pair = (size, size) if isinstance(size, numbers.Integral) else size
    whole = isinstance(pair, tuple | list | np.ndarray) and all(
        isinstance(side, numbers.Integral) and side > 0 for side in pair
    )
    if not whole or len(pair) != 2:
        raise ValueError(
            f"{name} must be a positive int or (height, width), but {size!r} was given."
        )
    return int(pair[0]), int(pair[1])


def check_range(pixels):
    """Raise unless pixels are integers of 0..255 or floats of 0..1."""
    if pixels.dtype in (bool, np.uint8):
        return
    top, advice = 255, "stack_pairs scales wider integers."
    if pixels.dtype.kind == "f":
        top, advice = 1, "Scale them, or give uint8."
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > top:
        raise ValueError(
            f"Pixels of {pixels.dtype} must lie in 0..{top}, but these lie in {low}..{high}. "
            f"{advice}"
        )


def is_ragged(pictures):
    """Whether pictures come as an object array of arrays: they differ in size."""
    lists = isinstance(pictures, np.ndarray) and pictures.ndim == 1 and pictures.dtype.kind == "O"
    return lists and len(pictures) > 0 and isinstance(pictures[0], np.ndarray)


# ---- pictures in memory --------------------------------------------------------------------------


def as_images(images, size=None):
    """Return images as (n, C, H, W), C of 1 or 3: a view where they need no conversion.

    `size` is for images of different sizes; others are not resized.
    """
    if is_ragged(images):
        return _bring_to_size(images, size)
    if type(images) is not np.ndarray or images.dtype != np.uint8 or 0 in images.shape:
        # what scikit-learn checks, all arrays of 8 bits fulfil
        images = check_array(images, allow_nd=True, input_name="the images")
    given = images.shape
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and given[1] not in (1, 3, 4):
        images = np.moveaxis(images, 3, 1)
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or 0 in given:
        raise ValueError(
            f"The images have the shape {given}; expected (n, H, W), (n, C, H, W) or "
            "(n, H, W, C) with 1 (grey), 3 (RGB) or 4 (RGBA) channels C."
        )
    if images.dtype.kind in "iu" and (
        images.dtype == np.uint16 or images.min() < 0 or images.max() > 255
    ):
        images = np.stack([_narrow(image) for image in images])
    check_range(images)
    return np.stack([_over_white(image) for image in images]) if images.shape[1] == 4 else images


def as_ink(drawings, size, ink):
    """Return drawings (also of different sizes) as (n, 1, H, W) bool."""
    if is_ragged(drawings):
        return np.concatenate([as_ink(drawing[None], size, ink) for drawing in drawings])
    drawings = check_array(drawings, allow_nd=True, input_name="the skeletons")
    given = drawings.shape
    if drawings.ndim == 3:
        drawings = drawings[:, None]
    elif drawings.ndim == 4 and given[1] != 1 and (given[3] == 1 or given[1] not in (3, 4)):
        drawings = np.moveaxis(drawings, 3, 1)
    if drawings.ndim != 4 or drawings.shape[1] not in (1, 3, 4) or 0 in given:
        raise ValueError(
            f"The skeletons have the shape {given}; expected (n, H, W), (n, C, H, W) or "
            "(n, H, W, C) with 1 (grey), 3 (RGB) or 4 (RGBA) channels C."
        )
    found = [_find_ink_in(drawing, ink) for drawing in drawings]
    return np.stack([resize_ink(lines, size) for lines in found])[:, None]


def plain_pixels(pixels):
    """Return uint8 of 0..255, or float32 of 0..1 for floats."""
    if pixels.dtype == bool:
        return pixels * np.uint8(255)
    return pixels.astype(np.float32 if pixels.dtype.kind == "f" else np.uint8, copy=False)


def resize_images(images, size):
    """Resize (..., h, w) uint8 or float32 to (..., *size), bilinear and antialiased."""
    if images.shape[-2:] == tuple(size):
        return images
    planes = np.ascontiguousarray(images).reshape(-1, *images.shape[-2:])
    resized = [Image.fromarray(plane).resize(size[::-1], Image.BILINEAR) for plane in planes]
    return np.stack(resized).reshape(*images.shape[:-2], *size)


def resize_ink(ink, size):
    """Resize (..., h, w) bool to (..., *size) so that no line is lost.

    Shrinking, every pixel falls into one cell, and a cell with any ink is ink; growing, the
    nearest pixel decides.
    """
    for axis, new in zip((-2, -1), size, strict=True):
        old, cells = ink.shape[axis], np.arange(new)
        if new < old:
            first = -((new - 2 * cells * old) // (2 * new))  # ceil(cell * old / new - 1/2)
            ink = np.logical_or.reduceat(ink, first, axis=axis)
        elif new > old:
            ink = np.take(ink, (2 * cells + 1) * old // (2 * new), axis=axis)
    return ink


def _bring_to_size(images, size):
    if size is None:
        raise ValueError(
            "The images differ in size. Give the one that all shall have: "
            "stack_pairs(..., size=...) or PairEncoder(image_size=...)."
        )
    images = [as_images(image[None])[0] for image in images]  # each (C, H, W)
    if len({image.dtype.kind == "f" for image in images}) > 1:
        raise ValueError("Some images are floats in 0..1 and others integers: convert them.")
    images = [resize_images(plain_pixels(image), size) for image in images]
    n_channels = max(map(len, images))
    return np.stack([np.broadcast_to(image, (n_channels, *size)) for image in images])


def _narrow(image):
    """Bring an image of wide integers (C, H, W) to 8 bits; alpha has its dtype's full range."""
    colour, alpha = _eight_bits(image[:3]), image[3:] / np.iinfo(image.dtype).max
    return np.concatenate([colour, np.rint(255 * alpha).astype(np.uint8)])


def _eight_bits(pixels):
    """Scale pixels by their own minimum and maximum to uint8."""
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds NaN or infinite pixels")
    return np.rint((pixels - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _over_white(image):
    """Composite RGBA (4, H, W) over white: (3, H, W), uint8 or float32."""
    image = plain_pixels(image)
    white = 1 if image.dtype.kind == "f" else 255
    alpha = image[3] / np.float32(white)
    colour = image[:3] * alpha + white * (1 - alpha)
    return colour if white == 1 else np.rint(colour).astype(np.uint8)


def _find_ink_in(drawing, ink):
    """Tell lines from ground in a drawing (C, H, W) as in its file: (H, W) bool."""
    if len(drawing) == 1:
        return _find_ink(drawing[0], ink)
    whole = drawing.dtype == np.uint8
    drawing = drawing.astype(float)
    top = next((top for top in (1, 255) if drawing.max() <= top), drawing.max())  # white
    colour, alpha = drawing[:3], drawing[3] / top if len(drawing) == 4 else 1.0
    for ground in _GROUNDS[ink] if len(drawing) == 4 else ("white",):
        shade = top if ground == "white" else 0
        # the luma of ITU-R 601, as Pillow has it
        grey = np.tensordot([0.299, 0.587, 0.114], colour * alpha + shade * (1 - alpha), 1)
        found = _find_ink(np.rint(grey) if whole else grey, ink)
        if found.any():
            break
    return found


def _find_ink(drawing, ink):
    """Tell lines from ground in a drawing (H, W) of any real dtype: (H, W) bool."""
    low, high = float(drawing.min()), float(drawing.max())
    # The noise of a scanned empty page is no ink; masks of {0, 1} have full contrast.
    if high - low <= 0.05 * max(abs(low), abs(high)):
        return np.zeros(drawing.shape, dtype=bool)
    light = drawing > (low + high) / 2
    if ink == "auto":
        ink = "light" if 2 * np.count_nonzero(light) <= light.size else "dark"
    return light if ink == "light" else ~light


# ---- pictures in files ---------------------------------------------------------------------------


def check_file(path):
    """Raise unless a file is there and starts like an image; tell whether more pages follow.

    Pixels are not decoded. Frames of an animation are pages, too.
    """
    with Image.open(as_file(path)) as image:
        return _has_more_pages(image)


def decode_image(path, shape):
    """Read an image file as uint8 of `shape` (C, H, W).

    Of C None, give the three channels, or one where it tells the same, to the bit, as all three.
    """
    with Image.open(as_file(path)) as image:
        # A large JPEG is decoded several times faster near the size that is wanted.
        image.draft(None, (2 * max(shape[1:]),) * 2)
        image = _on_ground(_upright(image), "white")
    if shape[0] is not None:
        return _as_image(image, shape)
    colour = _as_image(image, (3, *shape[1:]))
    if np.ptp(colour, axis=0).any():
        return colour
    grey = _as_image(image, (1, *shape[1:]))
    return grey if (grey == colour).all() else colour


def decode_skeleton(path, shape, ink):
    """Read the file of a drawing as uint8 of 0 or 255, `shape` (1, H, W)."""
    with Image.open(as_file(path)) as image:
        image = _upright(image)
    # White lines on a transparent ground show on black only.
    for ground in _GROUNDS[ink]:
        found = _find_ink(np.asarray(_on_ground(image, ground).convert("L")), ink)
        if found.any():
            break
    return plain_pixels(resize_ink(found, shape[1:]))[None]


def in_threads(function, items):
    """Start all calls at once, on the threads that decode files; the results come in order."""
    pool, n_threads = _pool(os.getpid())  # threads do not survive a fork: one pool each
    # several calls a task: for small files, a task costs as much as a call
    at_once = max(1, min(16, len(items) // n_threads))
    tasks = [items[start : start + at_once] for start in range(0, len(items), at_once)]
    results = pool.map(lambda task: [function(item) for item in task], tasks)
    return itertools.chain.from_iterable(results)


@functools.cache
def _pool(process_id):
    # workers of joblib and of Dask are told here how many threads are theirs
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    n_threads = int(allowed) if allowed.isdigit() and int(allowed) else joblib.cpu_count()
    n_threads = min(4, n_threads)
    return ThreadPoolExecutor(n_threads, thread_name_prefix="skpair"), n_threads


def _upright(image):
    """Load an image, turned as its EXIF entry says, with at most 8 bits a channel."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = _eight_bits(np.asarray(image))
        # Pillow has turned only those pages of fewer bits whose white is zero
        image = Image.fromarray(255 - pixels if _white_is_zero(image) else pixels)
    return image


def _white_is_zero(image):
    tags = getattr(image, "tag_v2", {})  # of a TIFF file
    return tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0


def _has_more_pages(image):
    if image.format in _PICTURE_FIRST or not getattr(image, "is_animated", False):
        return False
    if image.format != "TIFF":
        return True
    try:
        for page in itertools.count(1):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _NO_PAGE:
                return True
    except EOFError:  # smaller versions and masks only
        return False
    except Exception:  # Pillow's decoders raise many kinds: a page that is damaged is one
        return True


def _as_image(image, shape):
    """Bring an image to a shape (C, H, W), as an array."""
    mode, size = "RGB" if shape[0] == 3 else "L", shape[:0:-1]
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != size:
        image = image.resize(size, Image.BILINEAR)
    pixels = np.asarray(image)  # (H, W) or (H, W, 3)
    return pixels.reshape(*shape[1:], shape[0]).transpose(2, 0, 1)


def _on_ground(image, colour):
    """Composite a transparent image over a colour."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image)
