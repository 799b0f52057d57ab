"""flask-sock. It has no limit on the size of messages, and compresses when the client offers to."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)


members: set[Any] = set()


@sock.route("/broadcast")
def broadcast(session: Any) -> None:
    members.add(session)
    try:
        while True:
            message = session.receive()
            for member in list(members):
                member.send(message)
    finally:
        members.remove(session)


@sock.route("/echo")
def echo(session: Any) -> None:
    while True:
        session.send(session.receive())
