"""Whatever is asked of the images routes: an answer in shape, never a 500."""

from collections.abc import Awaitable, Callable

import attrs
import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from api.images.fields import EditFields
from tests.api.conftest import Client, Reply
from tests.api.images.pictures import EDITS, GENERATIONS, png, post_form, url
from tests.api.images.serving import serving
from tests.api.test_fuzz import VALUES
from tests.images.fake_backend import INFO, FakeImageBackend

PICTURE = png(8, 8)
GOOD = {"prompt": "a", "size": "256x256", "sample_steps": 1}
WRONG = st.dictionaries(st.sampled_from([field.name for field in attrs.fields(EditFields)]), VALUES, max_size=4)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8)
FORMS = st.dictionaries(
    st.sampled_from([*(field.name for field in attrs.fields(EditFields)), "stream_options_chunk_size"]),
    TEXTS | st.integers().map(str) | st.floats().map(str) | st.sampled_from(["[]", "{}", "[1]", "true", "null"]),
    max_size=4,
)


def settings(test: Callable[[], None]) -> Callable[[], None]:
    return hypothesis.settings(max_examples=60, deadline=None, derandomize=True)(test)


def check(ask: Callable[[Client], Awaitable[Reply]]) -> None:
    async def asked() -> Reply:
        async with serving(FakeImageBackend(attrs.evolve(INFO, upscale_factor=0, max_width=256))) as client:
            return await ask(client)

    reply = trio.run(asked)
    assert reply.status in {200, 400}, reply.body
    if reply.status != 200:
        assert reply.error["message"]
    elif reply.headers["Content-Type"].startswith("text/event-stream"):
        assert reply.events[-1] == "[DONE]"
    else:
        assert reply.json["data"]


@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
def test_no_field_value_is_a_server_error(path: str) -> None:
    @settings
    @hypothesis.given(WRONG)
    def fuzz(wrong: dict[str, object]) -> None:
        pictures = {"image": url(PICTURE)} if path == EDITS else {}
        check(lambda client: client.post(path, GOOD | pictures | wrong))

    fuzz()


def test_no_text_of_a_form_is_a_server_error() -> None:
    @settings
    @hypothesis.given(FORMS)
    def fuzz(wrong: dict[str, str]) -> None:
        fields = {"prompt": "a", "size": "256x256", "sample_steps": "1"} | wrong
        check(lambda client: post_form(client, fields, {"image": PICTURE}))

    fuzz()
