"""Our server, tested by the suite's fuzzing client."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from ..support.servers import gunicorn
from .suite import (
    COMPRESSED,
    THINNED,
    Results,
    read_report,
)


def run(program: Path, *, full: bool) -> Results:
    """All cases; those with compression thinned unless ``full``."""
    with gunicorn("tests.conformance.app:app") as server:
        results = _fuzz(program, server.port, "/", ["*"], COMPRESSED)
        compressed = COMPRESSED if full else THINNED
        results.update(_fuzz(program, server.port, "/compressing", compressed, []))
        server.stop()
        if "Traceback" in server.output:
            raise SystemExit(server.output)
    return results


def _fuzz(program: Path, port: int, path: str, cases: list[str], exclude: list[str]) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder) / "reports"
        specification = Path(folder) / "fuzzingclient.json"
        specification.write_text(
            json.dumps(
                {
                    "outdir": str(reports),
                    "servers": [{"agent": "syncws", "url": f"ws://127.0.0.1:{port}{path}"}],
                    "cases": cases,
                    "exclude-cases": exclude,
                    "exclude-agent-cases": {},
                }
            )
        )
        subprocess.run(
            [str(program), "-m", "fuzzingclient", "-s", str(specification)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return read_report(reports)
