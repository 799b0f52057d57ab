"""Sessions that a program opens in the middle of its request, and the end of the request."""

from __future__ import annotations

from typing import Any

import pytest

from syncws.compat.simple_websocket import Server
from syncws.upgrade.application import end_response
from syncws.upgrade.respond import carry_out_upgrades

from ..support.calls import Call
from ..support.pairs import PATIENCE


def test_a_layer_that_did_not_open_the_session_leaves_the_request_to_others(call: Call) -> None:
    """As in a cascade of applications, which asks one after the other."""

    def cascade(environ: Any, start_response: Any) -> Any:
        ignored: Any = None  # never called
        inner = carry_out_upgrades(lambda environ, start_response: [])(environ, ignored)
        assert list(inner) == []
        end_response(inner)
        server = Server(environ)
        server.send("hello")
        return []

    result = call.run(carry_out_upgrades(cascade))
    assert call.peer.receive() == "hello"
    call.peer.expect_close()
    call.peer.close_socket()
    result.result(PATIENCE)


def test_a_request_that_failed_is_over(call: Call) -> None:
    def failing(environ: Any, start_response: Any) -> Any:
        raise ValueError("of the application")

    with pytest.raises(ValueError, match="of the application"):
        call.run(carry_out_upgrades(failing)).result(PATIENCE)
    with pytest.raises(RuntimeError, match="over"):
        Server(call.environ)


def test_a_request_that_was_refused_is_over(call: Call) -> None:
    call.environ["HTTP_SEC_WEBSOCKET_VERSION"] = "7"

    def refusing(environ: Any, start_response: Any) -> Any:
        Server(environ)

    call.run(carry_out_upgrades(refusing)).result(PATIENCE)
    assert call.status.startswith("426")
    call.environ["HTTP_SEC_WEBSOCKET_VERSION"] = "13"
    with pytest.raises(RuntimeError, match="over"):
        Server(call.environ)


def test_no_session_is_opened_in_a_request_that_is_over(call: Call) -> None:
    parts = call.run(carry_out_upgrades(lambda environ, start_response: [])).result(PATIENCE)
    assert list(parts) == []
    with pytest.raises(RuntimeError, match="over"):
        Server(call.environ)


def test_a_request_whose_session_is_over_opens_no_other(call: Call) -> None:
    """An inner layer has opened the first one. The 101 can be sent only once."""
    refused: list[str] = []

    def cascade(environ: Any, start_response: Any) -> Any:
        def open_one(environ: Any, start_response: Any) -> Any:
            Server(environ).send("hello")
            return []

        list(carry_out_upgrades(open_one)(environ, start_response))
        try:
            Server(environ)
        except RuntimeError as exc:
            refused.append(str(exc))
        return []

    result = call.run(carry_out_upgrades(cascade))
    assert call.peer.receive() == "hello"
    call.peer.expect_close()
    call.peer.close_socket()
    result.result(PATIENCE)
    assert len(refused) == 1
    assert "over" in refused[0]
