"""The analysis of every family's template, and a turn of its model read by what it found."""

import json
from typing import Any

import pytest

from llamabox.chat.analysis.choose import format_of
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Reasoning
from llamabox.chat.formats.base import Tool
from llamabox.chat.formats.known import known_format
from llamabox.chat.parser import OutputParser
from tests.chat.analysis.templates import describe
from tests.chat.families import CONTENT, FAMILIES, PLAIN, REASONING, TOOLS, Family

WRITES_MORE = {"chatglm4"}  # the template writes several calls, the model does not

every = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@every
def test_description(family: Family) -> None:
    found = describe(family.source)
    assert found.tools_shown == family.tools
    assert found.calls_shown == family.tools
    assert found.results_shown == family.tools
    assert found.parallel_calls == (family.parallel or family.name in WRITES_MORE)
    assert found.object_arguments == (family.tools and not family.string_arguments)
    assert found.string_arguments >= family.string_arguments
    assert (found.reasoning is not None) == family.reasoning
    assert found.opened_by_prompt == family.reasoning_open
    assert found.reasoning_field == (family.reasoning_key if family.reasoning_kept else None)
    assert (found.tools is not None) >= (family.tools and known_format(family.source) is None)


@every
def test_the_prompt_leaves_reasoning_open_where_it_should(family: Family) -> None:
    found = describe(family.source)
    prompt = family.render([{"role": "user", "content": "hello"}], prompt=True)
    assert found.leaves_reasoning_open(prompt) == family.reasoning_open
    assert prompt.endswith(found.generation_prompt)


@every
def test_a_turn_is_read_by_it(family: Family) -> None:
    description = describe(family.source)
    tools = {tool["function"]["name"]: _tool(tool["function"]) for tool in TOOLS}
    calls = PLAIN[: 2 if family.parallel else 1] if family.tools else ()
    content = CONTENT if family.content_beside_calls or not calls else ""
    reasoning = REASONING if family.reasoning else ""
    parser = OutputParser(
        format_of(family.source, description), tools=tools, reasoning_open=description.opened_by_prompt
    )
    deltas = [*parser.feed(family.wire(calls, content=content, reasoning=reasoning)), *parser.finish()]
    assert "".join(d.text for d in deltas if isinstance(d, Reasoning)) == reasoning
    assert "".join(d.text for d in deltas if isinstance(d, Content)).strip() == content
    names = [d.name for d in deltas if isinstance(d, CallStarted)]
    texts = [
        "".join(d.text for d in deltas if isinstance(d, CallArguments) and d.index == n) for n in range(len(names))
    ]
    assert list(zip(names, map(json.loads, texts), strict=True)) == list(calls)


def _tool(function: dict[str, Any]) -> Tool:
    return Tool(name=function["name"], parameters=function["parameters"])
