"""An application that uses many features of HTTP, and has a WebSocket route."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from pathlib import Path

from flask import Flask, Response, jsonify, request, send_file

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
websockets = WebSockets(app)

CONTENT = bytes(range(256)) * 40
MODIFIED = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
LICENSE = Path(__file__).parents[2] / "LICENSE"


@websockets.route("/echo")
def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


@app.route("/request", methods=["GET", "POST", "PUT"])
def show() -> Response:
    """Answer with the request as it has arrived."""
    return jsonify(
        method=request.method,
        path=request.path,
        args=sorted(request.args.items(multi=True)),
        length=request.content_length,
        coding=request.headers.get("Transfer-Encoding"),
        x=request.headers.get("X-Header"),
        body=request.get_data().decode("latin-1"),
    )


@app.post("/upload")
def upload() -> Response:
    """Answer with the parts of a multipart body."""
    return jsonify(
        fields=sorted(request.form.items(multi=True)),
        files=[
            [name, file.filename, file.mimetype, len(content := file.read()), sum(content)]
            for name, file in request.files.items(multi=True)
        ],
    )


@app.post("/unread")
def unread() -> str:
    return "not read\n"


@app.get("/memory")
def memory() -> Response:
    return send_file(
        io.BytesIO(CONTENT),
        mimetype="application/octet-stream",
        etag="one",
        last_modified=MODIFIED,
        conditional=True,
    )


@app.get("/disk")
def disk() -> Response:
    """Answer with a file through ``wsgi.file_wrapper``."""
    return send_file(LICENSE, etag="one", last_modified=MODIFIED, conditional=True)


@app.get("/stream")
def stream() -> Response:
    def parts() -> Iterator[bytes]:
        yield b"one, "
        yield b""
        yield b"two, " * 1000
        yield b"three"

    return Response(parts(), mimetype="text/plain")


@app.get("/nothing")
def nothing() -> tuple[str, int]:
    return "", 204
