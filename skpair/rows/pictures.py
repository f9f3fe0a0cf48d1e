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
from dataclasses import dataclass

import joblib
import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin
from sklearn.utils import check_array

from ..checks import as_file
from .ink import LARGEST, clean_to_size, is_scan
from .sizes import RESIZES, crop_bottom, resize_images, resize_ink

with contextlib.suppress(ImportError):  # the extra [images]: photographs of telephones
    import pillow_heif

    pillow_heif.register_heif_opener()

INKS = ("auto", "light", "dark")
CONTRASTS = ("full", "own")
#: What earlier versions did: 8 bits were let be, others stretched between their own extremes.
EARLIER = "earlier"
#: The luma of ITU-R 601, as Pillow has it.
_LUMA = (0.299, 0.587, 0.114)
#: Of the pixels of an image, the share at either end that its own contrast lets go.
_ENDS = 0.005
#: Bits of the pixels of cameras and scanners; with a sign, one is lost where all are used.
_BITS = {"u": (8, 12, 16, 32, 64), "i": (8, 12, 15, 16, 31, 32, 63), "b": (1,)}
#: On which grounds to look for the ink of transparent drawings.
_GROUNDS = {"auto": ("white", "black"), "dark": ("white",), "light": ("black",)}
#: Formats whose first picture is the picture: previews, other eyes, depths or layers follow it.
_PICTURE_FIRST = ("MPO", "HEIF", "PSD")
#: Tag of a TIFF page that says what it is, and the bits for a smaller version and a mask.
_SUBFILE_TYPE, _NO_PAGE = 254, 0b101


@dataclass(frozen=True)
class Look:
    """How pictures of any kind and size are read.

    Parameters
    ----------
    ink : {"auto", "light", "dark"}
        Which shade of a drawing is ink.
    resize : {"pad", "stretch"}
        How pictures come to a size: whole, on the shade of their border (drawings: on blank
        ground), or distorted.
    contrast : {"full", "own"}
        What becomes black and white in an image of whatever type: the ends of the range that its
        type and bits have, or its own darkest and lightest pixels, but for half a percent.
    crop_bottom : int or float
        Rows of an image that are cut off at the bottom: pixels, or a share below 1.
    """

    ink: str = "auto"
    resize: str = "pad"
    contrast: str = "full"
    crop_bottom: int | float = 0


# ---- checks --------------------------------------------------------------------------------------


def check_look(look, earlier=False):
    """Raise unless a `Look` is as described; `earlier` lets what earlier versions did pass."""
    check_ink(look.ink)
    contrasts = (*CONTRASTS, EARLIER) if earlier else CONTRASTS
    for name, value, known in (
        ("resize", look.resize, RESIZES),
        ("contrast", look.contrast, contrasts),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {list(known)}, but {value!r} was given.")
    cut = look.crop_bottom
    if isinstance(cut, bool) or not isinstance(cut, numbers.Real) or not cut >= 0:
        raise ValueError(f"crop_bottom must be a number of rows, or a share below 1, got {cut!r}.")
    if cut >= 1 and cut != int(cut):
        raise ValueError(f"crop_bottom={cut!r} is neither a number of rows nor a share below 1.")


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


def as_images(images, size=None, look=None):
    """Return images as (n, C, H, W), C of 1 or 3: a view where they need no conversion.

    `size` is for images of different sizes; others are not resized.
    """
    look = look or Look()
    if is_ragged(images):
        return _bring_to_size(images, size, look)
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
    images = crop_bottom(images, look.crop_bottom)
    if images.dtype.kind in "iu" and (
        images.dtype == np.uint16 or images.min() < 0 or images.max() > 255
    ):
        images = np.stack([_narrow(image, look.contrast) for image in images])
    check_range(images)
    if images.shape[1] == 4:
        images = np.stack([_over_white(image) for image in images])
    if look.contrast == "own":
        images = np.stack([to_own_contrast(image) for image in images])
    return images


def as_ink(drawings, size, look):
    """Return drawings (also of different sizes) as (n, 1, H, W) bool."""
    if is_ragged(drawings):
        return np.concatenate([as_ink(drawing[None], size, look) for drawing in drawings])
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
    return np.stack([_ink_in(drawing, size, look) for drawing in drawings])[:, None]


def plain_pixels(pixels):
    """Return uint8 of 0..255, or float32 of 0..1 for floats."""
    if pixels.dtype == bool:
        return pixels * np.uint8(255)
    return pixels.astype(np.float32 if pixels.dtype.kind == "f" else np.uint8, copy=False)


def to_own_contrast(image):
    """Stretch an image (..., H, W) between its own ends; uint8 stays so, floats stay in 0..1."""
    low, high = np.quantile(image, [_ENDS, 1 - _ENDS])
    top = 1.0 if image.dtype.kind == "f" else 255.0
    stretched = np.clip((image - low) * (top / (high - low) if high > low else 0), 0, top)
    return stretched.astype(image.dtype) if top == 1 else np.rint(stretched).astype(np.uint8)


def to_channels(images, n_channels):
    """Bring images (n, C, H, W) of 1 or 3 channels to as many as a network wants."""
    if images.shape[1] == n_channels:
        return images
    if n_channels == 3:
        return np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
    grey = np.tensordot(_LUMA, images.astype(np.float32), (0, 1))[:, None]
    return grey if images.dtype.kind == "f" else np.rint(grey).astype(np.uint8)


def as_array(picture):
    """Return a picture of Pillow's as an array: (H, W) of grey or (H, W, C), of at most 8 bits."""
    picture = _upright(picture.copy(), "full")
    if picture.has_transparency_data:
        return np.asarray(picture.convert("RGBA"))
    return np.asarray(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))


