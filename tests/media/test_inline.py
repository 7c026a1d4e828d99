"""Base64 in pieces says what it says as a whole."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamabox.media import inline
from llamabox.media.inline import from_base64


def whole(text: str) -> bytes | None:
    joined = "".join(text.split())
    try:
        return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
    except ValueError:
        return None


@pytest.mark.parametrize("piece", [1, 3, 4, 5, 8, 1000])
@given(
    text=st.one_of(st.text("QR= \n/é", max_size=24), st.binary(max_size=24).map(lambda d: base64.b64encode(d).decode()))
)
async def test_pieces_and_the_whole(piece: int, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inline, "_PIECE", piece)
        try:
            found = await from_base64(text)
        except ValueError:
            found = None
    assert found == whole(text)


@pytest.mark.parametrize("text", ["QQ=\n=", "Q Q\r\n", "QQ", "QQ=="])
async def test_line_ends_and_missing_padding(text: str) -> None:
    assert await from_base64(text) == b"A"
