"""Our client, tested by the suite's fuzzing server."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import syncws

from .app import LARGEST, echo
from .suite import (
    COMPRESSED,
    THINNED,
    Results,
    read_report,
)

AGENT = "syncws"


def run(program: Path, *, full: bool) -> Results:
    """All cases; those with compression thinned unless ``full``."""
    results: Results = {}
    plain = {"cases": ["*"], "exclude-cases": COMPRESSED}
    compressed = {"cases": COMPRESSED if full else THINNED, "exclude-cases": []}
    for cases, options in ((plain, {}), (compressed, {"compression": "deflate"})):
        with tempfile.TemporaryDirectory() as folder:
            with _fuzzing_server(program, Path(folder), cases) as url:
                _run_cases(url, **options)
            results.update(read_report(Path(folder) / "reports"))
    return results


@contextlib.contextmanager
def _fuzzing_server(program: Path, folder: Path, cases: dict[str, list[str]]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
    specification = folder / "fuzzingserver.json"
    outdir = str(folder / "reports")
    specification.write_text(
        json.dumps({"url": url, "outdir": outdir, "exclude-agent-cases": {}, **cases})
    )
    server = subprocess.Popen(
        [str(program), "-m", "fuzzingserver", "-w", "0", "-s", str(specification)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            syncws.connect(f"{url}/getCaseCount").close()
        except ConnectionRefusedError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # it does not say when it listens
        else:
            return


def _run_cases(url: str, **options: Any) -> None:
    with syncws.connect(f"{url}/getCaseCount") as session:
        count = int(session.receive(60))
    for case in range(1, count + 1):
        session = syncws.connect(
            f"{url}/runCase?case={case}&agent={AGENT}", max_message_size=LARGEST, **options
        )
        session.run(echo)
    with syncws.connect(f"{url}/updateReports?agent={AGENT}") as session:
        session.wait_closed(60)
