from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any, ForwardRef

import pytest

from syncws import Options
from syncws.options import RawRouteOptions, check_timeout


def test_defaults_are_safe() -> None:
    options = Options()
    assert options.origins is None
    assert options.max_message_size == 1024 * 1024
    assert (options.ping_interval, options.timeout, options.close_timeout) == (20, 20, 10)
    assert (options.on_handshake_failure, options.on_non_websocket_request) == (400, 501)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"timeout": 0}, "timeout must be greater than 0"),
        ({"timeout": None}, "timeout is a number"),
        ({"timeout": float("nan")}, "greater than 0"),
        ({"close_timeout": -1}, "close_timeout"),
        ({"close_timeout": math.inf}, "close_timeout must be greater than 0, and finite"),
        ({"timeout": 10**400}, "timeout must be greater than 0, and finite"),
        ({"timeout": "1"}, "timeout is a number of seconds, not '1'"),
        ({"ping_interval": 0}, "ping_interval"),
        ({"ping_interval": True}, "ping_interval is a number"),
        ({"max_message_size": 0}, "max_message_size"),
        ({"max_frame_size": -5}, "max_frame_size"),
        ({"max_message_size": 1e6}, "number of bytes, an int"),
        ({"max_frame_size": True}, "number of bytes, an int"),
        ({"subprotocols": None}, "subprotocols is a list of str, not None"),
        ({"subprotocols": [1]}, "1 is none"),
        ({"origins": True}, "origins is a list"),
        ({"origins": ["*"]}, r'write origins="\*", without a list'),
        ({"origins": [1]}, "1 is none"),
        ({"headers": None}, "headers are pairs"),
        ({"headers": ["Ab"]}, "a header is a pair"),
        ({"headers": [("X", 5)]}, "both of them str"),
        ({"headers": [("X", "y", "z")]}, "a header is a pair"),
        ({"masking": "yes"}, "masking is True, False or None"),
        ({"subprotocols": "chat"}, r"use \['chat'\]"),
        ({"origins": "https://example.com"}, "origins is a list"),
        ({"origins": ["example.com"]}, "is not an origin"),
        ({"origins": ["https://example.com/path"]}, "is not an origin"),
        ({"origins": ["https://user@example.com"]}, "is not an origin"),
        ({"origins": ["http://localhost:*"]}, "is not an origin"),
        ({"origins": ["file:///home"]}, "is not an origin"),
        ({"origins": ["https://*"]}, r'such as "https://\*\.example\.com"'),
        ({"origins": ["https://*."]}, r'such as "https://\*\.example\.com"'),
        ({"origins": ["https://*example.com"]}, r'such as "https://\*\.example\.com"'),
        ({"origins": ["https://a.*.com"]}, r'such as "https://\*\.example\.com"'),
        ({"origins": ["https://*.*.com"]}, r'such as "https://\*\.example\.com"'),
        ({"origins": ["https://straße.example"]}, "as browsers send it"),
        ({"origins": [f"https://{'é' * 64}.example"]}, "as browsers send it"),
        ({"headers": [("X", "a\r\nSet-Cookie: b")]}, "HTTP forbids"),
        ({"headers": [("X Y", "a")]}, "not the name"),
        ({"headers": [("Upgrade", "h2c")]}, "belongs to the handshake"),
        ({"install_extensions": True}, "is for raw=True"),
        ({"install_extensions": True, "raw": True}, "and a compression"),
        ({"install_extensions": True, "compression": "deflate"}, "is for raw=True"),
        ({"on_handshake_failure": 200}, "from 400 to 599"),
        ({"on_non_websocket_request": "page"}, "from 400 to 599"),
    ],
)
def test_what_can_not_be_is_refused_at_once(option: dict[str, Any], match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        Options(**option)


@pytest.mark.parametrize("seconds", [1e-9, 1e12, 1.7e308, 10**300])
def test_options_in_seconds_may_be_tiny_and_huge(seconds: Any) -> None:
    options = Options(ping_interval=seconds, timeout=seconds, close_timeout=seconds)
    assert options.timeout == seconds


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        (0, 0.0),
        (1.5, 1.5),
        (-1, 0.0),
        (-math.inf, 0.0),
        (-(10**400), 0.0),
        (math.inf, math.inf),
        (1e300, 1e300),
        (10**400, math.inf),
    ],
)
def test_timeouts_that_a_call_may_be_given(given: Any, kept: float | None) -> None:
    assert check_timeout("timeout", given) == kept


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (math.nan, ValueError),
        (Fraction(1, 2), TypeError),
        ("1", TypeError),
        (True, TypeError),
        ([], TypeError),
    ],
)
def test_timeouts_that_a_call_refuses(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="open_timeout is a number of seconds, not "):
        check_timeout("open_timeout", given)


def test_iterators_and_mappings_are_kept() -> None:
    options = Options(
        subprotocols=map(str, ["a", "b"]),  # type: ignore[arg-type]  # as a user might
        origins=map(str.strip, [" https://example.com "]),  # type: ignore[arg-type]  # the same
        headers={"Server": "syncws"},
    )
    assert options.subprotocols == ("a", "b")
    assert options.origins == ("https://example.com",)
    assert options.headers == (("Server", "syncws"),)


def test_headers_of_other_kinds_of_str() -> None:
    class Text(str): ...

    assert Options(headers=[(Text("X-A"), Text("b"))]).headers == (("X-A", "b"),)


def test_unknown_option() -> None:
    with pytest.raises(TypeError, match="max_size"):
        Options(max_size=5)  # type: ignore[call-arg]  # that is the test


def test_what_type_checkers_know_is_all_there_is() -> None:
    known = {
        name: hint.__forward_arg__
        for name, hint in RawRouteOptions.__annotations__.items()
        if isinstance(hint, ForwardRef)
    }
    fields = {field.name: field.type for field in dataclasses.fields(Options)}
    assert {**known, "raw": "bool"} == fields
