"""Outputs as the families write them, and what they are."""

from typing import Any, Final

import attrs

from llamabox.chat.formats.base import ChatFormat, Marks, ToolSyntax
from llamabox.chat.formats.chatglm4 import ChatGlm4
from llamabox.chat.formats.dsml import Dsml
from llamabox.chat.formats.functionary import Functionary
from llamabox.chat.formats.gemma4 import Gemma4
from llamabox.chat.formats.harmony import Harmony
from llamabox.chat.formats.kimi import Kimi
from llamabox.chat.formats.lfm2 import Lfm2
from llamabox.chat.formats.standard import StandardFormat

THINK: Final = Marks("<think>", "</think>")
BAR: Final = "\uff5c"

BERLIN: Final = ("get_weather", {"city": "Berlin"})
FULL: Final = (
    "get_weather",
    {
        "city": 'Zürich "x" & <b>\'s',
        "days": 3,
        "exact": True,
        "unit": "C",
        "where": {"lat": -1.5, "tags": ["a", "b,c"]},
    },
)
CLOCK: Final = ("get", {})


@attrs.frozen(kw_only=True)
class Case:
    """An output. ``canonical``: just as a grammar would have it."""

    name: str
    form: ChatFormat | ToolSyntax
    text: str
    calls: tuple[tuple[str, Any], ...] = ()
    content: str = ""
    reasoning: str = ""
    canonical: bool = False
    parallel: bool = True


def dsml(text: str) -> str:
    """``D:`` stands for the marks' prefix."""
    return text.replace("D:", f"{BAR}DSML{BAR}")


HARMONY_FULL: Final = (
    '{"city": "Zürich \\"x\\" & <b>\'s", "days": 3, "exact": true, "unit": "C", '
    '"where": {"lat": -1.5, "tags": ["a", "b,c"]}}'
)

