"""Tool calls whose names and arguments stand between marks, like ``<call=F><parameter=k>v</parameter></call>``."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from llamabox.chat.formats.base import Marks, Tool, Writer
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import (
    ANY,
    additional,
    fixed_values,
    json_types,
    properties,
    strict_json,
    type_of,
)
from llamabox.chat.formats.sections import (
    SectionReader,
    beginning,
    first_word,
    read_name,
    section_grammar,
    sequence,
    written,
)
from llamabox.chat.grammar.lark import Lark

# How templates written in Python's manner print what is no string, and models learn it from them.
_PYTHON: Final = {"True": "true", "False": "false", "None": "null"}


@attrs.frozen(kw_only=True)
class TaggedArguments:
    """Satisfies ``ToolSyntax``. ``separator`` stands between arguments, ``between`` between calls."""

    section: Marks
    call_start: str
    name_end: str
    key_start: str
    key_end: str
    value_end: str
    separator: str
    call_end: str
    between: str = ""

    @property
    def starts(self) -> tuple[str, ...]:
        """See ``ToolSyntax.starts``."""
        start = beginning(self.section.start, self.call_start)
        return (start,) if start else ()

    @property
    def only_first(self) -> bool:
        """See ``ToolSyntax.only_first``."""
        return False

    @property
    def markers(self) -> tuple[str, ...]:
        """See ``ToolSyntax.markers``."""
        own = (self.section.start, self.call_start, self.name_end, self.key_start, self.key_end, self.value_end)
        return tuple(mark for mark in (*own, self.separator, self.call_end, self.between, self.section.end) if mark)

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """See ``ToolSyntax.read``."""
        section = SectionReader(source, out, (self.between,), first_word(self.call_start))
        yield from section.read(self.section, lambda: self._call(source, out, tools))

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ToolSyntax.grammar``."""
        end = written(lark, self.call_end)
        calls = [(tool.name + self.name_end, sequence(self._arguments(lark, tool), end)) for tool in tools]
        return section_grammar(lark, self.section, self.between, self.call_start, calls, parallel=parallel)

    # --- reading ---

    def _call(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        yield from source.expect_loose(self.call_start)
        name = yield from read_name(source, tools)
        yield from source.expect_loose(self.name_end)
        yield from source.space()
        key_start, call_end = first_word(self.key_start), first_word(self.call_end)
        if (yield from source.at(key_start, call_end)) is None and call_end:
            raise Unparsable("a call without arguments and without an end")
        out.call(name)
        types = {key: json_types(schema) for key, schema in properties(tools[name]).items()}
        opening = "{"
        while (yield from source.at(key_start)):
            out.arguments(opening)
            yield from self._argument(source, out, types)
            opening = ", "
            yield from source.space()
            yield from source.accept(self.separator.strip())
            yield from source.space()
        if source.cut_within(key_start) and not source.stop_string.lstrip().startswith(call_end):
            raise Unparsable("a call that was cut off")
        if not (yield from source.at_end()) and not (yield from source.accept_end(self.call_end)) and call_end:
            yield from source.accept_end(self.key_start)  # where the end of the text has cut it off
            raise Unparsable("a call without an end")
        out.arguments("{}" if opening == "{" else "}")

    def _argument(self, source: Reader, out: Writer, types: Mapping[str, frozenset[str]]) -> Parsing[None]:
        yield from source.expect_loose(self.key_start)
        key = (yield from source.text_until(first_word(self.key_end))).strip()
        yield from source.expect_loose(self.key_end.rstrip())
        yield from source.accept(self.key_end[len(self.key_end.rstrip()) :])
        out.arguments(f"{_quoted(key)}: ")
        end = self.value_end.strip()
        before = self.value_end.partition(end)[0]
        may_be = types.get(key, ANY)
        if may_be == {"string"}:
            out.arguments('"')
            yield from _raw_text(source, end, before, lambda text: out.arguments(_quoted(text)[1:-1]))
            out.arguments('"')
        else:
            parts: list[str] = []
            if "string" not in may_be and (yield from _nested(source)):
                yield from source.json(parts.append)  # the end's text may be in there
            yield from _raw_text(source, end, before, parts.append)
            out.arguments(_json_text("".join(parts), may_be))
        yield from source.expect_loose(end)

    # --- writing ---

    def _arguments(self, lark: Lark, tool: Tool) -> str:
        """An expression for the arguments in the order of the schema, then further ones; "" if there are none.

        What is fixed is written in one piece, so that an argument behind another is another rule.
        """
        listed = tool.parameters.get("required")
        required = {key for key in listed if isinstance(key, str)} if isinstance(listed, Sequence) else set()
        schema = additional(tool)
        behind = first = ""  # what follows where there are arguments already, and where there are none
        if schema is not None:
            further = sequence(self._text_to(lark, self.key_end), self._value(lark, schema))
            behind = f"{lark.rule(sequence(lark.text(self.separator + self.key_start), further))}*"
            first = f"({sequence(lark.text(self.key_start), further, behind)})?"
        for key, schema in reversed(properties(tool).items()):
            start, value = f"{self.key_start}{key}{self.key_end}", self._value(lark, schema)
            here = sequence(lark.text(start), value, behind)
            another = sequence(lark.text(self.separator + start), value)
            if key in required:
                first, behind = here, lark.rule(sequence(another, behind))
            else:
                first = lark.rule(f"({here}) | {first}" if first else f"({here})?")
                behind = lark.rule(sequence(f"({another})?", behind))
        return first

    def _value(self, lark: Lark, schema: Any) -> str:
        """A rule for a value and its end. Any text where the value may be a string: it would be read as one."""
        values = fixed_values(schema)
        if values is not None:
            texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
            return lark.rule(" | ".join(lark.text(text + self.value_end) for text in texts))
        if "string" in json_types(schema):
            return lark.rule(self._text_to(lark, self.value_end))
        return lark.rule(sequence(lark.json(schema), lark.text(self.value_end)))

    def _text_to(self, lark: Lark, mark: str) -> str:
        """Any text, and a mark; the white space before it is part of any text, so that it is no harm if it is not."""
        word = first_word(mark)
        return sequence(lark.until(word), written(lark, mark.partition(word)[2]))


def _nested(source: Reader) -> Parsing[bool]:
    """Whether an object or a list comes."""
    yield from source.space()
    return (yield from source.at("{", "[")) is not None


def _raw_text(source: Reader, end: str, gap: str, to: Callable[[str], None]) -> Parsing[None]:
    """Hand the text before a mark to ``to``, without the one ``gap`` right before the mark. The mark is not read."""
    held = ""

    def more(text: str) -> None:
        nonlocal held
        text = held + text
        keep = max(length for length in range(len(gap) + 1) if text.endswith(gap[:length]))
        held = text[len(text) - keep :]
        if keep < len(text):
            to(text[: len(text) - keep])

    found = yield from source.until(first_word(end), to=more, cut=True)
    if found is None:
        raise Unparsable("the text ends inside an argument")
    if held != gap:
        to(held)


def _json_text(text: str, types: frozenset[str]) -> str:
    """The JSON of a value, which may have these types, from how it was written."""
    short = text.strip()
    try:
        kind = type_of(strict_json(short))
    except ValueError:
        return _quoted(text) if "string" in types else _PYTHON.get(short, _quoted(text))
    if "string" in types and (kind == "string" or kind not in types):
        return _quoted(text)
    return short


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
