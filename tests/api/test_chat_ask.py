"""What a chat request asks of the model, and what is wrong with it."""

from typing import Any

import attrs
import pytest

from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.chat.formats.base import Tool
from llamabox.chat.messages import validate
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def named(name: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: object, *tools: object) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"not": found}
    return found


LONG = "a.b-c_D" + "9" * 121  # the longest name there may be
TOOLS = [tool("get", description="Gets.", parameters=SCHEMA, strict=True), tool(LONG)]
READ = (Tool(name="get", description="Gets.", parameters=SCHEMA, strict=True), Tool(name=LONG))


async def asked(**fields: Any) -> ChatAsk:
    services = make_services()
    reply = await Client(services).post(CHAT, {"messages": [USER], **fields})
    assert reply.status == 200, reply.body
    (ask,) = services.prompts.asks
    return ask


async def test_a_plain_question() -> None:
    assert await asked() == ChatAsk(messages=[USER])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"tool_choice": "auto"}, {}),
        ({"tool_choice": "none"}, {"choice": ToolChoice.NONE}),
        ({"tool_choice": "required"}, {"choice": ToolChoice.REQUIRED}),
        ({"tool_choice": named("get")}, {"choice": ToolChoice.REQUIRED, "named": "get"}),
        ({"tool_choice": allowed("auto", named("get"))}, {"tools": READ[:1]}),
        (
            {"tool_choice": allowed("required", named(LONG), named("get"))},
            {"choice": ToolChoice.REQUIRED},
        ),
        ({"parallel_tool_calls": False}, {"parallel": False}),
        ({"parallel_tool_calls": True}, {"parallel": True}),
    ],
)
async def test_tools(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert await asked(tools=TOOLS, **fields) == ChatAsk(**{"messages": [USER], "tools": READ, **expected})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"schema": {"type": "object"}, "strict": False}),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, {"schema": SCHEMA, "strict": False}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            {"schema": SCHEMA, "strict": True},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            {"schema": {}, "strict": False},
        ),
        ({"json_schema": SCHEMA}, {"schema": SCHEMA, "strict": True}),
        ({"json_schema": {}}, {"schema": {}}),
        ({"grammar": 'root ::= "x"'}, {"grammar": 'root ::= "x"'}),
        ({"grammar": ""}, {}),
        (
            {"tools": TOOLS, "tool_choice": "none", "grammar": "g"},
            {"tools": READ, "choice": ToolChoice.NONE, "grammar": "g"},
        ),
        ({"tools": TOOLS, "json_schema": SCHEMA}, {"tools": READ, "schema": SCHEMA}),
    ],
)
async def test_constraints(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert await asked(**fields) == ChatAsk(messages=[USER], **expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "none"}, {"enable_thinking": False}),
        (
            {"chat_template_kwargs": {"enable_thinking": False, "x": [1]}},
            {"enable_thinking": False, "variables": {"x": [1]}},
        ),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}, {"enable_thinking": True}),
        ({"thinking_budget_tokens": 5}, {"reasoning_budget": 5}),
        ({"reasoning_budget": -1}, {"reasoning_budget": -1}),
        ({"thinking_budget_tokens": 0, "reasoning_budget": 0}, {"reasoning_budget": 0}),
    ],
)
async def test_reasoning(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert await asked(**fields) == ChatAsk(messages=[USER], **expected)


@pytest.mark.parametrize(
    ("last", "fields", "expected"),
    [
        ({"role": "user", "content": "x"}, {}, (True, False)),
        ({"role": "user", "content": "x"}, {"add_generation_prompt": False}, (False, False)),
        ({"role": "assistant", "content": "x"}, {}, (False, True)),
        ({"role": "assistant", "content": "x"}, {"continue_final_message": True}, (False, True)),
        ({"role": "assistant", "content": "x"}, {"continue_final_message": False}, (True, False)),
        ({"role": "assistant", "content": "x"}, {"add_generation_prompt": True}, (True, False)),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, {}, (True, False)),
        ({"role": "assistant", "content": None, "function_call": {"name": "get"}}, {}, (True, False)),
    ],
)
async def test_who_goes_on(last: dict[str, Any], fields: dict[str, Any], expected: tuple[bool, bool]) -> None:
    ask = await asked(messages=[USER, last], **fields)
    assert (ask.add_generation_prompt, ask.continue_final_message) == expected


