"""What is known after `fit`, and how it decides.

The gallery of known examples, exact search among them, thresholds and temperatures, and the judge
that turns embeddings into decisions.
"""
