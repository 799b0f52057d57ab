"""The compiled build: ``SYNCWS_COMPILE=1 pip install .`` (docs/topics/compiled.md).

Without that variable this hook does nothing, and the wheel is pure Python.
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What each message passes through. ``Session`` is not among them: users may set attributes on it.
MODULES = [
    "protocol/events",
    "protocol/frames",
    "protocol/inbound",
    "protocol/masking",
    "protocol/messages",
    "protocol/outbound",
    "session/ending",
    "session/intake",
    "session/limited",
    "session/output",
    "session/pings",
    "session/read_ahead",
    "session/reader",
    "session/writer",
    "system/deadline",
    "system/tls",
    "system/transport",
    "system/wakeup",
]


def wanted() -> bool:
    return os.environ.get("SYNCWS_COMPILE", "") not in ("", "0")


class CompiledBuild(BuildHookInterface[Any]):
    """Compiles the modules above with mypyc, and puts the result beside them into the wheel."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        if not wanted():
            return []
        # mypyc looks at the types of what the modules import.
        return ["mypy[mypyc]>=2", *self.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not wanted():
            return
        if version == "editable":
            raise RuntimeError(
                "an editable install runs the source as it is: leave out SYNCWS_COMPILE, or -e"
            )
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            raise RuntimeError(
                "SYNCWS_COMPILE is not for a free-threaded Python: threads must not share the "
                "attributes of a class compiled by mypyc there"
            )
        folder = tempfile.mkdtemp(prefix="syncws-")
        for path in self._compile(folder):
            build_data["force_include"][str(path)] = str(path.relative_to(f"{folder}/lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _compile(self, folder: str) -> list[Path]:
        """Returns the extension modules, which lie in ``folder`` as in the package."""
        # Only there when the wheel is compiled.
        from mypyc.build import mypycify
        from setuptools import Distribution
        from setuptools.command.build_ext import build_ext

        before = Path.cwd()
        os.chdir(self.root)
        try:
            extensions = mypycify(
                [
                    "--config-file=",
                    f"--cache-dir={folder}/cache",
                    "--strict",
                    "--ignore-missing-imports",
                    *(f"syncws/{module}.py" for module in MODULES),
                ],
                debug_level="0",
                group_name="syncws",
                target_dir=f"{folder}/c",
            )
            command = build_ext(Distribution({"name": "syncws", "ext_modules": extensions}))
            command.build_lib = f"{folder}/lib"
            command.build_temp = f"{folder}/objects"
            command.ensure_finalized()
            command.run()
        finally:
            os.chdir(before)
        return sorted(Path(folder, "lib").rglob("*.so"))