@pytest.mark.parametrize(
    ("change", "fields", "expected"),
    [
        ({"grammar": "g"}, {}, {"grammar": "g"}),
        ({"json_schema": '{"type":"array"}'}, {}, {"schema": {"type": "array"}}),
        ({"grammar": "g"}, {"json_schema": {}}, {"schema": {}}),
        ({"json_schema": "{}"}, {"grammar": "h"}, {"grammar": "h"}),
        (
            {"grammar": "g"},
            {"response_format": {"type": "json_object"}},
            {"schema": {"type": "object"}, "strict": False},
        ),
        ({"grammar": "g"}, {"tools": TOOLS}, {"tools": READ}),
        ({"json_schema": "{}"}, {"tools": TOOLS}, {"tools": READ, "schema": {}}),
        (
            {"grammar": "g"},
            {"tools": TOOLS, "tool_choice": "none"},
            {"tools": READ, "choice": ToolChoice.NONE, "grammar": "g"},
        ),
    ],
)
async def test_defaults(change: dict[str, str], fields: dict[str, Any], expected: dict[str, Any]) -> None:
    services = make_services()
    defaults = attrs.evolve(services.settings.defaults, **change)
    services.settings = attrs.evolve(services.settings, defaults=defaults)
    assert (await Client(services).post(CHAT, {"messages": [USER], **fields})).status == 200
    assert services.prompts.asks == [ChatAsk(messages=[USER], **expected)]
    assert (await Client(services).post("/apply-template", {"messages": [USER]})).status == 200
    assert services.prompts.asks[1:] == [ChatAsk(messages=[USER])], "a prompt has no constraint"


