"""What templates take and show."""

import json
from typing import Any

import pytest

from llamabox.chat.analysis.analyze import analyze
from llamabox.chat.errors import TemplateError, TemplateLimitError
from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.template import compiled
from tests.chat.analysis.templates import describe, template

CALL = "{{- '<c>' + {'name': name, 'arguments': arguments} | tojson + '</c>' -}}"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


class TestNoTools:
    def test_neither_tools_nor_calls(self) -> None:
        found = describe(template(listing=""))
        assert found.tools is None
        assert not found.tools_shown
        assert not found.calls_shown
        assert not found.parallel_calls
        assert found.results_shown, "it writes every role"

    def test_calls_but_no_tools(self) -> None:
        found = describe(template(CALL, listing=""))
        assert isinstance(found.tools, JsonCalls)
        assert not found.tools_shown
        assert found.calls_shown

    def test_strict_alternation(self) -> None:
        source = template(listing="").replace(
            "{%- if message.role == 'assistant' -%}",
            "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif -%}"
            "{%- if message.role == 'assistant' -%}",
        )
        found = describe(source)
        assert found.turn_end == "<|end|>"
        assert not found.results_shown

    def test_whole_messages_as_json(self) -> None:
        """Everything comes out, and nothing of it is how the model would write."""
        found = describe("{%- for m in messages -%}{{- m | tojson -}}{%- endfor -%}")
        assert found.tools is None
        assert not found.tools_shown


class TestToldInTheListing:
    LISTING = "{%- if tools %}{{ tools | tojson + 'Write <tool_call>\\n{\"name\": …}\\n</tool_call>' }}{% endif -%}"

    def test_usual_form(self) -> None:
        found = describe(template(listing=self.LISTING))
        assert isinstance(found.tools, JsonCalls)
        assert found.tools.starts == ("<tool_call>",)
        assert found.tools_shown
        assert not found.calls_shown

    def test_lists(self) -> None:
        for text, end in (("<|tool_call|>", ""), ("<|tool_call|>[]<|/tool_call|>", "<|/tool_call|>")):
            found = describe(template(listing="{%- if tools %}{{ tools | tojson + '" + text + "' }}{% endif -%}"))
            assert isinstance(found.tools, JsonCalls)
            assert found.tools.is_list
            assert found.tools.section == Marks("<|tool_call|>", end)

    def test_not_if_it_is_always_there(self) -> None:
        found = describe(
            template(
                listing="{{- '<tool_call></tool_call>' + tools | tojson if tools else '<tool_call></tool_call>' -}}"
            )
        )
        assert found.tools is None


class TestArguments:
    def test_objects_only(self) -> None:
        found = describe(template(CALL))
        assert (found.object_arguments, found.string_arguments) == (True, False)

    def test_strings_only(self) -> None:
        text = "{{- '<c>{\"name\": \"' + name + '\", \"arguments\": ' + arguments + '}</c>' -}}"
        found = describe(template(text))
        assert (found.object_arguments, found.string_arguments) == (False, True)
        assert found.tools == describe(template(CALL)).tools

    def test_objects_that_python_prints(self) -> None:
        text = "{{- '<c>{\"name\": \"' ~ name ~ '\", \"arguments\": ' ~ arguments ~ '}</c>' -}}"
        found = describe(template(text))
        assert (found.object_arguments, found.string_arguments) == (False, True)

    def test_both(self) -> None:
        text = "{{- '<c=' + name + '>' + (arguments if arguments is string else arguments | tojson) + '</c>' -}}"
        found = describe(template(text))
        assert (found.object_arguments, found.string_arguments) == (True, True)


class TestIds:
    def test_nine_characters(self) -> None:
        check = "{%- if call.id | length != 9 %}{{ raise_exception('nine!') }}{% endif -%}"
        assert describe(template(check + CALL)).id_length == 9

    def test_any(self) -> None:
        assert describe(template(CALL)).id_length is None


class TestContent:
    def test_parts_only(self) -> None:
        joined = "(message.content | map(attribute='text') | join)"
        source = template(CALL).replace("message.content", joined)
        found = describe(source)
        assert found.calls_shown
        assert found.turn_end == "<|end|>"
        assert found.tools == describe(template(CALL)).tools


def test_results_are_demanded() -> None:
    check = "{%- if messages[-1].tool_calls %}{{ raise_exception('no result') }}{% endif -%}"
    found = describe(check + template(CALL))
    assert found.calls_shown
    assert found.tools == describe(template(CALL)).tools
    assert found.parallel_calls


