"""ClientSession: a session that owns its socket.

The socket is closed when ``close()`` returns or a ``with`` block ends, and soon after the
session has ended in any other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..close import CloseCode
from ..session.opening import Opening
from ..session.session import Session
from ..system.living import Living

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from ..close import CloseReason
    from ..options import Options
    from ..protocol.headers import ResponseHeaders
    from ..system.transport import Transport
    from .handshake import Opened
    from .network import Address
    from .url import Url

__all__ = ["ClientSession"]


class ClientSession(Session):
    """A session that :func:`connect` has opened.

    As a context manager it closes the session at the end of the block: with 1000, or with
    1011 if the block raises. After the closing handshake the server ends the connection
    (RFC 6455 section 7.1.1). ``close()`` waits for that too, within its timeout.

    ``response_headers`` are the headers of the server's 101. Names are compared without
    regard to case.

    ``environ`` has ``REMOTE_ADDR`` and ``REMOTE_PORT``, the address that the connection was
    made to (behind a proxy, the proxy's), and ``PATH_INFO`` and ``QUERY_STRING``, as in the
    URL, and ``syncws.session_id``. It has nothing else.
    """

    response_headers: ResponseHeaders

    def __init__(
        self,
        sock: socket.socket,
        address: Address | None,
        transport: Transport,
        options: Options,
        url: Url,
        opened: Opened,
    ) -> None:
        environ = {"PATH_INFO": url.path, "QUERY_STRING": url.query}
        if address is not None:
            environ.update(REMOTE_ADDR=address[0], REMOTE_PORT=str(address[1]))
        super().__init__(
            Opening(
                transport,
                options,
                environ,
                client=True,
                subprotocol=opened.subprotocol,
                deflate=opened.deflate,
                received=opened.received,
            )
        )
        self.response_headers = opened.headers
        self._socket = sock
        self._attending.release = self._close_socket
        _OPEN.add(self)

    def _end(self, reason: CloseReason, timeout: float | None = None) -> None:
        """End the session as ``Session._end()`` does, and conclude it too: no server does."""
        super()._end(reason, timeout)
        self._publish_end()

    def _leave_to_parent(self) -> None:
        super()._leave_to_parent()
        self._socket.close()  # the child's descriptor; the parent's connection stays open

    def _close_socket(self) -> None:
        """Close the socket after the end, in the thread that is about to publish the end: who
        waits for the end, and users' callbacks, find the socket closed.

        The connection is shut down, so threads that read or write are about to return. Until
        then the descriptor must not be closed, since another file may get its number. The
        wait for those threads is bounded.
        """
        for lock in (self._reader.read_lock, self._writer.write_lock):
            if lock.acquire(timeout=self.close_timeout):
                lock.release()
        self._socket.close()

    def __enter__(self) -> ClientSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(CloseCode.NORMAL_CLOSURE if error is None else CloseCode.INTERNAL_ERROR)


#: The client sessions of this process; those of a parent are the parent's.
_OPEN: Living[ClientSession] = Living(lambda session: session._leave_to_parent())
