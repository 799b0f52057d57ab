from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws import Options
from syncws.protocol.origins import parse_origin
from syncws.upgrade.handshake import Accept, Reject, negotiate

from ..support.handshakes import KEY, request


def accept(environ: dict[str, Any], **options: Any) -> Accept:
    answer = negotiate(environ, Options(**options))
    assert isinstance(answer, Accept), answer
    return answer


def reject(environ: dict[str, Any], **options: Any) -> Reject:
    answer = negotiate(environ, Options(**options))
    assert isinstance(answer, Reject), answer
    assert answer.body.endswith(b"\n")
    assert answer.body.count(b"\n") == 1, "one line"
    assert ("Content-Length", str(len(answer.body))) in answer.headers
    return answer


def test_example_of_the_rfc() -> None:
    answer = accept(request())
    assert answer.status == "101 Switching Protocols"
    assert answer.headers == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]
    assert answer.subprotocol is None


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_UPGRADE": "WebSocket"},
        {"HTTP_UPGRADE": "h2c, websocket"},
        {"HTTP_CONNECTION": "keep-alive, Upgrade"},
        {"HTTP_CONNECTION": "UPGRADE"},
        {"HTTP_SEC_WEBSOCKET_KEY": f" {KEY} "},
        {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate; client_max_window_bits"},
    ],
)
def test_well_formed(changes: dict[str, str]) -> None:
    assert "Sec-WebSocket-Extensions" not in dict(accept(request(**changes)).headers)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"REQUEST_METHOD": "POST"}, "with GET, not with POST"),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, "not over HTTP/1.0"),
        ({"SERVER_PROTOCOL": "HTTP/2"}, "not over HTTP/2"),
        ({"HTTP_HOST": None}, "no Host"),
        ({"HTTP_CONNECTION": None}, "no 'Connection: Upgrade'"),
        ({"HTTP_CONNECTION": "keep-alive"}, "no 'Connection: Upgrade'"),
        ({"HTTP_CONNECTION": "upgraded"}, "no 'Connection: Upgrade'"),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, "no Sec-WebSocket-Key"),
        ({"HTTP_SEC_WEBSOCKET_KEY": ""}, "0 bytes instead of 16"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "c2hvcnQ="}, "5 bytes instead of 16"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "not base64"}, "not base64"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "é" * 24}, "not base64"),
        ({"HTTP_SEC_WEBSOCKET_KEY": f"{KEY},{KEY}"}, "not base64"),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, "no Sec-WebSocket-Version"),
    ],
)
def test_a3_a_malformed_handshake_has_a_status_that_can_be_chosen(
    changes: dict[str, str | None], match: str
) -> None:
    answer = reject(request(**changes))
    assert answer.status == "400 Bad Request"
    assert match in answer.message
    assert reject(request(**changes), on_handshake_failure=404).code == 404


@pytest.mark.parametrize("version", ["8", "0", "14", "13, 8", ""])
def test_other_versions_are_told_which_one_it_is(version: str) -> None:
    answer = reject(request(HTTP_SEC_WEBSOCKET_VERSION=version), on_handshake_failure=404)
    assert answer.status == "426 Upgrade Required"
    assert ("Sec-WebSocket-Version", "13") in answer.headers


def test_a4_a_plain_request_has_a_status_that_can_be_chosen() -> None:
    assert reject(request(HTTP_UPGRADE=None)).status == "501 Not Implemented"
    assert reject(request(HTTP_UPGRADE="h2c"), on_non_websocket_request=404).code == 404


@pytest.mark.parametrize(
    ("subprotocols", "offered", "chosen"),
    [
        ((), "chat", None),
        (["chat"], None, None),
        (["chat"], "soap", None),
        (["v2", "v1"], "v1, v2", "v2"),
        (["v2", "v1"], "v1,soap", "v1"),
        (lambda offered: offered[-1], "a,b", "b"),
        (lambda offered: None, "a,b", None),
        # What is no token is no name, and would be no header.
        (lambda offered: offered[0], "a\x01b, x y, , b", "b"),
    ],
)
def test_subprotocol(subprotocols: Any, offered: str | None, chosen: str | None) -> None:
    answer = accept(request(HTTP_SEC_WEBSOCKET_PROTOCOL=offered), subprotocols=subprotocols)
    assert answer.subprotocol == chosen
    assert dict(answer.headers).get("Sec-WebSocket-Protocol") == chosen


def test_subprotocol_that_was_not_offered() -> None:
    with pytest.raises(ValueError, match="chose 'mine', but the peer offers only"):
        negotiate(
            request(HTTP_SEC_WEBSOCKET_PROTOCOL="yours"), Options(subprotocols=lambda _: "mine")
        )


