"""Which tools, calls and results come into the prompt, and how the template writes calls."""

import re
from typing import Final

import attrs

from llamabox.chat.analysis.description import CallSyntax
from llamabox.chat.analysis.json_syntax import calls_in, json_calls
from llamabox.chat.analysis.probes import (
    ANSWER,
    FIRST,
    LONG_ID,
    NUMERIC,
    RESULT,
    SECOND,
    SECOND_RESULT,
    Call,
    Prober,
)
from llamabox.chat.analysis.region import Surroundings, region
from llamabox.chat.analysis.tagged_syntax import tagged_arguments, tagged_json
from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.json_calls import JsonCalls

_VARIABLES: Final = (
    ("tools", False),
    ("xml_tools", True),
    ("xml_tools", False),
    ("functions", True),
    ("functions", False),
)


def _usual(section: Marks, call: Marks, separator: str, *, is_list: bool) -> JsonCalls:
    return JsonCalls(
        section=section,
        call=call,
        separator=separator,
        is_list=is_list,
        keys=("name", "arguments"),
        name_key="name",
        arguments_key="arguments",
        id_key=None,
    )


# Some templates tell the model one of these forms, and forget the calls when they write the turn again: Hermes 2's,
# Phi 4's, and Granite 3's.
_TOLD: Final = (
    _usual(Marks("", ""), Marks("<tool_call>\n", "\n</tool_call>"), "\n", is_list=False),
    _usual(Marks("<|tool_call|>", "<|/tool_call|>"), Marks("", ""), ", ", is_list=True),
    _usual(Marks("<|tool_call|>", ""), Marks("", ""), ", ", is_list=True),
)


@attrs.frozen(kw_only=True)
class FoundCalls:
    """See the fields of ``Description``."""

    tools: CallSyntax | None = None
    tools_shown: bool = False
    calls_shown: bool = False
    results_shown: bool = False
    parallel_calls: bool = False
    object_arguments: bool = False
    string_arguments: bool = False
    id_length: int | None = None


def find_tool_variable(prober: Prober, source: str) -> bool:
    """Set the variable in which the template looks for tools. Returns whether it shows them at all."""
    kept = prober.tools_name, prober.tools_as_text
    for name, as_text in _VARIABLES:
        if not re.search(rf"\b{name}\b", source):
            continue
        prober.tools_name, prober.tools_as_text = name, as_text
        text = prober.text(prober.user(), tools=True, prompt=True)
        if text is not None and FIRST.name in text and SECOND.name in text:
            return True
    prober.tools_name, prober.tools_as_text = kept
    return False


def find_calls(prober: Prober, turn_end: str, reasoning: Marks | None, *, tools_shown: bool) -> FoundCalls:
    """Capabilities, and the syntax of calls if it is one of the three that are known."""
    answered = prober.text(prober.user(), prober.answer(), tools=tools_shown)
    if answered is None or ANSWER not in answered:
        return FoundCalls(tools_shown=tools_shown)
    found = _Calls(prober, Surroundings(answered=answered, turn_end=turn_end, reasoning=reasoning), tools_shown)
    objects, strings = found.arguments()
    if not objects and not strings:
        return FoundCalls(
            tools=found.told(),
            tools_shown=tools_shown,
            results_shown=found.results_shown(),
        )
    return FoundCalls(
        tools=found.syntax(),
        tools_shown=tools_shown,
        calls_shown=True,
        results_shown=found.results_shown(),
        parallel_calls=found.several is not None,
        object_arguments=objects,
        string_arguments=strings,
        id_length=found.id_length(),
    )


class _Calls:
    """The probes with calls."""

    def __init__(self, prober: Prober, around: Surroundings, tools_shown: bool) -> None:
        self._prober = prober
        self._around = around
        self._tools = tools_shown
        self._one: str | None = None
        self.several: str | None = None

    def arguments(self) -> tuple[bool, bool]:
        """Whether arguments may be objects, and whether they may be JSON text; the prober uses what may be."""
        objects, strings = self._region(FIRST, strings=False), self._region(FIRST, strings=True)
        if objects is not None and _is_printed(objects):
            objects = None
        if strings is not None and (_is_quoted(strings) or (objects is not None and not _alike(objects, strings))):
            strings = None
        self._prober.strings = objects is None and strings is not None
        self._one = objects if objects is not None else strings
        if self._one is not None:
            self.several = self._region(FIRST, SECOND)
        return objects is not None, strings is not None

    def syntax(self) -> CallSyntax | None:
        """How calls are written, if it is in one of the three ways."""
        assert self._one is not None, "there must be calls to look at"
        if calls_in(self._one, FIRST) is not None:
            return json_calls(FIRST, self._one, SECOND, self.several)
        return tagged_json(FIRST, self._one, SECOND, self.several) or tagged_arguments(
            FIRST, self._one, SECOND, self.several, self._region(NUMERIC)
        )

    def results_shown(self) -> bool:
        """Whether the results of tools come into the prompt, those of two calls if there can be two."""
        calls = (FIRST, SECOND) if self.several is not None else (FIRST,)
        texts = (RESULT, SECOND_RESULT)[: len(calls)]
        text = self._conversation(*calls, results=texts)
        return text is not None and all(result in text for result in texts)

    def id_length(self) -> int | None:
        """Nine, if that is what the template insists on."""
        if self._conversation(FIRST, results=(RESULT,)) is None:
            return None
        return len(FIRST.id) if self._conversation(LONG_ID, results=(RESULT,)) is None else None

    def told(self) -> JsonCalls | None:
        """The usual form in which the prompt tells the model to write calls, if there are tools."""
        prober = self._prober
        text = prober.text(prober.user(), tools=True) if self._tools else None
        plain = prober.text(prober.user()) or ""

        def tells(syntax: JsonCalls) -> bool:
            marks = [mark.strip() for mark in syntax.markers if mark.strip(", \n")]
            return text is not None and all(text.count(mark) > plain.count(mark) for mark in marks)

        return next(filter(tells, _TOLD), None)

    def _region(self, *calls: Call, strings: bool | None = None) -> str | None:
        prober = self._prober
        text = prober.text(prober.user(), prober.calls(*calls, strings=strings), tools=self._tools)
        if text is None:
            # It may miss the results.
            results = [prober.result(call, RESULT) for call in calls]
            text = prober.text(prober.user(), prober.calls(*calls, strings=strings), *results, tools=self._tools)
        return None if text is None else region(text, self._around, *calls)

    def _conversation(self, *calls: Call, results: tuple[str, ...]) -> str | None:
        prober = self._prober
        answers = [prober.result(call, text) for call, text in zip(calls, results, strict=True)]
        return prober.text(prober.user(), prober.calls(*calls), *answers, tools=self._tools, prompt=True)


def _is_printed(text: str) -> bool:
    """Whether an object came out as Python prints it."""
    return any(f"'{key}': " in text for key in FIRST.arguments)


def _is_quoted(text: str) -> bool:
    """Whether JSON text was quoted once more."""
    return any(f'\\"{key}\\"' in text for key in FIRST.arguments)


def _alike(one: str, other: str) -> bool:
    return "".join(one.split()) == "".join(other.split())
