"""An application that tells what its process keeps in memory."""

from __future__ import annotations

import gc
import json
from typing import Any


def app(environ: Any, start_response: Any) -> Any:
    body = json.dumps({"frozen": gc.get_freeze_count()}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
