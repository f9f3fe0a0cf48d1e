"""Drawings as they are scanned or photographed: their ink alone, in strokes of one width."""

import os
from numbers import Integral, Real

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from scipy import ndimage
from skimage.morphology import skeletonize

from ..checks import as_file, check_number
from ..rows.ink import LARGEST, box_of, draw, find_ink, has_two_values, lightness
from ..rows.pictures import Look, as_ink, check_size, plain_pixels

#: What `check` finds odd: shares of a drawing, and the side of a block in shares of the longer one.
_MUCH_INK, _LITTLE_INK, _BLOCK = 0.25, 0.0005, 1 / 16


def clean(
    drawing,
    *,
    size=None,
    stroke_width=2,
    margin=0.05,
    thin=True,
    crop=True,
    remove_specks=True,
    remove_ruling=True,
):
    """Bring a scanned or photographed drawing to its ink, in strokes of one width.

    Shading is removed, dark lines on light paper are told from light ones on dark, and what is not
    drawn is left out: specks, ruled lines, frames, the table around the paper. The strokes are
    thinned to one pixel and drawn again, so that pencil and marker look alike, and cropped. Filled
    areas are thinned, too: to their middle line, or to their outline where they are wider than a
    twelfth of the longer side.

    A drawing of two values is binary already: its lines, which are the rarer value, are returned
    as they are, and nothing of the above is done.

    Parameters
    ----------
    drawing : array-like of shape (H, W) or (H, W, C), PIL image, str or path-like
        Grey, RGB or RGBA (C of 1, 3 or 4), of any integer or float dtype; or an image file, of
        which the first page is read. What is not binary is shrunk to 1024 pixels on its longer
        side; scans of 500 or more are large enough.
    size : int, (height, width) or None, default=None
        Pixels of the result. The proportions of the drawing are kept, and ground is added to two
        of its sides. None: as many as the crop has.
    stroke_width : float, default=2
        Width of the strokes, in pixels of the result; 1 or more.
    margin : float, default=0.05
        Ground that a crop leaves around the ink, as a share of the longer side of its box.
    thin : bool, default=True
        Whether to draw the strokes anew. False leaves them as wide as they were found.
    crop : bool, default=True
        Whether to crop. A drawing without any ink is not cropped.
    remove_specks : bool, default=True
        Whether to leave out what touches nothing else and is shorter than 1.2 % of the longer side,
        or than 3.5 % and round: dust, and dots that were drawn.
    remove_ruling : bool, default=True
        Whether to leave out straight lines, at most 8 degrees from level or upright, that cross the
        sheet: of lined or squared paper, if they run across half of it, frames, and edges of the
        paper. Of lines that are as dark as the strokes, or on paper that is bent, some may be left.

    Returns
    -------
    ndarray of shape (height, width), uint8
        255 on ink, 0 on ground; all 0 for a blank page.

    Raises
    ------
    ValueError
        If the drawing has another shape, no pixels, NaN or infinite pixels, or an option is out of
        range.
    TypeError
        If the pixels are no real numbers.
    OSError
        If the file is missing, or is no image that can be read.

    Examples
    --------
    A dark stroke on paper that is shaded from the left:

    >>> import numpy as np
    >>> from skpair.field.drawings import clean
    >>> paper = np.linspace(90, 230, 200) * np.ones((120, 1))
    >>> paper[58:62, 40:160] *= 0.4
    >>> cleaned = clean(paper.astype(np.uint8), crop=False)
    >>> cleaned.shape, int(cleaned[60, 100]), int(cleaned[:50].max())
    ((120, 200), 255, 0)
    """
    check_number("stroke_width", stroke_width, Real, 1)
    check_number("margin", margin, Real, 0)
    size = None if size is None else check_size(size)
    grey = _read(drawing)
    if has_two_values(grey):
        return plain_pixels(as_ink(grey[None], size or grey.shape, Look())[0, 0])
    ink = find_ink(lightness(grey), remove_specks=remove_specks, remove_ruling=remove_ruling)
    width = stroke_width if thin else 1
    ink = skeletonize(ink) if thin else ink
    box = box_of(ink, margin, stroke_width) if crop and ink.any() else ((0, 0), ink.shape)
    return plain_pixels(draw(ink, box, size, width))


def is_binary(drawing):
    """Tell whether a drawing has two values at most, so that `clean` leaves it as it is.

    Parameters
    ----------
    drawing : array-like, PIL image, str or path-like
        As `clean` takes it.

    Returns
    -------
    bool

    Examples
    --------
    >>> from skpair.field.drawings import is_binary
    >>> is_binary([[0, 255], [255, 0]]), is_binary([[0, 255], [200, 0]])
    (True, False)
    """
    return has_two_values(_read(drawing))


def check(drawings):
    """Tell how much of each drawing is ink, and what is odd about it.

    Parameters
    ----------
    drawings : sequence of drawings
        Each as `clean` takes it. Scans are cleaned, but for thinning and cropping, first.

    Returns
    -------
    DataFrame of n rows
        Its index holds the paths of drawings in files, and the positions of others. ``ink`` is
        the share of ink, 0 to 1, and ``odd`` says what is odd, "" for nothing: "no ink", "nearly no
        ink", "more than a quarter is ink", "a block of ink at the border".

    Raises
    ------
    ValueError, TypeError, OSError
        As `clean` raises them; the message names the drawing.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair.field.drawings import check
    >>> drawings = np.zeros((2, 64, 64), dtype=np.uint8)
    >>> drawings[0, 10:50, 30] = 255
    >>> check(drawings)["odd"].tolist()
    ['', 'no ink']
    """
    drawings = _listed(drawings)
    found = [
        _call_named(clean, i, drawing, thin=False, crop=False) > 0
        for i, drawing in enumerate(drawings)
    ]
    index = [_name(i, drawing) for i, drawing in enumerate(drawings)]
    shares = np.array([ink.mean() for ink in found], dtype=float)
    return pd.DataFrame({"ink": shares, "odd": [_oddities(ink) for ink in found]}, index=index)


