"""A log file that you watch in the browser while it grows, and write marks into.

Run it with ``LOG=/var/log/syslog gunicorn examples.log_tail:app`` and open http://127.0.0.1:8000.
Without ``LOG`` it shows a file of its own, to which each page that is opened adds a line.

The handler is an ``exchange``: a source of lines and a function for what the page sends, which
run at the same time. Put a login in front of it before you show a real log to others.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from flask import Flask, Response, request, send_from_directory

import syncws
import syncws.static
from syncws.flask import WebSockets

app = Flask(__name__)
websockets = WebSockets(app, max_message_size=1024, rate=syncws.Rate(5))

LOG = Path(os.environ.get("LOG") or Path(tempfile.gettempdir(), "syncws-log-tail.log"))
LINES = 200  # that a page gets when it opens
LOOK_EVERY = 0.2  # seconds


@app.get("/")
def page() -> Response:
    if "LOG" not in os.environ:
        write("INFO", f"a page was opened by {request.remote_addr}")
    return app.send_static_file("log_tail.html")


@app.get("/syncws.js")
def script() -> Response:
    return send_from_directory(syncws.static.FOLDER, "syncws.js")


def replaced(file: IO[bytes]) -> bool:
    """Whether the log has been rotated: the name means another file, or the file is shorter."""
    try:
        now = LOG.stat()
    except FileNotFoundError:
        return False  # the new one will be made
    opened = os.fstat(file.fileno())
    return (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino) or now.st_size < file.tell()


def last_lines(file: IO[bytes]) -> list[bytes]:
    """The last lines of the file, without reading all of it."""
    start = max(0, file.seek(0, os.SEEK_END) - LINES * 200)
    file.seek(start)
    lines = file.read().splitlines(keepends=True)
    if start:
        lines = lines[1:]  # probably only the end of a line
    return lines[-LINES:]


def growing() -> Iterator[str | None]:
    """The lines of the log, as they are written. None: there is none now, has the page left?"""
    while True:
        if not LOG.exists():
            yield None
            time.sleep(LOOK_EVERY)
            continue
        with LOG.open("rb") as file:
            lines, rest, over = last_lines(file), b"", False
            while lines or not over:
                for line in lines:
                    rest += line
                    if rest.endswith(b"\n"):
                        yield rest.decode(errors="replace").rstrip("\r\n")
                        rest = b""
                # In this order: what was written before the rotation is still read.
                over = replaced(file)
                lines = file.readlines(64 * 1024)
                if not (lines or over):
                    yield None
                    time.sleep(LOOK_EVERY)


def write(level: str, text: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    with LOG.open("a", encoding="utf-8") as file:
        file.write(f"{stamp} {level} {' '.join(text.split())}\n")


def mark(text: str | bytes) -> None:
    """Write what the page sends into the log."""
    if isinstance(text, str) and text.strip():
        write("MARK", text)


websockets.route("/log")(syncws.exchange(send=growing, receive=mark))
