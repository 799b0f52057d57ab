"""Run the Autobahn test suite against syncws and compare with the committed result.

    python -m tests.conformance             groups 1 to 10, and a few cases of 12 and 13
    python -m tests.conformance --full      all 517 cases, some ten minutes
    python -m tests.conformance --full --write    and commit to what comes out

The suite is a program for Python 2.7, which has to be installed (as
``python2.7``, or by pyenv); it is put into a virtual environment of its own,
in ``.conformance``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..servers import ROOT, gunicorn

EXPECTED = Path(__file__).with_name("expected.json")
TOOLS = ROOT / ".conformance"

#: Compression: one case in each dozen, a small message and a large one.
THINNED = ["12.1.1", "12.1.10", "12.2.5", "12.3.12", "12.4.18", "12.5.7"] + [
    f"13.{group}.{case}" for group in range(1, 8) for case in (1, 7)
]


def find_python2() -> str:
    found = shutil.which("python2.7")
    if (
        found
        and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
    ):
        return found
    pyenv = shutil.which("pyenv")
    if pyenv:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True)
        for candidate in sorted(Path(root.stdout.strip()).glob("versions/2.7.*/bin/python2.7")):
            return str(candidate)
    raise SystemExit("The Autobahn test suite needs Python 2.7: install it, or let pyenv do it.")


def install() -> Path:
    """The fuzzing client's program."""
    program = TOOLS / "suite" / "bin" / "wstest"
    if not program.exists():
        # The last virtualenv that can make an environment for Python 2.7.
        subprocess.run([sys.executable, "-m", "venv", str(TOOLS / "virtualenv")], check=True)
        pip = [str(TOOLS / "virtualenv" / "bin" / "pip"), "install", "-q"]
        subprocess.run([*pip, "virtualenv<20.22"], check=True)
        virtualenv = str(TOOLS / "virtualenv" / "bin" / "virtualenv")
        suite = str(TOOLS / "suite")
        subprocess.run([virtualenv, "-q", "-p", find_python2(), suite], check=True)
        subprocess.run(
            [f"{suite}/bin/pip", "install", "-q", "autobahntestsuite==0.8.2"], check=True
        )
    return program


def fuzz(program: Path, port: int, path: str, cases: list[str], exclude: list[str]) -> Any:
    """Each case's result: how the session behaved, and how its close did."""
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
        report = json.loads((reports / "index.json").read_text())["syncws"]
        return {case: [one["behavior"], one["behaviorClose"]] for case, one in report.items()}


def run(*, full: bool) -> dict[str, list[str]]:
    program = install()
    with gunicorn("tests.conformance.app:app") as server:
        results: dict[str, list[str]] = {}
        results.update(fuzz(program, server.port, "/", ["*"], ["12.*", "13.*"]))
        compressed = ["12.*", "13.*"] if full else THINNED
        results.update(fuzz(program, server.port, "/compressing", compressed, []))
        server.stop()
        if "Traceback" in server.output:
            raise SystemExit(server.output)
    return results


def order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("--full", action="store_true", help="all cases of groups 12 and 13 too")
    parser.add_argument("--write", action="store_true", help="commit to the result")
    arguments = parser.parse_args()
    results = run(full=arguments.full)
    if arguments.write:
        lines = (f'  "{case}": {json.dumps(results[case])}' for case in sorted(results, key=order))
        EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    expected = json.loads(EXPECTED.read_text())
    differing = [case for case in sorted(results, key=order) if results[case] != expected[case]]
    for case in differing:
        print(f"case {case}: expected {expected[case]}, got {results[case]}")
    grades = [grade for result in results.values() for grade in result]
    print(
        f"{len(results)} cases: {sum(grade == 'OK' for grade in grades) // 2} OK, "
        f"{sum(grade == 'INFORMATIONAL' for grade in grades) // 2} informational, "
        f"{len(differing)} not as expected"
    )
    if differing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
