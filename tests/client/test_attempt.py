"""An attempt to open a session, and how another thread ends it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from syncws.client.attempt import Attempt

from ..support.background import Background
from ..support.pairs import PATIENCE, tls_pair


def test_no_time_is_left_after_cancel() -> None:
    attempt = Attempt(PATIENCE)
    assert attempt.left > 0
    attempt.cancel()
    attempt.cancel()
    assert attempt.passed
    assert attempt.left == 0


def test_cancel_ends_a_read_over_tls_and_leaves_the_tls_object(
    certificate: tuple[Path, Path],
) -> None:
    """Without its TLS object the socket would read what is encrypted as if it were plain."""
    ours, theirs = tls_pair(certificate)
    assert isinstance(ours, ssl.SSLSocket)
    attempt = Attempt(PATIENCE)
    attempt.limit(ours)
    reading = Background(ours.recv, 1)
    attempt.cancel()
    assert isinstance(reading.error(), OSError) or reading.result() == b""
    assert ours._sslobj is not None  # type: ignore[attr-defined]  # typeshed has no private names
    with pytest.raises(TimeoutError):
        attempt.limit(ours)
    attempt.close(ours)
    theirs.close()


def test_a_session_that_has_opened_is_not_cancelled(certificate: tuple[Path, Path]) -> None:
    ours, theirs = tls_pair(certificate)
    attempt = Attempt(PATIENCE)
    attempt.limit(ours)
    attempt.finish()
    attempt.cancel()
    ours.sendall(b"x")
    assert theirs.recv(1) == b"x"
    ours.close()
    theirs.close()