def show(drawings, *, names=None, n_columns=2, **options):
    """Show scans, and beside each what a network sees of it; needs matplotlib.

    Parameters
    ----------
    drawings : sequence of drawings
        Each as `clean` takes it.
    names : sequence of str or None, default=None
        Titles of the scans. None: the names of files, and positions.
    n_columns : int, default=2
        Pairs side by side.
    **options
        For `clean`, such as ``size=64``.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        If there is no drawing, or there are more or fewer names.
    """
    from matplotlib import pyplot

    drawings = _listed(drawings)
    check_number("n_columns", n_columns, Integral, 1)
    if names is None:
        names = [os.path.basename(str(_name(i, drawing))) for i, drawing in enumerate(drawings)]
    if not drawings or len(names) != len(drawings):
        raise ValueError(f"There are {len(drawings)} drawings to show, and {len(names)} names.")
    n_columns = min(n_columns, len(drawings))
    n_rows = -(-len(drawings) // n_columns)
    figure, axes = pyplot.subplots(
        n_rows, 2 * n_columns, figsize=(4 * n_columns, 2.2 * n_rows), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, seen, drawing) in enumerate(
        zip(axes[:, ::2].flat, axes[:, 1::2].flat, drawings, strict=False)
    ):
        ax.imshow(_call_named(_read, i, drawing), cmap="gray")
        ax.set_title(names[i], fontsize="small")
        seen.imshow(_call_named(clean, i, drawing, **options), cmap="gray_r", vmin=0, vmax=255)
    return figure


# ---- reading -------------------------------------------------------------------------------------


def _read(drawing):
    """Return a drawing as grey pixels (H, W), of whatever range they have."""
    if isinstance(drawing, str | os.PathLike):
        drawing = _open(drawing)
    elif isinstance(drawing, Image.Image):
        drawing = _pixels(drawing)
    return _as_grey(np.asarray(drawing))


def _open(path):
    try:
        with Image.open(as_file(path)) as image:
            # a photograph of 12 megapixels is decoded at half or a quarter of its sides
            image.draft(None, (LARGEST, LARGEST))
            return _pixels(image)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"There is no file {os.fspath(path)!r}. Paths are relative to {os.getcwd()!r}."
        ) from None
    except Image.UnidentifiedImageError:
        raise  # it names the file
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # of Pillow's decoders
        raise OSError(f"{os.fspath(path)!r} cannot be read: {error}.") from error


def _pixels(image):
    """Return a PIL image as array, turned as its EXIF entry says."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode == "P" or len(image.getbands()) > 1:
        image = image.convert("RGB")
    return np.asarray(image)


def _as_grey(pixels):
    """Check pixels (H, W) or (H, W, C); return them grey, (H, W)."""
    if pixels.dtype.kind not in "buif":
        raise TypeError(f"A drawing must hold real numbers, but it holds {pixels.dtype}.")
    if pixels.ndim not in (2, 3) or pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"A drawing has the shape {pixels.shape}; expected (H, W) or (H, W, C) with 1 (grey), "
            "3 (RGB) or 4 (RGBA) channels C, the channels last, one drawing at a time."
        )
    if not pixels.size:
        raise ValueError(f"A drawing of the shape {pixels.shape} has no pixels.")
    if not np.isfinite(pixels).all():
        raise ValueError("A drawing holds NaN or infinite pixels: replace them by the paper's.")
    if pixels.dtype == np.float16 or pixels.dtype == bool:
        pixels = pixels.astype(np.float32)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    pixels = pixels.astype(np.float32)
    grey = pixels[..., :3] @ np.float32([0.299, 0.587, 0.114])  # the luma of ITU-R 601
    return grey if pixels.shape[2] == 3 else _on_ground(grey, pixels[..., 3], pixels.max())


def _on_ground(grey, alpha, largest):
    """Lay transparent pixels on white, or on black where white shows nothing."""
    top = next((top for top in (1, 255) if largest <= top), largest)
    alpha = alpha / top
    on_white = grey * alpha + top * (1 - alpha)
    return on_white if np.ptp(on_white) > 0.05 * top else grey * alpha


# ---- many drawings -------------------------------------------------------------------------------


def _listed(drawings):
    """Return drawings as list; a path alone is none."""
    if isinstance(drawings, str | os.PathLike | Image.Image):
        raise TypeError(f"A list of drawings is expected, but one was given: {drawings!r}.")
    return list(drawings)


def _name(position, drawing):
    return os.fspath(drawing) if isinstance(drawing, str | os.PathLike) else position


def _call_named(function, position, drawing, **options):
    """Call a function with a drawing; an error in memory names its position, as files are named."""
    try:
        return function(drawing, **options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"Drawing {_name(position, drawing)!r}: {error}") from error


def _oddities(ink):
    """Say what is odd about ink (H, W), bool; "" for nothing."""
    share = ink.mean()
    odd = []
    if share == 0:
        odd.append("no ink")
    elif share < _LITTLE_INK:
        odd.append("nearly no ink")
    if share > _MUCH_INK:
        odd.append("more than a quarter is ink")
    side = max(3, round(_BLOCK * max(ink.shape)))
    inner = ndimage.binary_erosion(ink, np.ones((side, side)), border_value=1)
    if inner[[0, -1]].any() or inner[:, [0, -1]].any():
        odd.append("a block of ink at the border")
    return "; ".join(odd)
