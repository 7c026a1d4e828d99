"""What is wrong or not served is an error that names the field, on every route it applies to."""

from typing import Any

import pytest

from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine

MESSAGES = [{"role": "user", "content": "hi"}]

WRONG = [
    *(
        ({name: value}, name)
        for name in ("temperature", "top_p", "min_p", "repeat_penalty")
        for value in (-1, "x", 1e40)
    ),
    ({"temperature": [1]}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"top_k": 2**31}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"repeat_penalty": 0}, "repeat_penalty"),
    ({"dry_base": 0.5}, "dry_base"),
    ({"mirostat": 3}, "mirostat"),
    ({"seed": -2}, "seed"),
    ({"stream": "yes"}, "stream"),
    ({"stop": [1]}, "stop[0]"),
    ({"stop": ["x"] * 129}, "stop"),
    ({"n_predict": -3}, "n_predict"),
    ({"max_tokens": True}, "max_tokens"),
    ({"samplers": "kz"}, "samplers"),
    ({"samplers": ["magic"]}, "samplers"),
    ({"samplers": ["top_k"] * 33}, "samplers"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"logit_bias": [[-1, 1]]}, "logit_bias"),
    ({"logit_bias": {"-1": 1}}, "logit_bias"),
    ({"logit_bias": [[1, True]]}, "logit_bias"),
    ({"logit_bias": [[1, 1e7]]}, "logit_bias"),
    ({"logit_bias": [[1]]}, "logit_bias[0]"),
    ({"id_slot": 2}, "id_slot"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"grammar": "root ::= x", "json_schema": {}}, "json_schema"),
    ({"grammar": "wrong"}, "grammar"),
    ({"grammar": "unsatisfiable"}, "grammar"),
    ({"json_schema": 5}, "json_schema"),
    ({"json_schema": "{}"}, "json_schema"),
    ({"json_schema": {"title": "unsatisfiable"}}, "json_schema"),
]
FORMATS = [
    ({"response_format": {"type": []}}, "response_format"),
    ({"response_format": {}}, "response_format"),
    ({"response_format": {"type": "grammar"}}, "response_format"),
    ({"response_format": {"type": "json_object", "schema": 5}}, "response_format.schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": []}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": 1, "schema": {}}}},
        "response_format.json_schema.name",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"strict": "yes", "schema": {}}}},
        "response_format.json_schema.strict",
    ),
    ({"response_format": {"type": "json_object"}, "grammar": "root ::= x"}, "response_format"),
    ({"response_format": {"type": "json_object"}, "json_schema": {}}, "response_format"),
    ({"response_format": {"type": "json_object", "schema": {"title": "unsatisfiable"}}}, "response_format"),
]
WRONG_CHAT = [
    *FORMATS,
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "assistant", "content": [{"type": "refusal"}]}]}, "messages[0].content[0].refusal"),
    ({"messages": [{"role": "user", "content": [{"type": []}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "user", "content": "raise"}]}, "messages"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice"),
    ({"response_fields": ["choices"]}, "response_fields"),
    ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": None, "stream_options": {}}, "stream_options"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
]
WRONG_LEGACY = [
    *FORMATS,
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": {"prompt_string": 5}}, "prompt.prompt_string"),
    ({"prompt": [{"text": "x"}]}, "prompt"),
    ({"prompt": {"prompt_string": "x", "multimodal_data": "x"}}, "prompt.multimodal_data"),
    ({"prompt": {"prompt_string": "<__media__>", "multimodal_data": ["eA=="]}}, "prompt.multimodal_data"),
    ({"prompt": [{"prompt_string": "x", "multimodal_data": ["eA=="] * 43}] * 3}, "prompt"),
    ({"prompt": {"prompt_string": [1], "multimodal_data": ["eA=="]}}, "prompt.prompt_string"),
    ({"prompt": [True]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"prompt": [1, None]}, "prompt"),
    ({"prompt": [258]}, "prompt"),
    ({"prompt": [10**30]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": ["x"] * 1025}, "prompt"),
    ({"prompt": ["x"] * 1024, "n": 2}, "n"),
    ({"logprobs": 6}, "logprobs"),
    ({"n": 3, "best_of": 2}, "best_of"),
    ({"response_fields": ["choices"]}, "response_fields"),
    ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": None, "stream_options": {}}, "stream_options"),
    ({"suffix": "x", "echo": True, "logprobs": 0}, "echo"),
]
NOT_YET_LEGACY = [
    ({"suffix": "x"}, "suffix"),
]


async def _refused(client: Client, engine: FakeEngine, path: str, body: Any, status: int, param: str) -> None:
    for stream in (False, True):
        reply = await client.post(path, {"stream": stream, **body})
        assert (reply.status, reply.error["param"]) == (status, param), reply.body
        assert param.partition("[")[0].partition(".")[0] in reply.error["message"] or param == "messages"
    assert engine.opened == []


@pytest.mark.parametrize(("fields", "param"), WRONG)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/completion"])
async def test_wrong_everywhere(client: Client, engine: FakeEngine, path: str, fields: Any, param: str) -> None:
    await _refused(client, engine, path, {"messages": MESSAGES, "prompt": "hi", **fields}, 400, param)


@pytest.mark.parametrize(("fields", "param"), WRONG_CHAT)
async def test_wrong_chat(client: Client, engine: FakeEngine, fields: Any, param: str) -> None:
    await _refused(client, engine, "/chat/completions", {"messages": MESSAGES, **fields}, 400, param)


@pytest.mark.parametrize(("fields", "param"), WRONG_LEGACY)
async def test_wrong_legacy(client: Client, engine: FakeEngine, fields: Any, param: str) -> None:
    await _refused(client, engine, "/v1/completions", {"prompt": "hi", **fields}, 400, param)


@pytest.mark.parametrize(("fields", "param"), NOT_YET_LEGACY)
async def test_not_yet_legacy(client: Client, engine: FakeEngine, fields: Any, param: str) -> None:
    await _refused(client, engine, "/v1/completions", {"prompt": "hi", **fields}, 501, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "functions": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"tool_choice": "none", "response_format": {"type": "text"}, "lora": [], "grammar": "", "response_fields": []},
        {"user": "u", "metadata": {"a": "b"}, "store": True, "something_new": {"x": 1}},
        {"stream": False, "stream_options": None},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, *MESSAGES]},
    ],
)
async def test_harmless_fields_pass(client: Client, fields: Any) -> None:
    assert (await client.post("/v1/chat/completions", {"messages": MESSAGES, **fields})).status == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[1]", None),
        (b"null", None),
        (b"\xff", None),
        (b'{"messages": "\xff"}', "messages"),
        (b'{"temperature": 1e999, "messages": []}', "temperature"),
        (b'{"temperature": NaN}', None),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
        (b"{}", "messages"),
    ],
)
async def test_malformed_bodies(client: Client, body: bytes, param: str | None) -> None:
    reply = await client.post("/v1/chat/completions", body)
    assert (reply.status, reply.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "body", "param", "half"),
    [
        ("/tokenize", rb'{"content": "\ud800"}', "content", r"\ud800"),
        ("/tokenize", rb'{"content": "a\uD83Db \ud83d\ude00"}', "content", r"\ud83d"),
        ("/tokenize", rb'{"content": ["\ud83d\ude00", 7, "\udc00"]}', "content[2]", r"\udc00"),
        ("/tokenize", b'{"content": "\xed\xa0\x80"}', "content", r"\ud800"),
        (
            "/v1/chat/completions",
            rb'{"messages": [{"role": "user", "content": "x\ud800"}]}',
            "messages[0].content",
            r"\ud800",
        ),
        ("/v1/chat/completions", rb'{"messages": [], "\ud800": 1}', None, r"\ud800"),
    ],
)
async def test_half_a_surrogate_pair(client: Client, path: str, body: bytes, param: str | None, half: str) -> None:
    reply = await client.post(path, body)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert reply.error["message"] == f"{param}: " * bool(param) + f"half of a surrogate pair ({half}) is no character"


