"""The session: the blocking API that handlers use.

Concurrency: every method may be called from any thread. One thread at a time may be in
``receive()``; any number may send, ping and close at the same time, and messages go out whole, one
after the other. ``close()`` and ``terminate()`` wake a thread that is blocked in ``receive()`` or
``send()``. A signal handler may call both, too. Callbacks of the futures run in the session's ping
thread, or in the handler's thread once the handler has returned. They have to be quick: while one
runs, the session is not kept alive.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from ..close import CloseCode, CloseReason, check_sendable
from ..errors import ConnectionClosed, ConnectionClosedOK
from ..options import check_seconds, check_timeout
from ..protocol.json_text import json_text
from ..protocol.messages import Protocol
from ..protocol.prepared import PreparedMessage
from ..system.deadline import Deadline, bounded
from ..system.transport import BrokenError
from ..system.wakeup import Wakeup
from .attending import Attending
from .common import CommonSession, Traffic
from .ending import Ending
from .keepalive import Keepalive
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
    from .opening import Opening

__all__ = ["Session"]


class Session(CommonSession):
    """A WebSocket connection, as its handler sees it.

    ``environ`` is the WSGI environ of the request that opened it, and
    ``subprotocol`` the subprotocol agreed on, or None.
    """

    def __init__(self, opening: Opening) -> None:
        options, transport = opening.options, opening.transport
        super().__init__(opening)
        #: Seconds that the whole closing handshake may take.
        self.close_timeout = bounded(options.close_timeout)
        self._transport = transport
        self._outgoing_lock = threading.Lock()
        self._outgoing: Outgoing | None = None
        protocol = Protocol(
            client=opening.client,
            masking=options.masking,
            max_message_size=options.max_message_size,
            max_frame_size=options.max_frame_size,
            deflate=opening.deflate,
        )
        protocol.receive_data(opening.received)
        self._wakeup = wakeup = Wakeup()
        self._pings = Pings()
        self._ending = Ending(self, transport, wakeup, client=opening.client)
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
        self._keepalive = Keepalive(options.ping_interval, options.timeout)
        self._attending = Attending(
            self._reader,
            self._writer,
            self._ending,
            self._pings,
            transport,
            wakeup,
            keepalive=self._keepalive,
            name=self._ping_thread_name,
        )

    # Messages

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Return the next message: ``str`` for text, ``bytes`` for binary.

        ``timeout`` is in seconds. None waits for ever, 0 does not wait.

        Raises ``TimeoutError`` if no message arrives in time: no message is lost, and you can call
        it again. Raises ``ConnectionClosed`` once the session has ended *and* every message
        received before was delivered. Raises ``ConcurrencyError`` while another thread is in
        ``receive()``.
        """
        return self._reader.receive(check_timeout("timeout", timeout))

    def receive_stream(self, timeout: float | None = None) -> BinaryIO | TextIO:
        """Wait for the next message, and read it as a file while it arrives.

        The file is a text file for text, a binary one for binary. It ends where the message ends.
        Memory is bounded, however large the message is: while you do not read the file, TCP holds
        the peer back. Only ``max_message_size`` limits the message.

        ``timeout`` is in seconds, for the beginning of the message and for each wait for more of
        it. This method and those of the file raise what ``receive()`` raises. After a
        ``TimeoutError`` from ``read1()`` nothing is lost; the other methods of the file lose the
        bytes that they had read. Receiving the next message skips the rest of this one.
        """
        return receive_stream(self, self._reader, check_timeout("timeout", timeout))

    def __iter__(self) -> Iterator[str | bytes]:
        """Messages until the session ends; quietly if it ends well.

        Raises ``ConnectionClosedError`` when it does not.
        """
        receive = self._reader.receive
        while True:
            try:
                message = receive(None)
            except ConnectionClosedOK:
                return
            yield message

    def receive_json(self, timeout: float | None = None) -> Any:
        """As ``receive()``, for a message of JSON.

        Raises ``ValueError`` (``json.JSONDecodeError``) if the message is not JSON; the session
        goes on.
        """
        try:
            return json.loads(self.receive(timeout))
        except RecursionError:
            raise ValueError("the message is JSON nested too deeply") from None

    def send(self, data: Sendable | CloseReason, timeout: float | None = None) -> None:
        """Send a message: ``str`` as text, a bytes-like object as binary, or a
        :class:`PreparedMessage`.

        An iterable of either, or a file, is sent as one message in fragments. Each part is sent
        as soon as it is read; of a text file, a part has 64 Ki characters. Other threads' messages
        wait meanwhile. The code that makes the parts can not send (``RuntimeError``). If it raises,
        ``send()`` raises the same, and the session is closed with 1011, since it can not go on
        with half a message. A ``CloseReason`` closes the session with its code and reason.

        ``send()`` waits for other threads' messages to be written, and then for the peer to read.
        If you give a ``timeout``, it is the number of seconds for the whole call. Otherwise the
        session's ``timeout`` counts, which is for a peer that reads *nothing* for so long: it
        begins anew whenever the peer reads, so a slow peer gets a large message whole. When
        ``send()`` returns, the operating system has taken the whole message.

        Raises ``ConnectionClosed`` once the session is ending. Raises ``SendTimeoutError``, which
        is a ``ConnectionClosedError`` and a ``TimeoutError``, if the peer did not read in time: a
        part of the message may have been written, so the session is terminated. Raises
        ``TimeoutError`` if other threads' messages took too long: nothing was sent, and the
        session goes on.
        """
        renewed = timeout is None
        timeout = self._keepalive.timeout if timeout is None else check_timeout("timeout", timeout)
        try:
            if isinstance(data, (str, bytes, bytearray, memoryview)):
                self._writer.send(data, timeout, renewed)
            elif isinstance(data, PreparedMessage):
                self._writer.send_prepared(data, timeout, renewed=renewed)
            elif isinstance(data, CloseReason):
                self.close(data.code, data.reason)
            elif (binary := as_binary(data)) is not None:
                self._writer.send(binary, timeout, renewed)
            else:
                self._writer.send_parts(
                    parts_of(data), timeout, self.close_timeout, renewed=renewed
                )
        except BrokenError as exc:
            raise self._broken(exc) from exc

    def try_send(self, data: Sendable | CloseReason, timeout: float | None = None) -> bool:
        """As ``send()``, but return False instead of raising ``ConnectionClosed``, and True once
        the message is sent."""
        try:
            self.send(data, timeout)
        except ConnectionClosed as exc:
            if exc.session not in (self, None):
                raise  # the code that makes the message uses another session
            return False
        return True

    def send_json(self, value: Any, timeout: float | None = None) -> None:
        """Send ``value`` as a text message of JSON; raises what ``send()`` and
        ``json.dumps()`` do."""
        self.send(json_text(value), timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything that any thread sent before is written: messages of the outgoing
        channel, pongs, a Close. In a callback of the channel it does not wait for the channel,
        since it runs in the channel's thread.

        ``timeout`` is the number of seconds for the whole call. None means the session's
        ``timeout``, which begins anew whenever the peer reads. Raises ``TimeoutError`` when the
        time is over; nothing is lost. Allowed while the session is closing; does nothing once it
        has ended.
        """
        renewed = timeout is None
        timeout = self._keepalive.timeout if timeout is None else check_timeout("timeout", timeout)
        if self._outgoing is not None:
            timeout = self._outgoing.flush(self._transport, timeout, renewed=renewed)
        self._writer.flush(timeout, renewed=renewed)

    # The outgoing channel

    @property
    def outgoing(self) -> Outgoing:
        """The channel for messages that a thread of the session's own sends, with room for 10."""
        with self._outgoing_lock:
            if self._outgoing is None:
                self._outgoing = Outgoing(self, self._ending, CAPACITY)
            return self._outgoing

    def open_outgoing(self, capacity: int = CAPACITY) -> Outgoing:
        """Open the channel with room for ``capacity`` messages.

        Raises ``RuntimeError`` if it is open already: with two of them, messages would have no
        order.
        """
        with self._outgoing_lock:
            if self._outgoing is not None:
                raise RuntimeError("the outgoing channel is open already: use session.outgoing")
            self._outgoing = Outgoing(self, self._ending, capacity)
            return self._outgoing

    # Keepalive

    def ping(self) -> Future[float]:
        """Send a ping. The result of the future is the number of seconds until its pong arrived.

        The pong is noticed at once, whether or not a thread is in ``receive()``. The future raises
        ``ConnectionClosed`` if the session ends first. Blocks and raises as ``send()`` does.
        """
        future: Future[float] = Future()
        future.set_running_or_notify_cancel()
        payload = self._pings.new(future)
        try:
            self._writer.ping(payload, self._keepalive.timeout, renewed=True)
        except BrokenError as exc:
            self._pings.forget(payload)
            raise self._broken(exc) from exc
        except BaseException:
            self._pings.forget(payload)
            raise
        # While no thread is in receive(), the ping thread now waits for the pong.
        self._wakeup.set()
        return future

    @property
    def latency(self) -> float | None:
        """Seconds between the last answered ping and its pong; None before the first pong."""
        return self._pings.latency

    @property
    def ping_interval(self) -> float | None:
        """Seconds between pings, None for no pings. Can be set at any time."""
        return self._keepalive.interval

    @ping_interval.setter
    def ping_interval(self, seconds: float | None) -> None:
        if seconds is not None:
            check_seconds("ping_interval", seconds)
        self._keepalive.interval = seconds
        self._wakeup.set()

    @property
    def timeout(self) -> float:
        """Seconds without a pong, or without progress of a write. Can be set at any time."""
        return self._keepalive.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        check_seconds("timeout", seconds)
        self._keepalive.timeout = seconds
        self._wakeup.set()

    # The end

    def close(
        self,
        code: int = CloseCode.NORMAL_CLOSURE,
        reason: str = "",
        timeout: float | None = None,
    ) -> None:
        """Close the session: send a Close, wait for the peer's, end the connection.

        All of it takes ``timeout`` seconds at most (None: ``close_timeout``); then the connection
        is terminated. Messages that arrive meanwhile can still be received afterwards. Does
        nothing if the session has ended. If a Close was already sent, it waits for that one's end.

        A signal handler may call it. If the signal has interrupted ``receive()``
        or ``send()`` in the same thread, ``close()`` returns at once. The
        interrupted call goes on, and the session ends within ``timeout``.

        Raises ``TypeError`` or ``ValueError`` for a code or a reason that can
        not be sent (RFC 6455 section 7.4: 1000 to 1014 except 1004 to 1006, or
        3000 to 4999, and 123 bytes).
        """
        check_sendable(code, reason)
        self._end(CloseReason(code, reason), check_timeout("timeout", timeout))

    def _end(self, reason: CloseReason, timeout: float | None = None) -> None:
        """As ``close()``, for a reason with a cause of its own."""
        if self._ending.finished:
            return
        deadline = Deadline(self.close_timeout if timeout is None else timeout).at
        interrupted = self._is_used_by_this_thread()
        if self._outgoing is not None and not interrupted:
            self._outgoing.finish(reason, deadline)
        self._ending.begin(reason, deadline)
        self._writer.close()
        if not interrupted:
            self._reader.read_to_the_end(deadline)
            self._ending.finish(reason)

    def _is_used_by_this_thread(self) -> bool:
        """Whether this is a signal handler that has interrupted a call of this session, which
        holds locks. Waiting for that call would last until the deadline."""
        return self._reader.is_interrupted() or self._writer.is_interrupted()

    def _broken(self, error: BrokenError) -> ConnectionClosed:
        """Writing failed. The peer may have sent the reason before."""
        self._reader.read_the_rest()
        self._ending.finish(CloseReason(CloseCode.ABNORMAL_CLOSURE, str(error), "error"))
        return self._ending.exception()

    def _ping_thread_name(self) -> str:
        return f"syncws ping {':'.join(map(str, self.remote_address))}"

    # For servers

    def _prepare(self) -> None:
        self._attending.start()

    def _opened(self) -> None:
        self._attending.opened()

    @property
    def _unreceived(self) -> bool:
        """Whether messages wait for ``receive()``. For generators as handlers."""
        return self._reader.has_queued

    def _traffic(self) -> Traffic:
        return Traffic(
            self._reader.messages,
            self._writer.messages,
            self._transport.received,
            self._transport.sent,
        )

    def _start_closing(self, reason: CloseReason) -> None:
        self._ending.begin(reason, Deadline(self.close_timeout).at)
        self._writer.close()

    def _conclude(self, reason: CloseReason) -> None:
        self._end(reason)
        self._publish_end()

    def _publish_end(self) -> None:
        """The end is finished: no thread of the session's own is needed any more."""
        if not self._ending.finished or self._is_used_by_this_thread():
            return  # in a signal handler; the interrupted call goes on
        self._attending.end(self.close_timeout)
        if self._outgoing is not None:
            self._outgoing.join(self.close_timeout)
