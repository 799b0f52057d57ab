"""The long description of the package: README.md as a package index shows it.

An index has no other file of this repository, so relative links and pictures would be broken
there. Links become their text, and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ELSEWHERE = r"\((?!https?:)[^)]*\)"


def for_an_index(text: str) -> str:
    without_pictures = re.sub(rf"!\[[^\]]*\]{ELSEWHERE}\n*", "", text)
    return re.sub(rf"\[([^\]]+)\]{ELSEWHERE}", r"\1", without_pictures)


class ReadmeHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_an_index(readme)}