@pytest.mark.parametrize(
    ("origin", "host", "origins", "allowed"),
    [
        # The same host, by default.
        (None, "example.com", None, True),
        ("https://example.com", "example.com", None, True),
        ("http://example.com", "example.com", None, True),
        ("http://EXAMPLE.com:80", "example.COM", None, True),
        ("https://example.com", "example.com:443", None, True),
        ("http://localhost:5000", "localhost:5000", None, True),
        ("http://[::1]:5000", "[::1]:5000", None, True),
        ("http://localhost:3000", "localhost:5000", None, False),
        ("https://example.com.evil.net", "example.com", None, False),
        ("https://sub.example.com", "example.com", None, False),
        ("https://example.com:8443", "example.com", None, False),
        ("null", "example.com", None, False),
        ("", "example.com", None, False),
        ("https://example.com@evil.net", "example.com", None, False),
        ("https://[", "example.com", None, False),
        # A list.
        ("https://a.net", "example.com", ["https://a.net"], True),
        ("https://a.net:443", "example.com", ["https://a.net"], True),
        ("http://a.net", "example.com", ["https://a.net"], False),
        ("https://example.com", "example.com", ["https://a.net"], False),
        # Subdomains, at any depth.
        ("https://a.example.com", "x.net", ["https://*.example.com"], True),
        ("https://b.a.example.com:8443", "x.net", ["https://*.Example.com:8443"], True),
        ("https://example.com", "x.net", ["https://*.example.com"], False),
        ("https://evilexample.com", "x.net", ["https://*.example.com"], False),
        ("https://example.com.evil.net", "x.net", ["https://*.example.com"], False),
        ("http://a.example.com", "x.net", ["https://*.example.com"], False),
        ("https://a.example.com:8443", "x.net", ["https://*.example.com"], False),
        # Internationalised names: browsers send them encoded.
        ("https://xn--bcher-kva.example", "x.net", ["https://bücher.example"], True),
        ("https://xn--bcher-kva.example", "x.net", ["https://BÜCHER.example"], True),
        ("https://a.xn--bcher-kva.example", "x.net", ["https://*.bücher.example"], True),
        ("https://xn--bcher-kva.example", "x.net", ["https://xn--bcher-kva.example"], True),
        ("https://bucher.example", "x.net", ["https://bücher.example"], False),
        ("https://xn--bcher-kva.example", "xn--bcher-kva.example", None, True),
        # Local pages, and others without a host; only on request.
        ("null", "x.net", ["https://a.net", "null"], True),
        ("null", "x.net", ["https://a.net", "file://"], False),
        ("file://", "x.net", ["file://"], True),
        ("file://", "x.net", ["null"], False),
        ("file://", "x.net", None, False),
        ("file://", " ", None, False),
        ("file:///home/a.html", "x.net", ["file://"], False),
        ("https://", "x.net", ["null", "file://"], False),
        ("chrome-extension://abcdef", "x.net", ["chrome-extension://abcdef"], True),
        ("chrome-extension://abcdef", "x.net", ["chrome-extension://other"], False),
        ("capacitor://localhost", "x.net", ["capacitor://localhost"], True),
        ("https://user@a.net", "x.net", ["https://a.net"], False),
        # Everybody.
        ("https://evil.net", "example.com", "*", True),
        ("null", "example.com", "*", True),
    ],
)
def test_origin(origin: str | None, host: str, origins: Any, allowed: bool) -> None:
    environ = request(HTTP_ORIGIN=origin, HTTP_HOST=host)
    if allowed:
        accept(environ, origins=origins)
    else:
        answer = reject(environ, origins=origins)
        assert answer.status == "403 Forbidden"
        assert repr(origin) in answer.message


@given(st.text())
def test_any_text_as_origin_is_an_origin_or_none(text: str) -> None:
    parse_origin(text)


def test_a2_extra_headers_on_the_101_fixed_or_computed() -> None:
    fixed = accept(request(), headers=[("X-Server", "syncws")])
    assert ("X-Server", "syncws") in fixed.headers
    computed = accept(request(), headers=lambda environ: [("X-Host", environ["HTTP_HOST"])])
    assert ("X-Host", "server.example.com") in computed.headers


def test_computed_headers_are_checked_too() -> None:
    def forged(environ: dict[str, Any]) -> Sequence[tuple[str, str]]:
        return [("X-Name", "a\r\nSet-Cookie: admin=1")]

    with pytest.raises(ValueError, match="HTTP forbids"):
        negotiate(request(), Options(headers=forged))


@given(st.dictionaries(st.sampled_from(sorted(request())), st.text(max_size=30)))
def test_any_request_has_an_answer(changes: dict[str, str]) -> None:
    assert isinstance(negotiate(request(**changes), Options()), (Accept, Reject))
