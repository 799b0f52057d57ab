"""An application with types: ``mypy --strict`` and pyright check it, and editors
know its options and parameters. ``gunicorn examples.typed_app:app``."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import Future

from flask import Flask, request

import syncws
from syncws import (
    CloseReason,
    Frame,
    Listener,
    Opcode,
    RawSession,
    Session,
)
from syncws.flask import WebSockets, messages

app = Flask(__name__)
websockets = WebSockets(app, ping_interval=20, max_message_size=64 * 1024)
hub = syncws.Hub()


@websockets.route("/rooms/<room>/<int:number>", subprotocols=["chat"], origins="*")
def room(session: Session, room: str, number: int) -> None:
    """What is said in a room, to all of it."""
    name = request.args.get("name", "somebody")
    with hub.join(f"{room}/{number}", session):
        for message in messages(session):
            if isinstance(message, bytes):
                session.close(1003, "text only, please")
            else:
                hub.send(f"{room}/{number}", f"{name}: {message}")


@websockets.route("/add")
def add(session: Session) -> None:
    """The sum of each list of numbers."""
    while True:
        try:
            numbers: list[float] = session.receive_json(timeout=60)
        except TimeoutError:
            return
        session.send_json({"sum": sum(numbers)})


@websockets.route("/count/<int:last>", compression=syncws.Deflate(level=1))
@syncws.stream
def count(messages: Iterator[str], last: int) -> Iterator[str | CloseReason]:
    """A number for each message, up to the last one."""
    for number, message in enumerate(messages):
        if number == last:
            yield CloseReason(1000, "that is all")
        yield f"{number} {message}"


@websockets.route("/frames", raw=True, max_frame_size=1024)
def frames(session: RawSession) -> None:
    """Each frame, as it came."""
    while True:
        frame: Frame = session.receive_frame()
        if frame.opcode == Opcode.PONG:
            continue
        session.send_frame(frame)
        if frame.opcode == Opcode.CLOSE:
            return


class Journal(Listener):
    """Keeps what was said, for whoever asks."""

    def __init__(self) -> None:
        self.entries: queue.SimpleQueue[str] = queue.SimpleQueue()

    def on_open(self, session: Session) -> int:
        return session.remote_address[1]

    def on_text(self, session: Session, process: int, text: str) -> None:
        self.entries.put(f"{process}: {text}")
        sent: Future[None] = session.outgoing.send(f"{self.entries.qsize()} entries")
        sent.result(timeout=10)


journal = Journal()
websockets.route("/journal", endpoint="journal")(journal)


@app.get("/figures")
def figures() -> dict[str, int]:
    stats = syncws.stats()
    return {"open": stats.open, "received": stats.messages_received}
