"""Templates show which format their models speak."""

from typing import Any

import pytest

from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.chatglm4 import ChatGlm4
from llamabox.chat.formats.dsml import Dsml
from llamabox.chat.formats.functionary import Functionary
from llamabox.chat.formats.gemma4 import Gemma4
from llamabox.chat.formats.harmony import Harmony
from llamabox.chat.formats.kimi import Kimi
from llamabox.chat.formats.known import known_format
from llamabox.chat.formats.lfm2 import Lfm2
from llamabox.chat.formats.standard import StandardFormat

THINK = Marks("<think>", "</think>")
BAR = "\uff5c"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}", Harmony()),
        ("{{ '<|start_header_id|>x<|end_header_id|>\n\n>>>all\n' + m.content }}", Functionary()),
        (
            "{{ '<|channel>thought\n' + t + '<channel|>' }}{{ '<|tool_call>call:' + f.name + '{' }}",
            StandardFormat(reasoning=Marks("<|channel>thought\n", "<channel|>"), tools=Gemma4()),
        ),
        ("{{ '<|tool_call>call:' + f.name }}", StandardFormat(tools=Gemma4())),
        ("{{ '<|tool_call_start|>[' + c + ']<|tool_call_end|>' }}", StandardFormat(tools=Lfm2())),
        ("{{ s + 'List of tools: <|tool_list_start|>[' }}", StandardFormat(tools=Lfm2())),
        (
            "{{ s + 'List of tools: [' }}{{ c.split('</think>')[-1] }}",
            StandardFormat(reasoning=THINK, tools=Lfm2()),
        ),
        ("<|tool_calls_section_begin|>", StandardFormat(tools=Kimi())),
        ("<think>{{ r }}</think><|tool_calls_section_begin|>", StandardFormat(reasoning=THINK, tools=Kimi())),
        (
            "{% set d = '" + BAR + "DSML" + BAR + "' %}{{ '<' + d + 'function_calls>' + '</think>' }}",
            StandardFormat(reasoning=THINK, tools=Dsml()),
        ),
        (
            "{% set d = '" + BAR + "DSML" + BAR + "' %}{{ '<' + d + 'tool_calls>' }}",
            StandardFormat(tools=Dsml(block="tool_calls")),
        ),
        ("[gMASK]<sop>{{ '<|observation|>' + m.content }}", ChatGlm4()),
    ],
)
def test_which_format(source: str, expected: Any) -> None:
    assert known_format(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "",
        "{{ '<|im_start|>' + m.role }}<tool_call></tool_call>",
        "[gMASK]<sop><|observation|><tool_call>{{ name }}<arg_key>",
        "{{ '<|start_header_id|>' }}<|python_tag|>",
        "Use '<|channel|>' sparingly",
    ],
)
def test_others_are_left_to_analysis(source: str) -> None:
    assert known_format(source) is None
