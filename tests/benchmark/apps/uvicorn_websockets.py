"""uvicorn with websockets, on asyncio's own event loop."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from . import CERTIFICATE, KEY, MAX_MESSAGE_SIZE


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.receive":
            await send(
                {"type": "websocket.send", "bytes": event.get("bytes"), "text": event.get("text")}
            )
        elif event["type"] == "websocket.disconnect":
            return


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"Listening at: http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_SIZE,
        lifespan="off",
        log_level="warning",
        access_log=False,
        ssl_certfile=CERTIFICATE,
        ssl_keyfile=KEY,
    )
    uvicorn.Server(config).run(sockets=[listener])
