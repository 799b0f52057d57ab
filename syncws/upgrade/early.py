"""Sessions that a program opens in the middle of its request.

simple-websocket's ``Server(environ)`` sends the 101 while the framework still works on the
request. The framework knows nothing of it and answers the request as well, with a response
or an exception. ``EarlySession`` gives such a program the ``start_response()`` of
its request and keeps the framework's answer out of the WebSocket.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from ..close import CloseCode, CloseReason
from ..session.registry import REGISTRY
from ..session.running import FAILED
from ..system.logs import logger
from .application import REFUSED_KEY, busy, end_response, make_session
from .clients import admit
from .connectors import accept_on_socket, connector_for
from .handshake import Reject
from .lent import Lent, check_lendable, is_lent

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from ..options import Options
    from ..session.common import CommonSession
    from .connectors import Connector
    from .handshake import Accept

__all__ = ["EARLY_KEY", "EarlySession", "open_on_socket", "stock_connector"]

#: The key of the environ for the request's :class:`EarlySession`.
EARLY_KEY = "syncws.early"

_OPENED_ALREADY = "this request has opened a WebSocket already"


class EarlySession:
    """The session that a program may open in one request, and that ends with the request.

    Only the request's thread calls its methods.
    """

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self._environ = environ
        self._start_response = start_response
        self._opened: OpenSession | None = None
        # The one of a request in which this one is run, by another layer of the application.
        self._around = environ.get(EARLY_KEY)
        self._finished = False
        self._failed = False
        # The answer to a handshake that was refused, and the statuses of the framework that it
        # replaces.
        self._refusal: Reject | None = None
        self._replaced: Collection[int] = ()
        # The body that replaces the one of a framework's error.
        self._instead: Iterable[bytes] | None = None

    def open(self, answer: Accept, options: Options) -> OpenSession | Reject:
        """Send the 101, and return the session or a refusal.

        Raises ``RuntimeError`` if this request has a session already, or is over.
        """
        if self._opened is not None:
            raise RuntimeError(_OPENED_ALREADY)
        if self._finished:
            raise RuntimeError("this request is over: a WebSocket is opened while it is handled")
        connector = connector_for(self._environ)
        opened = _open(
            connector,
            answer,
            options,
            self._environ,
            lambda: connector.accept(answer, self._start_response),
        )
        if not isinstance(opened, Reject):
            self._opened = opened
        return opened

    def refused(self, refusal: Reject, replaced: Collection[int]) -> None:
        """The handshake is refused, and the program gets an exception. If the framework makes an
        answer of it with one of the statuses ``replaced``, the refusal is sent instead."""
        if not self._finished:
            self._refusal, self._replaced = refusal, replaced

    def run(self, application: WSGIApplication) -> Iterable[bytes]:
        """Run the application, and end the session that it may have opened."""
        self._environ[EARLY_KEY] = self
        try:
            result = application(self._environ, self._start)
        except BaseException as exc:  # noqa: BLE001  # raised on, or logged
            try:
                return self._raised(exc)
            finally:
                self.finish(())
        if self._opened is not None:
            self.finish(result)
            return ()
        return _Parts(self, result)

    def _start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        """The framework's answer. After the 101 it is not sent."""
        if self._opened is not None:
            self._failed = self._failed or status.startswith("5")
            return lambda data: None
        if self._refusal is not None and int(status[:3]) in self._replaced:
            self._instead = self._refuse(self._refusal)
            return lambda data: None
        return self._start_response(status, headers, *exc_info)

    def parts(self, result: Iterable[bytes]) -> Iterator[bytes]:
        """The body. An application that is a generator may open its session in here."""
        try:
            for data in result:
                if self._opened is not None:
                    break
                if self._instead is None:
                    yield data
        except Exception as exc:  # noqa: BLE001  # raised on, or logged
            yield from self._raised(exc)
        else:
            if self._instead is not None:
                yield from self._instead
        finally:
            self.finish(result)

    def _raised(self, error: BaseException) -> Iterable[bytes]:
        """The application has raised: a failed handler, a refused handshake, or its own error."""
        if self._opened is None:
            if self._refusal is not None and isinstance(error, Exception):
                return self._refuse(self._refusal)
            raise error
        # Integrations of simple-websocket raise StopIteration so that gunicorn sends nothing.
        # A program that does not catch the end of its own session has not failed.
        if not isinstance(error, StopIteration) and not self._is_own_end(error):
            logger.error(
                "the handler of %s failed; the session is closed with 1011",
                self._opened.session,
                exc_info=error,
            )
            self._failed = True
        try:
            if not isinstance(error, Exception):
                self._opened.session._start_closing(FAILED)
                raise error
        finally:
            self.finish(())
        return ()

    def _refuse(self, refusal: Reject) -> list[bytes]:
        """Answer with the refusal, which the program's ``Server`` has noted."""
        self._start_response(refusal.status, refusal.headers)
        return [refusal.body]

    def _is_own_end(self, error: BaseException) -> bool:
        session = None if self._opened is None else self._opened.session
        return getattr(error, "session", None) is session

    def finish(self, result: Iterable[bytes]) -> None:
        """End the request, and the session with it. Only the first call does something."""
        if self._finished:
            return
        self._finished = True
        try:
            end_response(result)
        finally:
            if self._opened is not None:
                normal = CloseReason(CloseCode.NORMAL_CLOSURE, "", "local")
                self._opened.conclude(FAILED if self._failed else normal)
            # Another layer may still open a session, unless this one has. This object refers to
            # the environ: if it stayed there, the garbage collector would have to find both.
            self._environ[EARLY_KEY] = (self._opened is None and self._around) or _OVER


