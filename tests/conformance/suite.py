"""The Autobahn test suite's program: installed once, into ``.conformance``.

It is written in Python 2.7, which has to be installed (as ``python2.7``, or by
pyenv), and is put into a virtual environment of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from ..support.servers import ROOT

TOOLS = ROOT / ".conformance"

#: Each case's result: how the session behaved, and how its close did.
Results = dict[str, list[str]]

#: Cases with compression. They take long.
COMPRESSED = ["12.*", "13.*"]

#: One in each dozen of those, a small message and a large one.
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
    """The suite's program, ``wstest``."""
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


def read_report(folder: Path) -> Results:
    """What the suite has found about ``syncws``."""
    report = json.loads((folder / "index.json").read_text())["syncws"]
    return {case: [one["behavior"], one["behaviorClose"]] for case, one in report.items()}
