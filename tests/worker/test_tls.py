"""The worker class with TLS, and on Unix sockets."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest
import requests
import websocket

from ..support import faults
from ..support.clients import handshake
from ..support.pairs import PATIENCE, frame
from ..support.servers import gunicorn


def test_tls(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    with gunicorn("tests.support.app:app", f"--keyfile={key}", f"--certfile={cert}") as server:
        context = ssl.create_default_context(cafile=str(cert))
        client = websocket.create_connection(
            f"wss://localhost:{server.port}/echo",
            sslopt={"context": context},
            timeout=PATIENCE,
        )
        for message in ("héllo", "x" * 200_000):
            client.send(message)
            assert client.recv() == message
        client.ping("over TLS")
        assert client.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"over TLS")
        client.close()
        assert server.wait_for_line("/echo.* 101")
        server.stop()
        assert "Traceback" not in server.output


def test_large_message_over_tls_does_not_wait_for_a_ping(certificate: tuple[Path, Path]) -> None:
    """Bytes that TLS has decrypted already do not make the socket readable.

    The route's pings are 20 s apart: what waits for one does not come in time.
    """
    key, cert = certificate
    with gunicorn("tests.support.app:app", f"--keyfile={key}", f"--certfile={cert}") as server:
        context = ssl.create_default_context(cafile=str(cert))
        client = websocket.create_connection(
            f"wss://localhost:{server.port}/sleeps/0.0",
            sslopt={"context": context},
            timeout=PATIENCE,
        )
        assert client.recv() == "sleeping"
        client.close()
        for size in (4096, 5000, 16_384, 16_385, 100_000):
            client = websocket.create_connection(
                f"wss://localhost:{server.port}/echo",
                sslopt={"context": context},
                timeout=PATIENCE,
            )
            client.send("x" * size)
            assert client.recv() == "x" * size
            client.close()
        server.stop()


def test_tls_clients_that_go_without_waiting_are_counted_right(
    certificate: tuple[Path, Path],
) -> None:
    """gunicorn closes their sockets itself, in its own way, plain HTTP or not."""
    key, cert = certificate
    with gunicorn(
        "tests.support.app:app", f"--keyfile={key}", f"--certfile={cert}", "--worker-connections=8"
    ) as server:
        context = ssl.create_default_context(cafile=str(cert))
        for upgrade in ("Upgrade: websocket\r\nConnection: Upgrade\r\n", ""):
            for _ in range(10):
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    tls = context.wrap_socket(sock, server_hostname="localhost")
                    tls.sendall(
                        f"POST /nowhere HTTP/1.1\r\nHost: x\r\n{upgrade}"
                        "Content-Length: 5\r\n\r\n".encode()
                    )
                    faults.reset(tls)
        deadline = time.monotonic() + PATIENCE
        while True:
            status = requests.get(
                f"https://localhost:{server.port}/status", verify=str(cert), timeout=PATIENCE
            ).json()
            if status["connections"] == 1 and status["threads"] == 0:
                break
            assert time.monotonic() < deadline, status
        server.stop()
        assert "Exception in thread" not in server.output


@pytest.mark.parametrize("tls", [False, True])
def test_unix_socket(tmp_path: Path, certificate: tuple[Path, Path], tls: bool) -> None:
    key, cert = certificate
    path = tmp_path / "socket"
    arguments = [f"--keyfile={key}", f"--certfile={cert}"] if tls else []
    with (
        gunicorn("tests.support.app:app", f"--bind=unix:{path}", *arguments) as server,
        socket.socket(socket.AF_UNIX) as plain,
    ):
        plain.connect(str(path))
        context = ssl.create_default_context(cafile=str(cert))
        sock = context.wrap_socket(plain, server_hostname="localhost") if tls else plain
        sock.settimeout(PATIENCE)
        sock.sendall(handshake("/echo") + frame(1, b"hello"))
        received = b""
        while not received.endswith(b"\x81\x05hello"):
            data = sock.recv(4096)
            assert data, received
            received += data
        sock.close()
        server.stop()
        assert "Traceback" not in server.output