@pytest.mark.parametrize(
    "body",
    [rb'{"content": "\ud800"', rb'{"content": "\ud83d\ude00", }', rb'{"content": "\ud800", "x": ' + b"[" * 10**5],
)
async def test_a_body_that_is_no_json_besides(client: Client, body: bytes) -> None:
    reply = await client.post("/tokenize", body)
    assert reply.status == 400
    assert "not valid JSON" in reply.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "flag"),
    [
        ("POST", "/infill", "--infill"),
        ("POST", "/v1/embeddings", "--embeddings"),
        ("POST", "/embedding", "--embeddings"),
        ("POST", "/embeddings", "--embeddings"),
        ("POST", "/v1/rerank", "--rerank"),
        ("POST", "/rerank", "--rerank"),
        ("POST", "/reranking", "--rerank"),
        ("POST", "/v1/reranking", "--rerank"),
        ("POST", "/v1/images/generations", "--images"),
        ("POST", "/v1/images/edits", "--images"),
        ("GET", "/lora-adapters", "--lora"),
        ("POST", "/lora-adapters", "--lora"),
        ("POST", "/slots/0?action=save", "--slot-save-path"),
        ("POST", "/slots/0?action=erase", "--slot-save-path"),
    ],
)
async def test_known_routes_that_are_not_served(client: Client, method: str, path: str, flag: str) -> None:
    reply = await client.send(method, path, {} if method == "POST" else None)
    assert (reply.status, reply.error["type"]) == (501, "not_supported_error")
    assert flag in reply.error["message"]


async def test_wrong_model_name(client: Client) -> None:
    body = {"messages": MESSAGES, "model": "c"}
    assert (await client.post("/v1/chat/completions", body)).json["model"] == "c"
    several = Client(make_services(aliases=("a", "b")))
    reply = await several.post("/v1/chat/completions", body)
    assert (reply.status, reply.error["param"]) == (404, "model")
    reply = await several.post("/v1/chat/completions", {"messages": MESSAGES})
    assert reply.json["model"] == "a"


async def test_no_text_model() -> None:
    services = make_services()
    services.text = None
    reply = await Client(services).post("/v1/chat/completions", {"messages": MESSAGES})
    assert reply.status == 501
