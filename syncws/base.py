"""The interface of every kind of session; the sessions themselves are in ``session/``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import TYPE_CHECKING, NoReturn

from .close import CloseReason

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["BaseSession"]


class BaseSession(ABC):
    """A WebSocket connection. Every method may be called from any thread."""

    environ: WSGIEnvironment
    subprotocol: str | None

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a session belongs to its process and its connection, and cannot be copied or "
            "pickled: pass on its close_reason.result(), or what the handler needs of its environ"
        )

    @abstractmethod
    def terminate(self) -> None:
        """End the connection now, without a closing handshake."""

    @property
    @abstractmethod
    def close_reason(self) -> Future[CloseReason]:
        """How the session ended, once it has: ``.done()``, ``.result(timeout)``,
        ``.add_done_callback()``."""

    @abstractmethod
    def wait_closed(self, timeout: float | None = None) -> CloseReason:
        """Wait for the session to end; raises ``TimeoutError`` after ``timeout`` seconds."""

    @property
    @abstractmethod
    def remote_address(self) -> tuple[str, int]:
        """The peer's host and port, from the environ: behind a proxy, as far
        as the framework's proxy support has put them right. Port 0 is unknown."""
