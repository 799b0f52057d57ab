"""``syncws connect URL``: talk to a server, line by line.

The exit status says how it ended: 0 well, 1 there was no session, 2 the command line is wrong,
3 the session ended with an error, 130 Ctrl-C came before there was a session.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import selectors
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .client.connect import connect
from .client.reconnect import reconnect
from .errors import ConnectionClosed, ConnectionClosedError, HandshakeError
from .system.latch import LOOK_FOR_SIGNALS
from .version import __version__

if TYPE_CHECKING:
    from .close import CloseReason
    from .session.session import Session

__all__ = ["add_command"]

#: Characters of a message that are shown; a terminal takes long for a megabyte.
SHOWN = 10_000

#: The exit status after a session that ended with an error.
FAILED = 3

# Characters that would control the terminal, and how they are shown instead.
_ESCAPED = {code: repr(chr(code))[1:-1] for code in [*range(32), *range(127, 160)]}

# Shows a line above the line being typed, which stays as it is: save the cursor's place, make
# room for a line behind this one, move this one down and write in its place; then go back to the
# same place, a line further down. Precedent: Python's websockets.
_ABOVE = "\x1b7\n\x1b[A\x1b[L{}\n\x1b8\x1b[B"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``python -m syncws``."""
    parser = commands.add_parser(
        "connect",
        help="talk to a server, line by line",
        description="Open a session. Each line typed is sent as a text message; messages that "
        "arrive are shown above it. Ctrl-D closes the session with 1000.",
        epilog="Exit status: 0 the session ended well, 1 there was no session, 3 it ended with "
        "an error, 130 Ctrl-C before there was a session.",
    )
    parser.add_argument("url", metavar="URL", help="ws://… or wss://…")
    parser.add_argument(
        "-H",
        "--header",
        dest="headers",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        type=_header,
        help="add a header to the request; may be repeated",
    )
    parser.add_argument("--origin", help="the Origin header, as a web page sends it")
    parser.add_argument(
        "--subprotocol", action="append", default=[], help="offer a subprotocol; may be repeated"
    )
    parser.add_argument(
        "--cookie", metavar="NAME=VALUE", action="append", default=[], help="may be repeated"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="do not check the server's certificate"
    )
    parser.add_argument(
        "--reconnect", action="store_true", help="open another session when one has ended"
    )
    parser.add_argument(
        "--json", action="store_true", help="show each event as a line of JSON, for programs"
    )
    parser.add_argument("--version", action="version", version=f"syncws {__version__}")
    parser.set_defaults(run=_run)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"write 'NAME: VALUE', not {text!r}")
    return name.strip(), value.strip()


