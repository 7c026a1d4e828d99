import json
from typing import Any

import pytest

from llamabox.chat.capabilities import Capabilities
from llamabox.chat.formats.base import Tool
from llamabox.chat.normalise.variables import KEEP_REASONING, openai_tool, template_variables
from llamabox.chat.template import ChatTemplate

WEATHER = Tool(name="weather", description="é", parameters={"type": "object", "properties": {"city": {}}})
BARE = Tool(name="now", strict=True)
LISTED = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "é",
            "parameters": {"type": "object", "properties": {"city": {}}},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
            "strict": True,
        },
    },
]


def test_tools_in_openais_form() -> None:
    assert [openai_tool(tool) for tool in (WEATHER, BARE)] == LISTED


def test_what_every_template_is_told() -> None:
    plain = template_variables(Capabilities())
    assert plain == {**KEEP_REASONING, "enable_thinking": True, "thinking": True}
    assert "tools" not in plain


@pytest.mark.parametrize(
    ("given", "thinking"), [({}, False), ({"enable_thinking": True}, True), ({"thinking": True}, False)]
)
def test_thinking(given: dict[str, Any], thinking: bool) -> None:
    variables = template_variables(Capabilities(), enable_thinking=False, given=given)
    assert variables["enable_thinking"] is thinking
    assert variables["thinking"] is given.get("thinking", thinking)


def test_the_requests_own_variables_win() -> None:
    given = {"preserve_thinking": False, "clear_thinking": True, "reasoning_effort": "high", "more": [1]}
    variables = template_variables(Capabilities(), reasoning_effort="low", given=given)
    assert {name: variables[name] for name in given} == given
    assert template_variables(Capabilities(), reasoning_effort="low")["reasoning_effort"] == "low"


def test_tools_under_the_templates_name() -> None:
    assert template_variables(Capabilities(), tools=[WEATHER, BARE])["tools"] == LISTED
    variables = template_variables(Capabilities(tool_argument_name="xml_tools"), tools=[WEATHER, BARE])
    assert [tool.get("function", tool) for tool in variables["xml_tools"]] == [tool["function"] for tool in LISTED]


def test_tools_as_text() -> None:
    able = Capabilities(tool_argument_name="functions", tools_as_text=True)
    text = template_variables(able, tools=[WEATHER, BARE])["functions"]
    assert json.loads(text) == [tool["function"] for tool in LISTED]
    assert "é" in text
    assert json.loads(template_variables(able)["functions"]) == []


FIREFUNCTION = "{{ 'Functions: ' + functions + ' Today is ' + datetime + '.' + messages[0].content }}"


def test_variables_on_which_a_template_insists() -> None:
    text = ChatTemplate(FIREFUNCTION).render({"messages": [{"role": "user", "content": "U"}]})
    assert text.startswith("Functions:  Today is ")
    assert text.endswith(".U")
