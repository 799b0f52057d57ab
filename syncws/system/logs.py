"""The logger of syncws, which loses no error when an application configures logging.

``logging.config.dictConfig()`` and ``fileConfig()`` disable every logger that exists already and
that the configuration does not name, unless ``disable_existing_loggers`` is false. The logger of
syncws exists as soon as syncws is imported, so the traceback of a handler would be lost.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

__all__ = ["logger"]

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # not subscriptable before Python 3.11


class _Logger(_Adapter):
    """Logs as its logger does, and enables it again before an error. To silence errors, set the
    level of the logger ``syncws``, or give it a filter."""

    # Overridden here and not in log(), which would be logged as the place of each call.
    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # the name is the base class's
        if level >= logging.ERROR and self.logger.disabled:
            self.logger.disabled = False
        return super().isEnabledFor(level)


#: Every module of syncws logs with this one. Any thread may use it.
logger = _Logger(logging.getLogger("syncws"), None)
