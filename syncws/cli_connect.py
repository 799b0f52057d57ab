"""``python -m syncws connect URL``: talk to a server, line by line."""

from __future__ import annotations

import io
import os
import selectors
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .client.connect import connect
from .errors import ConnectionClosed, ConnectionClosedError, HandshakeError

if TYPE_CHECKING:
    import argparse

    from .session.session import Session

__all__ = ["add_command"]

#: Bytes of a message that are shown; a terminal takes long for a megabyte.
SHOWN = 10_000

# What would do something to the terminal, and how it is shown instead.
_ESCAPED = {code: repr(chr(code))[1:-1] for code in [*range(32), *range(127, 160)]}

# Above the line being typed, which stays as it is: save the cursor's place,
# make room for a line behind this one, move this one down and write in its
# place; then back to the same place, a line further down. Precedent: Python's
# websockets.
_ABOVE = "\x1b7\n\x1b[A\x1b[L{}\n\x1b8\x1b[B"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``python -m syncws``."""
    parser = commands.add_parser(
        "connect",
        help="talk to a server, line by line",
        description="Open a session. Each line typed is sent as a text message, and what comes is "
        "shown above it. Ctrl-D closes the session with 1000.",
    )
    parser.add_argument("url", metavar="URL", help="ws://… or wss://…")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    if sys.stdin is None or sys.stdout is None:
        raise SystemExit("connect reads lines from standard input and shows others: one is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        session = connect(arguments.url)
    except (HandshakeError, OSError, ValueError) as exc:
        raise SystemExit(f"can not connect: {exc}") from exc
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    print("Connected; Ctrl-D ends it.", flush=True)
    over, ended = os.pipe()
    receiver = threading.Thread(
        target=_receive, args=(session, ended, interactive), name="syncws connect"
    )
    receiver.start()
    try:
        for line in _lines(over, "> " if interactive else ""):
            session.send(line)
    except ConnectionClosed:
        pass  # the reason is shown
    except BrokenPipeError:
        _show_no_more()
    except KeyboardInterrupt:
        print()
    finally:
        session.close()
        receiver.join()
        os.close(over)
    if interactive:
        print("\r\x1b[K", end="")  # the prompt
    print(f"Connection closed: {_printable(str(session.wait_closed(0)))}.")


def _receive(session: Session, ended: int, interactive: bool) -> None:
    """Show what comes, until the session ends; then close ``ended``."""
    try:
        for message in session:
            text = message.hex() if isinstance(message, bytes) else _printable(message)
            kind = "< (binary) " if isinstance(message, bytes) else "< "
            if len(text) > SHOWN:
                text = f"{text[:SHOWN]}… ({len(message)} in all)"
            line = kind + text
            sys.stdout.write(_ABOVE.format(line) if interactive else f"{line}\n")
            sys.stdout.flush()
    except ConnectionClosedError:
        pass
    except BrokenPipeError:
        _show_no_more()
    finally:
        os.close(ended)


def _show_no_more() -> None:
    """Who reads the output, ``head`` for one, has had enough of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _lines(over: int, prompt: str) -> Iterator[str]:
    """The lines of standard input, to its end, or until ``over`` is readable.

    Not with ``input()``: nothing could end that when the session has ended.
    """
    stdin = sys.stdin.fileno()
    typed = b""
    # Not epoll: that refuses files.
    with selectors.PollSelector() as selector:
        selector.register(stdin, selectors.EVENT_READ)
        selector.register(over, selectors.EVENT_READ)
        while True:
            print(prompt, end="", flush=True)
            while b"\n" not in typed:
                if any(key.fd == over for key, _ in selector.select()):
                    return
                data = os.read(stdin, 65536)
                if not data:
                    if typed:
                        yield typed.decode(errors="replace")
                    return
                typed += data
            line, _, typed = typed.partition(b"\n")
            yield line.decode(errors="replace").removesuffix("\r")


def _printable(text: str) -> str:
    return text.translate(_ESCAPED)