def _run(arguments: argparse.Namespace) -> None:
    if sys.stdin is None or sys.stdout is None:
        raise SystemExit("connect reads lines from standard input and shows others: one is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    screen = _Screen(arguments.json, sys.stdin.isatty() and sys.stdout.isatty())
    typed = bytearray()
    reason: CloseReason | None = None
    try:
        if arguments.reconnect:
            sessions: Any = reconnect(arguments.url, on_wait=screen.wait, **_options(arguments))
        else:
            sessions = [connect(arguments.url, **_options(arguments))]
        for session in sessions:
            over = _talk(session, screen, typed)
            reason = session.wait_closed(0)
            if over:
                break
    except (HandshakeError, OSError, RuntimeError, ValueError) as exc:
        raise SystemExit(f"can not connect: {exc}") from exc
    except ConnectionClosedError:
        pass  # of a session whose end is shown, and after which there is no other
    if reason is not None and not reason.ok:
        raise SystemExit(FAILED)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    headers = list(arguments.headers)
    if arguments.origin is not None:
        headers.append(("Origin", arguments.origin))
    if arguments.cookie:
        headers.append(("Cookie", "; ".join(arguments.cookie)))
    options: dict[str, Any] = {"headers": headers, "subprotocols": arguments.subprotocol}
    if arguments.insecure:
        if not arguments.url.lower().startswith("wss:"):
            raise ValueError("--insecure is for wss:// URLs")
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        options["ssl_context"] = context
    return options


def _talk(session: Session, screen: _Screen, typed: bytearray) -> bool:
    """Talk until the session or the input ends. Return whether the input did, or the user."""
    over, ended = socket.socketpair()
    receiver = threading.Thread(
        target=_receive, args=(session, ended, screen), name="syncws connect", daemon=True
    )
    finished = True
    try:
        screen.opened(session)
        receiver.start()
        for line in _lines(over, "> " if screen.interactive else "", typed):
            if not receiver.is_alive():
                break  # many lines may come at once, and nobody sees the answers any more
            session.send(line)
        finished = session._reason is None
    except ConnectionClosed:
        finished = False  # the reason is shown
    except BrokenPipeError:
        _show_no_more()
    except KeyboardInterrupt:
        screen.newline()
    finally:
        try:
            session.close()
        except KeyboardInterrupt:  # the user does not want to wait for the server
            session.terminate()
        if receiver.is_alive():  # Ctrl-C may have come before it was
            receiver.join()
        over.close()
        ended.close()
    screen.closed(session.wait_closed(session.close_timeout))
    return finished


def _receive(session: Session, ended: socket.socket, screen: _Screen) -> None:
    """Show messages until the session ends; then close ``ended``."""
    try:
        for message in session:
            screen.message(message)
    except ConnectionClosedError:
        pass
    except BrokenPipeError:
        _show_no_more()
    finally:
        ended.close()


class _Screen:
    """Shows events, for people or as lines of JSON. For any thread."""

    def __init__(self, as_json: bool, interactive: bool) -> None:
        self._json = as_json
        self.interactive = interactive and not as_json

    def opened(self, session: Session) -> None:
        if self._json:
            self._event("open", subprotocol=session.subprotocol)
        else:
            print("Connected; Ctrl-D ends it.", flush=True)

    def message(self, message: str | bytes) -> None:
        if self._json:
            if isinstance(message, bytes):
                self._event("message", type="binary", data=base64.b64encode(message).decode())
            else:
                self._event("message", type="text", data=message)
            return
        text = message.hex() if isinstance(message, bytes) else _printable(message)
        kind = "< (binary) " if isinstance(message, bytes) else "< "
        if len(text) > SHOWN:
            text = f"{text[:SHOWN]}… ({len(message)} in all)"
        line = kind + text
        sys.stdout.write(_ABOVE.format(line) if self.interactive else f"{line}\n")
        sys.stdout.flush()

    def closed(self, reason: CloseReason) -> None:
        if self._json:
            self._event("close", code=reason.code, reason=reason.reason, cause=reason.cause)
            return
        if self.interactive:
            print("\r\x1b[K", end="")  # the prompt
        print(f"Connection closed: {_printable(str(reason))}.", flush=True)

    def wait(self, seconds: float, failure: Exception) -> None:
        if self._json:
            self._event("wait", seconds=round(seconds, 3), failure=str(failure))
        else:
            print(f"{_printable(str(failure))}; the next attempt is in {seconds:.1f} s", flush=True)

    def newline(self) -> None:
        if not self._json:
            print()

    def _event(self, name: str, **fields: Any) -> None:
        sys.stdout.write(json.dumps({"event": name, **fields}) + "\n")
        sys.stdout.flush()


def _show_no_more() -> None:
    """The reader of the output, such as ``head``, has had enough of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _lines(over: socket.socket, prompt: str, typed: bytearray) -> Iterator[str]:
    """The lines of standard input, to its end, or until ``over`` is readable.

    ``typed`` holds the beginning of a line, from one session to the next. This is not done with
    ``input()``, which nothing could end when the session has ended.
    """
    stdin = sys.stdin.fileno()
    # Not epoll: that refuses files.
    with selectors.PollSelector() as selector:
        selector.register(stdin, selectors.EVENT_READ)
        selector.register(over, selectors.EVENT_READ)
        while True:
            print(prompt, end="", flush=True)
            while b"\n" not in typed:
                ready = selector.select(LOOK_FOR_SIGNALS)
                if any(key.fileobj is over for key, _ in ready):
                    return
                if not ready:
                    continue
                data = os.read(stdin, 65536)
                if not data:
                    if typed:
                        yield typed.decode(errors="replace")
                    return
                typed += data
            line, _, rest = bytes(typed).partition(b"\n")
            typed[:] = rest
            yield line.decode(errors="replace").removesuffix("\r")


def _printable(text: str) -> str:
    return text.translate(_ESCAPED)
