"""Ctrl-C before a command runs, and after it has run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.servers import ROOT

#: A library that syncws imports. It sends the process Ctrl-C, and waits.
INTERRUPTING = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""

COMMANDS = {
    "module": ["-m", "syncws", "connect", "ws://127.0.0.1:1/"],
    "module, with options of Python": ["-X", "dev", "-m", "syncws", "serve", "app:app"],
    "script": ["{folder}/syncws", "connect", "ws://127.0.0.1:1/"],
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "syncws").write_text("from syncws.__main__ import main\nmain()\n")
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_while_a_command_starts(tmp_path: Path, command: str) -> None:
    (tmp_path / "wsproto.py").write_text(INTERRUPTING)
    done = run(tmp_path, *(each.format(folder=tmp_path) for each in COMMANDS[command]))
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_while_a_command_exits(tmp_path: Path) -> None:
    code = f"import atexit; atexit.register(exec, {INTERRUPTING!r}, {{}})"
    (tmp_path / "sitecustomize.py").write_text(code)
    done = run(tmp_path, f"{tmp_path}/syncws", "connect", "ws://127.0.0.1:1/")
    assert done.returncode == -signal.SIGINT
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "program", [["-c", "import syncws"], ["{folder}/app.py", "-m", "syncws"], ["{folder}/syncws.d"]]
)
def test_other_programs_are_interrupted_as_ever(tmp_path: Path, program: list[str]) -> None:
    (tmp_path / "wsproto.py").write_text(INTERRUPTING)
    (tmp_path / "syncws.d").mkdir()
    for path in (tmp_path / "app.py", tmp_path / "syncws.d" / "__main__.py"):
        path.write_text("import syncws")
    done = run(tmp_path, *(each.format(folder=tmp_path) for each in program))
    assert "KeyboardInterrupt" in done.stderr


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As in the background of a script, or behind nohup."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    (tmp_path / "sitecustomize.py").write_text(ignoring)
    (tmp_path / "wsproto.py").write_text(INTERRUPTING.replace("time.sleep(60)", "1 / 0"))
    done = run(tmp_path, "-m", "syncws", "connect", "ws://127.0.0.1:1/")
    assert "ZeroDivisionError" in done.stderr
