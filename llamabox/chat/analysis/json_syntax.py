"""Calls that are JSON with the name inside."""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final

import attrs

from llamabox.chat.analysis.probes import Call
from llamabox.chat.analysis.split import Division, divide
from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.json_calls import JsonCalls

_DECODER: Final = json.JSONDecoder()


@attrs.frozen
class Found:
    """A JSON object in a text."""

    value: dict[str, Any]
    start: int
    end: int


def objects(text: str) -> Iterator[Found]:
    """The outermost JSON objects of a text."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield Found(value, at, end)
        at = text.find("{", end)


def calls_in(text: str, *calls: Call) -> list[Found] | None:
    """For each call the JSON object with its name inside; None if one has none of its own."""
    every = list(objects(text))
    found = [next((one for one in every if call.name in json.dumps(one.value)), None) for call in calls]
    there = [one for one in found if one is not None]
    apart = all(one.end <= other.start for one, other in pairwise(there))
    return there if apart and len(there) == len(calls) else None


@attrs.frozen(kw_only=True)
class _Keys:
    """What the keys of a call's object mean."""

    name: str
    arguments: str
    id: str | None
    constants: dict[str, Any]


def json_calls(first: Call, one: str, second: Call, two: str | None) -> JsonCalls | None:
    """The syntax of the region ``one`` of a single call and the region ``two`` of two calls, if there is one."""
    alone = calls_in(one, first)
    if alone is None:
        return None
    text, found = one, alone
    if two is not None:
        both = calls_in(two, first, second)
        if both is None:
            return None
        text, found = two, both
    start, end = text[: found[0].start], text[found[-1].end :]
    between = text[found[0].end : found[1].start] if len(found) > 1 else None
    division, list_end = _divided(start, between, end)
    values = [place.value for place in found]
    syntax = _named_by_key(first, values, division) or _with_keys((first, second), values, division)
    return syntax if syntax is None or not list_end else attrs.evolve(syntax, is_list=True, list_end=list_end)


def _divided(start: str, between: str | None, end: str) -> tuple[Division, str]:
    """The marks, and the end of the list that the calls are in, "" if they are in none."""
    opened, closed = start.rstrip(), end.lstrip()
    listed = opened.endswith("[") and closed.startswith("]") and (between is None or between.strip() == ",")
    if not listed:
        division = divide(start, between, end)
        return division, ""
    section = Marks(opened[:-1], closed[1:])
    indent = start[len(opened) :]
    list_end = end[: len(end) - len(closed)] + "]"
    separator = ", " if between is None else between
    if indent and separator.endswith(indent):
        return Division(section=section, call=Marks(indent, ""), separator=separator.removesuffix(indent)), list_end
    return Division(section=section, call=Marks("", ""), separator=separator), list_end


def _named_by_key(call: Call, values: list[dict[str, Any]], division: Division) -> JsonCalls | None:
    if values[0] != {call.name: dict(call.arguments)}:
        return None
    return JsonCalls(
        section=division.section,
        call=division.call,
        separator=division.separator,
        is_list=False,
        keys=(),
        name_key="",
        arguments_key="",
        id_key=None,
        name_is_key=True,
    )


def _with_keys(calls: tuple[Call, Call], values: list[dict[str, Any]], division: Division) -> JsonCalls | None:
    outer = values[0]
    wrapper = next((key for key, value in outer.items() if calls[0].name in _strings(value)), None)
    if wrapper is None:
        keys = _meaning(calls, values)
        own = tuple(outer)
    else:
        inner = [value.get(wrapper) for value in values]
        if not all(isinstance(value, dict) for value in inner):
            return None
        flat = [{**{k: v for k, v in value.items() if k != wrapper}, **value[wrapper]} for value in values]
        keys = _meaning(calls, flat)
        own = tuple(key for place in outer for key in ((place, *outer[place]) if place == wrapper else (place,)))
    if keys is None:
        return None
    return JsonCalls(
        section=division.section,
        call=division.call,
        separator=division.separator,
        is_list=False,
        keys=own,
        name_key=keys.name,
        arguments_key=keys.arguments,
        id_key=keys.id,
        constants=keys.constants,
        wrapper_key=wrapper,
    )


def _strings(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else []


def _meaning(calls: tuple[Call, Call], values: list[dict[str, Any]]) -> _Keys | None:
    """What each key stands for; None if one stands for nothing known."""
    name = arguments = call_id = None
    constants: dict[str, Any] = {}
    for key, value in values[0].items():
        if value == calls[0].name:
            name = key
        elif value == dict(calls[0].arguments):
            arguments = key
        elif value == calls[0].id or _counts(key, values):
            call_id = key
        elif all(other.get(key) == value for other in values):
            constants[key] = value
        else:
            return None
    if name is None or arguments is None:
        return None
    return _Keys(name=name, arguments=arguments, id=call_id, constants=constants)


def _counts(key: str, values: list[dict[str, Any]]) -> bool:
    """Whether a key is an id that the template makes up: it differs, or there is one call only and it is named so."""
    named = key.lower().endswith("id")
    return named and (len(values) == 1 or values[0][key] != values[1].get(key))