def test_results_are_demanded_and_name_their_calls() -> None:
    check = "{%- if messages[-1].tool_calls %}{{ raise_exception('no result') }}{% endif -%}"
    named = "(message.name + message.tool_call_id if message.name else '') + message.content"
    source = template(CALL).replace("'|>' + message.content", f"'|>' + {named}")
    assert named in source
    found = describe(check + source)
    assert found.tools == describe(template(CALL)).tools
    assert found.parallel_calls


def test_results_are_lost() -> None:
    source = template(CALL).replace(
        "{%- for message in messages -%}", "{%- for message in messages if message.role != 'tool' -%}"
    )
    found = describe(source)
    assert found.calls_shown
    assert not found.results_shown


def test_the_second_call_is_lost() -> None:
    found = describe(template("{%- if first -%}" + CALL + "{%- endif -%}"))
    assert found.calls_shown
    assert not found.parallel_calls
    assert isinstance(found.tools, JsonCalls)


def test_tools_in_the_first_message_of_the_user() -> None:
    source = template(CALL, listing="").replace(
        "{{- '<|' + message.role + '|>'",
        "{%- if loop.first and tools %}{{ tools | tojson }}{% endif -%}{{- '<|' + message.role + '|>'",
    )
    found = describe(source)
    assert found.tools_shown
    assert found.tools == describe(template(CALL)).tools


def test_a_clock_in_the_prompt() -> None:
    """Whatever is different before the messages does not matter."""
    source = template(CALL, reasoning="{{- '<think>' + (message.reasoning_content or '') + '</think>' -}}")
    ticks = iter(range(1000))

    def render(variables: dict[str, Any]) -> str:
        return f"It is {next(ticks)}. " + compiled(source).render({"bos_token": "", **variables})

    assert analyze(source, render) == describe(source, bos_token="")


class TestNames:
    @pytest.mark.parametrize(
        ("listing", "name", "as_text"),
        [
            ("{%- if tools %}{{ tools | tojson }}{% endif -%}", "tools", False),
            (
                "{%- if xml_tools %}{%- for t in xml_tools -%}{{- t | string -}}{%- endfor -%}{% endif -%}",
                "xml_tools",
                True,
            ),
            ("{%- for t in xml_tools or [] -%}{{- t.name -}}{%- endfor -%}", "xml_tools", False),
            ("{{- 'Functions: ' + functions -}}", "functions", True),
            ("{%- for f in functions or [] -%}{{- f['name'] -}}{%- endfor -%}", "functions", False),
        ],
    )
    def test_where_the_template_looks(self, listing: str, name: str, as_text: bool) -> None:
        found = describe(template(CALL, listing=listing))
        assert (found.tool_argument_name, found.tools_as_text) == (name, as_text)
        assert found.tools_shown
        assert found.calls_shown

    def test_variables(self) -> None:
        tools = describe(template(CALL))
        assert tools.tool_variables([TOOL]) == {"tools": [TOOL]}
        assert tools.tool_variables([]) == {}
        text = describe(template(CALL, listing="{{- functions -}}"))
        assert json.loads(text.tool_variables([TOOL])["functions"]) == [TOOL["function"]]
        texts = describe(template(CALL, listing="{%- for t in xml_tools or [] -%}{{- t | string -}}{%- endfor -%}"))
        assert [json.loads(one) for one in texts.tool_variables([TOOL])["xml_tools"]] == [TOOL["function"]]

    def test_insisting_on_text(self) -> None:
        found = describe(template(listing="{{- '' + functions -}}"))
        assert found.tool_variables([]) == {"functions": "[]"}


class TestFailures:
    def test_a_template_that_never_works(self) -> None:
        with pytest.raises(TemplateError, match="not today"):
            describe("{{ raise_exception('not today') }}")

    def test_a_template_that_writes_no_answers(self) -> None:
        source = template(CALL).replace("for message in messages", "for message in messages if message.role == 'user'")
        found = describe(source)
        assert found.tools is None
        assert found.tools_shown
        assert not found.calls_shown

    @pytest.mark.parametrize("at", range(1, 17))
    def test_a_limit_is_passed_on(self, at: int) -> None:
        source = template(CALL)
        count = 0

        def render(variables: dict[str, Any]) -> str:
            nonlocal count
            count += 1
            if count == at:
                raise TemplateLimitError("too much")
            return compiled(source).render({"bos_token": "", **variables})

        with pytest.raises(TemplateLimitError, match="too much"):
            analyze(source, render)

    def test_few_renderings(self) -> None:
        source = template(CALL)
        count = 0

        def render(variables: dict[str, Any]) -> str:
            nonlocal count
            count += 1
            return compiled(source).render({"bos_token": "", **variables})

        analyze(source, render)
        assert count <= 30
