"""A chat generation as whole turns."""

from collections.abc import Sequence

import attrs

from api.generation import Generation, drain
from api.turn.model import Part, ToolCall, Turn, TurnEnd
from api.turn.reading import TurnReader, stopped
from engine.text.events import Finished, Tokens
from engine.text.requests import TokenInfo
from llamabox.chat.deltas import CallArguments, CallStarted, Content, Reasoning


async def read_turns(generation: Generation, readers: Sequence[TurnReader]) -> list[Turn]:
    """Wait for all choices, in order; each is read as it comes. Raises ApiError when one fails."""
    gathered = [_Gathered(reader) for reader in readers]

    def take(choice: int, event: Tokens | Finished) -> None:
        gathered[choice].add(event)
        if readers[choice].over:
            generation.leave(choice)

    await drain(generation, take)
    return [entry.turn() for entry in gathered]


@attrs.define
class _Call:
    id: str
    name: str
    arguments: list[str] = attrs.field(factory=list)


@attrs.define
class _Gathered:
    """The parts of one turn."""

    reader: TurnReader
    content: list[str] = attrs.field(factory=list)
    reasoning: list[str] = attrs.field(factory=list)
    calls: list[_Call] = attrs.field(factory=list)
    tokens: list[int] = attrs.field(factory=list)
    infos: list[TokenInfo] = attrs.field(factory=list)
    end: TurnEnd | None = None

    def add(self, event: Tokens | Finished) -> None:
        if self.end is not None:
            return
        if isinstance(event, Tokens):
            self._add(self.reader.feed(event))
            if not self.reader.over:
                return
            event = stopped(event)
        part, self.end = self.reader.finish(event)
        self._add(part)

    def turn(self) -> Turn:
        assert self.end is not None, "a drained generation has ended"
        return Turn(
            content="".join(self.content),
            reasoning="".join(self.reasoning),
            calls=[ToolCall(call.id, call.name, "".join(call.arguments)) for call in self.calls],
            tokens=self.tokens,
            infos=self.infos,
            end=self.end,
        )

    def _add(self, part: Part | None) -> None:
        if part is None:
            return
        self.tokens += part.tokens
        self.infos += part.infos
        for delta in part.deltas:
            match delta:
                case Content(text):
                    self.content.append(text)
                case Reasoning(text):
                    self.reasoning.append(text)
                case CallStarted(_, call_id, name):
                    self.calls.append(_Call(call_id, name))
                case CallArguments(index, text):
                    self.calls[index].arguments.append(text)
