"""gunicorn's settings for all that runs under it; each command adds its workers and threads."""

from __future__ import annotations

import os
import sys

from . import CERTIFICATE, KEY

bind = "127.0.0.1:0"

if CERTIFICATE is not None:
    certfile, keyfile = CERTIFICATE, KEY

# One worker has all the connections, and there are up to a thousand.
worker_connections = 3000

# As if the extra `speedups` were not installed. gunicorn reads its settings before it imports the
# worker class, and syncws with it.
if "SYNCWS_BENCHMARK_WITHOUT_SPEEDUPS" in os.environ:
    # None makes importing the module an ImportError, which is how Python documents it.
    sys.modules["websockets.speedups"] = None  # type: ignore[assignment]  # typeshed has modules only
