"""The threaded server of the package websockets."""

from __future__ import annotations

from websockets.sync.server import ServerConnection, serve

from . import MAX_MESSAGE_SIZE, tls_context


def echo(session: ServerConnection) -> None:
    for message in session:
        session.send(message)


if __name__ == "__main__":
    with serve(echo, "127.0.0.1", 0, ssl=tls_context(), max_size=MAX_MESSAGE_SIZE) as server:
        print(f"Listening at: http://127.0.0.1:{server.socket.getsockname()[1]}", flush=True)
        server.serve_forever()
