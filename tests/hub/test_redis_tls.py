"""Redis over TLS, with users and passwords (``rediss://``)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from syncws import History, Hub
from syncws.hub import redis_listener

from ..conftest import MakeSession
from ..support.background import Background, wait_until
from ..support.certificates import make_certificate
from ..support.redis_group import call
from ..support.redis_server import RedisServer
from ..support.servers import ROOT

PASSWORD = "p@ss:w/rd?#%"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""))


def rules() -> list[str]:
    """The permissions that ``docs/howto/hub.md`` gives to the user of a hub."""
    text = (ROOT / "docs" / "howto" / "hub.md").read_text(encoding="utf-8")
    return text.partition("ACL SETUSER app on '>secret' ")[2].partition("\n")[0].split()


@pytest.fixture
def server(certificate: tuple[Path, Path], stack: ExitStack) -> RedisServer:
    """It speaks TLS only, and knows a user who may do what a hub does, and nothing else."""
    granted = [rule.strip("'") for rule in rules()]
    assert len(granted) > 2, "the line is in the documentation"
    made = RedisServer(f"--user app on >{PASSWORD} {' '.join(granted)}", certificate=certificate)
    stack.callback(made.kill)
    return made


def url(server: RedisServer, password: str = PASSWORD) -> str:
    return server.url.replace("rediss://", f"rediss://app:{quote(password, safe='')}@")


def hub(stack: ExitStack, url: str, **options: Any) -> Hub:
    made = Hub(url, **options)
    stack.callback(made.close)
    return made


# CPython forgets to close a socket that was reset just before its TLS handshake.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_f6_over_tls_with_a_user_and_a_password(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    history: History | None,
) -> None:
    monkeypatch.setattr(redis_listener, "RETRY_MAX", 0.2)
    here, there = (
        hub(stack, url(server), history=history, queue=1000, on_bus_lost="raise") for _ in range(2)
    )
    (first, one), (second, two) = make_session(), make_session()
    with here.join("a", first, member="ann"), there.join("a", second, member="bob", info=1):
        sender = Background(lambda: [here.send("a", str(n)) for n in range(300)])
        assert [two.receive() for _ in range(300)] == [str(n) for n in range(300)]
        ids = sender.result()
        large = "x" * 300_000  # many TLS records
        here.send("a", large)
        assert two.receive() == large
        assert [one.receive() for _ in range(301)][-1] == large
        assert there.count("a") == 2
        assert here.presence("a") == {"ann": None, "bob": 1}
        if history is not None:
            assert there.history("a", after=ids[-1]) == [large]
        there.disconnect("a", 1008, "out", exclude=second)
        assert one.answer_close() == (1008, "out")
        assert not [r for r in caplog.records if r.levelname == "WARNING"]

        server.kill()
        wait_until(lambda: here.gaps == there.gaps == 1)
        server.start()
        wait_until(lambda: here.connected and there.connected)
        here.send("a", "again")
        assert two.receive() == "again"
    wait_until(lambda: here.count("a") == 0)
    assert "refuses" not in caplog.text, "the user may do all that a hub does"
    assert not any(secret in caplog.text for secret in SECRETS)


def test_a_wrong_password_and_a_certificate_of_others_are_logged(
    server: RedisServer,
    tmp_path: Path,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, others = make_certificate(tmp_path)
    address, _, _ = url(server).partition("?")
    wrong = PASSWORD + "x"
    for bad, reason in (
        (url(server, wrong), "invalid username-password"),
        (f"{address}?ssl_ca_certs={others}", "certificate verify failed"),
        (address.replace("rediss://", "redis://"), "can not reach its bus"),
    ):
        caplog.clear()
        here = hub(stack, bad)
        session, peer = make_session()
        with here.join("a", session):
            here.send("a", "x")
            assert peer.receive() == "x", "its own session goes on"
            wait_until(lambda reason=reason: reason in caplog.text)  # type: ignore[misc]  # mypy can not infer it
            assert caplog.text.count("can not reach its bus") == 1
            assert not here.connected
        assert not any(secret in caplog.text for secret in SECRETS)


def test_the_user_may_do_nothing_else(server: RedisServer, stack: ExitStack) -> None:
    client = redis.Redis.from_url(url(server))
    stack.callback(client.close)
    for forbidden in (
        lambda: client.get("key"),
        lambda: client.set("syncws:x", 1),
        lambda: client.publish("others", "x"),
        lambda: client.flushall(),
        lambda: client.config_get("*"),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()
    assert call(server, "PING")
