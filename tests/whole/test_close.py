from __future__ import annotations

from typing import Any

import pytest

from syncws import CloseCode, CloseReason
from syncws.close import check_sendable


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    check_sendable(code, "reason")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, -1])
def test_codes_that_may_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match="can not be sent"):
        check_sendable(code, "")


@pytest.mark.parametrize(
    ("code", "reason", "match"),
    [
        ("bye", "", "a close code is an int"),
        (1000.0, "", "a close code is an int"),
        (None, "", "a close code is an int"),
        (1000, None, "a close reason is a str"),
        (1000, 1000, "a close reason is a str"),
    ],
)
def test_what_is_no_code_and_no_reason(code: Any, reason: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        check_sendable(code, reason)


def test_reason_is_limited_to_123_bytes_of_utf8() -> None:
    check_sendable(1000, "x" * 123)
    with pytest.raises(ValueError, match="123 bytes"):
        check_sendable(1000, "x" * 124)
    with pytest.raises(ValueError, match="this one has 124"):
        check_sendable(1000, "é" * 62)


@pytest.mark.parametrize(
    ("code", "ok"), [(1000, True), (1001, True), (1005, True), (1006, False), (4000, False)]
)
def test_ok(code: int, ok: bool) -> None:
    assert CloseReason(code).ok is ok


def test_reason_explains_itself() -> None:
    assert str(CloseReason(CloseCode.GOING_AWAY, "bye", "peer")) == (
        "the peer closed the session (code 1001: bye)"
    )
    assert "went away" in str(CloseReason(1006, "", "eof"))
