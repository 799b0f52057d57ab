"""A chat without a framework."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import syncws

hub = syncws.Hub()


def page(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/html")])
    return [Path("page.html").read_bytes()]


def chat(session: syncws.Session) -> None:
    with hub.join("everybody", session):
        for message in session:
            hub.send("everybody", message)


app = syncws.WebSocketMiddleware(page, {"/chat": chat})
