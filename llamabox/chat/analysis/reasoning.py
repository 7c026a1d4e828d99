"""The marks around reasoning, and how the generation prompt opens or closes it."""

import attrs

from llamabox.chat.analysis.diff import marks_in, paired
from llamabox.chat.analysis.probes import ANSWER, FIRST, REASONING, RESULT, Prober
from llamabox.chat.analysis.turn import Frame, added, after_user
from llamabox.chat.formats.base import Marks

# Templates that cut reasoning out of an answer name at least its end.
_USUAL = (Marks("<think>", "</think>"), Marks("[THINK]", "[/THINK]"))


@attrs.frozen(kw_only=True)
class FoundReasoning:
    """See the fields of ``Description``."""

    marks: Marks | None = None
    opened_by_prompt: bool = False
    closed_by_prompt: str = ""
    field: str | None = None
    answered: str = ""  # an answer beside reasoning, from the reasoning's end on


def find_reasoning(prober: Prober, texts: Frame, source: str) -> FoundReasoning:
    """Marks as the template writes them around a message's reasoning, or else as its prompts and its text show."""
    marks, field, answered = _written(prober, texts)
    asked, plainly = after_user(texts.asked), after_user(texts.asked_plainly)
    if marks is None:
        frames = texts.followed.partition(ANSWER)[2]
        marks = _prompted(asked, plainly, source, frames) or next((m for m in _USUAL if m.end in source), None)
    elif not marks.start.strip():
        marks = Marks(_open_at_end(asked, marks.end), marks.end)
    if marks is None:
        return FoundReasoning(field=field, answered=answered)
    start, end = marks.start.strip(), marks.end.strip()
    ended = asked.rstrip()
    return FoundReasoning(
        marks=marks,
        opened_by_prompt=ended.endswith(start) if start else not ended.endswith(end),
        closed_by_prompt=_closed(plainly, start, end),
        field=field,
        answered=answered,
    )


def _written(prober: Prober, texts: Frame) -> tuple[Marks | None, str | None, str]:
    """The marks around a message's reasoning, its field, and what follows.

    The reasoning is that of an answer or, where this is dropped, of a call.
    """
    text = prober.text(prober.user(), prober.answer(**REASONING))
    control: str | None = texts.answered
    field = _shown(text)
    if field is None:
        result = prober.result(FIRST, RESULT)
        text = prober.text(prober.user(), prober.calls(FIRST, **REASONING), result, tools=True)
        field = _shown(text)
        if field is None:
            return None, None, ""
        control = prober.text(prober.user(), prober.calls(FIRST), result, tools=True)
    assert text is not None, "a field is shown in a text"
    before, _, after = text.partition(REASONING[field])
    end = _end(after)
    if not end.strip():
        return None, field, ""
    start = added(before, control or "")
    if not start.strip():
        start = _open_at_end(before, end)
    return Marks(start, end), field, after[len(end) :]


def _shown(text: str | None) -> str | None:
    return next((field for field, word in REASONING.items() if text and word in text), None)


def _end(after: str) -> str:
    """What ends the reasoning: up to the first mark, with the white space behind it; or all up to the answer."""
    marks = marks_in(after)
    answer = after.find(ANSWER)
    if marks and (answer < 0 or marks[0].start < answer):
        rest = after[marks[0].end :]
        return after[: len(after) - len(rest.lstrip())]
    return after[:answer] if answer >= 0 else ""


def _open_at_end(text: str, end: str) -> str:
    """The mark at the end of ``text`` whose counterpart is in ``end``, with the white space behind it; else ""."""
    opening, closing = marks_in(text), marks_in(end)
    if opening and closing:
        last = opening[-1]
        if not text[last.end :].strip() and paired(last.text, closing[0].text):
            return text[last.start :]
    return ""


def _prompted(asked: str, plainly: str, source: str, frames: str) -> Marks | None:
    """Marks that the generation prompt shows: a closed block, or an opening whose counterpart the template knows.

    ``frames`` is what follows an answer: a counterpart in there closes the turn.
    """
    marks = marks_in(plainly)
    if len(marks) > 1 and not plainly[marks[-1].end :].strip():
        opening, closing = marks[-2:]
        between = plainly[opening.end : closing.start]
        if not between.strip() and paired(opening.text, closing.text):
            half = len(between) // 2
            tail = plainly[closing.end :]
            return Marks(
                opening.text + between[: len(between) - half],
                between[len(between) - half :] + closing.text + tail,
            )
    marks = marks_in(asked)
    if marks and not asked[marks[-1].end :].strip():
        opening = marks[-1]
        for candidate in marks_in(source):
            if paired(opening.text, candidate.text) and candidate.text not in frames:
                return Marks(asked[opening.start :], candidate.text)
    return None


def _closed(prompt: str, start: str, end: str) -> str:
    """The end of ``prompt`` that closes the reasoning, with its opening if that is right before."""
    if not prompt.rstrip().endswith(end):
        return ""
    at = prompt.rfind(end)
    before = prompt[:at].rstrip()
    if start and before.endswith(start):
        at = len(before) - len(start)
    return prompt[at:]
