"""Grammars and schemas on the routes that continue a text."""

from typing import Any

import attrs
import msgspec
import pytest

from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine

NATIVE, LEGACY = "/completion", "/v1/completions"


@pytest.mark.parametrize(
    ("path", "fields", "grammar", "schema", "strict"),
    [
        *((path, {"grammar": "g"}, "g", None, True) for path in (NATIVE, LEGACY)),
        *((path, {"json_schema": {"a": 1}}, None, {"a": 1}, True) for path in (NATIVE, LEGACY)),
        (LEGACY, {"response_format": {"type": "json_object"}}, None, {"type": "object"}, False),
    ],
)
async def test_a_constraint_reaches_the_engine(
    client: Client,
    engine: FakeEngine,
    path: str,
    fields: dict[str, Any],
    grammar: str | None,
    schema: Any,
    strict: bool,
) -> None:
    assert (await client.post(path, {"prompt": ["a", "b"], **fields})).status == 200
    assert client.services.prompts.constraints == [(grammar, schema, strict)]
    for request in engine.opened:
        assert msgspec.json.decode(request.grammar.spec.source) == [grammar, schema, []]


@pytest.mark.parametrize("path", [NATIVE, LEGACY])
async def test_none_asked_none_made(client: Client, engine: FakeEngine, path: str) -> None:
    fields = {"grammar": "", "json_schema": None, "response_format": None}
    assert (await client.post(path, {"prompt": "a", **fields})).status == 200
    assert client.services.prompts.constraints == []
    assert engine.opened[0].grammar is None


@pytest.mark.parametrize("path", [NATIVE, LEGACY])
@pytest.mark.parametrize(
    ("change", "fields", "expected"),
    [
        ({"grammar": "g"}, {}, ("g", None, True)),
        ({"json_schema": '{"type":"array"}'}, {}, (None, {"type": "array"}, True)),
        ({"grammar": "g"}, {"grammar": "h"}, ("h", None, True)),
        ({"json_schema": "{}"}, {"json_schema": {"a": 1}}, (None, {"a": 1}, True)),
    ],
)
async def test_defaults(path: str, change: dict[str, str], fields: dict[str, Any], expected: object) -> None:
    services = make_services()
    defaults = attrs.evolve(services.settings.defaults, **change)
    services.settings = attrs.evolve(services.settings, defaults=defaults)
    assert (await Client(services).post(path, {"prompt": "a", **fields})).status == 200
    assert services.prompts.constraints == [expected]


async def test_settings_show_the_grammar(client: Client, engine: FakeEngine) -> None:
    body = (await client.post(NATIVE, {"prompt": "a", "grammar": "g"})).json
    assert body["generation_settings"]["grammar"] == engine.opened[0].grammar.spec.source != ""
    body = (await client.post(NATIVE, {"prompt": "a"})).json
    assert body["generation_settings"]["grammar"] == ""
