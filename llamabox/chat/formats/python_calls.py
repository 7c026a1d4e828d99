"""Calls as Python writes them, ``F(k='v', n=2)``: their reading and their grammar."""

from collections.abc import Callable, Sequence
from typing import Final

from llamabox.chat.formats.base import Tool
from llamabox.chat.formats.members import members
from llamabox.chat.formats.notation import Notation, ValueGrammar
from llamabox.chat.formats.reader import Parsing, Reader, Unparsable
from llamabox.chat.formats.schemas import object_schema
from llamabox.chat.formats.values import PYTHON_QUOTES, as_json, read_value, word
from llamabox.chat.grammar.lark import Lark

_INSIDE: Final = r"[^{quote}\\\x00-\x08\x0a-\x1f\x7f]|\\['\"\\nrt]"
_ANY_STRING: Final = f"'({_INSIDE.format(quote="'")})*'|\"({_INSIDE.format(quote='"')})*\""


def read_arguments(source: Reader, to: Callable[[str], None], tool: Tool) -> Parsing[None]:
    """Read what stands between the parentheses, the opening one is read already, and hand it on as a JSON object.

    Arguments without a name take those of the schema in their order. Raises Unparsable where it is something else.
    """
    names = [member.name for member in members(object_schema(tool)) or ()]
    to("{")
    count = 0
    yield from source.space()
    while not (yield from source.accept(")")):
        if (yield from source.at_end()):
            raise Unparsable("the text ends between arguments")
        if count:
            to(", ")
        yield from _argument(source, to, names[count] if count < len(names) else None)
        count += 1
        yield from source.space()
        if not (yield from source.accept(",")):
            yield from source.expect(")")
            break
        yield from source.space()
    to("}")


def _argument(source: Reader, to: Callable[[str], None], position: str | None) -> Parsing[None]:
    start = yield from source.peek(1)
    if start.isalpha() or start == "_":
        name = yield from source.text_until("=", ",", ")")
        if (yield from source.accept("=")):
            to(f"{as_json(name.strip())}: ")
            yield from read_value(source, to, quotes=PYTHON_QUOTES, closing=")")
        else:
            to(f"{as_json(_known(position))}: {word(name)}")
    else:
        to(f"{as_json(_known(position))}: ")
        yield from read_value(source, to, quotes=PYTHON_QUOTES, closing=")")


def _known(position: str | None) -> str:
    if position is None:
        raise Unparsable("an argument without a name, and no place for it")
    return position


def call_grammar(lark: Lark, tools: Sequence[Tool]) -> str:
    """An expression for one call of one of the tools."""
    calls = []
    for tool in tools:
        schema = object_schema(tool)
        values = ValueGrammar(lark=lark, notation=_NOTATION, root=schema)
        given = values.members(schema, str, "=", "/[A-Za-z_][A-Za-z0-9_]*/")
        calls.append(lark.rule(f'{lark.text(f"{tool.name}(")} {given} ")"'))
    return lark.choice(*calls)


def _quoted(text: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, escaped)
    return f"'{text}'"


_NOTATION: Final = Notation(
    quote=_quoted,
    text=lambda lark: lark.rule(f"/{_ANY_STRING}/"),
    any_key=f"/{_ANY_STRING}/",
    key=_quoted,
    colon=": ",
    comma=", ",
    true="True",
    false="False",
    null="None",
    json_objects=True,
)
