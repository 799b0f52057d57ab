"""WebSocket servers of other projects, in processes of their own, for the client's tests.

``python -m tests.support.foreign_servers NAME PORT`` runs one until SIGTERM. Each echoes
messages, answers ``/busy`` with 503 and ``/secret`` with 401.
"""

from __future__ import annotations

import asyncio
import http
import signal
import sys
from typing import Any

RETRY_AFTER = "1000"


def run_websockets(port: int) -> None:
    from websockets.asyncio.server import serve

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    def answer(connection: Any, request: Any) -> Any:
        if request.path == "/busy":
            response = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "later\n")
            response.headers["Retry-After"] = RETRY_AFTER
            return response
        if request.path == "/secret":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "who are you\n")
        return None

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with serve(echo, "127.0.0.1", port, process_request=answer) as server:
            announce(server.sockets[0].getsockname()[1])
            await stop.wait()

    asyncio.run(main())


def run_aiohttp(port: int) -> None:
    from aiohttp import WSCloseCode, web

    connections: set[Any] = set()

    async def echo(request: Any) -> Any:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        connections.add(connection)
        async for message in connection:
            await connection.send_str(message.data)
        return connection

    async def busy(request: Any) -> Any:
        return web.Response(status=503, headers={"Retry-After": RETRY_AFTER}, text="later\n")

    async def secret(request: Any) -> Any:
        return web.Response(status=401, text="who are you\n")

    async def close_all(app: Any) -> None:
        """As aiohttp's documentation shows it, on a graceful shutdown."""
        for connection in set(connections):
            await connection.close(code=WSCloseCode.GOING_AWAY, message=b"stopping")

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        app = web.Application()
        app.add_routes(
            [web.get("/", echo), web.get("/busy", busy), web.get("/secret", secret)],
        )
        app.on_shutdown.append(close_all)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        announce(runner.addresses[0][1])
        await stop.wait()
        await runner.cleanup()

    asyncio.run(main())


def run_uvicorn(port: int) -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        status = {"/busy": 503, "/secret": 401}.get(scope["path"])
        if status is not None:
            headers = [(b"retry-after", RETRY_AFTER.encode()), (b"content-length", b"0")]
            start = "websocket.http.response.start"
            await send({"type": start, "status": status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b""})
            return
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})

    class Announcing(uvicorn.Server):  # type: ignore[misc]  # mypy does not follow uvicorn
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            announce(self.servers[0].sockets[0].getsockname()[1])

    config = uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", log_level="warning")
    Announcing(config).run()


def announce(port: int) -> None:
    print(f"Listening on 127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    _, name, port = sys.argv
    {"websockets": run_websockets, "aiohttp": run_aiohttp, "uvicorn": run_uvicorn}[name](int(port))
