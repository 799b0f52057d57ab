"""RFC 6455 after the opening handshake: received bytes to events, messages to bytes.

Pure: no I/O, no threads, no clock. ``inbound.py`` reads, ``outbound.py`` writes. The two halves
share no state that changes, so one thread may read while another one writes.
"""

from __future__ import annotations

from .deflate import DeflateExtension
from .events import State
from .outbound import Outbound

__all__ = ["Protocol"]


class Protocol(Outbound):
    """One side of one WebSocket connection: the server's, or the ``client``'s.

    ``masking`` says whether the frames that are sent are masked. None means as RFC 6455 section
    5.1 demands: a client masks and a server does not. Received frames must follow the RFC in any
    case.

    ``fast=False`` gives every frame to wsproto. The tests use it to compare the fast path with
    wsproto.
    """

    __slots__ = ("client",)

    def __init__(
        self,
        *,
        client: bool = False,
        masking: bool | None = None,
        max_message_size: int,
        max_frame_size: int | None = None,
        deflate: DeflateExtension | None = None,
        fast: bool = True,
    ) -> None:
        self.client = client
        if masking is None:
            masking = client
        super().__init__(
            client=client,
            masking=masking,
            max_message_size=max_message_size,
            max_frame_size=max_frame_size or max_message_size,
            deflate=deflate,
            fast=fast,
        )

    @property
    def state(self) -> State:
        if self.close_received and self.close_sent:
            return State.CLOSED
        if self.close_received or self.close_sent or self.failed:
            return State.CLOSING
        return State.OPEN
