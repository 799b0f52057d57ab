"""The servers' side of the benchmark: the same echo, written for each of them.

Messages are compressed if a client offers it, where the library can do that. No limit on the size
of messages is in the way. Everything else is as each library has it by default.
"""

from __future__ import annotations

import os
import ssl

#: The files of a certificate and its key, if the server is to speak TLS.
CERTIFICATE = os.environ.get("SYNCWS_BENCHMARK_CERTIFICATE")
KEY = os.environ.get("SYNCWS_BENCHMARK_KEY")

#: Bytes; far above the largest message that is sent.
MAX_MESSAGE_SIZE = 64 * 1024 * 1024


def tls_context() -> ssl.SSLContext | None:
    """The server's, if it is to speak TLS."""
    if CERTIFICATE is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context
