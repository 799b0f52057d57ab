"""The settings as the worker reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from gunicorn.config import Config

from syncws.worker.settings import Settings

from ..support.pairs import PATIENCE
from ..support.servers import gunicorn


def test_every_setting_is_what_gunicorn_says() -> None:
    cfg = Config()
    cfg.set("threads", 7)
    cfg.set("keepalive", 3)
    settings = Settings(cfg)
    for name in cfg.settings:
        assert getattr(settings, name) == getattr(cfg, name), name
    assert (settings.threads, settings.keepalive) == (7, 3)


def test_derived_settings_follow_the_others(tmp_path: Path) -> None:
    settings = Settings(Config())
    assert not settings.is_ssl
    certificate = tmp_path / "certificate.pem"
    certificate.touch()
    settings.set("certfile", str(certificate))
    assert settings.is_ssl


def test_a_setting_that_is_set_is_set_for_everybody() -> None:
    cfg = Config()
    settings = Settings(cfg)
    settings.set("keepalive", 9)
    assert settings.keepalive == cfg.keepalive == 9


def test_what_gunicorn_refuses_is_refused() -> None:
    settings = Settings(Config())
    with pytest.raises(AttributeError, match="No configuration setting for: kept"):
        _ = settings.kept
    with pytest.raises(AttributeError, match="No configuration setting for: kept"):
        settings.set("kept", 1)
    with pytest.raises(AttributeError, match="Invalid access"):
        settings.keepalive = 1
    with pytest.raises(ValueError, match="long"):
        settings.set("keepalive", "long")
    assert settings.keepalive == Config().keepalive


CHANGING = """
from tests.support.gunicorn_settings import *
from tests.support import gunicorn_settings

def post_worker_init(worker):
    worker.cfg.settings["limit_request_fields"].set(5)
    gunicorn_settings.post_worker_init(worker)

def pre_request(worker, req):
    if req.path == "/last":
        worker.cfg.set("keepalive", 0)
"""


def test_hooks_may_change_settings(tmp_path: Path) -> None:
    config = tmp_path / "changing.py"
    config.write_text(CHANGING)
    with (
        gunicorn("tests.support.app:app", f"--config={config}") as server,
        requests.Session() as client,
    ):
        client.headers.clear()
        many = {f"X-{number}": "x" for number in range(5)}
        url = server.url("/", "http")
        assert client.get(url, headers=many, timeout=PATIENCE).status_code == 431
        assert client.get(url, timeout=PATIENCE).headers["Connection"] == "keep-alive"
        last = client.get(server.url("/last", "http"), timeout=PATIENCE)
        assert last.headers["Connection"] == "close"


#: The settings that the access log reads, from the configuration that it was made with.
LOGGED = {
    "access_log_format",
    "accesslog",
    "disable_redirect_access_to_syslog",
    "logconfig",
    "logconfig_dict",
    "logconfig_json",
    "syslog",
}

COUNTING = """
from gunicorn.config import Config
from tests.support.gunicorn_settings import *

searched = []
search = Config.__getattr__

def searching(self, name):
    searched.append(name)
    return search(self, name)

def pre_request(worker, req):
    Config.__getattr__ = searching

def post_request(worker, req, environ, resp):
    worker.log.info("searched for %s", searched)
"""


def test_a_request_searches_for_no_setting(tmp_path: Path) -> None:
    config = tmp_path / "counting.py"
    config.write_text(COUNTING)
    with gunicorn("tests.support.app:app", f"--config={config}") as server:
        for _ in range(3):
            assert server.get("/").status_code == 200
        found = server.wait_for_line(r"searched for \[(.*)\]", count=3)
        assert set(found[1].replace("'", "").split(", ")) <= LOGGED