def _bring_to_size(images, size, look):
    if size is None:
        raise ValueError(
            "The images differ in size. Give the one that all shall have: "
            "stack_pairs(..., size=...) or PairEncoder(image_size=...)."
        )
    images = [as_images(image[None], look=look)[0] for image in images]  # each (C, H, W)
    if len({image.dtype.kind == "f" for image in images}) > 1:
        raise ValueError("Some images are floats in 0..1 and others integers: convert them.")
    images = [resize_images(plain_pixels(image), size, look.resize) for image in images]
    n_channels = max(map(len, images))
    return np.stack([np.broadcast_to(image, (n_channels, *size)) for image in images])


def _narrow(image, contrast):
    """Bring an image of wide integers (C, H, W) to 8 bits; alpha has its dtype's full range."""
    colour, alpha = to_eight_bits(image[:3], contrast), image[3:] / np.iinfo(image.dtype).max
    return np.concatenate([colour, np.rint(255 * alpha).astype(np.uint8)])


def to_eight_bits(pixels, contrast="full"):
    """Scale pixels of any real dtype to uint8.

    White is the highest number of as many bits (8, 12, 16, 32 or 64) as the brightest needs, of
    floats 1. Where some are negative, or floats above 1, it is by their own extremes: these have
    no range that one could know.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("it holds NaN or infinite pixels")
    whole = pixels.dtype.kind in "iub"
    if contrast != EARLIER and low >= 0 and (whole or high <= 1):
        tops = [2**bits - 1 for bits in _BITS[pixels.dtype.kind]] if whole else [1]
        low, high = 0.0, float(next(top for top in tops if top >= high))
    return np.rint((pixels - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _over_white(image):
    """Composite RGBA (4, H, W) over white: (3, H, W), uint8 or float32."""
    image = plain_pixels(image)
    white = 1 if image.dtype.kind == "f" else 255
    alpha = image[3] / np.float32(white)
    colour = image[:3] * alpha + white * (1 - alpha)
    return colour if white == 1 else np.rint(colour).astype(np.uint8)


def _ink_in(drawing, size, look):
    """Tell lines from ground in a drawing (C, H, W) as in its file: (*size) bool."""
    if len(drawing) == 1:
        return _ink_at(drawing[0], size, look)
    whole = drawing.dtype == np.uint8
    drawing = drawing.astype(float)
    top = next((top for top in (1, 255) if drawing.max() <= top), drawing.max())  # white
    colour, alpha = drawing[:3], drawing[3] / top if len(drawing) == 4 else 1.0
    for ground in _GROUNDS[look.ink] if len(drawing) == 4 else ("white",):
        shade = top if ground == "white" else 0
        grey = np.tensordot(_LUMA, colour * alpha + shade * (1 - alpha), 1)
        found = _ink_at(np.rint(grey) if whole else grey, size, look)
        if found.any():
            break
    return found


def _ink_at(grey, size, look):
    """Bring a grey drawing (H, W) of any real dtype to its ink: (*size) bool."""
    if look.ink == "auto" and is_scan(grey):
        return clean_to_size(grey, size)
    return resize_ink(_find_ink(grey, look.ink), size, look.resize)


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


def size_of_file(path):
    """Give the width and the height that an image file says it has."""
    with Image.open(as_file(path)) as image:
        return image.size


def decode_image(path, shape, look=None):
    """Read an image file as uint8 of `shape` (C, H, W).

    Of C None, give the three channels, or one where it tells the same, to the bit, as all three.
    """
    look = look or Look()
    with Image.open(as_file(path)) as image:
        if look.crop_bottom < 1:  # rows are counted in the file's own pixels
            # a large JPEG is decoded several times faster near the size that is wanted
            image.draft(None, (2 * max(shape[1:]),) * 2)
        image = _on_ground(_upright(image, look.contrast), "white")
    if shape[0] is not None:
        return _as_image(image, shape, look)
    colour = _as_image(image, (3, *shape[1:]), look)
    if np.ptp(colour, axis=0).any():
        return colour
    grey = _as_image(image, (1, *shape[1:]), look)
    return grey if (grey == colour).all() else colour


def decode_skeleton(path, shape, look=None):
    """Read the file of a drawing as uint8 of 0 or 255, `shape` (1, H, W)."""
    look = look or Look()
    with Image.open(as_file(path)) as image:
        image.draft(None, (LARGEST, LARGEST))  # a photograph's strokes are wide enough then
        image = _upright(image, look.contrast)
    # White lines on a transparent ground show on black only.
    for ground in _GROUNDS[look.ink]:
        found = _ink_at(np.asarray(_on_ground(image, ground).convert("L")), shape[1:], look)
        if found.any():
            break
    return plain_pixels(found)[None]


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


def _upright(image, contrast):
    """Load an image, turned as its EXIF entry says, with at most 8 bits a channel."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = to_eight_bits(np.asarray(image), contrast)
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


def _as_image(image, shape, look):
    """Bring a picture of Pillow's to `shape` (C, H, W): uint8."""
    mode = "RGB" if shape[0] == 3 else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if not look.crop_bottom and look.resize == "stretch" and look.contrast != "own":
        if image.size != shape[:0:-1]:
            image = image.resize(shape[:0:-1], Image.BILINEAR)
        return np.asarray(image).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)
    pixels = np.asarray(image).reshape(image.height, image.width, shape[0]).transpose(2, 0, 1)
    pixels = crop_bottom(pixels, look.crop_bottom)
    if look.contrast == "own":
        pixels = to_own_contrast(pixels)
    return resize_images(pixels, shape[1:], look.resize)


def _on_ground(image, colour):
    """Composite a transparent image over a colour."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image)
