"""EcoTaxa: `read` reads what it exports, `write` writes names as it imports them.

https://ecotaxa.obs-vlfr.fr keeps pictures of plankton, which people name there. An export is one or
several tables, ``ecotaxa*.tsv``, and the images that they name; an import is made alike.
"""

from .reading import Export, read
from .writing import write

__all__ = ["Export", "read", "write"]
