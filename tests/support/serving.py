"""Applications for the tests of ``serve()``, and a way to end their sessions."""

from __future__ import annotations

from typing import Any

import syncws

from .pairs import Peer


def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


def page(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"page\n"]


@syncws.websocket()
def echo_application(session: syncws.Session) -> None:
    echo(session)


def both(environ: Any, start_response: Any) -> Any:
    application = echo_application if environ["PATH_INFO"] == "/echo" else page
    return application(environ, start_response)


def end(peer: Peer, code: int = 1000) -> None:
    """Run the closing handshake, begun by the peer."""
    peer.send_close(code)
    assert peer.expect_close()[0] == code
    peer.expect_end()
    peer.close_socket()
