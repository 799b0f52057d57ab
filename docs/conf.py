"""How Sphinx builds the documentation: ``python -m sphinx -W docs docs/_build``."""

from __future__ import annotations

import syncws

project = "syncws"
author = "The syncws authors"
copyright = "The syncws authors"
release = version = syncws.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
# Headings up to this level can be linked to: page.md#the-heading.
myst_heading_anchors = 3

# The reference is generated from the docstrings, in the order of the source.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# A reference in a docstring that leads nowhere is a warning. The types in signatures are not all
# documented here: some are Python's, and some are internal.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]

html_theme = "furo"
html_title = "syncws"
html_static_path = ["_static"]

# Prompts are not copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
