"""The text of a JSON message.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["json_text"]


def json_text(value: Any) -> str:
    """``value`` as JSON that can be sent; raises what ``json.dumps()`` raises.

    A peer may send half of a surrogate pair as an escape, such as ``"\\ud800"``. JSON allows that
    (RFC 8259 section 8.2) and Python reads it, but UTF-8 has no bytes for it. It is sent as an
    escape again, as ``JSON.stringify()`` does in browsers, so a value that was received can be
    sent.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text
