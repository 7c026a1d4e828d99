"""A model's output as a stream's events and as a whole turn, without a server between."""

from collections.abc import Sequence

import attrs
import msgspec

from api.generation import Item
from api.turn.model import Turn, TurnRenderer
from api.turn.reading import TurnReader
from api.turn.stream import TurnStream
from api.turn.whole import read_turns
from engine.text.events import Finished, FinishReason, PrefillProgress, Timings, Tokens
from engine.text.requests import TokenInfo
from llamabox.chat.formats.base import Tool
from llamabox.chat.parser import OutputParser
from tests.api.fake_prompts import FORMAT

TOOLS = {"add": Tool(name="add"), "now": Tool(name="now")}


@attrs.frozen
class Event:
    """What an SSE client gets."""

    name: str
    data: dict[str, object]


@attrs.frozen(kw_only=True)
class Output:
    """What a model says. 2 of its 6 prompt tokens were cached; a token is a byte."""

    text: str
    reason: FinishReason = FinishReason.EOS
    stopping_word: str = ""
    logprobs: bool = False

    def reader(self) -> TurnReader:
        ids = (f"call_{number}" for number in range(100))
        return TurnReader(OutputParser(FORMAT, tools=TOOLS, new_id=lambda: next(ids)), stop=("END",))

    def events(self, cuts: Sequence[int]) -> list[Tokens | Finished]:
        """The engine's events when the text comes in pieces, cut at ``cuts``."""
        ends = [*cuts, len(self.text)]
        starts = [0, *cuts]
        events: list[Tokens | Finished] = []
        for start, end in zip(starts, ends, strict=True):
            piece = self.text[start:end]
            tokens = tuple(piece.encode())
            infos = tuple(TokenInfo(token=t, piece=bytes([t]), logprob=-0.5) for t in tokens)
            timings = Timings(cache_n=2, prompt_n=4, predicted_n=len(self.text[:end].encode()))
            given = infos if self.logprobs else ()
            events.append(Tokens(text=piece, tokens=tokens, slot=0, timings=timings, infos=given))
        word = self.stopping_word
        return [
            *events,
            Finished(
                reason=self.reason,
                stopping_word=word,
                text="",
                tokens=(),
                slot=0,
                timings=events[-1].timings,
                truncated=False,
            ),
        ]

    def streamed(self, renderer: TurnRenderer, cuts: Sequence[int] = (), *, progress: bool = False) -> list[Event]:
        """What ``renderer`` makes of it."""
        stream = TurnStream([self.reader()], renderer, lambda _: None)
        report = PrefillProgress(total=6, cache=2, processed=6, time_ms=1.0)
        sent = stream.feed(0, report) if progress else b""
        events = self.events(cuts)
        sent += b"".join(stream.feed(0, event) for event in events)
        return parse(sent + stream.end([events[-1].timings]))

    async def whole(self) -> Turn:
        """It as one turn, in pieces of a character."""
        events = self.events(range(1, len(self.text)))
        [turn] = await read_turns(Played([(0, event) for event in events]), [self.reader()])
        return turn


@attrs.define
class Played:
    """A generation that has ended."""

    items: list[Item]
    left: list[int] = attrs.field(factory=list)  # choices whose turn was over before

    def leave(self, choice: int) -> None:
        self.left.append(choice)

    async def receive(self) -> list[Item]:
        items, self.items = self.items, []
        return items


def parse(sent: bytes) -> list[Event]:
    """Events of two lines each, the name in both."""
    events = []
    for block in sent.decode().removesuffix("\n\n").split("\n\n"):
        first, second = block.split("\n")
        event = Event(first.removeprefix("event: "), msgspec.json.decode(second.removeprefix("data: ")))
        assert first != event.name
        assert event.data["type"] == event.name
        events.append(event)
    return events


# One of each kind, in the format of tests.api.fake_prompts.
CALLS = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é"}}\n</tool_call>'
MORE_CALLS = f'{CALLS}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>'
OUTPUTS = {
    "text": Output(text="Hello wörld"),
    "nothing": Output(text=""),
    "reasoning": Output(text="<think>\nwhy not</think>\n\nBecause."),
    "call": Output(text=CALLS),
    "calls": Output(text=f"<think>\nhm</think>\n\nLet me see. {MORE_CALLS}"),
    "cut reasoning": Output(text="<think>\nit is", reason=FinishReason.LIMIT),
    "cut call": Output(text=CALLS[:-20], reason=FinishReason.LIMIT),
    "limit behind calls": Output(text=MORE_CALLS, reason=FinishReason.LIMIT),
    "stopped": Output(text="one two ", reason=FinishReason.WORD, stopping_word="END"),
}


def cuts_of(output: Output) -> list[Sequence[int]]:
    """Every cut in two, and the cut into single characters."""
    length = len(output.text)
    return [(), *((place,) for place in range(1, length)), range(1, length)]
