"""Messages that are encoded once and sent to many sessions.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .frames import data_header

if TYPE_CHECKING:
    from .deflate import DeflateExtension

__all__ = ["PreparedMessage"]


class PreparedMessage:
    """A message for many sessions: ``session.send(prepared)``.

    ``data`` is ``str`` for a text message, or bytes-like for a binary one. The message is encoded
    once, and once more for each set of compression parameters among the sessions. Any thread may
    use it. A later change to a bytearray has no effect. Raises ``TypeError`` for ``data`` of any
    other type.
    """

    def __init__(self, data: str | bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (str, bytes)):
            try:
                data = bytes(memoryview(data))
            except TypeError:
                raise TypeError(
                    f"a message for many is str or bytes-like, not {type(data).__name__}: "
                    "json.dumps() makes one of anything that JSON can express"
                ) from None
        #: The message itself.
        self.data: str | bytes = data
        text = isinstance(self.data, str)
        payload = self.data.encode() if isinstance(self.data, str) else self.data
        #: The frame without compression.
        self.frame = data_header(len(payload), text=text) + payload
        self._payload = payload
        self._deflated: dict[tuple[int, ...], bytes] = {}

    def __len__(self) -> int:
        return len(self.data)

    def deflated(self, extension: DeflateExtension) -> bytes:
        """The compressed frame for a session with ``extension``.

        It refers to no earlier message, so a peer understands it at any time (RFC 7692 section
        7.2.3.2), and all sessions with the same parameters share it.
        """
        frame = self._deflated.get(extension.key)
        if frame is None:
            deflated = extension.deflate_alone(self._payload)
            header = data_header(len(deflated), text=isinstance(self.data, str), compressed=True)
            frame = self._deflated[extension.key] = header + deflated
        return frame