def _start_nothing(*args: Any) -> NoReturn:
    raise AssertionError


#: Stands in the environ of a request that is over.
_OVER = EarlySession({}, _start_nothing)
_OVER.finish(())


class _Parts:
    """The response of an application. Its ``close()`` ends the request, even if nobody has
    asked for a part."""

    def __init__(self, early: EarlySession, result: Iterable[bytes]) -> None:
        self._early = early
        self._result = result

    def __iter__(self) -> Iterator[bytes]:
        return self._early.parts(self._result)

    def close(self) -> None:
        self._early.finish(self._result)


def stock_connector(environ: WSGIEnvironment) -> Connector:
    """Return the connector for a request on a server that is not syncws's own.

    Raises ``RuntimeError`` on a server that syncws can not run on, and if this request has a
    session already.
    """
    sock = environ.get("werkzeug.socket") or environ.get("gunicorn.socket")
    if sock is not None and is_lent(sock):
        raise RuntimeError(_OPENED_ALREADY)
    return connector_for(environ)


def open_on_socket(
    connector: Connector, answer: Accept, options: Options, environ: WSGIEnvironment
) -> Lent | Reject:
    """Open a session without the server's ``start_response()``. It ends when the server uses
    the socket again. Raises ``RuntimeError`` if nobody could tell when that is."""
    check_lendable(connector.socket)
    opened = _open(
        connector, answer, options, environ, lambda: accept_on_socket(answer, connector.socket)
    )
    if isinstance(opened, Reject):
        return opened
    return Lent(connector.socket, opened.session, opened.conclude)


class OpenSession:
    """A session whose 101 has been sent, and the duties of its end."""

    def __init__(
        self,
        session: CommonSession,
        connector: Connector,
        sent_before: int,
        give_place: Callable[[], None],
    ) -> None:
        self.session = session
        self._connector = connector
        self._sent_before = sent_before
        self._give_place = give_place

    def conclude(self, reason: CloseReason) -> None:
        """End the session, with ``reason`` unless it ends already. When this returns,
        nothing of syncws uses the socket. Called once, by the request's thread."""
        try:
            self.session._end(reason)
        finally:
            self.session._conclude(reason)
            REGISTRY.remove(self.session)
            sent = self.session._traffic().bytes_sent - self._sent_before
            self._connector.closed(self.session, sent)
            self._give_place()


def _open(
    connector: Connector,
    answer: Accept,
    options: Options,
    environ: WSGIEnvironment,
    accept: Callable[[], None],
) -> OpenSession | Reject:
    admitted = admit(environ, options)
    if isinstance(admitted, Reject):
        return admitted
    try:
        session = make_session(connector, answer, options, environ)
        try:
            session._prepare()
        except RuntimeError as exc:
            logger.warning("no thread for another session: %s", exc)
            admitted()
            return busy()
        sent_before = session._traffic().bytes_sent
        try:
            accept()
            session._opened()
        except BaseException:
            session.terminate()
            session._conclude(CloseReason())
            connector.closed(session, 0)
            raise
    except BaseException:
        admitted()
        raise
    # With refuse="close" the framework's answer is none to the handshake any more.
    environ.get(REFUSED_KEY, []).append(101)
    REGISTRY.add(session, connector.server)
    connector.opened(session)
    return OpenSession(session, connector, sent_before, admitted)
