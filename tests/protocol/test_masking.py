from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncws.protocol.masking import mask, mask_in_python


@given(
    st.binary(max_size=300)
    | st.integers(0, 9000).map(lambda size: bytes(range(256)) * (size // 256)),
    st.binary(min_size=4, max_size=4),
)
def test_every_way_masks_as_the_rfc_says(data: bytes, key: bytes) -> None:
    expected = bytes(byte ^ key[index % 4] for index, byte in enumerate(data))
    view = memoryview(b"??" + data)[2:]
    assert mask_in_python(data, key) == mask_in_python(view, key) == expected
    assert mask(data, key) == mask(view, key) == expected


def test_the_large_way_begins_where_the_small_one_ends() -> None:
    for size in range(2040, 2060):
        data = bytes(index % 251 for index in range(size))
        masked = mask_in_python(data, b"\x01\x02\x03\x04")
        assert masked == bytes(byte ^ (index % 4 + 1) for index, byte in enumerate(data))
        assert mask_in_python(masked, b"\x01\x02\x03\x04") == data


def test_installed_speedups_are_used() -> None:
    from websockets.speedups import apply_mask

    assert mask is apply_mask
