"""Ctrl-C while a command of syncws starts or exits.

Python answers Ctrl-C with a ``KeyboardInterrupt``. A command catches it while it runs. While
modules are imported, and while the interpreter exits, nothing can catch it, and the user would
see a traceback. So Ctrl-C ends the process at once then, as it ends programs that are not in
Python. The import of this module is enough for that.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import PurePath

__all__ = ["end_at_once", "raise_again"]


def end_at_once() -> None:
    """Let Ctrl-C end the process without a traceback, if it is a command of syncws. Does
    nothing in other programs, and where Ctrl-C is ignored or handled otherwise."""
    if (
        _is_command()
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` in a command that has started."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    """Whether the process was started as ``syncws`` or ``python -m syncws``."""
    # Python's own options come first. What they leave to the program begins with the script, or
    # with the module of -m; sys.argv has as many elements.
    started = sys.orig_argv[-len(sys.argv) :] if sys.argv else []
    return bool(started) and PurePath(started[0]).name in ("syncws", "syncws.exe")


end_at_once()
