"""GET /openapi.json: valid, complete, and true to what the routes take and give."""

import re
from typing import Any

import attrs
import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.errors import ApiError
from api.openapi.descriptions import DESCRIPTIONS
from api.openapi.document import document, operation_of
from api.openapi.forms import FORM
from api.openapi.operation import EVENTS, JSON
from api.openapi.operations import OPERATIONS
from api.routes.table import ROUTES, Route
from engine.text.events import PrefillProgress
from tests.api.conftest import Client, Reply, make_services
from tests.api.fake_engine import FakeEngine, say
from tests.api.images.pictures import EDITS, GENERATIONS, VARIATIONS, png, post_form, url
from tests.api.images.serving import BODY, serving
from tests.api.test_refusals import MESSAGES, WRONG
from tests.api.test_state import BUSY, IDLE

DOCUMENT = document(ROUTES, keys=True)
SCHEMAS = DOCUMENT["components"]["schemas"]
# Whose further fields are the vendors' own.
GROWING = {"ResponseObject", "ResponseEvent", "MessageEvent"}
CLOSED = {
    name: {**schema, "additionalProperties": False} if "properties" in schema and name not in GROWING else schema
    for name, schema in SCHEMAS.items()
}


def operation(method: str, path: str) -> dict[str, Any]:
    return DOCUMENT["paths"][path][method.lower()]


def request_errors(path: str, body: Any) -> list[str]:
    """What the schema of the request says against ``body``."""
    schema = operation("POST", path)["requestBody"]["content"][JSON]["schema"]
    return [error.message for error in validator(schema, SCHEMAS).iter_errors(body)]


def check_reply(method: str, path: str, body: Any, *, media: str = JSON, status: str = "200") -> None:
    """The reply has the fields of its schema, all that are required and no others."""
    schema = operation(method, path)["responses"][status]["content"][media]["schema"]
    validator(schema, CLOSED).validate(body)


def validator(schema: dict[str, Any], schemas: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": {"schemas": schemas}})


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_has_every_route_and_no_other() -> None:
    described = {(method, path) for path, item in DOCUMENT["paths"].items() for method in item}
    variable = re.compile(r"<(?:path:)?([a-z_]+)>")
    table = {(route.method.lower(), variable.sub(r"{\1}", path)) for route in ROUTES for path in route.paths}
    assert described == table


def test_nothing_is_said_about_routes_that_do_not_exist() -> None:
    assert set(OPERATIONS) <= {f"{route.method} {path}" for route in ROUTES for path in route.paths}


def test_a_route_without_a_description_is_an_error() -> None:
    with pytest.raises(KeyError, match="GET /nothing"):
        operation_of(Route("GET", ("/nothing",), ROUTES[0].handler))


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z0-9_]+", found) for found in ids)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1/models/{model}", "string"),
        ("DELETE", "/v1/responses/{response_id}", "string"),
        ("POST", "/slots/{id_slot}", "integer"),
    ],
)
def test_variables_of_paths(method: str, path: str, kind: str) -> None:
    first, *_ = operation(method, path)["parameters"]
    assert (first["in"], first["schema"]["type"]) == ("path", kind)


def test_every_field_of_a_request_is_described_and_nothing_else() -> None:
    shapes = {shape for row in OPERATIONS.values() for shape in row.request if attrs.has(shape)}
    fields = {(shape.__name__, field.name) for shape in shapes for field in attrs.fields(shape)}
    assert [pair for pair in fields if pair[1] not in DESCRIPTIONS and ".".join(pair) not in DESCRIPTIONS] == []
    assert set(DESCRIPTIONS) <= {name for _, name in fields} | {".".join(pair) for pair in fields}
    assert SCHEMAS["ChatFields"]["properties"]["top_k"]["description"] == DESCRIPTIONS["top_k"]


def test_keys_are_wanted_where_they_are() -> None:
    for path, item in DOCUMENT["paths"].items():
        for described in item.values():
            assert bool(described["security"]) is (path not in {"/health", "/v1/health"}), path
    assert {"apiKey": []} in operation("POST", "/v1/messages")["security"]
    free = document(ROUTES, keys=False)
    assert not any(described["security"] for item in free["paths"].values() for described in item.values())


async def test_it_is_served_and_computed_once() -> None:
    client = Client(make_services())
    reply = await client.get("/openapi.json")
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.json == msgspec.json.decode(msgspec.json.encode(document(ROUTES, keys=False)))
    assert (reply.json["info"]["version"], reply.json["servers"][0]["url"]) == ("0.1.0", "/")


