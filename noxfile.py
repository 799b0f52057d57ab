"""The checks by name: ``nox -s style types tests``. ``nox -l`` lists them.

A session makes an environment of its own; ``nox --no-venv -s …`` uses the one that nox runs in.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["style", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session) -> None:
    session.install("-e", ".[test]")


@nox.session
def style(session: nox.Session) -> None:
    """Lint and check the format. ``nox -s style -- fix`` mends both."""
    session.install("ruff")
    if "fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
    else:
        session.run("ruff", "check", ".")
        session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check all types with mypy, and the examples as an editor would, with pyright."""
    install(session)
    session.run("mypy")
    session.run("pyright", "--project", "pyproject.toml", "--pythonpath", _python(session))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests that take about two minutes, or those of a folder:
    ``nox -s tests -- tests/session``."""
    install(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def everything(session: nox.Session) -> None:
    """Run all tests; a missing browser, proxy or Redis is a failure. See .ci/run."""
    install(session)
    environment = {"SYNCWS_TEST_EVERYTHING": "1"}
    session.run("python", "-m", "pytest", *session.posargs, env=environment)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build. A link that leads nowhere is an error."""
    session.install("-e", ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "docs", "docs/_build")


def _python(session: nox.Session) -> str:
    printed = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    return str(printed).strip()
