"""WebSockets for synchronous Python.

A handler is a plain function; the session's calls block, and take timeouts::

    import syncws

    @syncws.websocket()
    def echo(session):
        for message in session:
            session.send(message)

``echo`` is a WSGI application. Run it with gunicorn and the worker class
``syncws.worker.WebSocketWorker``; in a script or a test, with :func:`serve`.
In Flask, ``syncws.flask.WebSockets`` makes routes; see there.

* :class:`Session` is what a handler works with, from any thread.
* :class:`Options` has all that can be set, for ``websocket()``,
  :class:`WebSocketUpgrade` and Flask routes alike.
* :class:`RawSession` is what it works with on a route with ``raw=True``:
  each :class:`Frame`, and its :class:`Opcode`, as it is on the wire.
* :class:`CloseReason` tells how a session ended, and
  :class:`ConnectionClosed` carries it.
* :func:`connect` opens a session with a server: the same from the client's side.
* :class:`Rate` limits the messages of a session, as the option ``rate``.
* :func:`typed` receives and sends values of declared types.
* :func:`reconnect` opens the next one whenever a session has ended; :class:`Backoff` says
  how long it waits.
* :func:`stats` has the figures of the process's sessions.
"""

# Before the other imports, which take their time: it says what Ctrl-C does meanwhile.
from .system import interrupts as interrupts

# isort: split
from wsproto.frame_protocol import Opcode

from .client.connect import connect
from .client.reconnect import Backoff, reconnect
from .client.session import ClientSession
from .close import CloseCode, CloseReason
from .errors import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    HandshakeError,
    HubError,
    SendTimeoutError,
    SyncwsError,
)
from .handlers import exchange, stream
from .hub.history import History
from .hub.hub import Hub
from .hub.joining import Joined
from .limits import Rate
from .listener import Listener, callbacks
from .options import Options
from .protocol.deflate import Deflate
from .protocol.prepared import PreparedMessage
from .protocol.raw_frames import Frame
from .server.server import Server, serve
from .session.raw import RawSession
from .session.registry import Stats, stats
from .session.session import Session
from .system.compiling import __compiled__ as __compiled__
from .typed_messages import Codec, InvalidMessage, TypedSession, typed
from .upgrade.application import WebSocketUpgrade, websocket
from .upgrade.middleware import WebSocketMiddleware
from .upgrade.respond import respond
from .version import __version__ as __version__

__all__ = [
    "Backoff",
    "ClientSession",
    "CloseCode",
    "CloseReason",
    "Codec",
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Deflate",
    "Frame",
    "HandshakeError",
    "History",
    "Hub",
    "HubError",
    "InvalidMessage",
    "Joined",
    "Listener",
    "Opcode",
    "Options",
    "PreparedMessage",
    "Rate",
    "RawSession",
    "SendTimeoutError",
    "Server",
    "Session",
    "Stats",
    "SyncwsError",
    "TypedSession",
    "WebSocketMiddleware",
    "WebSocketUpgrade",
    "callbacks",
    "connect",
    "exchange",
    "reconnect",
    "respond",
    "serve",
    "stats",
    "stream",
    "typed",
    "websocket",
]

# Users read "syncws.Session" in tracebacks and documentation, wherever the class is defined.
for _name in __all__:
    _member = globals()[_name]
    if getattr(_member, "__module__", "").startswith("syncws."):
        _member.__module__ = __name__
del _name, _member
