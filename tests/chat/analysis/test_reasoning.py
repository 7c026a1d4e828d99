"""Reasoning, the frame of a turn, and what surrounds an answer."""

import pytest

from llamabox.chat.formats.base import Marks
from tests.chat.analysis.templates import describe, template

THINK = (
    "{%- if message.reasoning_content %}"
    "{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}"
    "{% endif -%}"
)
CLOSABLE = "{{- '<think>\\n\\n</think>\\n\\n' if enable_thinking is false else '' -}}"


def test_none() -> None:
    found = describe(template())
    assert found.reasoning is None
    assert not found.opened_by_prompt
    assert found.closed_by_prompt == ""
    assert not found.preserves_reasoning
    assert found.wrapping is None
    assert found.generation_prompt == "<|bot|>"
    assert found.turn_end == "<|end|>"
    assert not found.leaves_reasoning_open("<|bot|>")


def test_closed_by_the_prompt() -> None:
    found = describe(template(reasoning=THINK, prompt=CLOSABLE))
    assert found.reasoning == Marks("<think>\n", "\n</think>\n\n")
    assert not found.opened_by_prompt
    assert found.closed_by_prompt == "<think>\n\n</think>\n\n"
    assert found.reasoning_field == "reasoning_content"
    assert not found.leaves_reasoning_open("<|bot|>" + found.closed_by_prompt)


def test_forced_open() -> None:
    found = describe(template(reasoning=THINK, prompt="{{- '<think>\\n' -}}"))
    assert found.reasoning == Marks("<think>\n", "\n</think>\n\n")
    assert found.opened_by_prompt
    assert found.generation_prompt == "<|bot|><think>\n"
    assert found.leaves_reasoning_open("<|bot|><think>\n")
    assert not found.leaves_reasoning_open("<|bot|><think>\n</think>\n")


def test_an_empty_block_where_there_is_none() -> None:
    always = "{{- '<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n' -}}"
    found = describe(template(reasoning=always, prompt=CLOSABLE))
    assert found.reasoning == Marks("<think>\n", "\n</think>\n\n")
    assert found.wrapping is None


def test_only_an_end_where_there_is_none() -> None:
    always = "{{- ('<think>' + message.reasoning_content if message.reasoning_content else '') + '</think>' -}}"
    prompt = "{{- '<think>' if enable_thinking else '</think>' -}}"
    found = describe(template(reasoning=always, prompt=prompt))
    assert found.reasoning == Marks("<think>", "</think>")
    assert found.opened_by_prompt
    assert found.closed_by_prompt == "</think>"


def test_without_a_start() -> None:
    text = "{%- if message.reasoning_content %}{{ message.reasoning_content + '\\n[FINAL ANSWER]\\n' }}{% endif -%}"
    found = describe(template(reasoning=text, prompt="{{- 'My steps:\\n' -}}"))
    assert found.reasoning == Marks("", "\n[FINAL ANSWER]\n")
    assert found.opened_by_prompt
    assert found.leaves_reasoning_open("<|bot|>My steps:\n")
    assert not found.leaves_reasoning_open("<|bot|>My steps:\nnone\n[FINAL ANSWER]\n")


def test_start_only_in_the_prompt() -> None:
    text = "{%- if message.reasoning_content %}{{ message.reasoning_content + '</think>' }}{% endif -%}"
    found = describe(template(reasoning=text, prompt="{{- '<think>\\n' -}}"))
    assert found.reasoning == Marks("<think>\n", "</think>")
    assert found.opened_by_prompt


@pytest.mark.parametrize(
    ("cut", "prompt", "opened"),
    [("{# </think> #}", "{{- '<think>\\n' -}}", True), ("{# </think> #}", "", False), ("", CLOSABLE, False)],
)
def test_known_from_the_prompt_or_the_text_alone(cut: str, prompt: str, opened: bool) -> None:
    found = describe(template(reasoning=cut, prompt=prompt))
    assert found.reasoning is not None
    assert (found.reasoning.start.strip(), found.reasoning.end.strip()) == ("<think>", "</think>")
    assert found.opened_by_prompt is opened
    assert found.reasoning_field is None