WRONG = [
    ({"tools": "x"}, "tools"),
    ({"tools": [5]}, "tools[0]"),
    ({"tools": [TOOLS[0], {}]}, "tools[1].type"),
    ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
    ({"tools": [{"type": ["function"]}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": "get"}]}, "tools[0].function"),
    *(({"tools": [tool(name)]}, "tools[0].function.name") for name in (None, 5, "", "a b", "é", "x" * 129, "x\n")),
    ({"tools": [tool("get", description=5)]}, "tools[0].function.description"),
    ({"tools": [tool("get", parameters=[])]}, "tools[0].function.parameters"),
    ({"tools": [tool("get", parameters="{}")]}, "tools[0].function.parameters"),
    *(
        ({"tools": [*TOOLS, tool("f", parameters={"type": kind})]}, "tools[2].function.parameters.type")
        for kind in ("string", "array", "OBJECT", "", None, ["object", "null"], {}, 5)
    ),
    ({"tools": [tool("get", strict="yes")]}, "tools[0].function.strict"),
    ({"tools": [tool("get"), tool("put"), tool("get")]}, "tools[2].function.name"),
    ({"tools": TOOLS, "tool_choice": 5}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {}}, "tool_choice.type"),
    ({"tools": TOOLS, "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": "get"}}, "tool_choice.function"),
    ({"tools": TOOLS, "tool_choice": named("put")}, "tool_choice.function.name"),
    ({"tools": TOOLS, "tool_choice": named(["get"])}, "tool_choice.function.name"),
    ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
    ({"tools": TOOLS, "tool_choice": allowed("none", named("get"))}, "tool_choice.allowed_tools.mode"),
    ({"tools": TOOLS, "tool_choice": allowed("auto", 5)}, "tool_choice.allowed_tools.tools[0].function.name"),
    (
        {"tools": TOOLS, "tool_choice": allowed("auto", named("get"), named("put"))},
        "tool_choice.allowed_tools.tools[1].function.name",
    ),
    ({"tools": TOOLS, "tool_choice": allowed("required")}, "tool_choice.allowed_tools"),
    *(
        ({"tools": tools, "tool_choice": choice}, "tool_choice")
        for tools in (None, [])
        for choice in ("required", named("get"), "any")
    ),
    ({"tools": TOOLS, "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"tools": TOOLS, "grammar": "g"}, "grammar"),
    ({"tools": TOOLS, "tool_choice": "required", "grammar": "g"}, "grammar"),
    ({"tools": [tool("unsatisfiable")], "tool_choice": "required"}, "tools"),
    ({"functions": [{"name": "unsatisfiable"}], "function_call": {"name": "unsatisfiable"}}, "functions"),
    ({"functions": [5]}, "functions[0]"),
    ({"functions": [{"name": "a b"}]}, "functions[0].name"),
    ({"functions": [{"name": "f", "parameters": 5}]}, "functions[0].parameters"),
    ({"functions": [{"name": "f", "parameters": {"type": "string"}}]}, "functions[0].parameters.type"),
    ({"functions": [{"name": "f"}, {"name": "f"}]}, "functions[1].name"),
    ({"functions": [{"name": "f"}], "tools": TOOLS}, "functions"),
    ({"functions": [{"name": "f"}], "tool_choice": "required"}, "tool_choice"),
    ({"functions": [{"name": "f"}], "function_call": "required"}, "function_call"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name"),
    ({"functions": [{"name": "f"}], "function_call": {}}, "function_call.name"),
    ({"functions": [{"name": "f"}], "grammar": "g"}, "grammar"),
    *(
        (fields, param)
        for levels in (191, 3000)
        for fields, param in (
            ({"tools": [tool("f"), tool("g", parameters=deep(levels))]}, "tools[1].function.parameters"),
            ({"functions": [{"name": "f", "parameters": deep(levels)}]}, "functions[0].parameters"),
            ({"response_format": {"type": "json_object", "schema": deep(levels)}}, "response_format"),
            ({"json_schema": deep(levels)}, "json_schema"),
            ({"chat_template_kwargs": deep(levels)}, "chat_template_kwargs"),
        )
    ),
    ({"tools": TOOLS, "function_call": "auto"}, "function_call"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"reasoning_effort": "maximal"}, "reasoning_effort"),
    ({"reasoning_effort": 5}, "reasoning_effort"),
    ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs.enable_thinking"),
    ({"chat_template_kwargs": []}, "chat_template_kwargs"),
    ({"thinking_budget_tokens": -2}, "thinking_budget_tokens"),
    ({"reasoning_budget": "5"}, "reasoning_budget"),
    ({"reasoning_budget": 1.5}, "reasoning_budget"),
    ({"reasoning_budget": 1, "thinking_budget_tokens": 2}, "reasoning_budget"),
    ({"continue_final_message": True}, "continue_final_message"),
    (
        {
            "continue_final_message": True,
            "messages": [USER, {"role": "assistant", "tool_calls": [{"id": "1"}]}],
        },
        "continue_final_message",
    ),
]


@pytest.mark.parametrize(("fields", "param"), WRONG)
async def test_what_is_wrong_is_named(client: Client, engine: FakeEngine, fields: dict[str, Any], param: str) -> None:
    for stream in (False, True):
        reply = await client.post(CHAT, {"messages": [USER], "stream": stream, **fields})
        assert (reply.status, reply.error["param"]) == (400, param), reply.body
        assert param.partition("[")[0].partition(".")[0] in reply.error["message"]
    assert engine.opened == []


async def test_schemas_of_objects_need_not_say_so() -> None:
    by_reference = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}
    for schema in ({}, {"properties": {"type": {"type": "string"}}}, {"anyOf": [{"required": ["a"]}]}, by_reference):
        ask = await asked(tools=[tool("f", parameters=schema)])
        assert ask.tools == (Tool(name="f", parameters=schema),)


async def test_what_is_nested_less_deeply_is_taken() -> None:
    for fields in ({"tools": [tool("f", parameters=deep(190))]}, {"chat_template_kwargs": deep(190)}):
        await asked(**fields)
    assert (await asked(json_schema=deep(190))).schema == deep(190)


async def test_what_the_assistant_refused_is_text() -> None:
    no = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    ask = await asked(messages=[USER, no, USER])
    assert [message["content"] for message in validate(ask.messages)] == ["hi", "No.", "hi"]
