"""Bodies and metadata for the tests of the codec."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from streams.errors import MalformedEvent
from streams.events import codec
from streams.events.codec import decode

CANARY = "canary-7f3a"

LIMIT = codec.MAX_NESTING

quick = settings(deadline=None, database=None, max_examples=60)

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=10), inner, max_size=5),
    ),
    max_leaves=20,
)


def fields(**named: bytes | str) -> list[bytes]:
    return [
        part
        for name, value in named.items()
        for part in (
            name.encode(),
            value if isinstance(value, bytes) else value.encode(),
        )
    ]


def refused(stored: list[bytes], **limits: int) -> str:
    with pytest.raises(MalformedEvent) as caught:
        decode(stored, **limits)
    return caught.value.reason
