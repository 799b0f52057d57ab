from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws.client.url import Url, parse_url


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "host_header"),
    [
        ("ws://example.com", False, "example.com", 80, "example.com"),
        ("wss://example.com/", True, "example.com", 443, "example.com"),
        ("WS://EXAMPLE.com:80", False, "example.com", 80, "example.com"),
        ("ws://example.com:443", False, "example.com", 443, "example.com:443"),
        ("wss://example.com:8443", True, "example.com", 8443, "example.com:8443"),
        ("ws://[::1]:8000", False, "::1", 8000, "[::1]:8000"),
        ("wss://[2001:DB8::1]", True, "2001:db8::1", 443, "[2001:db8::1]"),
        ("ws://127.0.0.1", False, "127.0.0.1", 80, "127.0.0.1"),
        ("ws://bücher.example", False, "xn--bcher-kva.example", 80, "xn--bcher-kva.example"),
        ("ws://a_service:1", False, "a_service", 1, "a_service:1"),
    ],
)
def test_server(url: str, secure: bool, host: str, port: int, host_header: str) -> None:
    assert parse_url(url) == Url(secure, host, port, host_header, "/", "", None)


@pytest.mark.parametrize(
    ("rest", "path", "query"),
    [
        ("", "/", ""),
        ("?q", "/", "q"),
        ("/a/b;c=1?d=e&f=g?h/", "/a/b;c=1", "d=e&f=g?h/"),
        ("/a b?c d", "/a%20b", "c%20d"),
        ("/é?é", "/%C3%A9", "%C3%A9"),
        ("/%2F%e9?%23", "/%2F%e9", "%23"),  # what is escaped stays as it is
        ('/"<>[]?"<>[]', "/%22%3C%3E%5B%5D", "%22%3C%3E%5B%5D"),
    ],
)
def test_path_and_query(rest: str, path: str, query: str) -> None:
    url = parse_url(f"ws://example.com{rest}")
    assert (url.path, url.query) == (path, query)


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ("Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617 section 2
        ("test:123%C2%A3", "Basic dGVzdDoxMjPCow=="),  # section 2.1
        ("token", "Basic dG9rZW46"),
        ("user:a:b%40", "Basic dXNlcjphOmJA"),
    ],
)
def test_user_information(user: str, authorization: str) -> None:
    url = parse_url(f"ws://{user}@example.com:81/")
    assert (url.authorization, url.host_header) == (authorization, "example.com:81")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("", "ws:// or wss://, not with ''"),
        ("http://secret@example.com", "ws:// or wss://, not with 'http'"),
        ("example.com:80", "ws:// or wss://"),
        ("ws:///path", "no valid host: ''"),
        ("ws://exa mple.com", "no valid host"),
        ("ws://example..com", "no valid host"),
        ("ws://example.com:x", "no valid host and port"),
        ("ws://example.com:65536", "no valid host and port"),
        ("ws://[::1", "no valid host and port"),
        ("ws://example.com/#fragment", "no fragment; write %23"),
        ("ws://example.com/#", "no fragment"),
        ("ws://example.com/\r\nHost: evil", "control characters"),
        ("ws://example.com/\t", "control characters"),
        ("ws://us%3Aer:secret@example.com", "a colon"),
    ],
)
def test_what_is_no_url_of_a_websocket(url: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=30), st.text(max_size=30))
def test_nothing_gets_into_the_request_that_does_not_belong_there(host: str, rest: str) -> None:
    try:
        url = parse_url(f"ws://{host}/{rest}")
    except ValueError:
        return
    for part in (url.host_header, url.path, url.query, url.authorization or ""):
        assert part.isascii()
        assert part.isprintable()
    assert " " not in url.path + url.query + url.host_header
