"""The asyncio server of the package websockets, with its broadcast()."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, broadcast, serve

from . import MAX_MESSAGE_SIZE

members: set[ServerConnection] = set()


async def handle(session: ServerConnection) -> None:
    request = session.request
    if request is None or request.path != "/broadcast":
        async for message in session:
            await session.send(message)
        return
    members.add(session)
    try:
        async for message in session:
            broadcast(members, message)
    finally:
        members.remove(session)


async def main() -> None:
    async with serve(handle, "127.0.0.1", 0, compression=None, max_size=MAX_MESSAGE_SIZE) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"Listening at: http://127.0.0.1:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
