"""``refuse="close"``: refusals that a web page can read.

A browser tells a page nothing about an HTTP answer to a WebSocket request. So the refusal of a
framework becomes a 101 and a Close, whose code and reason the page sees. Clients without an
Origin header are not pages; they keep the HTTP answer. So does everybody whose handshake is
malformed, or whose Origin is not allowed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..close import MAX_REASON_BYTES, CloseCode
from ..options import Options
from ..session.session import Session
from .application import REFUSED_KEY, open_session
from .connectors import connector_for
from .handshake import Reject, is_websocket_request, negotiate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["close_code", "readable_if_asked", "readable_refusals"]

#: Bytes of a refusal's body that are looked at for a reason.
_MAX_BODY = 1024

#: Statuses and their close codes. 3000 and 3003 are registered with IANA for them.
_CODES = {401: 3000, 403: 3003, 404: 4404, 429: 4429, 503: int(CloseCode.TRY_AGAIN_LATER)}

#: Redirects that may lead to a login page; the permanent ones do not.
_LOGIN = frozenset({302, 303, 307})


def close_code(status: int) -> int | None:
    """Return the close code for the HTTP status of a refusal; None if it is no refusal."""
    if status in _LOGIN:
        return 3000
    if status in _CODES:
        return _CODES[status]
    if 300 <= status < 500:
        return 4000 + status
    return int(CloseCode.INTERNAL_ERROR) if status >= 500 else None


def readable_refusals(application: WSGIApplication, options: Options) -> WSGIApplication:
    """Wrap ``application``, and turn its refusals of web pages' WebSockets into Closes."""
    # The session of a refusal is not the one that the page asked for.
    plain = dataclasses.replace(
        options,
        raw=False,
        install_extensions=False,
        compression=None,
        headers=(),
        sessions_per=None,
        max_sessions=None,
        subprotocols=_first,  # a browser wants one of those it has offered
    )

    def readable(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "HTTP_ORIGIN" not in environ or not _can_open(environ, plain):
            return application(environ, start_response)
        return _Answer(environ, start_response, plain).run(application)

    return readable


def readable_if_asked(
    application: WSGIApplication, options: Callable[[], Options]
) -> WSGIApplication:
    """Wrap ``application`` as ``readable_refusals()`` does, with the options of the moment."""

    def readable(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        run = application
        if "HTTP_ORIGIN" in environ and is_websocket_request(environ):
            chosen = options()
            if chosen.refuse == "close":
                run = readable_refusals(application, chosen)
        return run(environ, start_response)

    return readable


class _Answer:
    """One answer of the application: passed on, or replaced if it is a refusal."""

    def __init__(
        self, environ: WSGIEnvironment, start_response: StartResponse, options: Options
    ) -> None:
        self._environ = environ
        self._start_response = start_response
        self._options = options
        # The refusal's status, close code and headers; None while there is none.
        self._refusal: tuple[str, int, list[tuple[str, str]]] | None = None
        self._started = False
        # The statuses of refused handshakes. A list, since frameworks copy the environ.
        self._handshakes: list[int] = []
        environ[REFUSED_KEY] = self._handshakes
        # What the application wrote with write().
        self._written: list[bytes] = []

    def run(self, application: WSGIApplication) -> Iterable[bytes]:
        result = application(self._environ, self._start)
        if not self._started:
            return self._started_late(result)
        return result if self._refusal is None else self._refused(result)

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self._started = True
        code = close_code(int(status[:3]))
        if code is None or self._handshakes:
            self._refusal = None
            return self._start_response(status, headers, *exc_info)
        self._refusal = status, code, headers
        return self._written.append

    def _started_late(self, result: Iterable[bytes]) -> Iterator[bytes]:
        """Wait for the status of a generator, whose code starts with its first part."""
        parts = iter(result)
        first = next(parts, b"")
        if self._refusal is not None:
            self._written.append(first)
            yield from self._refused(result)
            return
        try:
            yield first
            yield from parts
        finally:
            _close(result)

    def _refused(self, result: Iterable[bytes]) -> Iterable[bytes]:
        """Open a session that only closes."""
        assert self._refusal is not None
        status, code, headers = self._refusal
        body = b"".join(self._written)
        try:
            for part in result:
                body += part
                if len(body) >= _MAX_BODY:
                    break
        finally:
            _close(result)
        reason = _reason(status, {name.lower(): value for name, value in headers}, body)
        answer = negotiate(self._environ, self._options)
        assert not isinstance(answer, Reject)  # it has been asked before

        def refuse(session: Session) -> None:
            session.close(code, reason)

        return open_session(answer, refuse, self._options, self._environ, self._start_response)


def _can_open(environ: WSGIEnvironment, options: Options) -> bool:
    """Whether the request could become a session, on a server that has them."""
    if isinstance(negotiate(environ, options), Reject):
        return False
    with contextlib.suppress(RuntimeError):
        connector_for(environ)
        return True
    return False


def _reason(status: str, headers: dict[str, str], body: bytes) -> str:
    """Return the place that a redirect leads to, the first line of a text, or the status."""
    text = status
    if status.startswith("3") and "location" in headers:
        text = headers["location"]
    elif headers.get("content-type", "").startswith("text/plain") and body.strip():
        text = body.decode("utf-8", "replace").strip().splitlines()[0]
    return text.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def _first(offered: Sequence[str]) -> str | None:
    return offered[0] if offered else None


def _close(result: Iterable[bytes]) -> None:
    """Tell the application that its response has ended (PEP 3333)."""
    close = getattr(result, "close", None)
    if callable(close):
        close()