CASES: Final = (
    Case(
        name="harmony answer",
        form=Harmony(),
        text="<|channel|>analysis<|message|>Hm, to=functions.x?<|end|><|start|>assistant<|channel|>final<|message|>Hi!",
        content="Hi!",
        reasoning="Hm, to=functions.x?",
    ),
    Case(
        name="harmony call in the role",
        form=Harmony(),
        text=f" to=functions.get_weather<|channel|>commentary json<|message|>{HARMONY_FULL}",
        calls=(FULL,),
        canonical=True,
    ),
    Case(
        name="harmony call in the channel",
        form=Harmony(),
        text=f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{HARMONY_FULL}",
        calls=(FULL,),
        canonical=True,
    ),
    Case(
        name="harmony call behind reasoning and preamble",
        form=Harmony(),
        text=(
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>Let me see.<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>b<|end|>"
            "<|start|>assistant to=functions.get<|channel|>commentary json<|message|>{}"
        ),
        calls=(CLOCK,),
        content="Let me see.",
        reasoning="a\n\nb",
    ),
    Case(
        name="harmony stray commentary",
        form=Harmony(),
        text="<|channel|>commentary to=assistant<|channel|>analysis<|message|>a<|end|>"
        "<|start|>assistant<|channel|>final <|constrain|>json<|message|>{}",
        content="{}",
        reasoning="a",
    ),
    Case(
        name="functionary text and calls",
        form=Functionary(),
        text='all\nWait:\n>>> 1 + 1\n2>>>get_weather\n{"city": "Berlin"}>>>get\n{}',
        calls=(BERLIN, CLOCK),
        content="Wait:\n>>> 1 + 1\n2",
    ),
    Case(
        name="functionary calls",
        form=Functionary(),
        text='get_weather\n{"city": "Berlin"}>>>get\n{}',
        calls=(BERLIN, CLOCK),
        canonical=True,
    ),
    Case(
        name="functionary loose",
        form=Functionary(),
        text='>>>get {"a": ">>>all\\n"}',
        calls=(("get", {"a": ">>>all\n"}),),
    ),
    Case(
        name="gemma 4",
        form=Gemma4(),
        text='Ok.\n<|tool_call>call:get_weather{city:<|"|>Zürich "x" & <b>\'s<|"|>,days:3,exact:true,unit:<|"|>C<|"|>,'
        'where:{lat:-1.5,tags:[<|"|>a<|"|>,<|"|>b,c<|"|>]}}<tool_call|><|tool_call>call:get{}<tool_call|>',
        calls=(FULL, CLOCK),
        content="Ok.",
    ),
    Case(
        name="gemma 4 call",
        form=Gemma4(),
        text='<|tool_call>call:get_weather{city:<|"|>Zürich "x" & <b>\'s<|"|>,days:3,exact:true,unit:<|"|>C<|"|>,'
        'where:{lat:-1.5,tags:[<|"|>a<|"|>,<|"|>b,c<|"|>]}}<tool_call|>',
        calls=(FULL,),
        canonical=True,
        parallel=False,
    ),
    Case(
        name="gemma 4 loose",
        form=Gemma4(),
        text='<|tool_call> get_weather { "city" : Berlin , exact : None }\n',
        calls=(("get_weather", {"city": "Berlin", "exact": None}),),
    ),
    Case(
        name="lfm2",
        form=StandardFormat(reasoning=THINK, tools=Lfm2()),
        text="<think>hm\n</think>So:\n"
        "<|tool_call_start|>[get_weather(city='Zürich \"x\" & <b>\\'s', days=3, exact=True, "
        "unit='C', where={'lat': -1.5, 'tags': ['a', 'b,c']}), get()]<|tool_call_end|>",
        calls=(FULL, CLOCK),
        content="So:",
        reasoning="hm",
    ),
    Case(
        name="lfm2 calls",
        form=Lfm2(),
        text="<|tool_call_start|>[get_weather(city='Zürich \"x\" & <b>\\'s', days=3, exact=True, "
        "unit='C', where={'lat': -1.5, 'tags': ['a', 'b,c']}), get()]<|tool_call_end|>",
        calls=(FULL, CLOCK),
        canonical=True,
    ),
    Case(
        name="lfm2 loose",
        form=Lfm2(),
        text='<|tool_call_start|>\n[ get_weather ( "Berlin" , days = 0x10 , exact = None, ) , ]\n'
        "<|tool_call_end|> Done.",
        calls=(("get_weather", {"city": "Berlin", "days": 16, "exact": None}),),
        content="Done.",
    ),
    Case(
        name="lfm2 with bare quotes",
        form=Lfm2(),
        text="<|tool_call_start|>[get_weather(city='it's the dogs' bowl', days=1)]<|tool_call_end|>",
        calls=(("get_weather", {"city": "it's the dogs' bowl", "days": 1}),),
    ),
    Case(
        name="kimi",
        form=StandardFormat(reasoning=THINK, tools=Kimi()),
        text="<think>hm</think>Ok.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Berlin"}<|tool_call_end|><|tool_call_begin|>functions.get:1'
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
        calls=(BERLIN, CLOCK),
        content="Ok.",
        reasoning="hm",
    ),
    Case(
        name="kimi calls",
        form=Kimi(),
        text="<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Berlin"}<|tool_call_end|><|tool_call_begin|>functions.get:1'
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
        calls=(BERLIN, CLOCK),
        canonical=True,
    ),
    Case(
        name="kimi loose",
        form=Kimi(),
        text="<|tool_calls_section_begin|> \n<|tool_call_begin|> get <|tool_call_argument_begin|> {}\n<|tool_call_end",
        calls=(CLOCK,),
    ),
    Case(
        name="dsml",
        form=StandardFormat(reasoning=THINK, tools=Dsml()),
        text=dsml(
            '<think>hm</think>Ok.\n\n<D:function_calls>\n<D:invoke name="get_weather">\n'
            '<D:parameter name="city" string="true">Zürich "x" & <b>\'s</D:parameter>\n'
            '<D:parameter name="days" string="false">3</D:parameter>\n'
            '<D:parameter name="exact" string="false">true</D:parameter>\n'
            '<D:parameter name="unit" string="true">C</D:parameter>\n'
            '<D:parameter name="where" string="false">{"lat": -1.5, "tags": ["a", "b,c"]}</D:parameter>\n'
            '</D:invoke>\n<D:invoke name="get">\n</D:invoke>\n</D:function_calls>'
        ),
        calls=(FULL, CLOCK),
        content="Ok.",
        reasoning="hm",
    ),
    Case(
        name="dsml calls",
        form=Dsml(block="tool_calls"),
        text=dsml(
            '<D:tool_calls>\n<D:invoke name="get_weather">\n'
            '<D:parameter name="city" string="true">Zürich "x" & <b>\'s</D:parameter>\n'
            '<D:parameter name="days" string="false">3</D:parameter>\n'
            '<D:parameter name="exact" string="false">true</D:parameter>\n'
            '<D:parameter name="unit" string="true">C</D:parameter>\n'
            '<D:parameter name="where" string="false">{"lat": -1.5, "tags": ["a", "b,c"]}</D:parameter>\n'
            '</D:invoke>\n<D:invoke name="get">\n</D:invoke>\n</D:tool_calls>'
        ),
        calls=(FULL, CLOCK),
        canonical=True,
    ),
    Case(
        name="dsml loose",
        form=Dsml(),
        text=dsml(
            '<D:function_calls> <D:invoke name="get_weather"><D:parameter name="city">42</D:parameter>'
            '<D:parameter name="days">42</D:parameter><D:parameter name="x" string="false">True</D:parameter>'
        ),
        calls=(("get_weather", {"city": "42", "days": 42, "x": "True"}),),
    ),
    Case(
        name="chatglm4",
        form=ChatGlm4(),
        text='get_weather\n{"city": "Berlin"}\nget\n{}',
        calls=(BERLIN, CLOCK),
        canonical=True,
    ),
    Case(name="chatglm4 answer", form=ChatGlm4(), text="get a\nlife", content="get a\nlife"),
)
