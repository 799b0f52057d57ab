"""The browser's half of syncws, ``syncws.js``: its place, and a WSGI application that serves it.

    import syncws.static

    application = DispatcherMiddleware(application, {"/syncws": syncws.static.application})

The page then says ``import { connect } from "/syncws/syncws.js"``. If you have a bundler, copy
``syncws.js`` and ``syncws.d.ts`` from ``syncws.static.FOLDER`` instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["FOLDER", "application"]

#: The folder of ``syncws.js`` and ``syncws.d.ts``.
FOLDER = Path(__file__).parent / "assets"

_TYPES = {
    "syncws.js": "text/javascript; charset=utf-8",
    "syncws.d.ts": "text/plain; charset=utf-8",
}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve ``/syncws.js`` and ``/syncws.d.ts``. Browsers ask each time whether they changed."""
    name = environ.get("PATH_INFO", "").removeprefix("/")
    method = environ["REQUEST_METHOD"]
    if name not in _TYPES:
        return _answer(start_response, "404 Not Found", b"There is only syncws.js here.\n")
    if method not in ("GET", "HEAD"):
        return _answer(start_response, "405 Method Not Allowed", b"", [("Allow", "GET, HEAD")])
    data, tag = _load(name)
    headers = [("ETag", tag), ("Cache-Control", "no-cache")]
    if tag in [each.strip() for each in environ.get("HTTP_IF_NONE_MATCH", "").split(",")]:
        start_response("304 Not Modified", headers)
        return []
    headers += [("Content-Type", _TYPES[name]), ("Content-Length", str(len(data)))]
    start_response("200 OK", headers)
    return [] if method == "HEAD" else [data]


@cache
def _load(name: str) -> tuple[bytes, str]:
    data = (FOLDER / name).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _answer(
    start_response: StartResponse,
    status: str,
    body: bytes,
    headers: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    start_response(
        status,
        [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers],
    )
    return [body]