def test_the_other_field() -> None:
    found = describe(template(reasoning=THINK.replace("reasoning_content", "thinking")))
    assert found.reasoning_field == "thinking"
    assert found.reasoning == Marks("<think>\n", "\n</think>\n\n")


def test_written_beside_calls_only() -> None:
    text = THINK.replace("if message", "if message.tool_calls and message")
    found = describe(
        template("{{- '<c>' + {'name': name, 'arguments': arguments} | tojson + '</c>' -}}", reasoning=text)
    )
    assert found.reasoning == Marks("<think>\n", "\n</think>\n\n")
    assert found.reasoning_field == "reasoning_content"


def test_frame_of_the_turn_is_no_reasoning() -> None:
    source = (
        "{%- for m in messages -%}{{- '<turn_begin>' if m.role == 'assistant' else '<|u|>' -}}{{- m.content -}}"
        "{{- '<turn_end>' if m.role == 'assistant' and not loop.last else '' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<turn_begin>' -}}{%- endif -%}"
    )
    found = describe(source)
    assert found.reasoning is None
    assert found.wrapping is None
    assert found.turn_end == "<turn_end>"


class TestWrapping:
    def wrapped(self, start: str, end: str) -> str:
        source = template(reasoning=THINK)
        return source.replace("{{- message.content -}}", f"{{{{- '{start}' + message.content + '{end}' -}}}}")

    def test_pair(self) -> None:
        found = describe(self.wrapped("<|START_TEXT|>", "<|END_TEXT|>"))
        assert found.wrapping == Marks("<|START_TEXT|>", "<|END_TEXT|>")
        assert found.reasoning == Marks("<think>\n", "\n</think>\n\n")
        assert found.turn_end == "<|end|>"

    def test_start_alone(self) -> None:
        found = describe(self.wrapped("<|content|>", ""))
        assert found.wrapping == Marks("<|content|>", "")
        assert found.turn_end == "<|end|>"

    def test_beside_reasoning_only(self) -> None:
        source = template(reasoning=THINK.replace("\\n\\n", "")).replace(
            "{{- message.content -}}",
            "{{- '<reply>' + message.content + '</reply>' if message.reasoning_content else message.content -}}",
        )
        found = describe(source)
        assert found.reasoning == Marks("<think>\n", "\n</think>")
        assert found.wrapping == Marks("<reply>", "</reply>")

    def test_told_in_words(self) -> None:
        found = describe(template(listing="{{- 'Write your answer between <response></response>.' -}}"))
        assert found.wrapping == Marks("<response>", "</response>")

    def test_marks_of_something_else(self) -> None:
        source = template(listing="{{- 'Tools answer <response>so</response>.' -}}")
        assert describe(source).wrapping is None

    def test_white_space_is_none(self) -> None:
        assert describe(self.wrapped("\\n", "\\n\\n")).wrapping is None

    def test_roles_are_none(self) -> None:
        """A template that knows no generation prompt: the assistant's own mark is not the answer's."""
        source = "{%- for m in messages -%}{{- '<' + m.role + '>' + m.content + '</' + m.role + '>' -}}{%- endfor -%}"
        found = describe(source)
        assert found.wrapping is None
        assert found.turn_end == "</assistant>"
        assert found.generation_prompt == ""


@pytest.mark.parametrize(
    ("last", "between", "end"),
    [
        ("", "<|user|>", "<|user|>"),  # nothing but what comes next ends a turn
        ("", "User: ", ""),
        ("[e~[\\n", "]~b]", "[e~["),
        ("<|return|>", "<|end|><|user|>", ""),
    ],
)
def test_ends_of_a_turn(last: str, between: str, end: str) -> None:
    source = (
        "{%- for m in messages -%}{%- if m.role == 'user' -%}{{- '" + between + "' -}}{%- else -%}{{- '[bot]' -}}"
        "{%- endif -%}{{- m.content -}}{%- if m.role != 'user' -%}{{- '" + last + "' -}}{%- endif -%}{%- endfor -%}"
    )
    if "return" in last:
        source = source.replace("m.role != 'user' -%}", "m.role != 'user' and loop.last -%}")
        end = "<|return|>"
    assert describe(source).turn_end == end
