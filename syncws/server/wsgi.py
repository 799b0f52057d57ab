"""WSGI (PEP 3333) over an HTTP connection: the environ, the input, the response.

Nothing here knows WebSockets, except that HTTP ends with a 101.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from wsgiref.util import FileWrapper, is_hop_by_hop

import h11

from ..system.logs import logger
from ..system.transport import BrokenError, DeadlineError
from ..upgrade.application import end_response
from ..upgrade.handshake import Reject
from .http1 import BadRequestError

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from .http1 import HttpConnection

__all__ = ["ResponseWriter", "answer_request", "make_environ", "run_application"]

# RFC 9112 section 4. The reason phrase is optional in HTTP, but not in WSGI.
_STATUS = re.compile(r"([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")


def make_environ(
    request: h11.Request, connection: HttpConnection, base: WSGIEnvironment
) -> WSGIEnvironment:
    """Return the environ of a request; ``base`` has the keys of the whole connection."""
    target = request.target.decode("ascii")
    environ = {
        **base,
        "REQUEST_METHOD": request.method.decode("ascii"),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version.decode('ascii')}",
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.input": _input(request, connection),
        # Werkzeug and gunicorn use this key too: the input ends by itself, so that a chunked
        # body can be read without knowing its length.
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        if "_" in name:
            continue  # X_User would look like X-User, which a proxy may have checked
        key = name.replace("-", "_").upper()
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if "://" in target and not target.startswith("/"):
        # RFC 9112 section 3.2.2: the host of an absolute URL counts, not the Host header.
        rest = target.partition("://")[2]
        environ["HTTP_HOST"] = re.split("[/?]", rest, maxsplit=1)[0]
        target = rest.removeprefix(environ["HTTP_HOST"])
        if not target.startswith("/"):
            target = f"/{target}"  # RFC 9110 section 4.2.3: an empty path is "/"
    path, _, environ["QUERY_STRING"] = target.partition("?")
    environ["PATH_INFO"] = unquote(path, "latin-1")
    return environ


class _BodyError(OSError):
    """The peer did not send the body that it announced."""

    def __init__(self, error: BadRequestError) -> None:
        super().__init__(str(error))
        self.error = error


def _input(request: h11.Request, connection: HttpConnection) -> io.BufferedIOBase:
    """The file of the request's body.

    Without one of two headers there is no body (RFC 9112 section 6.3). A session's request has
    none, and its environ lives as long as the session: a reader with a buffer would take 8 KiB of
    each session.
    """
    for name, _ in request.headers:
        if name in (b"content-length", b"transfer-encoding"):
            return io.BufferedReader(_RequestBody(connection))
    return io.BytesIO()


class _RequestBody(io.RawIOBase):
    """The request's body, which ``wsgi.input`` reads, and no byte more."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            try:
                self._rest = self._connection.read_body()
            except BadRequestError as exc:
                raise _BodyError(exc) from exc
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class ResponseWriter:
    """Sends the response of an application to one request."""

    def __init__(self, connection: HttpConnection, method: bytes = b"") -> None:
        self._connection = connection
        self._is_head = method == b"HEAD"
        self._head: h11.Response | h11.InformationalResponse | None = None
        # The Content-Length of the head, and whether there is a body at all.
        self._length: int | None = None
        self._has_body = True
        #: Whether the head has been sent. After that it can not change.
        self.started = False
        #: Bytes of the body that were sent. For a session: all bytes sent after the 101.
        self.sent = 0

    @property
    def status(self) -> int:
        """The status of the response; 0 if the application has given none."""
        return 0 if self._head is None else self._head.status_code

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """PEP 3333. Raises ``ValueError`` for a status, and what h11 raises for headers, that
        HTTP forbids."""
        if exc_info is None:
            if self._head is not None:
                raise RuntimeError("start_response() was called a second time, without exc_info")
        elif self.started and exc_info[1] is not None:
            raise exc_info[1].with_traceback(exc_info[2])
        match = _STATUS.fullmatch(status)
        if match is None:
            raise ValueError(f"{status!r} is not an HTTP status such as '200 OK'")
        code, reason = int(match[1]), (match[2] or "").encode("latin-1")
        # Django's cookies begin with a space, which is not part of the value (RFC 9110
        # section 5.5).
        raw = [
            (name.encode("latin-1"), value.strip(" \t").encode("latin-1"))
            for name, value in headers
        ]
        self._has_body = not self._is_head and code not in (101, 204, 304)
        if code == 101:
            self._head = h11.InformationalResponse(status_code=code, headers=raw, reason=reason)
            return self.write
        # The server decides about the connection, not the application.
        raw = [header for header in raw if not is_hop_by_hop(header[0].decode("latin-1"))]
        if not any(name.lower() == b"date" for name, _ in raw):
            raw.append((b"Date", formatdate(usegmt=True).encode("ascii")))
        if self._connection.closing or self._connection.body_in_doubt:
            raw.append((b"Connection", b"close"))
        self._head = h11.Response(status_code=code, headers=raw, reason=reason)
        self._length = next(
            (int(value) for name, value in self._head.headers if name == b"content-length"), None
        )
        return self.write

    def write(self, data: bytes) -> None:
        """Send a part of the body. The first part goes out with the head."""
        if self._head is None:
            raise RuntimeError("the application has not called start_response()")
        if not isinstance(data, bytes):
            raise TypeError(f"a WSGI application answers with bytes, not {type(data).__name__}")
        events: list[h11.Response | h11.InformationalResponse | h11.Data] = []
        if not self.started:
            if self._has_body and self._length is not None and len(data) > self._length:
                raise ValueError(f"the body is longer than its Content-Length, {self._length}")
            events.append(self._head)
        if self._has_body and data:
            events.append(h11.Data(data=data))
            self.sent += len(data)
        self.started = True
        self._connection.send(*events)

    def finish(self) -> None:
        """End the response."""
        if not self.started:
            self.write(b"")
        if self.status != 101:
            self._connection.end_response()

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error in place of the application, and close the connection.

        If the response has been started, it stays as it is, and the peer sees that it is cut.
        """
        self._connection.closing = True
        if not self.started:
            refusal = Reject(status, message)
            self._head = None
            self.start_response(refusal.status, refusal.headers)
            self.write(refusal.body)
            self.finish()


def answer_request(
    application: WSGIApplication, environ: WSGIEnvironment, response: ResponseWriter
) -> None:
    """Run the application. If it fails, answer with an error in its place.

    Raises ``BrokenError`` if the peer has gone, and ``DeadlineError`` if it does not read.
    """
    try:
        run_application(application, environ, response)
    except (BrokenError, DeadlineError):
        raise
    except _BodyError as exc:
        # The peer caused it: no traceback.
        logger.info("the body of %s breaks off: %s", _named(environ), exc)
        response.refuse(exc.error.status, str(exc))
    except Exception:
        logger.exception("the application failed on %s", _named(environ))
        response.refuse(500, "The server failed on this request.")


def run_application(
    application: WSGIApplication, environ: WSGIEnvironment, response: ResponseWriter
) -> None:
    """Run the application and send its response. Raises what the application raises."""
    result: Iterable[bytes] = application(environ, response.start_response)
    try:
        for data in result:
            if data:  # PEP 3333: the head goes out with the first byte of the body
                response.write(data)
        response.finish()
    finally:
        end_response(result)


def _named(environ: WSGIEnvironment) -> str:
    return f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']!r} from {environ['REMOTE_ADDR']}"
