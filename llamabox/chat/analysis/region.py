"""The part of a rendered turn that is its tool calls."""

import attrs

from llamabox.chat.analysis.diff import common_prefix, common_suffix, marks_in
from llamabox.chat.analysis.probes import ANSWER, USER, Call
from llamabox.chat.formats.base import Marks


@attrs.frozen(kw_only=True)
class Surroundings:
    """What is known of a turn before its calls are looked at."""

    answered: str  # the turn with an answer instead of the calls
    turn_end: str
    reasoning: Marks | None


def region(text: str, around: Surroundings, *calls: Call) -> str | None:
    """The calls in ``text``, with their marks; None if they are not all there."""
    words = [word for call in calls for word in _words(call)]
    before, _, after_answer = around.answered.partition(ANSWER)
    # Tools that are listed in the prompt have the same names: only what follows the user's message counts.
    before, text = before.rpartition(USER)[2], text.rpartition(USER)[2]
    body = text[len(common_prefix(before, text)) :]
    if any(word not in body for word in words):
        return None
    turn = _turn(body, max(body.find(word) + len(word) for word in words), around.turn_end)
    found = [word for word in (*words, *(call.id for call in calls)) if word in turn]
    first = min(turn.find(word) for word in found)
    last = max(turn.rfind(word) + len(word) for word in found)
    return _start(body[:first], around) + body[first:last] + _end(body[last:], around, after_answer)


def _words(call: Call) -> list[str]:
    return [call.name, *call.arguments, *[str(value) for value in call.arguments.values()]]


def _turn(body: str, behind: int, turn_end: str) -> str:
    """The text up to the end of the turn: results that follow have the names and ids of their calls."""
    at = body.find(turn_end, behind) if turn_end else -1
    return body if at < 0 else body[:at]


def _start(before: str, around: Surroundings) -> str:
    """The marks before the first call, without an empty reasoning."""
    end = around.reasoning.end.strip() if around.reasoning is not None else ""
    return before.rpartition(end)[2] if end else before


def _end(after: str, around: Surroundings, after_answer: str) -> str:
    """The marks behind the last call, without the turn's end."""
    at = after.find(around.turn_end) if around.turn_end else -1
    shared = common_suffix(after, after_answer)
    own = len(after) - len(shared)
    if at >= 0:
        return after[: min(at, own)].rstrip()
    rest = after[:own].rstrip()
    marks = marks_in(rest)
    if not shared.strip() and after_answer.strip() and marks and marks[-1].end == len(rest):
        # Turns with calls have an end of their own.
        last = marks[-1]
        if last.start and last.text[1:2] != "/":
            return rest[: last.start].rstrip()
    return rest