async def test_it_needs_a_key_like_other_routes() -> None:
    client = Client(make_services(api_keys=("secret",)))
    assert (await client.get("/openapi.json")).status == 401
    reply = await client.get("/openapi.json", Authorization="Bearer secret")
    assert reply.json["paths"]["/props"]["get"]["security"] == [{"bearer": []}]


def base(path: str) -> dict[str, Any]:
    return {"messages": MESSAGES} if "chat" in path else {"prompt": "hi"}


TEXT_ROUTES = ("/v1/chat/completions", "/v1/completions", "/completion")


@pytest.mark.parametrize("path", TEXT_ROUTES)
async def test_what_the_schema_refuses_the_server_refuses(path: str) -> None:
    client = Client(make_services())
    refused = [fields for fields, _ in WRONG if request_errors(path, {**base(path), **fields})]
    assert len(refused) > len(WRONG) // 2
    for fields in refused:
        assert (await client.post(path, {**base(path), **fields})).status == 400, fields


TOOL = {"type": "function", "function": {"name": "get", "parameters": {"type": "object"}}}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/tokenize", {"content": "hé"}),
    ("/tokenize", {"content": ["h", 7], "with_pieces": True, "add_special": True}),
    ("/detokenize", {"tokens": [104, 195]}),
    ("/apply-template", {"messages": MESSAGES, "tools": [TOOL], "chat_template_kwargs": {"a": 1}}),
    ("/completion", {"prompt": "hi", "temperature": 0, "stop": ["x"], "samplers": "kt", "seed": None}),
    ("/completion", {"prompt": ["a", [1, 2]], "n_probs": 2, "logit_bias": [[1, False], ["a", 1.5]]}),
    ("/completion", {"prompt": "hi", "n_probs": 1, "post_sampling_probs": True, "grammar": "root ::= x"}),
    ("/v1/completions", {"prompt": "hi", "logprobs": 2, "n": 2, "echo": False, "json_schema": {"type": "object"}}),
    ("/v1/completions", {"prompt": [[1, 2], "x"], "max_tokens": 3, "return_tokens": True, "echo": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, "return_tokens": True}),
    ("/v1/chat/completions", {"messages": MESSAGES, "tools": [TOOL], "tool_choice": "auto", "n": 2}),
    ("/v1/chat/completions", {"messages": MESSAGES, "functions": [TOOL["function"]]}),
    ("/v1/chat/completions", {"messages": MESSAGES, "json_schema": {"type": "object"}, "logit_bias": {"5": 1}}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 5, "reasoning": {"effort": "low"}}),
    ("/v1/responses/input_tokens", {"input": "hi", "instructions": "be"}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 5, "thinking": {"type": "enabled", "budget_tokens": 2}}),
    ("/v1/messages/count_tokens", {"messages": MESSAGES, "system": "be"}),
]


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_requests_and_whole_replies(client: Client, engine: FakeEngine, path: str, body: dict[str, Any]) -> None:
    engine.script = say("<think>so</think>", 'ok<tool_call>\n{"name": "get", "arguments": {}}\n</tool_call>')
    assert request_errors(path, body) == []
    reply = await client.post(path, body)
    assert reply.status == 200, reply.body
    check_reply("POST", path, reply.json)


STREAMED = [(path, body) for path, body in REQUESTS if EVENTS in operation("POST", path)["responses"]["200"]["content"]]


