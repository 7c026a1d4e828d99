"""DeepSeek V3.2 and later: calls in the marks of DSML, each argument in a tag that says whether it is raw text."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import attrs

from llamabox.chat.formats.base import Tool, Writer
from llamabox.chat.formats.calling import begin, calls_in_a_row, ignore
from llamabox.chat.formats.members import is_text, members, standalone, texts, variants
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import object_schema, strict_json
from llamabox.chat.formats.values import as_json, inside_string
from llamabox.chat.grammar.lark import Lark

_BAR: Final = "\uff5c"
_MARK: Final = f"{_BAR}DSML{_BAR}"
_CALL: Final = f"<{_MARK}invoke"
_CALL_END: Final = f"</{_MARK}invoke>"
_PARAMETER: Final = f"<{_MARK}parameter"
_PARAMETER_END: Final = f"</{_MARK}parameter>"
_NAME: Final = re.compile(r'\s+name="([^"]*)"')
_IS_TEXT: Final = re.compile(r'\sstring="(true|false)"')
_OTHER_TYPES: Final = ["number", "boolean", "null", "array", "object"]  # than strings
_ANY_NAME: Final = r"/[^\"<>\x00-\x1f]+/"


@attrs.frozen(slots=False)
class Dsml:
    """Satisfies ``ToolSyntax``. ``block`` is the tag around all calls: V4 has "tool_calls" instead."""

    block: str = "function_calls"
    only_first: bool = attrs.field(default=False, init=False)

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """See ``ToolSyntax.starts``."""
        return (f"<{_MARK}{self.block}>",)

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """See ``ToolSyntax.markers``."""
        return (*self.starts, self._end, _CALL, _CALL_END, _PARAMETER, _PARAMETER_END)

    @property
    def _end(self) -> str:
        return f"</{_MARK}{self.block}>"

    def read(self, source: Reader, out: Writer, tools: Mapping[str, Tool]) -> Parsing[None]:
        """See ``ToolSyntax.read``."""

        def call() -> Parsing[bool]:
            yield from source.expect_loose(_CALL)
            name, _ = yield from _attributes(source)
            begin(source, out, tools, name)
            yield from _arguments(source, out, tools[name])
            yield from source.space()
            return (yield from source.at(_CALL)) is not None

        yield from source.expect(*self.starts)
        yield from calls_in_a_row(source, out, call)
        yield from source.accept_end(self._end)

    def grammar(self, lark: Lark, tools: Sequence[Tool], *, parallel: bool) -> str:
        """See ``ToolSyntax.grammar``."""
        calls = []
        for tool in tools:
            schema = object_schema(tool)
            named = members(schema)
            if named is None:
                body = f"{_parameter(lark, None, schema.get('additionalProperties', True), schema)}*"
            else:
                body = " ".join(
                    _parameter(lark, member.name, member.schema, schema) + ("" if member.required else "?")
                    for member in named
                )
            start = lark.text(f'{_CALL} name="{tool.name}">\n')
            calls.append(lark.rule(f"{start} {body} {lark.text(f'{_CALL_END}\n')}"))
        call = lark.choice(*calls) + ("+" if parallel else "")
        return lark.rule(f"{lark.text(f'{self.starts[0]}\n')} {call} {lark.text(self._end)}")


def _attributes(source: Reader) -> Parsing[tuple[str, str | None]]:
    """The name in a tag that has begun, and what it says about being a string, up to the tag's end."""
    text = yield from source.text_until(">")
    yield from source.take(1)
    found = _NAME.match(text)
    if found is None:
        raise Unparsable("expected a name")
    kind = _IS_TEXT.search(text, found.end() - 1)
    return found[1], kind[1] if kind else None


def _arguments(source: Reader, out: Writer, tool: Tool) -> Parsing[None]:
    schema = object_schema(tool)
    given = {member.name: member.schema for member in members(schema) or ()}
    out.arguments("{")
    comma = ""
    yield from source.space()
    while (yield from source.accept(_PARAMETER)):
        name, kind = yield from _attributes(source)
        out.arguments(f"{comma}{as_json(name)}: ")
        comma = ", "
        raw = kind == "true" or (kind is None and all(map(is_text, variants(given.get(name), schema, follow=True))))
        yield from (_text(source, out) if raw else _json(source, out))
        yield from source.space()
    if source.cut_within(_PARAMETER) and not source.stop_string.lstrip().startswith(_CALL_END):
        raise Unparsable("a call that was cut off")
    if not (yield from source.at_end()) and not (yield from source.accept_end(_CALL_END)):
        raise Unparsable("a call without an end")
    out.arguments("}")


def _text(source: Reader, out: Writer) -> Parsing[None]:
    out.arguments('"')
    end = yield from source.until(_PARAMETER_END, to=lambda part: out.arguments(inside_string(part)), cut=True)
    if end is None:
        raise Unparsable("the text ends inside an argument")
    yield from source.take(len(_PARAMETER_END))
    out.arguments('"')


def _json(source: Reader, out: Writer) -> Parsing[None]:
    """A value in JSON. What is neither an object nor a list is complete before it is believed."""
    yield from source.space()
    if (yield from source.at("{", "[")):
        yield from source.json(out.arguments)
        yield from source.until(_PARAMETER_END, to=ignore)
    else:
        text = (yield from source.text_until(_PARAMETER_END)).strip()
        try:
            strict_json(text)
        except ValueError:
            text = as_json(text)
        out.arguments(text)
    yield from source.expect(_PARAMETER_END)


def _parameter(lark: Lark, name: str | None, schema: Any, root: Mapping[str, Any]) -> str:
    """An expression for an argument; ``name`` None: of any name."""
    forms = []
    for variant in variants(schema, root, follow=True) or [True]:
        anything = not isinstance(variant, Mapping) or not {"type", "enum", "const", "properties", "items"} & {*variant}
        if is_text(variant) or anything:
            named = texts(variant)
            body = lark.until(_PARAMETER_END) if named is None else lark.choice(*map(lark.text, named))
            forms.append(
                f"{_opening(lark, name, 'true')} {body}" + ("" if named is None else f" {lark.text(_PARAMETER_END)}")
            )
        if not is_text(variant):
            value = lark.json({"type": _OTHER_TYPES} if anything else standalone(variant, root))
            forms.append(f"{_opening(lark, name, 'false')} {value} {lark.text(_PARAMETER_END)}")
    return lark.rule(f"{lark.choice(*[lark.rule(form) for form in forms])} {lark.text('\n')}")


def _opening(lark: Lark, name: str | None, kind: str) -> str:
    start, end = f'{_PARAMETER} name="', f'" string="{kind}">'
    return lark.text(start + name + end) if name is not None else f"{lark.text(start)} {_ANY_NAME} {lark.text(end)}"
