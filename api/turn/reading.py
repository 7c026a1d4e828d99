"""Reads a choice's text as the engine's events bring it."""

from collections.abc import Collection, Sequence
from typing import Final

import attrs

from api.custom.texts import CustomTexts
from api.turn.model import Ending, Part, TurnEnd
from engine.text.events import Finished, FinishReason, Tokens
from engine.text.requests import TokenInfo
from llamabox.chat.deltas import Content, Delta, Reasoning
from llamabox.chat.parser import OutputParser

_OPEN: Final = "<think>\n"
_CLOSE: Final = "\n</think>"


@attrs.define
class _InContent:
    """Turns reasoning into content between tags."""

    _open: bool = attrs.field(default=False, init=False)

    def turned(self, deltas: Sequence[Delta]) -> list[Delta]:
        result: list[Delta] = []
        for delta in deltas:
            if isinstance(delta, Reasoning):
                result.append(Content(delta.text if self._open else _OPEN + delta.text))
                self._open = True
                continue
            if self._open:
                result.append(Content(f"{_CLOSE}\n\n"))
                self._open = False
            result.append(delta)
        return result

    def rest(self) -> list[Delta]:
        """The end of reasoning that nothing followed."""
        return [Content(_CLOSE)] if self._open else []


def stopped(event: Tokens) -> Finished:
    """The end of a turn that is over with ``event``: as if the model had stopped there."""
    return Finished(
        reason=FinishReason.EOS,
        stopping_word="",
        text="",
        tokens=(),
        slot=event.slot,
        timings=event.timings,
        truncated=False,
    )


class TurnReader:
    """One choice: the engine's events in, parts out. Tokens whose text is held back go with the next part."""

    def __init__(
        self,
        parser: OutputParser,
        *,
        stop: Collection[str] = (),
        custom: Collection[str] = (),
        reasoning_in_content: bool = False,
    ) -> None:
        """``stop``: the stop strings that the client knows of; one that the model's format needs is not told.

        ``custom``: the tools that take text, which stands in the place of the arguments of their calls.
        """
        self._parser = parser
        self._custom = CustomTexts(custom) if custom else None
        self._stop = frozenset(stop)
        self._in_content = _InContent() if reasoning_in_content else None
        self._tokens: list[int] = []
        self._infos: list[TokenInfo] = []
        self._early = 0  # tokens from before the answer
        self._reasoned = False
        self._answering = False

    @property
    def over(self) -> bool:
        """Whether the turn has ended, though the model goes on: it may call once, and has begun to call again."""
        return self._parser.over

    def feed(self, event: Tokens) -> Part | None:
        """What is sure by now; None while nothing is."""
        deltas = self._parser.feed(event.text)
        self._count(event, deltas)
        if self._custom is not None:
            deltas = self._custom.turned(deltas)
        if self._in_content is not None:
            deltas = self._in_content.turned(deltas)
        self._hold(event)
        return self._part(event, deltas) if deltas else None

    def finish(self, event: Finished) -> tuple[Part | None, TurnEnd]:
        """The last part, which may have tokens alone, those of a mark; None if nothing is left."""
        deltas = self._parser.feed(event.text)
        at_limit = event.reason is FinishReason.LIMIT
        deltas += self._parser.finish(at_limit=at_limit, stop_string=event.stopping_word)
        self._count(event, deltas)
        if self._custom is not None:
            deltas = self._custom.turned(deltas)
        if self._in_content is not None:
            deltas = [*self._in_content.turned(deltas), *self._in_content.rest()]
        self._hold(event)
        part = self._part(event, deltas) if deltas or self._tokens else None
        reason = FinishReason.EOS if self.over else event.reason
        cut = reason is not FinishReason.EOS and self._parser.in_call
        told = event.stopping_word in self._stop and reason is FinishReason.WORD
        return part, TurnEnd(
            ending=self._ending(reason, cut),
            stop_string=event.stopping_word if told else "",
            cut_call=cut,
            timings=event.timings,
            reasoning_tokens=self._early if self._reasoned else 0,
        )

    def _ending(self, reason: FinishReason, cut: bool) -> Ending:
        if reason is FinishReason.LIMIT:
            return "length"
        return "tool_calls" if self._parser.calls and not cut else "stop"

    def _count(self, event: Tokens | Finished, deltas: Sequence[Delta]) -> None:
        """Where an event brings the end of the reasoning and of the answer something, the text is the measure."""
        if self._answering:
            return
        reasoning = sum(len(delta.text) for delta in deltas if isinstance(delta, Reasoning))
        self._reasoned = self._reasoned or reasoning > 0
        self._answering = self._parser.answering
        share = min(reasoning / len(event.text), 1.0) if self._answering and event.text else 1.0
        self._early += round(len(event.tokens) * share)

    def _hold(self, event: Tokens | Finished) -> None:
        self._tokens += event.tokens
        self._infos += event.infos

    def _part(self, event: Tokens | Finished, deltas: Sequence[Delta]) -> Part:
        part = Part(deltas=deltas, tokens=self._tokens, infos=self._infos, timings=event.timings)
        self._tokens, self._infos = [], []
        return part
