"""Tools for templates that know none: the model is told to answer with one JSON object, in one of two forms."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from llamabox.chat.formats.base import Marks, Reading, Tool, Writer
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.formats.json_strings import read_string
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.reasoning import begin_reasoning, read_reasoning
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.formats.sections import SectionReader
from llamabox.chat.grammar.lark import Lark

_CALLS: Final = "tool_calls"
_RESPONSE: Final = "response"
_RESULT: Final = "tool_result"

_LIST: Final = JsonCalls(
    section=Marks(f'{{"{_CALLS}": ', "}"),
    call=Marks("", ""),
    separator=", ",
    is_list=True,
    keys=("name", "arguments"),
    name_key="name",
    arguments_key="arguments",
    id_key=None,
)

_INSTRUCTIONS: Final = """\
You can call tools. These are the tools, one JSON object a line, each with the JSON schema of its arguments:
{tools}

Answer with one JSON object and nothing else. There are two forms of it.
To call one or more tools:
{{"{calls}": [{{"name": "<name of the tool>", "arguments": {{<its arguments>}}}}]}}
To answer without a tool:
{{"{response}": "<your answer>"}}
What a tool returns comes to you in a later message, in the form {{"{result}": …}}. Use it for your answer."""


@attrs.frozen(kw_only=True)
class GenericCalls:
    """Satisfies ``ChatFormat``: ``{"tool_calls": [{"name": …, "arguments": {…}}]}`` or ``{"response": …}``.

    Output that is neither is content.
    """

    reasoning: Marks | None = None
    wrapping: Marks | None = None

    @property
    def markers(self) -> tuple[str, ...]:
        """See ``ChatFormat.markers``."""
        return tuple(mark for mark in (self.reasoning.start, self.reasoning.end) if mark) if self.reasoning else ()

    @property
    def call_starts(self) -> tuple[str, ...]:
        """See ``ChatFormat.call_starts``: an answer has the same beginning."""
        return ()

    def read(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        """See ``ChatFormat.read``. Without tools an answer is still taken out of its object."""
        if self.reasoning is not None and (yield from begin_reasoning(source, self.reasoning, reading)):
            yield from read_reasoning(source, out, self.reasoning)
        yield from source.space()
        source.record()
        begun = out.calls
        try:
            yield from self._object(source, out, reading)
            source.recorded()
            yield from source.space()
        except Unparsable:
            if out.calls == begun:
                out.content(source.given_back())
        source.recorded()
        yield from source.until(to=out.content)

    def answer(self, lark: Lark, body: str) -> str:
        """See ``ChatFormat.answer``. Any text (``lark.FREE_TEXT``) becomes any JSON string."""
        value = lark.json({"type": "string"}) if lark.is_free(body) else body
        return lark.rule(f"{lark.text(f'{{{json.dumps(_RESPONSE)}: ')} {value} {lark.text('}')}")

    def calls(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ChatFormat.calls``."""
        return _LIST.grammar(lark, tools, parallel=parallel)

    def _object(self, source: Reader, out: Writer, reading: Reading) -> Parsing[None]:
        known = False  # whether one of our keys has come
        yield from source.expect("{")
        while True:
            yield from source.space()
            if known and ((yield from source.accept("}")) or (yield from source.at_end())):
                return
            key = yield from source.expect(*(f'"{name}"' for name in (_RESPONSE, _CALLS)))
            yield from source.space()
            yield from source.expect(":")
            yield from source.space()
            if key == f'"{_RESPONSE}"':
                yield from _response(source, out)
            elif reading.tools:
                yield from _calls(source, out, reading.tools)
            else:
                raise Unparsable("no tool may be called")
            known = True
            source.record()
            yield from source.space()
            yield from source.accept(",")


def instructions(tools: Sequence[Tool]) -> str:
    """System text that shows the tools to the model and says how to call them and how to answer."""
    lines = [
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": object_schema(tool)}, ensure_ascii=False
        )
        for tool in tools
    ]
    return _INSTRUCTIONS.format(tools="\n".join(lines), calls=_CALLS, response=_RESPONSE, result=_RESULT)


def history(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without tool calls and tool roles: an assistant's calls and a tool's result become JSON text."""
    if message.get("role") == "tool":
        about = {key: message[name] for key, name in (("name", "name"), ("id", "tool_call_id")) if message.get(name)}
        result = {**about, "content": _plain(message.get("content"))}
        return {"role": "user", "content": _text({_RESULT: result})}
    if not message.get("tool_calls"):
        return dict(message)
    said = _plain(message.get("content"))
    calls = [_past_call(call["function"]) for call in message["tool_calls"]]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": _text({**({_RESPONSE: said} if said else {}), _CALLS: calls})}


def _past_call(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # or it stays the text that it is
            arguments = json.loads(arguments)
    return {"name": function["name"], "arguments": arguments}


def _plain(content: Any) -> str:
    """Content as text, from a string, null or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or () if isinstance(part, Mapping))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _response(source: Reader, out: Writer) -> Parsing[None]:
    source.recorded()  # what is handed out now is not given back
    if (yield from source.at('"')):
        yield from read_string(source, out.content)
    else:
        yield from source.json(out.content)


def _calls(source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
    section = SectionReader(source, out, (), "")
    yield from section.read(Marks("", ""), lambda: _LIST.read_calls(source, out, tools, section))
