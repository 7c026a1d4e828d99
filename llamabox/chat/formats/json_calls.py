"""Tool calls that are JSON, the name included, like ``{"name": "F", "arguments": {…}}``, with or without marks."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from llamabox.chat.formats.base import Marks, Tool, Writer
from llamabox.chat.formats.json_strings import read_string
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.formats.sections import SectionReader, beginning, first_word, section_grammar, sequence, written
from llamabox.chat.grammar.lark import Lark

_ID: Final = "/[a-zA-Z0-9]{9}|[0-9]{1,3}/"  # nine characters as Mistral wants them, or a counter
_USUAL: Final = frozenset({"type", "id", "function"})  # keys that models add
_ARGUMENTS: Final = frozenset({"arguments", "parameters"})  # models take the one for the other
_ARGUMENTS_HERE: Final = "\0"  # no JSON text has these two
_ID_HERE: Final = "\1"
_HOLE: Final = re.compile(f"([{_ARGUMENTS_HERE}{_ID_HERE}])")
_LISTED: Final = ", "  # between the elements of a JSON list, and between the members of an object


@attrs.frozen(kw_only=True)
class JsonCalls:
    """Satisfies ``ToolSyntax``. ``keys``: all of a call's object as the template orders them, the inner ones included.

    ``constants``: values of keys that never change; ``wrapper_key``: where name and arguments are a level deeper;
    ``name_is_key``: the name is the only key and the arguments its value.
    """

    section: Marks
    call: Marks
    separator: str
    is_list: bool
    keys: tuple[str, ...]
    name_key: str
    arguments_key: str
    id_key: str | None
    constants: Mapping[str, Any] = attrs.field(factory=dict)
    wrapper_key: str | None = None
    name_is_key: bool = False
    list_start: str = "["  # with the white space inside
    list_end: str = "]"

    @property
    def starts(self) -> tuple[str, ...]:
        """See ``ToolSyntax.starts``."""
        start = beginning(self.section.start, "" if self.is_list else self.call.start)
        return (start,) if start else ("{", "[")

    @property
    def only_first(self) -> bool:
        """See ``ToolSyntax.only_first``."""
        return "{" in self.starts

    @property
    def markers(self) -> tuple[str, ...]:
        """See ``ToolSyntax.markers``."""
        marks = (self.section.start, self.call.start, self.call.end, self.separator, self.section.end)
        return tuple(mark for mark in marks if mark)

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """See ``ToolSyntax.read``."""
        opening = "" if self.is_list else first_word(self.call.start)
        section = SectionReader(source, out, (self.separator, ",", ";"), opening or "{")
        yield from section.read(self.section, lambda: self.read_calls(source, out, tools, section))

    def read_calls(
        self, source: Reader, out: Writer, tools: Mapping[str, Tool], section: SectionReader
    ) -> Parsing[None]:
        """Read calls, or a list of calls, whichever come, with the marks around them."""
        if not self.is_list:
            yield from source.expect_loose(self.call.start)
        yield from source.space()
        if (yield from source.accept("[")):
            yield from self._list(source, out, tools, section)
        else:
            yield from self._element(source, out, tools)
            yield from _stray_braces(source)
            while (yield from source.at("{")):
                section.done()
                yield from self._element(source, out, tools)
                yield from _stray_braces(source)
        if not self.is_list:
            yield from source.accept_end(self.call.end)

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ToolSyntax.grammar``."""
        calls = [self._object(lark, tool) for tool in tools]
        section = self.section
        if self.is_list:
            section = Marks(section.start + self.list_start, self.list_end + section.end)
        separator = (self.separator or _LISTED) if self.is_list else self.separator
        return section_grammar(lark, section, separator, self.call.start, calls, parallel=parallel)

    # --- reading ---

    def _list(self, source: Reader, out: Writer, tools: Mapping[str, Tool], section: SectionReader) -> Parsing[None]:
        while True:
            yield from self._element(source, out, tools)
            section.done()
            yield from source.space()
            yield from source.accept(self.separator.strip(), ",")
            yield from source.space()
            if (yield from source.accept("]")) or (yield from source.at_end()):
                return

    def _element(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        if self.is_list:
            yield from source.expect_loose(self.call.start)
        call = _Call(out, tools)
        try:
            yield from self._members(source, call)
        except Unparsable:
            if self.only_first and call.name is None and not self._may_begin(source, tools):
                source.settle()
            raise
        call.close()
        if self.is_list:
            yield from source.accept_end(self.call.end)

    def _members(self, source: Reader, call: "_Call", *, outer: bool = True) -> Parsing[None]:
        yield from source.space()
        yield from source.expect("{")
        yield from source.space()
        yield from source.accept("{")  # some templates of Qwen show calls with doubled braces, and are believed
        while True:
            yield from source.space()
            if (yield from source.accept("}")):
                return
            if (yield from source.at('"')) is None:
                if call.has_arguments:  # the closing brace was forgotten
                    return
                raise Unparsable("expected a key")
            key = _value((yield from source.json()))
            yield from source.space()
            yield from source.expect(":")
            yield from source.space()
            if outer and key == self.wrapper_key and (yield from source.at("{")):
                yield from self._members(source, call, outer=False)
            else:
                yield from self._member(source, call, key)
            yield from source.space()
            yield from source.accept(",")

    def _member(self, source: Reader, call: "_Call", key: str) -> Parsing[None]:
        if call.begun:
            yield from source.json()
        elif self.name_is_key and call.name is None:
            call.named(key)
            yield from _arguments(source, call)
        elif key == self.name_key and call.name is None:
            call.named(_value((yield from source.json())))
        elif not call.has_arguments and (key == self.arguments_key or key in _ARGUMENTS.difference(self.keys)):
            yield from _arguments(source, call)
        elif key == self.id_key:
            call.identified(_value((yield from source.json())))
        elif self.only_first and key not in _USUAL and key not in self.keys:
            raise Unparsable("JSON that is no call")
        else:
            yield from source.json()

    def _may_begin(self, source: Reader, tools: Mapping[str, Tool]) -> bool:
        """Whether a limit cut a call without marks before it names its tool.

        Any JSON begins like one: it must be just what the model was shown. A stop string is no limit: what stands
        before it is told to the letter.
        """
        if not source.at_limit:
            return False
        _, brace, rest = source.so_far.partition("{")
        text = brace + "".join(rest.split())
        heads = ("".join(_HOLE.split(self._with_holes(tool))[0].split()) for tool in tools.values())
        return bool(text) and any(head.startswith(text) for head in heads)

    # --- writing ---

    def _object(self, lark: Lark, tool: Tool) -> tuple[str, str]:
        """The JSON object of a call of this tool and its end: the fixed text up to the first value, and the rest."""
        head, *rest = _HOLE.split(self._with_holes(tool) + self.call.end)
        values = {_ARGUMENTS_HERE: lark.json(object_schema(tool)), _ID_HERE: lark.rule(_ID)}
        return head, sequence(*(values[part] if part in values else written(lark, part) for part in rest))

    def _with_holes(self, tool: Tool) -> str:
        if self.name_is_key:
            return _object_text([(tool.name, _ARGUMENTS_HERE)])
        values = {
            **{key: _dumped(value) for key, value in self.constants.items()},
            self.name_key: _dumped(tool.name),
            self.arguments_key: _ARGUMENTS_HERE,
        }
        if self.id_key:
            values[self.id_key] = f'"{_ID_HERE}"'
        inner = {self.name_key, self.arguments_key} if self.wrapper_key else set()
        if self.wrapper_key:
            values[self.wrapper_key] = _object_text([(key, values[key]) for key in self.keys if key in inner])
        return _object_text([(key, values[key]) for key in self.keys if key in values and key not in inner])


class _Call:
    """A call that is being read; it begins once its name is known and its arguments have begun, or its object ends."""

    def __init__(self, out: Writer, tools: Mapping[str, Tool]) -> None:
        self._out = out
        self._tools = tools
        self._id: str | None = None
        self._held: list[str] = []  # arguments that came before the name
        self.name: str | None = None
        self.begun = False
        self.has_arguments = False  # and they are complete

    def named(self, name: Any) -> None:
        """The name is known. Raises Unparsable if there is no such tool."""
        if not isinstance(name, str) or name not in self._tools:
            raise Unparsable("no known tool is named")
        self.name = name
        if self._held:
            self._begin()

    def identified(self, value: Any) -> None:
        """The model gave an id."""
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            self._id = str(value)

    def arguments(self, text: str) -> None:
        """More of the arguments' JSON text. Raises Unparsable if they are no object."""
        if self.begun:
            self._out.arguments(text)
            return
        if not self._held:
            text = text.lstrip()
            if text and text[0] != "{":
                raise Unparsable("the arguments are no object")
        if text:
            self._held.append(text)
            if self.name is not None:
                self._begin()

    def close(self) -> None:
        """The object has ended. Raises Unparsable if it was no call."""
        if self.name is None:
            raise Unparsable("a call without a name")
        if not self.begun:
            self._held.append("{}")
            self._begin()

    def _begin(self) -> None:
        assert self.name is not None, "a call begins with its name"
        self.begun = True
        self._out.call(self.name, self._id)
        for text in self._held:
            self._out.arguments(text)


def _arguments(source: Reader, call: _Call) -> Parsing[None]:
    if (yield from source.at("{")):
        yield from source.json(call.arguments)
    elif (yield from source.at('"')):
        yield from read_string(source, call.arguments)
    elif (yield from source.json()) not in ("null", "[]"):
        raise Unparsable("the arguments are no object")
    call.has_arguments = True


def _stray_braces(source: Reader) -> Parsing[None]:
    """Models lose count of their braces."""
    yield from source.space()
    while (yield from source.accept("}")):
        yield from source.space()


def _value(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise Unparsable("broken JSON") from None


def _object_text(members: Sequence[tuple[str, str]]) -> str:
    return f"{{{_LISTED.join(f'{_dumped(key)}: {text}' for key, text in members)}}}"


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
