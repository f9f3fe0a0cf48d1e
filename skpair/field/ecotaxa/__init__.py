"""EcoTaxa: `read_export` reads what it exports, `write_import` writes names as it imports them.

https://ecotaxa.obs-vlfr.fr keeps pictures of plankton, which people name there. An export is one or
several tables, ``ecotaxa*.tsv``, and the images that they name; an import is made alike.
"""

from .reading import Export, read_export
from .writing import write_import

__all__ = ["Export", "read_export", "write_import"]
