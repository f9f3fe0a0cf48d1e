"""Files that one can trust: sealed files, checkpoints of a fit, encodings kept by their content."""

from .encodings import EncodingCache

__all__ = ["EncodingCache"]
