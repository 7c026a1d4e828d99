"""Continuing an assistant's last message: its text goes behind the generation prompt, never through the template."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from llamabox.chat.formats.base import Marks

# What surrounds reasoning in most of the templates that have it.
KNOWN_MARKS: Final = (
    Marks("<think>\n", "\n</think>\n\n"),
    Marks("[THINK]", "[/THINK]"),
    Marks("<seed:think>", "</seed:think>"),
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),
)


def continued(prompt: str, message: Mapping[str, Any], marks: Marks | None) -> str:
    """``prompt`` (ending in the generation prompt) with the text that the assistant has already said.

    ``marks`` are those of the format's reasoning. Reasoning that the prompt leaves open is closed before the content;
    the message's ``reasoning_content`` goes into it first, or is opened for it. A message with reasoning alone leaves
    it open: the model goes on thinking. Where the prompt has closed the reasoning, or the format has none, there is no
    place for it.
    """
    content: str = message["content"]
    reasoning: str = message.get("reasoning_content") or ""
    opened = next((known for known in _candidates(marks) if _leaves_open(prompt, known)), None)
    if opened is None:
        if not reasoning or marks is None or prompt.rstrip().endswith(marks.end.strip()):
            return prompt + content
        opened = marks
        prompt += marks.start
    elif reasoning and not prompt[-1:].isspace():
        prompt += opened.start[len(opened.start.rstrip()) :]
    if not content:
        return prompt + reasoning
    return prompt + reasoning.rstrip() + _end(opened) + content


def _end(marks: Marks) -> str:
    """The end mark; on lines of its own where the start is, and the template does not show how the end is written."""
    bare = marks.end == marks.end.strip() and marks.start.endswith("\n")
    return f"\n{marks.end}\n\n" if bare else marks.end


def _candidates(marks: Marks | None) -> Iterator[Marks]:
    if marks is not None:
        yield marks
    yield from KNOWN_MARKS


def _leaves_open(prompt: str, marks: Marks) -> bool:
    ended = prompt.rstrip()
    if start := marks.start.strip():
        return ended.endswith(start)
    # Marks without a start: the prompt always opens the reasoning, unless it shows the end at once.
    return not ended.endswith(marks.end.strip())
