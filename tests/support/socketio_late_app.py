"""A program that makes its Socket.IO server when it is first asked to, after it has been loaded."""

from __future__ import annotations

from typing import Any

_APPLICATION: list[Any] = []


def app(environ: Any, start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/start":
        import socketio

        server = socketio.Server(async_mode="threading", max_http_buffer_size=1000)
        _APPLICATION.append(socketio.WSGIApp(server))
        start_response("204 No Content", [])
        return []
    return _APPLICATION[0](environ, start_response)
