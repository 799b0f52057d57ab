"""The application's side of a connection under test, in a thread of its own."""

from __future__ import annotations

import sys
import threading
import traceback
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..server.connection import ServerConnector
from ..server.http1 import HttpConnection
from ..server.wsgi import ResponseWriter, make_environ, run_application
from ..session import running
from ..system.tls import make_transport
from ..system.transport import BrokenError, DeadlineError
from ..upgrade.connectors import CONNECTION_KEY
from . import for_django

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from ..session.common import CommonSession
    from ..system.transport import Transport
    from .clock import Clock

__all__ = ["Application", "end_what_runs"]

_PACKAGE = str(Path(__file__).parent.parent)

#: Seconds that a handler may take to end after its peer has left.
PATIENCE = 5.0

#: Applications that may still run, or whose peer was not closed: some tests leave
#: some behind.
_STARTED: weakref.WeakSet[Application] = weakref.WeakSet()


def end_what_runs() -> list[str]:
    """End all applications that still run. Returns what each was doing, as text.

    An application whose peer has left may end by itself first.
    """
    left = []
    while _STARTED:
        application = _STARTED.pop()
        if application.peer is None or application.peer.gone:
            application.join(PATIENCE)
        if application.is_alive():
            left.append(application.whereabouts())
            if application.session is not None:
                application.session.terminate()
            application.join(PATIENCE)
        if application.peer is not None:
            application.peer.disconnect()
    return left


class PeerUnderTest(Protocol):
    """What an application needs of the test's end of its connection."""

    @property
    def gone(self) -> bool: ...
    def idle(self) -> bool: ...
    def disconnect(self) -> None: ...


class Application(threading.Thread):
    """Runs the application for one request, which may become a session.

    ``environ`` is what its environ has beside the request. The socket is
    closed at the end. Attributes are for any thread. Make it in the test's thread.
    """

    def __init__(
        self,
        application: WSGIApplication,
        sock: socket.socket,
        environ: WSGIEnvironment,
        path: str,
        clock: Clock | None,
    ) -> None:
        super().__init__(name=f"the application at {path}", daemon=True)
        self.socket = sock
        self.clock = clock
        #: The other end, once there is a session.
        self.peer: PeerUnderTest | None = None
        #: Set once there is a session, or once there will be none.
        self.opened = threading.Event()
        self.session: CommonSession | None = None
        #: The exception of the application or of its handler.
        self.error: BaseException | None = None
        #: What a view raised before there was a session, if the framework has answered it.
        self.answered_error: BaseException | None = None
        self._shared_connections = for_django.share_connections()
        self._path = path
        self._application = application
        self._environ = environ
        _STARTED.add(self)
        if clock is not None:
            clock.enter(self)

    def run(self) -> None:
        with for_django.in_thread_of_view(self._shared_connections) as raised:
            self._answer_one_request()
        self.answered_error = raised[0] if raised else None

    def _answer_one_request(self) -> None:
        transport = make_transport(self.socket)
        http = HttpConnection(transport)
        try:
            request = http.next_request()
            if request is not None:
                environ = make_environ(request, http, self._environ)
                response = ResponseWriter(http, request.method)
                environ[CONNECTION_KEY] = _Connector(self, http, response)
                run_application(self._application, environ, response)
        except (BrokenError, DeadlineError):
            pass  # the test has told the peer to leave
        except BaseException as exc:  # noqa: BLE001  # raised again in the test's thread
            self.error = exc
        finally:
            transport.shutdown()
            self.socket.close()
            self.opened.set()
            if self.clock is not None:
                self.clock.leave(self)

    def whereabouts(self) -> str:
        """What the application is doing, as text: the handler's name and its stack."""
        frame = sys._current_frames().get(self.ident or 0)
        if frame is None:
            return f"{self.name} has ended"
        stack = list(traceback.walk_stack(frame))[::-1]
        calls = [
            index
            for index, (each, _) in enumerate(stack)
            if each.f_code is running.run_handler.__code__
        ]
        stack = stack[calls[0] + 1 :] if calls else stack
        mine = [each for each, _ in stack if not each.f_code.co_filename.startswith(_PACKAGE)]
        if calls and mine:
            doer = f"the handler {mine[0].f_code.co_name}() of {self._path!r}"
        else:
            doer = self.name
        lines = "".join(traceback.StackSummary.extract(iter(stack)).format())
        return f"{doer} is here:\n{lines}"


class _Connector(ServerConnector):
    """Tells the test's side whether the request becomes a session."""

    def __init__(
        self, application: Application, http: HttpConnection, response: ResponseWriter
    ) -> None:
        super().__init__(application.socket, http, response)
        self._under_test = application

    def transport(self) -> Transport:
        clock = self._under_test.clock
        if clock is None:
            return super().transport()
        return clock.transport(self._under_test, self.socket)

    def opened(self, session: CommonSession) -> None:
        super().opened(session)
        self._under_test.session = session
        self._under_test.opened.set()

    def failed(self, error: Exception) -> None:
        self._under_test.error = error
