"""The session: the blocking API that handlers use.

Concurrency: every method may be called from any thread. One thread at a time
may be in ``receive()``; any number may send, ping and close at the same time,
and messages go out whole, one after the other. ``close()`` and ``terminate()``
wake a thread that is blocked in ``receive()`` or ``send()``. Callbacks of the
futures run in the session's ping thread, or in the handler's once that has
returned, and have to be quick: while one runs, nobody keeps the session alive.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from ..close import CloseCode, CloseReason, check_sendable
from ..errors import ConnectionClosed, ConnectionClosedOK
from ..options import check_seconds, check_timeout
from ..protocol.json_text import json_text
from ..protocol.messages import Protocol
from ..protocol.prepared import PreparedMessage
from ..system.transport import BrokenError
from ..system.wakeup import Wakeup
from .attending import Pinger
from .common import CommonSession, Traffic
from .ending import Ending
from .limited import LimitedReader
from .outgoing import CAPACITY, Outgoing
from .pings import Pings
from .reader import Reader
from .streams import (
    Sendable,
    as_binary,
    parts_of,
    receive_stream,
)
from .writer import Writer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..options import Options
    from ..protocol.deflate import DeflateExtension
    from ..system.transport import Transport

__all__ = ["Session"]


class Session(CommonSession):
    """A WebSocket connection, as its handler sees it.

    ``environ`` is the WSGI environ of the request that opened it, and
    ``subprotocol`` the subprotocol agreed on, or None.
    """

    def __init__(
        self,
        transport: Transport,
        options: Options,
        *,
        environ: WSGIEnvironment,
        client: bool = False,
        subprotocol: str | None = None,
        deflate: DeflateExtension | None = None,
        received: bytes = b"",
    ) -> None:
        self.environ = environ
        self.subprotocol = subprotocol
        #: Seconds that the whole closing handshake may take.
        self.close_timeout = min(options.close_timeout, threading.TIMEOUT_MAX)
        self._transport = transport
        self._outgoing_lock = threading.Lock()
        self._outgoing: Outgoing | None = None
        wakeup = Wakeup()
        protocol = Protocol(
            client=client,
            masking=options.masking,
            max_message_size=options.max_message_size,
            max_frame_size=options.max_frame_size,
            deflate=deflate,
        )
        # What came right behind the handshake.
        protocol.receive_data(received)
        self._wakeup = wakeup
        self._pings = Pings()
        self._ending = Ending(self, transport, wakeup)
        self._writer = Writer(protocol, transport, self._ending, wakeup)
        make_reader = Reader if options.rate is None else partial(LimitedReader, options.rate)
        self._reader = make_reader(
            protocol,
            transport,
            self._writer,
            self._ending,
            self._pings,
            wakeup,
            options.close_timeout,
        )
        self._pinger = Pinger(
            self._reader,
            self._writer,
            self._ending,
            self._pings,
            transport,
            wakeup,
            interval=options.ping_interval,
            timeout=options.timeout,
            name=self._ping_thread_name,
        )

    # Messages

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Wait for the next message: ``str`` for text, ``bytes`` for binary.

        ``timeout`` is in seconds; None waits for ever, 0 looks only.

        Raises ``TimeoutError`` when no message came in time: nothing is lost
        and the call can be repeated. Raises ``ConnectionClosed`` once the
        session has ended *and* every message received before was delivered.
        Raises ``ConcurrencyError`` while another thread is in ``receive()``,
        and ``ValueError`` for a ``timeout`` that is not a number.
        """
        if timeout is not None:
            timeout = check_timeout("timeout", timeout)
        return self._reader.receive(timeout)

    def receive_stream(self, timeout: float | None = None) -> BinaryIO | TextIO:
        """Wait for the next message, and read it as a file while it arrives.

        The file is a text file for text, a binary one for binary; both end
        where the message does. Memory is bounded, however large the message:
        what the file's user has not read holds the peer back. Only
        ``max_message_size`` still limits it.

        ``timeout`` is in seconds, for the message to begin and for each wait
        for more of it. Raises what ``receive()`` does, and so do the file's
        methods; after a ``TimeoutError`` from ``read1()`` nothing is lost, the
        other methods lose what they had read. Receiving the next message skips
        what has not been read of this one.
        """
        return receive_stream(self._reader, check_timeout("timeout", timeout))

    def __iter__(self) -> Iterator[str | bytes]:
        """Messages until the session ends; quietly if it ends well.

        Raises ``ConnectionClosedError`` when it does not.
        """
        while True:
            try:
                message = self._reader.receive(None)
            except ConnectionClosedOK:
                return
            yield message

    def receive_json(self, timeout: float | None = None) -> Any:
        """As ``receive()``, for a message of JSON.

        Raises ``ValueError`` (``json.JSONDecodeError``) when it is none; the
        session goes on.
        """
        try:
            return json.loads(self.receive(timeout))
        except RecursionError:
            raise ValueError("the message is JSON nested too deeply") from None

    def send(self, data: Sendable | CloseReason, timeout: float | None = None) -> None:
        """Send a message: ``str`` as text, a bytes-like object as binary, or a
        :class:`PreparedMessage`.

        An iterable of either, or a file, is sent as one message in fragments,
        each as soon as there is something to send (of a text file, 64 Ki
        characters or its end); other threads' messages wait meanwhile, and what
        makes the parts can not send itself (``RuntimeError``). If it raises, so
        does ``send()``, and the session, which can not go on with half a
        message, is closed with 1011. A ``CloseReason`` closes the session with
        its code and reason.

        Waits for other threads' messages to go out, and then for the peer to
        read, for ``timeout`` seconds at most each (None: the session's
        ``timeout``). When this returns, the message has been handed to the
        operating system whole.

        Raises ``ConnectionClosed`` once the session is ending.
        Raises ``SendTimeoutError``, which is a ``ConnectionClosedError`` and a
        ``TimeoutError``, when the peer did not read in time: the message may
        have been cut, so the session is terminated.
        Raises ``TimeoutError`` when other threads' messages took too long:
        nothing was sent, and the session goes on.
        """
        timeout = self._pinger.timeout if timeout is None else check_timeout("timeout", timeout)
        try:
            if isinstance(data, (str, bytes, bytearray, memoryview)):
                self._writer.send(data, timeout)
            elif isinstance(data, PreparedMessage):
                self._writer.send_prepared(data, timeout)
            elif isinstance(data, CloseReason):
                self.close(data.code, data.reason)
            elif (binary := as_binary(data)) is not None:
                self._writer.send(binary, timeout)
            else:
                self._writer.send_parts(parts_of(data), timeout, self.close_timeout)
        except BrokenError as exc:
            raise self._broken(exc) from exc

    def try_send(self, data: Sendable | CloseReason, timeout: float | None = None) -> bool:
        """As ``send()``; gives True, or False when the session has ended, or ends
        meanwhile, instead of raising ``ConnectionClosed``."""
        try:
            self.send(data, timeout)
        except ConnectionClosed as exc:
            if exc.session is not self:
                raise  # of what makes the message
            return False
        return True

    def send_json(self, value: Any, timeout: float | None = None) -> None:
        """Send ``value`` as a text message of JSON; raises what ``send()`` and
        ``json.dumps()`` do."""
        self.send(json_text(value), timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was sent before is written, by whichever thread:
        messages of the outgoing channel, pongs, a Close. In a callback of the
        channel it does not wait for the channel, whose thread it is in.

        ``timeout`` is in seconds (None: the session's ``timeout``). Raises
        ``TimeoutError`` after it; nothing is lost. Allowed while the session is
        closing; does nothing once it has ended.
        """
        timeout = self._pinger.timeout if timeout is None else check_timeout("timeout", timeout)
        deadline = monotonic() + timeout
        if self._outgoing is not None:
            self._outgoing.flush(timeout)
        self._writer.flush(deadline - monotonic())

    def _offer(self, message: PreparedMessage, room: int) -> bool:
        """Send a message without ever waiting: what the peer has no room for yet
        waits in a queue, as long as there are fewer than ``room`` in it.

        Gives False when there are not: then the message was not taken. What
        waits goes out in order, and before what is sent later; a peer that
        reads nothing of it for ``timeout`` seconds is dropped. Once the session
        is ending messages are taken, and forgotten.
        """
        return self._writer.offer(message, room)

    def _forget_offers(self, number: int) -> int:
        """Give up the ``number`` oldest of the offered messages that wait; gives how many."""
        return self._writer.forget_offers(number)

    # The outgoing channel

    @property
    def outgoing(self) -> Outgoing:
        """The channel for messages that are sent by a thread of the session's own;
        opened, with room for 10, when first asked for."""
        with self._outgoing_lock:
            if self._outgoing is None:
                self._outgoing = Outgoing(self, self._ending, CAPACITY)
            return self._outgoing

    def open_outgoing(self, capacity: int = CAPACITY) -> Outgoing:
        """Open the channel with room for ``capacity`` messages.

        Raises ``RuntimeError`` when it is open already: a session has one, or
        its messages would have no order.
        """
        with self._outgoing_lock:
            if self._outgoing is not None:
                raise RuntimeError("the outgoing channel is open already: use session.outgoing")
            self._outgoing = Outgoing(self, self._ending, capacity)
            return self._outgoing

    # Keepalive

    def ping(self) -> Future[float]:
        """Send a ping; the future gives the seconds until its pong came.

        The pong is noticed while somebody is in ``receive()``, and within a
        second otherwise. The future raises ``ConnectionClosed`` if the session
        ends first. Blocks and raises as ``send()`` does.
        """
        future: Future[float] = Future()
        future.set_running_or_notify_cancel()
        payload = self._pings.new(future)
        if self._pings.due:
            self._wakeup.set()
        try:
            self._writer.ping(payload, self._pinger.timeout)
        except BrokenError as exc:
            self._pings.forget(payload)
            raise self._broken(exc) from exc
        except (ConnectionClosed, TimeoutError):
            self._pings.forget(payload)
            raise
        return future

    @property
    def ping_interval(self) -> float | None:
        """Seconds between pings, None for no pings. Can be set at any time."""
        return self._pinger.interval

    @ping_interval.setter
    def ping_interval(self, seconds: float | None) -> None:
        if seconds is not None:
            check_seconds("ping_interval", seconds)
        self._pinger.interval = seconds
        self._wakeup.set()

    @property
    def timeout(self) -> float:
        """Seconds that a pong, or a blocked write, may take. Can be set at any time."""
        return self._pinger.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        check_seconds("timeout", seconds)
        self._pinger.timeout = seconds
        self._wakeup.set()

    # The end

    def close(
        self,
        code: int = CloseCode.NORMAL_CLOSURE,
        reason: str = "",
        timeout: float | None = None,
    ) -> None:
        """Close the session: send a Close, wait for the peer's, end the connection.

        All of it takes ``timeout`` seconds at most (None: ``close_timeout``);
        then the connection is terminated. Messages received meanwhile can
        still be received afterwards. Does nothing when the session has ended;
        when a Close was already sent, waits for that one's end.

        A signal handler may call it. If the signal has interrupted ``receive()``
        or ``send()`` in the same thread, ``close()`` returns at once. The
        interrupted call goes on, and the session ends within ``timeout``.

        Raises ``TypeError`` or ``ValueError`` for a code or a reason that can
        not be sent (RFC 6455 section 7.4: 1000 to 1014 except 1004 to 1006, or
        3000 to 4999, and 123 bytes).
        """
        check_sendable(code, reason)
        timeout = check_timeout("timeout", timeout)
        self._end(CloseReason(code, reason), timeout)

    def _end(self, reason: CloseReason, timeout: float | None = None) -> None:
        """As ``close()``, for a reason with a cause of its own."""
        if self._ending.finished:
            return
        deadline = monotonic() + (self.close_timeout if timeout is None else timeout)
        # In a signal handler, what it has interrupted can not be waited for.
        interrupted = self._reader.interrupted or self._writer.interrupted
        if self._outgoing is not None:
            self._outgoing.finish(reason, monotonic() if interrupted else deadline)
        self._ending.begin(reason, deadline)
        self._writer.close()
        if interrupted:
            return  # it goes on when the signal handler returns, and ends by the deadline
        self._reader.read_to_the_end(deadline)
        self._ending.finish(reason)

    def _broken(self, error: BrokenError) -> ConnectionClosed:
        """Writing failed: the reason may be in what the peer sent before."""
        self._reader.read_the_rest()
        self._ending.finish(CloseReason(CloseCode.ABNORMAL_CLOSURE, str(error), "error"))
        return self._ending.exception()

    def _ping_thread_name(self) -> str:
        return f"syncws ping {':'.join(map(str, self.remote_address))}"

    # For servers

    def _prepare(self) -> None:
        """Make ready, before the 101 is sent.

        Raises ``RuntimeError`` when the system has no thread left.
        """
        self._pinger.start()

    def _opened(self) -> None:
        """The 101 has been sent."""
        self._pinger.opened()

    @property
    def _unreceived(self) -> bool:
        """Whether messages wait for ``receive()``. For generators as handlers."""
        return self._reader.waiting

    def _traffic(self) -> Traffic:
        """What has gone through the session so far."""
        return Traffic(
            self._reader.messages,
            self._writer.messages,
            self._transport.received,
            self._transport.sent,
        )

    def _start_closing(self, reason: CloseReason) -> None:
        """Send a Close and return at once: the rest is seen to."""
        self._ending.begin(reason, monotonic() + self.close_timeout)
        self._writer.close()

    def _conclude(self, reason: CloseReason) -> None:
        """Close if that has not been done, and have the last word.

        When this returns nobody uses the socket any more.
        """
        self._end(reason)
        self._have_the_last_word()

    def _have_the_last_word(self) -> None:
        """The end is finished: no thread of the session's own is needed any more."""
        self._pinger.end(self.close_timeout)
        if self._outgoing is not None:
            self._outgoing.join(self.close_timeout)
