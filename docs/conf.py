"""How Sphinx builds the documentation: ``python -m sphinx -W docs docs/_build``."""

from __future__ import annotations

import sys
from typing import Any

import syncws
import syncws.testing

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
maximum_signature_line_length = 88
# A reference in a docstring that leads nowhere is a warning. The types in signatures are not all
# documented here: some are Python's, and some are internal.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]

html_theme = "furo"
html_title = "syncws"
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_dark_style = "github-dark"

# Prompts are not copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


def restore_modules() -> None:
    """Classes say that they are of the module where users find them. autodoc reads the comments
    ``#:`` of their attributes in the module that really has them."""
    public = {*syncws.__all__, *syncws.testing.__all__}
    for path in sorted(sys.modules):  # a package, then its modules
        if path.startswith("syncws."):
            module = sys.modules[path]
            for name in set(getattr(module, "__all__", ())) & public:
                getattr(module, name).__module__ = path


#: syncws makes these objects, not its users, who need not see the arguments.
MADE_BY_SYNCWS = {
    "syncws.ClientSession",
    "syncws.Codec",
    "syncws.ConnectionClosed",
    "syncws.ConnectionClosedError",
    "syncws.ConnectionClosedOK",
    "syncws.HandshakeError",
    "syncws.InvalidMessage",
    "syncws.Joined",
    "syncws.RawSession",
    "syncws.SendTimeoutError",
    "syncws.Server",
    "syncws.Session",
    "syncws.Stats",
    "syncws.TypedSession",
    "syncws.session.outgoing.Outgoing",
    "syncws.testing.Peer",
    "syncws.worker.WebSocketWorker",
}


def hide_constructor(
    app: Any, kind: str, name: str, thing: Any, options: Any, signature: Any, returned: Any
) -> tuple[str, None] | None:
    return ("", None) if name in MADE_BY_SYNCWS else None


def setup(app: Any) -> None:
    restore_modules()
    app.connect("autodoc-process-signature", hide_constructor)
