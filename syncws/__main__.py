"""``python -m syncws``: the commands, each in a module of its own."""

from __future__ import annotations

import argparse
from typing import Any

from .cli_connect import add_command as add_connect
from .cli_serve import add_command as add_serve


def main(arguments: list[str] | None = None) -> None:
    """Run a command; raises ``SystemExit`` with what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m syncws", description="WebSockets for synchronous Python."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    add_serve(commands)
    add_connect(commands)
    chosen: Any = parser.parse_args(arguments)
    chosen.run(chosen)


if __name__ == "__main__":
    main()
