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
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..options import Options
from ..session.session import Session
from .application import REFUSED_KEY, end_response, open_session
from .close_codes import as_reason, close_code
from .connectors import connector_for
from .handshake import Accept, Reject, is_websocket_request, negotiate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["READABLE_KEY", "Readable", "readable_refusals"]

#: The key of the environ of a WebSocket request for a list of functions. Each returns options for
#: the request. If the option ``refuse`` of one of them is ``"close"``, a refusal becomes a Close.
#: The list is there on syncws's own servers. A framework may add to it before it answers.
READABLE_KEY = "syncws.readable"

#: Bytes of a refusal's body that are looked at for a reason.
_MAX_BODY = 1024

#: What a list under ``READABLE_KEY`` contains.
Readable = Callable[[], Options]


def readable_refusals(
    application: WSGIApplication, options: Callable[[WSGIEnvironment], Options] | None = None
) -> WSGIApplication:
    """Wrap ``application``, and turn its refusals of web pages' WebSockets into Closes if the
    option ``refuse`` is ``"close"``.

    ``options`` returns the options for a request. It is called when the request has been refused,
    and so are the functions under ``READABLE_KEY``.
    """

    def readable(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not is_websocket_request(environ):
            return application(environ, start_response)
        askable: list[Readable] = environ.setdefault(READABLE_KEY, [])
        if options is not None:
            askable.append(partial(options, environ))
        if "HTTP_ORIGIN" not in environ:
            return application(environ, start_response)
        return _Answer(environ, start_response, askable).run(application)

    return readable


class _Answer:
    """One answer of the application: passed on, or replaced if it is a refusal."""

    def __init__(
        self, environ: WSGIEnvironment, start_response: StartResponse, askable: list[Readable]
    ) -> None:
        self._environ = environ
        self._start_response = start_response
        self._askable = askable
        # The refusal, None while there is none.
        self._refusal: _Refusal | None = None
        self._started = False
        # The statuses of refused handshakes. A list, since frameworks copy the environ.
        self._handshakes: list[int] = environ.setdefault(REFUSED_KEY, [])
        # What the application wrote with write().
        self._written: list[bytes] = []

    def run(self, application: WSGIApplication) -> Iterable[bytes]:
        result = application(self._environ, self._start)
        if not self._started:
            return self._started_late(result)
        return result if self._refusal is None else self._refused(result)

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        # What replaces an answer that was passed on (PEP 3333: with exc_info) is passed on too.
        passed_on = self._started and self._refusal is None
        self._started = True
        self._refusal = None if passed_on else self._readable(status, headers)
        if self._refusal is None:
            return self._start_response(status, headers, *exc_info)
        return self._written.append

    def _readable(self, status: str, headers: list[tuple[str, str]]) -> _Refusal | None:
        """Return what becomes a Close, or None if the answer stays as it is."""
        code = close_code(int(status[:3]))
        if code is None or self._handshakes:
            return None
        asked = (ask() for ask in self._askable)
        options = next((each for each in asked if each.refuse == "close"), None)
        if options is None:
            return None
        options = _plain(options)
        answer = negotiate(self._environ, options)
        if isinstance(answer, Reject) or not _has_sessions(self._environ):
            return None
        return _Refusal(status, code, headers, options, answer)

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
            end_response(result)

    def _refused(self, result: Iterable[bytes]) -> Iterable[bytes]:
        """Open a session that only closes."""
        refusal = self._refusal
        assert refusal is not None
        body = b"".join(self._written)
        try:
            for part in result:
                body += part
                if len(body) >= _MAX_BODY:
                    break
        finally:
            end_response(result)
        reason = _reason(refusal, body)

        def refuse(session: Session) -> None:
            session.close(refusal.code, reason)

        # A framework that asks for a login may have to remember something until then.
        cookies = [(name, value) for name, value in refusal.headers if name.lower() == "set-cookie"]
        return open_session(
            refusal.answer, refuse, refusal.options, self._environ, self._start_response, cookies
        )


class _Refusal(NamedTuple):
    """An answer that becomes a Close."""

    status: str
    code: int
    headers: list[tuple[str, str]]
    #: Those of the session that only closes, and the answer to its handshake.
    options: Options
    answer: Accept


def _plain(options: Options) -> Options:
    """Return the options of the session of a refusal, which is not the one that was asked for."""
    return dataclasses.replace(
        options,
        raw=False,
        install_extensions=False,
        compression=None,
        headers=(),
        sessions_per=None,
        max_sessions=None,
        subprotocols=_first,  # a browser wants one of those it has offered
    )


def _has_sessions(environ: WSGIEnvironment) -> bool:
    """Whether the server is one that has sessions."""
    with contextlib.suppress(RuntimeError):
        connector_for(environ)
        return True
    return False


def _reason(refusal: _Refusal, body: bytes) -> str:
    """Return the place that a redirect leads to, the first line of a text, or the status."""
    headers = {name.lower(): value for name, value in refusal.headers}
    text = refusal.status
    if text.startswith("3") and "location" in headers:
        text = headers["location"]
    elif headers.get("content-type", "").startswith("text/plain") and body.strip():
        text = body.decode("utf-8", "replace").strip().splitlines()[0]
    return as_reason(text)


def _first(offered: Sequence[str]) -> str | None:
    return offered[0] if offered else None
