"""Whatever the body: an answer in shape, never a 500."""

import attrs
import hypothesis
import msgspec
import pytest
import trio
from hypothesis import strategies as st

from api.shapes import ChatFields, CompletionFields, DetokenizeFields, NativeFields, Templated, TokenizeFields
from tests.api.conftest import Client, make_services

ROUTES = {
    "/v1/chat/completions": ChatFields,
    "/v1/completions": CompletionFields,
    "/completion": NativeFields,
    "/tokenize": TokenizeFields,
    "/detokenize": DetokenizeFields,
    "/apply-template": Templated,
}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 300),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["user", "assistant", "text", "image_url", "auto", "top_k", "kt", "json_object", "json_schema"]),
    st.sampled_from(["function", "custom", "required", "f", "allowed_tools"]),
)
KNOWN_KEYS = [
    *("role", "content", "type", "text", "id", "scale", "include_usage", "7", "tool_calls", "function_call"),
    *("function", "name", "parameters", "schema", "json_schema", "allowed_tools", "mode", "tools", "enable_thinking"),
    *("custom", "format", "grammar", "syntax", "definition", "input"),
]
KEYS = st.one_of(st.sampled_from(KNOWN_KEYS), st.text())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
CLIENT = Client(make_services(tokens_per_second=5))
GOOD = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "content": "hi", "tokens": [1]}


def bodies(shape: type) -> st.SearchStrategy[dict[str, object]]:
    """A body that is right but for a few fields."""
    names = [field.name for field in attrs.fields(shape)]
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=4).map(lambda wrong: {**GOOD, **wrong})


@pytest.mark.parametrize("path", ROUTES)
def test_no_field_value_is_a_server_error(path: str) -> None:
    @hypothesis.settings(max_examples=120, deadline=None, derandomize=True)
    @hypothesis.given(bodies(ROUTES[path]))
    def check(body: dict[str, object]) -> None:
        _check(path, msgspec.json.encode(body))

    check()


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(
    st.binary(max_size=40) | VALUES.map(msgspec.json.encode) | st.text(max_size=20).map(lambda t: _raw(t))
)
def test_no_body_is_a_server_error(body: bytes) -> None:
    _check("/v1/chat/completions", body)


def _raw(text: str) -> bytes:
    return b'{"messages":[{"role":"user","content":"' + text.encode("utf-8", "surrogatepass") + b'"}]}'


def _check(path: str, body: bytes) -> None:
    reply = trio.run(CLIENT.post, path, body)
    assert reply.status in {200, 400, 501}, reply.body
    if reply.status != 200:
        assert reply.error["message"]
    elif reply.headers["Content-Type"].startswith("text/event-stream"):
        assert reply.events
    else:
        assert reply.json