@pytest.mark.parametrize(("path", "body"), STREAMED)
@pytest.mark.parametrize("more", [{}, {"timings_per_token": True, "stream_options": {"include_usage": True}}])
async def test_events(
    client: Client, engine: FakeEngine, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    progress = PrefillProgress(total=10, cache=2, processed=6, time_ms=1.5)
    text = ("<think>so</think>", 'ok<tool_call>\n{"name": "get", "arguments": {"a":1}}\n</tool_call>')
    engine.script = lambda request: [progress, *say(*text)(request)]
    reply = await client.post(path, {**body, **more, "stream": True, "return_progress": True})
    found = events(reply)
    assert len(found) > 2
    for event in found:
        check_reply("POST", path, event, media=EVENTS)


def events(reply: Reply) -> list[Any]:
    """The data of all events, the end mark left out."""
    lines = [line.removeprefix("data: ") for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    return [msgspec.json.decode(line) for line in lines if line != "[DONE]"]


IMAGE_REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (GENERATIONS, {**BODY, "n": 2, "quality": "hd", "lora": [{"id": 0, "scale": 0.5}], "slg_skip_layers": [1]}),
    (EDITS, {**BODY, "image": url(png()), "mask": url(png()), "control": url(png()), "negative_prompt": None}),
    (EDITS, {**BODY, "image": [url(png())]}),
    (VARIATIONS, {"image": url(png()), "size": "256x256", "sample_steps": 3, "upscale_repeats": 0}),
]


@pytest.mark.parametrize(("path", "body"), IMAGE_REQUESTS)
@pytest.mark.parametrize("options", [{}, {"preview": True}, {"chunk_result": True, "chunk_size": 1024}])
async def test_images(path: str, body: dict[str, Any], options: dict[str, Any]) -> None:
    streamed = {**body, "stream": True, "stream_options": options}
    assert request_errors(path, streamed) == []
    async with serving() as client:
        check_reply("POST", path, (await client.post(path, body)).json)
        found = events(await client.post(path, streamed))
        assert len(found) > 2
        for event in found:
            check_reply("POST", path, event, media=EVENTS)
        check_reply("POST", path, (await client.post(path, {**body, "n": 0})).json, status="default")


WRONG_IMAGES = [
    {"prompt": 5}, {"n": 0}, {"quality": "low"}, {"style": "x"}, {"seed": -2}, {"sample_steps": 0}, {"strength": 2},
    {"slg_skip_layers": []}, {"lora": [{"id": -1, "scale": 1}]}, {"stream_options": {"chunk_size": 1}},
    {"output_format": "gif"}, {"output_compression": 101}, {"upscale_repeats": 9}, {"control_canny": 3},
]  # fmt: skip


@pytest.mark.parametrize("fields", WRONG_IMAGES)
async def test_what_the_schema_refuses_of_images_the_server_refuses(fields: dict[str, Any]) -> None:
    async with serving() as client:
        for path, body in ((GENERATIONS, BODY), (EDITS, BODY | {"image": url(png())})):
            assert request_errors(path, body | fields)
            assert (await client.post(path, body | fields)).status == 400


async def test_the_form_of_an_edit_has_its_fields() -> None:
    schema = operation("POST", EDITS)["requestBody"]["content"][FORM]["schema"]
    form, shape = SCHEMAS[schema["$ref"].rpartition("/")[2]], SCHEMAS["EditFields"]
    options = {f"stream_options_{name}" for name in SCHEMAS["ImageStreamOptions"]["properties"]}
    assert set(form["properties"]) == set(shape["properties"]) | options
    assert form["required"] == shape["required"] == ["prompt", "image"]
    files = {name for name, field in form["properties"].items() if field.get("format") == "binary"}
    fields = {"lora": '[{"id": 0, "scale": 0.5}]', "slg_skip_layers": "[1]", "stream_options": '{"preview": true}'}
    texts = {name for name, field in form["properties"].items() if "contentMediaType" in field}
    assert texts == set(fields)
    async with serving() as client:
        plain = {name: str(value) for name, value in BODY.items()} | fields | {"stream_options_preview": "false"}
        reply = await post_form(client, plain, dict.fromkeys(files, png()))
    check_reply("POST", EDITS, reply.json)


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/props", "/slots", "/openapi.json"])
async def test_state(client: Client, engine: FakeEngine, path: str) -> None:
    engine.slot_states = (IDLE, BUSY)
    check_reply("GET", path, (await client.get(path)).json)


async def test_a_model(client: Client) -> None:
    for entry in (await client.get("/v1/models")).json["data"]:
        check_reply("GET", "/v1/models/{model}", (await client.get(f"/v1/models/{entry['id']}")).json)


@pytest.mark.parametrize("path", ["/v1/models", "/props", "/slots"])
@pytest.mark.parametrize("has_text", [False, True])
async def test_state_of_images(path: str, has_text: bool) -> None:
    async with serving(slots=True) as client:
        if not has_text:
            client.services.text = client.services.prompts = None
        check_reply("GET", path, (await client.get(path)).json)


@pytest.mark.parametrize(
    ("path", "body"), [("/completion", {"prompt": "hi", "top_k": "x"}), ("/v1/messages", {"messages": "x"})]
)
async def test_errors(client: Client, path: str, body: Any) -> None:
    reply = await client.post(path, body)
    assert reply.status == 400
    check_reply("POST", path, reply.json, status="default")


async def test_a_prompt_that_does_not_fit(client: Client, engine: FakeEngine) -> None:
    engine.refuse = ApiError(400, "too long", "prompt", extra={"n_prompt_tokens": 9, "n_ctx": 8})
    for path, body in (("/completion", {"prompt": "hi"}), ("/v1/messages", {"messages": MESSAGES, "max_tokens": 1})):
        check_reply("POST", path, (await client.post(path, body)).json, status="default")
