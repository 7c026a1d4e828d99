"""The frame of a turn: how the template opens it, what follows it, and what surrounds the answer's text."""

import attrs

from llamabox.chat.analysis.diff import common_prefix, marks_in, paired
from llamabox.chat.analysis.probes import ANSWER, SECOND_USER, USER, Prober
from llamabox.chat.formats.base import Marks

# Granite's templates tell the model to write so, and never do it themselves.
_TOLD = Marks("<response>", "</response>")


@attrs.frozen(kw_only=True)
class Frame:
    """Texts with the answer in them, and what they show."""

    asked: str  # the user's message, with generation prompt
    asked_plainly: str  # the same without enable_thinking
    answered: str  # the user's message and the answer
    followed: str  # that, and another message of the user; "" if it is refused
    generation_prompt: str


def frame(prober: Prober) -> Frame | None:
    """Render the turns that need no tools; None if the template does not write answers."""
    asked = prober.render(prober.user(), prompt=True)
    plainly = prober.text(prober.user(), prompt=True, enable_thinking=False)
    unasked = prober.text(prober.user())
    answered = prober.text(prober.user(), prober.answer())
    followed = prober.text(prober.user(), prober.answer(), prober.user(SECOND_USER))
    if answered is None or ANSWER not in answered:
        return None
    return Frame(
        asked=asked,
        asked_plainly=plainly or asked,
        answered=answered,
        followed=followed if followed and ANSWER in followed else "",
        generation_prompt=added(asked, unasked) if unasked is not None else "",
    )


def wrapping(texts: Frame, reasoning: Marks | None, reasoned: str, source: str) -> Marks | None:
    """What surrounds the answer's text. White space alone is no mark.

    ``reasoned`` is an answer that follows reasoning: some models wrap only that.
    """
    plain = _plain_wrapping(texts, reasoning)
    if plain is not None:
        return plain
    before, answer, after = reasoned.partition(ANSWER)
    if answer and _surround(before, after):
        return Marks(before, after[: marks_in(after)[0].end])
    return _TOLD if _TOLD.start + _TOLD.end in source else None


def _plain_wrapping(texts: Frame, reasoning: Marks | None) -> Marks | None:
    before, _, after = texts.answered.partition(ANSWER)
    start, left = added(before, texts.asked), added(texts.asked, before).strip()
    if reasoning is not None:
        start = start.rpartition(reasoning.end.strip())[2]
        left = left.removesuffix(reasoning.start.strip())
    if not start.strip():
        return None
    opened = bool(texts.generation_prompt)
    if (opened or not _frames_user(texts)) and _surround(start, after):
        return Marks(start, after[: marks_in(after)[0].end])
    # Otherwise it could be the beginning of the turn.
    return Marks(start, "") if opened and not left else None


def turn_end(texts: Frame, surrounds: Marks | None, reasoning: Marks | None) -> str:
    """What follows the assistant's message: a mark if there is one; "" if that is not sure."""
    last, later = _after(texts.answered, surrounds), _after(texts.followed, surrounds)
    if last.strip():
        shared = common_prefix(last, later) if later else last
        end = _first_mark(shared) or shared.strip() or _first_mark(last)
    else:
        # What comes next, then, if it is a mark.
        first = marks_in(later)
        end = first[0].text if first and not later[: first[0].start].strip() else ""
    return "" if reasoning is not None and end == reasoning.end.strip() else end


def added(text: str, other: str) -> str:
    """What a text has behind the beginning that it shares with another, counted from the user's message."""
    text, other = after_user(text), after_user(other)
    return text[len(common_prefix(text, other)) :]


def after_user(text: str) -> str:
    """What follows the user's first message."""
    return text.rpartition(USER)[2]


def _after(text: str, surrounds: Marks | None) -> str:
    rest = text.partition(ANSWER)[2]
    return rest.removeprefix(surrounds.end) if surrounds is not None else rest


def _first_mark(text: str) -> str:
    for mark in marks_in(text):
        if mark.complete:
            return text[: mark.end].strip()
    return ""


def _surround(start: str, end: str) -> bool:
    """Whether the last mark of ``start`` and the first one of ``end`` belong together."""
    opening, closing = marks_in(start), marks_in(end)
    return bool(opening and closing) and paired(opening[-1].text, closing[0].text)


def _frames_user(texts: Frame) -> bool:
    """Whether the user's message stands between such marks: then they are no wrapping, but the turn's frame."""
    before, _, after = texts.asked.partition(USER)
    return _surround(before, after)
