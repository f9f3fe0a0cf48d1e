"""A page of hits that needs no other file: pictures are inside it."""

import base64
import io
from html import escape

import numpy as np
from PIL import Image, ImageOps

from ..rows.pictures import decode_image

#: Longest side of a picture on the page, in pixels.
_SIDE = 200

_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fafafa; }
h1 { font-size: 1.3em; }
header { display: flex; gap: 1.5em; align-items: center; margin-bottom: 1.5em; }
header img { border: 2px solid #333; background: #fff; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1em;
     list-style: none; padding: 0; }
li { background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: 8px; }
li img { display: block; margin: 0 auto 6px; max-width: 100%; }
.path { color: #666; font-size: 0.85em; overflow-wrap: anywhere; }
"""


def make_page(drawing, hits, n_images):
    """Make a page of the images that fit a drawing.

    Parameters
    ----------
    drawing : str
        Path of the drawing.
    hits : DataFrame
        What `MatchIndex.search_images` finds; the ids are paths.
    n_images : int
        How many images were searched.

    Returns
    -------
    str
        HTML, in which all text is escaped.
    """
    items = "\n".join(map(_item, hits["rank"], hits["score"], hits["case"], hits["id"]))
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Images that fit {escape(drawing)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head>
<body>
<header>{_picture(drawing, "the drawing")}
<div><h1>Images that fit this drawing best</h1>
<p class="path">{escape(drawing)}</p>
<p>{len(hits)} of {n_images} images. The score is a similarity: it ranks, and is no probability.
The case is what the model takes the image for.</p></div></header>
<ol>
{items}
</ol>
</body>
</html>
"""


def _item(rank, score, case, path):
    return (
        f"<li>{_picture(path, f'image {rank}')}<b>{rank}.</b> {escape(str(case))}<br>"
        f'score {score:.3f}<div class="path">{escape(path)}</div></li>'
    )


def _picture(path, description):
    data = base64.b64encode(_thumbnail(path)).decode()
    return f'<img alt="{escape(description)}" src="data:image/jpeg;base64,{data}">'


def _thumbnail(path):
    """Return a smaller version of an image file, upright and of 8 bits, as the bytes of a JPEG."""
    with Image.open(path) as image:
        width, height = ImageOps.exif_transpose(image).size
    scale = min(1, _SIDE / max(width, height))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = np.ascontiguousarray(decode_image(path, (3, *size)).transpose(1, 2, 0))
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return data.getvalue()
