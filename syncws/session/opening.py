"""The result of an opening handshake, from which a session is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..options import Options
    from ..protocol.deflate import DeflateExtension
    from ..system.transport import Transport

__all__ = ["Opening"]


@dataclass(frozen=True)
class Opening:
    """A connection after its handshake, and the subprotocol and extensions that were agreed on."""

    transport: Transport
    options: Options
    environ: WSGIEnvironment
    client: bool = False
    subprotocol: str | None = None
    #: The compression of a session.
    deflate: DeflateExtension | None = None
    #: The extensions of a raw session, as the 101 names them.
    extensions: str = ""
    #: Bytes of the peer that arrived right behind the handshake.
    received: bytes = b""
