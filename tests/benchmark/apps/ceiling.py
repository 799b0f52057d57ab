"""The echo server in C, which shows what the clients and the machine can do."""

from __future__ import annotations

import os

from ..programs import build

if __name__ == "__main__":
    program = build("ceiling")
    os.execv(program, [str(program)])
