"""What is known after `fit`, and how it decides.

The gallery of known examples, exact search among them, thresholds and temperatures, and the judge
that turns embeddings into decisions.
"""

from .gallery import Gallery
from .judge import Judge
from .nearest import top_k

__all__ = ["Gallery", "Judge", "top_k"]
