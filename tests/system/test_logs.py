"""Errors are logged, however the application configures logging."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncws.session.running import run_handler
from syncws.system.logs import logger


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a test configures ends with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    disabled = {
        each: each.disabled
        for each in logging.Logger.manager.loggerDict.values()
        if isinstance(each, logging.Logger)
    }
    yield
    for each, was in disabled.items():
        each.disabled = was
    root.handlers[:] = handlers
    root.setLevel(level)


class Ended:
    """A session as far as running a handler needs one."""

    def _start_closing(self, reason: Any) -> None: ...
    def _end(self, reason: Any) -> None: ...


def fail(_: object) -> None:
    raise LookupError("a handler's own")


def configure_by_dict(log: Path) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {"file": {"class": "logging.FileHandler", "filename": str(log)}},
            "root": {"handlers": ["file"]},
        }
    )


def configure_by_file(log: Path) -> None:
    settings = log.with_suffix(".ini")
    settings.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=\n"
        "[logger_root]\nhandlers=file\n"
        f"[handler_file]\nclass=FileHandler\nargs=({str(log)!r},)\n"
    )
    logging.config.fileConfig(settings)


@pytest.mark.parametrize("configure", [configure_by_dict, configure_by_file])
def test_a_handlers_traceback_survives_the_configuration_of_logging(
    configure: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    configure(log)
    assert logger.logger.disabled
    run_handler(Ended(), fail)
    for handler in logging.getLogger().handlers:
        handler.close()
    text = log.read_text()
    assert "LookupError: a handler's own" in text
    assert "the session is closed with 1011" in text


def test_a_level_silences_errors() -> None:
    logger.setLevel(logging.CRITICAL)
    assert not logger.isEnabledFor(logging.ERROR)
