"""The client's opening handshake: what it asks for, and what it takes for an answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.utilities import generate_accept_token

from syncws import HandshakeError, Options
from syncws.client.handshake import MAX_BODY, ClientHandshake, Opened
from syncws.client.url import parse_url
from syncws.protocol.headers import Headers
from syncws.upgrade.handshake import Accept, negotiate

from ..support.faults import splits


def handshake(
    url: str = "ws://example.com/chat?room=1",
    headers: Headers = (),
    subprotocols: Any = (),
    **options: Any,
) -> ClientHandshake:
    return ClientHandshake(parse_url(url), Options(**options), headers, subprotocols)


def lines(shaking: ClientHandshake) -> list[str]:
    head, _, rest = shaking.request.decode("latin-1").partition("\r\n\r\n")
    assert rest == ""
    return head.split("\r\n")


def key(shaking: ClientHandshake) -> str:
    (line,) = (line for line in lines(shaking) if line.startswith("Sec-WebSocket-Key: "))
    return line.partition(": ")[2]


def accepting(shaking: ClientHandshake, *extra: str, **changes: str | None) -> bytes:
    """A 101 as it should be, but for the changes; None takes a header away."""
    headers: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": generate_accept_token(key(shaking).encode()).decode(),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    head = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *head, *extra, "", ""]).encode()


def feed(shaking: ClientHandshake, parts: Iterable[bytes]) -> None:
    for part in parts:
        assert shaking.receive_data(part) is None


def refused(shaking: ClientHandshake, *parts: bytes) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        feed(shaking, parts)
    return caught.value


def test_request() -> None:
    shaking = handshake(headers={"Origin": "https://example.com", "Cookie": "é"})
    assert lines(shaking) == [
        "GET /chat?room=1 HTTP/1.1",
        "Host: example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key(shaking)}",
        "Sec-WebSocket-Version: 13",
        "Origin: https://example.com",
        "Cookie: é",
    ]
    assert key(shaking) != key(handshake())


def test_request_with_all_that_can_be_asked_for() -> None:
    asked = lines(
        handshake(
            "wss://user:pass@example.com:8443",
            [("X-Twice", "1"), ("X-Twice", " 2 ")],
            ["chat.v2", "chat"],
            compression="deflate",
        )
    )
    assert asked[0] == "GET / HTTP/1.1"
    assert asked[1] == "Host: example.com:8443"
    assert asked[6:] == [
        "Sec-WebSocket-Protocol: chat.v2, chat",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; "
        "client_max_window_bits=12, permessage-deflate; client_max_window_bits",
        "Authorization: Basic dXNlcjpwYXNz",
        "X-Twice: 1",
        "X-Twice: 2",
    ]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"headers": {"Host": "x"}}, "'Host' belongs to the handshake"),
        ({"headers": {"sec-websocket-key": "x"}}, "belongs to the handshake"),
        ({"headers": [("Sec-WebSocket-Extensions", "x")]}, "belongs to the handshake"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "belongs to the handshake"),
        ({"headers": {"Bad Name": "x"}}, "not the name of an HTTP header"),
        ({"headers": {"X": "a\r\nY: b"}}, "characters HTTP forbids"),
        ({"headers": {"X": "\u20ac"}}, "characters HTTP forbids"),
        ({"subprotocols": ["a", "a"]}, "offer each subprotocol once"),
        ({"subprotocols": ["a, b"]}, "not the name of a subprotocol"),
        ({"subprotocols": [""]}, "not the name of a subprotocol"),
        (
            {"url": "ws://u:p@example.com", "headers": {"authorization": "Bearer x"}},
            "an Authorization header as well",
        ),
    ],
)
def test_what_can_not_be_asked_for(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        handshake(**arguments)


@given(st.lists(st.integers(0, 1000), max_size=8))
def test_accepted_however_the_answer_is_cut(cuts: list[int]) -> None:
    shaking = handshake(subprotocols=["a", "b"])
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
        + accepting(
            shaking,
            "Set-Cookie: a=1",
            "Set-Cookie: b=2",
            Upgrade="WebSocket",
            Connection="keep-alive, upgrade",
            Sec_WebSocket_Protocol="b",
        )
        + b"behind"
    )
    opened = None
    left = b""
    for part in splits(answer, *cuts):
        if opened is not None:
            left += part
        elif part:
            opened = shaking.receive_data(part)
    assert isinstance(opened, Opened)
    assert opened.subprotocol == "b"
    assert opened.deflate is None
    assert opened.received + left == b"behind"
    assert [value for name, value in opened.headers if name == "Set-Cookie"] == ["a=1", "b=2"]


def test_accepted_with_compression() -> None:
    shaking = handshake(compression="deflate")
    agreed = "permessage-deflate; server_max_window_bits=10; client_no_context_takeover"
    opened = shaking.receive_data(accepting(shaking, Sec_WebSocket_Extensions=agreed))
    assert opened is not None
    assert opened.deflate is not None
    assert opened.deflate.server_max_window_bits == 10
    assert opened.deflate.client_no_context_takeover


@pytest.mark.parametrize("offered", [[], ["chat"]])
def test_a_server_need_not_take_what_is_offered(offered: list[str]) -> None:
    shaking = handshake(subprotocols=offered, compression="deflate")
    opened = shaking.receive_data(accepting(shaking))
    assert opened is not None
    assert (opened.subprotocol, opened.deflate, opened.received) == (None, None, b"")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"Upgrade": None}, "no 'Upgrade: websocket'"),
        ({"Upgrade": "h2c"}, "no 'Upgrade: websocket'"),
        ({"Connection": None}, "no 'Connection: Upgrade'"),
        ({"Connection": "close"}, "no 'Connection: Upgrade'"),
        ({"Sec_WebSocket_Accept": None}, "Sec-WebSocket-Accept does not fit"),
        # The one of RFC 6455's example: for another key.
        (
            {"Sec_WebSocket_Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
            "Sec-WebSocket-Accept does not fit",
        ),
        ({"Sec_WebSocket_Protocol": "other"}, "'other' was not offered"),
        ({"Sec_WebSocket_Protocol": "chat, other"}, "'chat, other' was not offered"),
        ({"Sec_WebSocket_Protocol": "Chat"}, "'Chat' was not offered"),
        (
            {"Sec_WebSocket_Extensions": "permessage-deflate"},
            "permessage-deflate.* was not offered",
        ),
    ],
)
def test_a_101_that_breaks_the_rules(changes: dict[str, str | None], match: str) -> None:
    shaking = handshake(subprotocols=["chat"])
    error = refused(shaking, accepting(shaking, **changes) + b"behind")
    assert error.status == 101
    assert error.body == b""
    assert error.headers
    with pytest.raises(HandshakeError, match=match):
        raise error


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_101_of_another_http(version: str) -> None:
    shaking = handshake()
    answer = accepting(shaking).replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    error = refused(shaking, answer)
    assert error.status == 101
    assert f"its version is HTTP/{version}, and must be HTTP/1.1" in str(error)


@pytest.mark.parametrize("name", ["Sec-WebSocket-Accept", "Sec-WebSocket-Protocol", "Upgrade"])
def test_a_101_that_contradicts_itself(name: str) -> None:
    shaking = handshake(subprotocols=["a", "b"])
    good = accepting(shaking, Sec_WebSocket_Protocol="a")
    error = refused(shaking, good[:-2] + f"{name}: b\r\n\r\n".encode())
    assert f"more than one {name}" in str(error)


def test_compression_that_was_not_agreed_on() -> None:
    shaking = handshake(compression="deflate")
    error = refused(shaking, accepting(shaking, Sec_WebSocket_Extensions="x-other"))
    assert (error.status, "'x-other' was not offered" in str(error)) == (101, True)


REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        REFUSAL + b"Content-Length: 8\r\n\r\nnot\nhere",
        REFUSAL + b"Transfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n5\r\n\nhere\r\n0\r\n\r\n",
        REFUSAL + b"\r\nnot\nhere",  # to the end of the stream
    ],
)
@given(cuts=st.lists(st.integers(0, 1000), max_size=5))
def test_refused_however_the_answer_is_cut(answer: bytes, cuts: list[int]) -> None:
    error = refused(handshake(), *(part for part in splits(answer, *cuts) if part), b"")
    assert (error.status, error.body) == (403, b"not\nhere")
    assert ("Content-Type", "text/plain") in error.headers
    assert str(error) == "the server answered with status 403 instead of 101: 'not\\nhere'"


def test_a_body_that_breaks_off_is_still_a_refusal() -> None:
    shaking = handshake()
    assert shaking.receive_data(REFUSAL + b"Content-Length: 8\r\n\r\nnot") is None
    assert shaking.refusal is not None
    assert shaking.refusal.body == b"not"
    assert refused(shaking, b"").body == b"not"


def test_a_redirect_is_a_refusal() -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: wss://elsewhere/\r\nContent-Length: 0\r\n\r\n"
    error = refused(handshake(), answer)
    assert error.status == 302
    assert str(error).endswith("it redirects to 'wss://elsewhere/'")


def test_a_200_is_a_refusal() -> None:
    assert refused(handshake(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").status == 200


def test_the_body_kept_is_bounded() -> None:
    shaking = handshake()
    assert shaking.receive_data(REFUSAL + b"\r\n") is None
    for _ in range(MAX_BODY // 10_000):
        assert shaking.receive_data(b"x" * 10_000) is None
    error = refused(shaking, b"x" * 10_000)
    assert len(error.body) == MAX_BODY
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x81\x02hi\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nX: " + b"x" * 100_000,  # no end
    ],
)
def test_what_is_no_http_has_no_status(garbage: bytes) -> None:
    error = refused(handshake(), garbage)
    assert (error.status, error.headers, error.body) == (None, [], b"")
    assert str(error).startswith("the server's answer is not an HTTP response: ")


def test_no_answer_at_all() -> None:
    error = refused(handshake(), b"")
    assert error.status is None
    assert str(error) == "the server closed the connection before its answer was complete"


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_garbage_raises_nothing_else(garbage: bytes, cuts: list[int]) -> None:
    assert refused(handshake(), *(part for part in splits(garbage, *cuts) if part), b"")


@given(st.sampled_from([None, "deflate"]), st.sampled_from([None, "deflate"]))
def test_our_own_server_accepts(ours: Any, theirs: Any) -> None:
    shaking = handshake(subprotocols=["a", "b"], compression=ours)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(shaking.request)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    environ = {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode()
        for name, value in request.headers
    }
    environ |= {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"}
    answer = negotiate(environ, Options(subprotocols=["b"], compression=theirs))
    assert isinstance(answer, Accept)
    head = [f"{name}: {value}" for name, value in answer.headers]
    opened = shaking.receive_data(
        "\r\n".join([f"HTTP/1.1 {answer.status}", *head, "", ""]).encode()
    )
    assert opened is not None
    assert opened.subprotocol == "b"
    assert (opened.deflate is not None) is (answer.deflate is not None) is bool(ours and theirs)


@pytest.mark.parametrize(
    "answer",
    [
        "permessage-deflate",
        # The answer of gorilla's, to every offer.
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
    ],
)
def test_a_server_chooses_the_window_that_it_likes(answer: str) -> None:
    shaking = handshake(compression="deflate")
    opened = shaking.receive_data(accepting(shaking, Sec_WebSocket_Extensions=answer))
    assert opened is not None
    assert opened.deflate is not None
