"""JSON that can be sent, whatever was received."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws.protocol.json_text import json_text

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ("é\U0001f600", '"é\U0001f600"'),
        ("\ud800", '"\\ud800"'),
        ({"\udfff": "é"}, '{"\\udfff":"\\u00e9"}'),
    ],
)
def test_text(value: Any, text: str) -> None:
    assert json_text(value) == text


@given(values)
def test_what_was_received_can_be_sent(value: Any) -> None:
    received = json.loads(json.dumps(value))
    assert json.loads(json_text(received).encode()) == received


def test_what_json_cannot_express_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_text(object())
