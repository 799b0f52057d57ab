"""gunicorn's settings, so that a worker that serves requests reads them quickly.

gunicorn keeps each setting in an object, and looks for it in Python code whenever it is read. One
HTTP request reads some thirty settings, which takes a tenth of its time.
"""

from __future__ import annotations

from typing import Any

from gunicorn.config import Config

__all__ = ["Settings"]


class Settings(Config):
    """The settings of ``cfg``, each an attribute of its own. ``set()`` changes both.

    Make it when the hooks that run before the first request have run. They may change ``cfg``
    in any way.
    """

    def __init__(self, cfg: Config) -> None:
        vars(self).update(vars(cfg))  # the same objects
        for name in self.settings:
            self._read(name)

    def set(self, name: str, value: Any) -> None:
        super().set(name, value)
        self._read(name)

    def _read(self, name: str) -> None:
        if not hasattr(Config, name):  # else gunicorn derives it from several settings
            vars(self)[name] = self.settings[name].get()
