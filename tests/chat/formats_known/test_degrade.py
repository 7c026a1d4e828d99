"""What only looks like a call is content, all of it, and what comes behind it is still understood."""

import pytest

from llamabox.chat.deltas import Content
from llamabox.chat.formats.base import ChatFormat, ToolSyntax
from llamabox.chat.formats.chatglm4 import ChatGlm4
from llamabox.chat.formats.dsml import Dsml
from llamabox.chat.formats.functionary import Functionary
from llamabox.chat.formats.gemma4 import Gemma4
from llamabox.chat.formats.harmony import Harmony
from llamabox.chat.formats.kimi import Kimi
from llamabox.chat.formats.lfm2 import Lfm2
from llamabox.chat.parser import OutputParser
from tests.chat.formats_known.cases import CASES, Case, dsml
from tests.chat.formats_known.reading import TOOLS, read

SECTION = "<|tool_calls_section_begin|>"
KIMI = "<|tool_call_begin|>functions.{}:0<|tool_call_argument_begin|>{}<|tool_call_end|>"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Harmony(), "<|channel|>commentary to=functions.rain json<|message|>{}"),
        (Harmony(), "<|channel|>analysis to=python code<|message|>print(1)"),
        (Harmony(), "<|channel|>commentary to=functions.get json<|message|>no object"),
        (Harmony(), "just text"),
        (Harmony(), "to=do: nothing"),
        (Functionary(), "rain\n{}"),
        (Functionary(), "get\nno object"),
        (Functionary(), "all is well"),
        (Gemma4(), "<|tool_call>call:rain{}<tool_call|>"),
        (Gemma4(), "<|tool_call>call:get()<tool_call|>"),
        (Lfm2(), "<|tool_call_start|>[rain()]<|tool_call_end|>"),
        (Lfm2(), "<|tool_call_start|>[get]<|tool_call_end|>"),
        (Lfm2(), "<|tool_call_start|>"),
        (Kimi(), SECTION + KIMI.format("rain", "{}")),
        (Kimi(), SECTION + KIMI.format("get", "1")),
        (Kimi(), SECTION + "<|tool_call_begin|>functions.get:0"),
        (Dsml(), dsml('<D:function_calls>\n<D:invoke name="rain">\n</D:invoke>')),
        (Dsml(), dsml("<D:function_calls>\n<D:invoke>\n</D:invoke>")),
        (Dsml(), dsml('<D:tool_calls>\n<D:invoke name="get">\n</D:invoke>')),
        (ChatGlm4(), "rain\n{}"),
        (ChatGlm4(), "get\nno object"),
        (ChatGlm4(), 'Look:\nget\n{"a": 1}'),
    ],
)
def test_no_call(form: ChatFormat | ToolSyntax, text: str) -> None:
    for pieces in ([text], text):
        found = read(form, pieces)
        assert (found.content, found.reasoning, found.calls) == (text, "", ())


@pytest.mark.parametrize(
    ("form", "text", "content"),
    [
        (Gemma4(), "<|tool_call>call:get{}<tool_call|><|tool_call>call:rain{}<tool_call|>", "call:rain{}<tool_call|>"),
        (Lfm2(), "<|tool_call_start|>[get(), rain()]<|tool_call_end|>", "rain()]<|tool_call_end|>"),
        (Kimi(), SECTION + KIMI.format("get", "{}") + KIMI.format("rain", "{}"), "rain:0"),
        (
            Dsml(),
            dsml(
                '<D:function_calls><D:invoke name="get"></D:invoke><D:invoke name="rain"></D:invoke></D:function_calls>'
            ),
            dsml('<D:invoke name="rain"></D:invoke>'),
        ),
        (ChatGlm4(), "get\n{}\nget rain", "get rain"),
        (Functionary(), "get\n{}>>>rain\n{}", ">>>rain\n{}"),
        (Functionary(), "get\n{}\nSo it is.", "So it is."),
    ],
)
def test_a_call_and_then_none(form: ChatFormat | ToolSyntax, text: str, content: str) -> None:
    for pieces in ([text], text):
        found = read(form, pieces)
        assert found.parsed == [("get", {})]
        assert content in found.content


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Gemma4(), "<|tool_call>call:rain{}<tool_call|><|tool_call>call:get{}<tool_call|>"),
        (Functionary(), "rain\n{}>>>get\n{}"),
        (
            Harmony(),
            (
                "<|channel|>commentary to=functions.rain json<|message|>{}<|end|>"
                "<|start|>assistant to=functions.get<|channel|>commentary json<|message|>{}"
            ),
        ),
        (Lfm2(), "<|tool_call_start|>[rain()]<|tool_call_end|>\n<|tool_call_start|>[get()]<|tool_call_end|>"),
    ],
)
def test_a_call_behind_none(form: ChatFormat | ToolSyntax, text: str) -> None:
    for pieces in ([text], text):
        found = read(form, pieces)
        assert found.parsed == [("get", {})]
        assert "rain" in found.content


@pytest.mark.parametrize(
    "text", ["<|channel|>", "<|channel|>final", "<|start|>", "<|start|>assistant", "<|channel|>analysis<|mess"]
)
def test_a_header_that_was_cut_off_is_nothing(text: str) -> None:
    found = read(Harmony(), text)

    assert (found.content, found.reasoning, found.calls) == ("", "", ())


def test_a_tools_name_before_a_stop_string_may_be_an_answer() -> None:
    for text in ("get", "get_wea", "get "):
        parser = OutputParser(ChatGlm4(), tools=TOOLS)
        assert [*parser.feed(text), *parser.finish(stop_string="END")] == [Content(text)]


@pytest.mark.parametrize("case", [case for case in CASES if case.canonical], ids=lambda case: case.name)
def test_endless_nesting_is_no_failure(case: Case) -> None:
    at = case.text.index("{") + 1 if "{" in case.text else case.text.index("(") + 1

    read(case.form, [case.text[:at], "[{(" * 5000, case.text[at:]])
    read(case.form, [case.text[:at], "a=" + "[" * 5000, case.text[at:]])
