"""picows, a library for asyncio that is written in Cython, on asyncio's own event loop."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from picows import WSListener, WSMsgType, ws_create_server

from . import MAX_MESSAGE_SIZE, tls_context


class Echo(WSListener):
    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Member(WSListener):
    members: ClassVar[set[Any]] = set()

    def on_ws_connected(self, transport: Any) -> None:
        self.members.add(transport)

    def on_ws_disconnected(self, transport: Any) -> None:
        self.members.discard(transport)

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            message = frame.get_payload_as_bytes()
            for member in self.members:
                member.send(frame.msg_type, message)


def listener(request: Any) -> WSListener:
    return Member() if request.path == b"/broadcast" else Echo()


async def main() -> None:
    server = await ws_create_server(
        listener, "127.0.0.1", 0, max_frame_size=MAX_MESSAGE_SIZE, ssl=tls_context()
    )
    print(f"Listening at: http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
