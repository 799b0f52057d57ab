"""The times of HTTP that ``serve()`` and the gunicorn worker have in common."""

from __future__ import annotations

__all__ = ["HEAD_TIMEOUT", "LINGER"]

#: Seconds for a TLS handshake and the head of a request. A slow client and an idle one
#: hold a thread, or a place among the connections. Precedents: Apache's
#: RequestReadTimeout 20, waitress 120, uvicorn 5 between requests.
HEAD_TIMEOUT = 20.0

#: Seconds for a peer to read a response and to close. If the server closed at once, TCP
#: could reset the connection and take the response from the peer (RFC 9112 section 9.6).
#: Precedent: gunicorn.
LINGER = 2.0
