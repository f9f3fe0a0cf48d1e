"""Configuration of the documentation: Sphinx with numpydoc, nothing from the network."""

import skpair

project = "skpair"
author = "The skpair developers"
copyright = "2026, The skpair developers"  # noqa: A001 (Sphinx wants this name)
version = release = skpair.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "literal"  # single backquotes, as the docstrings have them
autodoc_member_order = "bysource"
autosummary_generate = True
numpydoc_show_class_members = False  # the class template lists the methods

html_theme = "alabaster"
html_theme_options = {
    "description": "Match images with hand-drawn skeletons.",
    "page_width": "1100px",
    "fixed_sidebar": True,
}
html_show_sourcelink = False
