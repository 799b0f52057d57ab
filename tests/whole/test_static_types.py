"""syncws.d.ts, checked by TypeScript: what a program may write, and what is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import syncws.static

# npm downloads the compiler.
pytestmark = [pytest.mark.load, pytest.mark.timeout(300)]

PROGRAM = """
import { connect, isFinal, ReconnectingSocket, type Closed, type Options } from "./syncws.js";

const options: Options = { protocols: ["a", "b"], first: 100, most: 1000, after: null };
const socket: ReconnectingSocket = connect(() => new URL("/chat", location.href), {
  ...options,
  id: (data) => (typeof data === "string" ? data.slice(0, 8) : null),
});
socket.addEventListener("open", () => {
  const sent: boolean = socket.send(new Uint8Array([1, 2]));
  console.log(sent, socket.send("text"), socket.send(new Blob([])));
});
socket.addEventListener("message", (event) => {
  const data: string | ArrayBuffer = event.data;
  console.log(data, socket.lastId?.length);
});
socket.addEventListener("close", ({ detail }) => {
  const closed: Closed = detail;
  if (closed.final && isFinal(closed.code)) console.log(closed.reason.length);
}, { once: true });
socket.addEventListener("wait", ({ detail }) => console.log(detail.milliseconds / 2, !detail.busy));
const states: Record<typeof socket.state, number> = {
  connecting: 0, open: 1, waiting: 2, closing: 3, closed: 4,
};
socket.lastId = "7-1";
socket.close(4000, String(states[socket.state]));
new ReconnectingSocket("wss://example.com").removeEventListener("open", null);
"""

# Each line is an error, and TypeScript reports those that are none.
MISTAKES = [
    "socket.addEventListener('opened-by-mistake', (event) => event.detail.code);",
    "socket.addEventListener('close', (event) => event.data);",
    "socket.addEventListener('message', (event) => event.detail);",
    "socket.send({ text: 'x' });",
    "socket.state = 'open';",
    "socket.close('reason');",
    "const queued: string = socket.send('x');",
    "connect('/chat', { firts: 1 });",
    "connect('/chat', { after: 1 });",
    "connect(1);",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client's files and TypeScript."""
    made = tmp_path_factory.mktemp("typescript")
    for name in ["syncws.js", "syncws.d.ts"]:
        shutil.copy(syncws.static.FOLDER / name, made)
    npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    try:
        subprocess.run(
            [*npm, "typescript@5"], cwd=made, check=True, capture_output=True, timeout=200
        )
    except (OSError, subprocess.SubprocessError) as exc:
        if os.environ.get("SYNCWS_TEST_EVERYTHING"):
            raise
        pytest.skip(f"npm can not install TypeScript: {exc}")
    return made


def errors(folder: Path, program: str, *more: str) -> str:
    """Return what TypeScript says about a module."""
    (folder / "program.ts").write_text(program)
    command = ["node_modules/.bin/tsc", "--noEmit", "--strict", "--target", "es2022"]
    command += ["--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler"]
    done = subprocess.run(
        [*command, *more, "program.ts"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def test_a_program_that_uses_everything(folder: Path) -> None:
    assert errors(folder, PROGRAM) == ""


def test_mistakes_are_found(folder: Path) -> None:
    lines = ["import { connect } from './syncws.js';", "const socket = connect('/chat');"]
    for mistake in MISTAKES:
        lines += ["// @ts-expect-error", mistake]
    assert errors(folder, "\n".join(lines)) == ""


def test_what_is_declared_exists(folder: Path) -> None:
    """TypeScript infers the types of the module itself: the declarations say nothing else."""
    shutil.copy(folder / "syncws.js", folder / "itself.js")
    program = """
        import * as declared from "./syncws.js";
        import * as itself from "./itself.js";
        type Names<T> = keyof T;
        const names: Names<typeof declared> = {} as Names<typeof itself>;
        const others: Names<typeof itself> = {} as Names<typeof declared>;
        const members: Names<declared.ReconnectingSocket> = {} as Names<itself.ReconnectingSocket>;
        const rest: Names<itself.ReconnectingSocket> = {} as Names<declared.ReconnectingSocket>;
        console.log(names, others, members, rest);
    """
    assert errors(folder, program, "--allowJs", "--maxNodeModuleJsDepth", "0") == ""
