"""Calls whose name is outside of JSON."""

from llamabox.chat.analysis.diff import common_prefix, common_suffix
from llamabox.chat.analysis.json_syntax import objects
from llamabox.chat.analysis.probes import NUMERIC, Call
from llamabox.chat.analysis.split import divide
from llamabox.chat.formats.tagged_arguments import TaggedArguments
from llamabox.chat.formats.tagged_json import TaggedJson


def tagged_json(first: Call, one: str, second: Call, two: str | None) -> TaggedJson | None:
    """The syntax of calls whose arguments are one JSON object, if it is one; regions as for ``json_calls``."""
    calls = (first,) if two is None else (first, second)
    text = one if two is None else two
    places = []
    at = 0
    for call in calls:
        name = text.find(call.name, at)
        arguments = next((f for f in objects(text) if f.start >= name and f.value == dict(call.arguments)), None)
        if name < at or arguments is None:
            return None
        places.append((name, arguments.start, arguments.end))
        at = arguments.end
    start, end = text[: places[0][0]], text[places[-1][2] :]
    middles = [text[name + len(call.name) : begin] for call, (name, begin, _) in zip(calls, places, strict=True)]
    between = text[places[0][2] : places[1][0]] if len(places) > 1 else None
    division = divide(start, between, end)
    id_start, name_end = None, middles[0]
    if first.id in middles[0]:
        id_start, name_end = middles[0].split(first.id, 1)
    syntax = TaggedJson(
        section=division.section,
        call_start=division.call.start,
        name_end=name_end,
        call_end=division.call.end,
        separator=division.separator,
        id_start=id_start,
    )
    sure = name_end and id_start != "" and (syntax.section.start + syntax.call_start).strip()
    same = [middle.replace(call.id, first.id) for call, middle in zip(calls, middles, strict=True)]
    others = start + end + (between or "")
    if not sure or same[0] != same[-1] or any(call.id in others or call.name in others for call in calls):
        return None
    return syntax


def tagged_arguments(
    first: Call, one: str, second: Call, two: str | None, numeric: str | None
) -> TaggedArguments | None:
    """The syntax of calls whose arguments are marks around keys and values, if it is one.

    Regions as for ``json_calls``; ``numeric`` is that of one call with a number.
    """
    text = one if two is None else two
    (key, value), (next_key, next_value) = first.arguments.items()
    pieces = _cut(text, first.name, key, value, next_key, next_value)
    if pieces is None:
        return None
    start, before_key, key_end, between_arguments, next_key_end, rest = pieces
    between: str | None = None
    end = rest
    if two is not None:
        ((other_key, other_value),) = second.arguments.items()
        later = _cut(rest, second.name, other_key, other_value)
        if later is None or later[1] != before_key or later[2] != key_end:
            return None
        between, end = later[0], later[3]
    division = divide(start, between, end)
    key_start = common_suffix(before_key, between_arguments)
    name_end = before_key[: len(before_key) - len(key_start)]
    gap = between_arguments[: len(between_arguments) - len(key_start)]
    value_end = common_prefix(gap, division.call.end)
    if not key_start.strip() or not value_end.strip() or next_key_end != key_end:
        return None
    syntax = TaggedArguments(
        section=division.section,
        call_start=division.call.start,
        name_end=name_end,
        key_start=key_start,
        key_end=key_end,
        value_end=value_end,
        separator=gap[len(value_end) :],
        call_end=division.call.end[len(value_end) :],
        between=division.separator,
    )
    written = _cut(numeric or "", NUMERIC.name, *[str(word) for pair in NUMERIC.arguments.items() for word in pair])
    if written is None or written[1:3] != [before_key, key_end]:
        return None  # values that are not strings are written in another way
    others = "".join([*pieces[:-1], between or "", end])
    return None if any(w in others for w in (first.id, second.id, first.name, second.name)) else syntax


def _cut(text: str, *words: str) -> list[str] | None:
    """The text around the words, which must come in this order, each once; else None."""
    pieces = []
    for word in words:
        before, found, text = text.partition(word)
        if not found:
            return None
        pieces.append(before)
    return None if any(word in text for word in words) else [*pieces, text]
