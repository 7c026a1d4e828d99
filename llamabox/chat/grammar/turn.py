"""The grammar of a whole turn: what a request demands of it, and from where on."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from engine.errors import InvalidRequest
from engine.text.requests import GrammarSpec, Trigger
from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.chat.formats.base import ChatFormat, Tool
from llamabox.chat.grammar.lark import Lark
from llamabox.chat.grammar.outline import outlined

# What models write between their reasoning and what follows.
_GAP: Final = r"/[ \t\r\n]{0,8}/"
_TEXT: Final = "/(?s:.*)/"


def turn_grammar(
    ask: ChatAsk,
    chat_format: ChatFormat,
    special: Mapping[str, int],
    *,
    reasoning_open: bool = False,
    enveloped: bool = False,
) -> GrammarSpec | None:
    """The grammar that ``ask`` wants of a turn in this format; None where anything goes.

    ``special``: control tokens by their spellings. While the model reasons nothing is constrained: reasoning that the
    prompt has opened wakes the grammar by its end, reasoning that the model may open is a free part of the grammar.
    ``enveloped``: with tools, plain answers have a form of their own, which the grammar must demand. Where a tool's
    schema turns out to be too much, only its outline is demanded, unless the tool is strict. Raises InvalidRequest for
    one whose references go too deep then.
    """

    def made(tools: tuple[Tool, ...]) -> GrammarSpec | None:
        asked = attrs.evolve(ask, tools=tools)
        try:
            return _grammar(asked, chat_format, special, reasoning_open=reasoning_open, enveloped=enveloped)
        except RecursionError:
            raise InvalidRequest("the schema of a tool goes too deep", "tools") from None

    def instead() -> GrammarSpec:
        found = made(tuple(tool if tool.strict else outlined(tool) for tool in ask.tools))
        assert found is not None, "what a schema says does not decide whether there is a grammar"
        return found

    strict = all(tool.strict for tool in callable_tools(ask).values())
    try:
        spec = made(ask.tools)
    except InvalidRequest:
        if strict:
            raise
        return instead()
    return spec if spec is None or strict else attrs.evolve(spec, instead=instead)


def callable_tools(ask: ChatAsk) -> dict[str, Tool]:
    """The tools that this turn may call, by name."""
    if ask.choice is ToolChoice.NONE:
        return {}
    return {tool.name: tool for tool in ask.tools if ask.named in (None, tool.name)}


def json_grammar(schema: Any, *, strict: bool) -> GrammarSpec:
    """The grammar of JSON text that a schema allows, and nothing around it."""
    lark = Lark(lenient=not strict)
    return GrammarSpec(source=lark.source(lark.json(schema)))


def _grammar(
    ask: ChatAsk, chat_format: ChatFormat, special: Mapping[str, int], *, reasoning_open: bool, enveloped: bool
) -> GrammarSpec | None:
    tools = callable_tools(ask)
    lark = Lark(special, lenient=not any(tool.strict for tool in tools.values()))
    calls = chat_format.calls(lark, list(tools.values()), parallel=ask.parallel) if tools else None
    answer = None if ask.schema is None else chat_format.answer(lark, lark.json(ask.schema, lenient=not ask.strict))
    sure = tuple(Trigger(start, included=True) for start in chat_format.call_starts) if tools else ()
    if calls is not None and ask.choice is ToolChoice.REQUIRED:
        body = calls
    elif calls is not None and answer is not None:
        body = lark.choice(calls, answer)
    elif answer is not None:
        body = answer
    elif calls is not None and sure:
        return GrammarSpec(source=lark.source(f"{lark.rule(_GAP)} {calls}"), triggers=sure)
    elif calls is not None and enveloped:
        body = lark.choice(calls, chat_format.answer(lark, lark.rule(_TEXT)))
    else:
        return None
    behind = f"{lark.rule(_GAP)} {body}"
    marks = chat_format.reasoning
    if reasoning_open and marks is not None:
        return GrammarSpec(source=lark.source(behind), triggers=(Trigger(marks.end.strip(), included=False), *sure))
    if marks is not None and marks.start and ask.enable_thinking is not False:
        start = marks.start.strip()
        block = lark.rule(f"{lark.text(start)} {lark.until(marks.end.strip())} {lark.rule(_GAP)}")
        return GrammarSpec(source=lark.source(f"{lark.rule(f'{block} |')} {body}"))
    return GrammarSpec(source=lark.source(body))
