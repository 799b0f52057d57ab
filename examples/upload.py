"""Uploads of large files, with the progress that the server sees.

Run it with ``gunicorn examples.upload:app`` and open http://127.0.0.1:8000. ``UPLOADS`` is the
folder for the files, ``MAX_UPLOAD`` the size of the largest one in bytes (1 GiB).

A file is two messages: its name as text, and its content as binary. The handler reads the content
as a stream while it arrives, so that it takes 64 KiB of memory and not the file's size. While the
disk is slow the server reads nothing, and TCP holds the browser back.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import IO

from flask import Flask, Response, send_from_directory
from werkzeug.utils import secure_filename

import syncws
import syncws.static
from syncws.flask import WebSockets

app = Flask(__name__)
websockets = WebSockets(app, max_message_size=int(os.environ.get("MAX_UPLOAD", 1 << 30)))

UPLOADS = Path(os.environ.get("UPLOADS") or tempfile.mkdtemp(prefix="uploads-"))
CHUNK = 64 * 1024
TELL_EVERY = 0.1  # seconds


@app.get("/")
def page() -> Response:
    return app.send_static_file("upload.html")


@app.get("/syncws.js")
def script() -> Response:
    return send_from_directory(syncws.static.FOLDER, "syncws.js")


@websockets.route("/upload")
def upload(session: syncws.Session) -> None:
    for name in session:
        if not isinstance(name, str):
            session.close(syncws.CloseCode.UNSUPPORTED_DATA, "send the name of the file first")
            return
        # A part of a file is never seen under its name, and is gone if the peer leaves.
        with tempfile.NamedTemporaryFile(dir=UPLOADS, prefix=".", delete=False) as kept:
            try:
                result = save(session, kept)
                os.replace(kept.name, UPLOADS / (secure_filename(name) or "unnamed"))
            except BaseException:
                os.unlink(kept.name)
                raise
        session.send_json({"type": "saved", **result})


def save(session: syncws.Session, kept: IO[bytes]) -> dict[str, object]:
    """Write the next message into the file, and tell the page how far it is."""
    size, digest, told = 0, hashlib.sha256(), time.monotonic()
    content = session.receive_stream()
    while chunk := content.read(CHUNK):
        data = chunk.encode() if isinstance(chunk, str) else chunk
        kept.write(data)
        digest.update(data)
        size += len(data)
        if time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            session.send_json({"type": "progress", "size": size})
    kept.flush()
    return {"size": size, "sha256": digest.hexdigest()}
