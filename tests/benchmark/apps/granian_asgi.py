"""granian, whose server is written in Rust, with the ASGI application of uvicorn's row."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces

from . import CERTIFICATE, KEY


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def say_when_it_listens(port: int) -> None:
    """granian says so before its worker does it."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            print(f"Listening at: http://127.0.0.1:{port}", flush=True)
            return


if __name__ == "__main__":
    port = free_port()
    threading.Thread(target=say_when_it_listens, args=(port,), daemon=True).start()
    Granian(
        "tests.benchmark.apps.uvicorn_websockets:app",
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGINL,
        log_enabled=False,
        ssl_cert=Path(CERTIFICATE) if CERTIFICATE else None,
        ssl_key=Path(KEY) if KEY else None,
    ).serve()
