"""Prompts without a template: `role: content` lines, and Hermes' format for the answers."""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import InvalidRequest
from engine.text.requests import GrammarSpec, Thinking
from llamabox.chat.ask import ChatAsk, ChatPlan, ToolChoice
from llamabox.chat.errors import TemplateError
from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.standard import StandardFormat
from llamabox.chat.parser import OutputParser
from llamabox.chat.placing import Placed
from tests.api.fake_engine import ByteVocab
from tests.chat.formats.shapes import HERMES

FORMAT = StandardFormat(reasoning=Marks("<think>", "</think>"), tools=HERMES)


class FakePrompts:
    """Remembers what was asked. A grammar or title of "wrong" is none."""

    source = "the template"
    reasons = True

    def __init__(self) -> None:
        self.asks: list[ChatAsk] = []
        self.constraints: list[tuple[str | None, Any, bool]] = []
        self.visible: frozenset[int] = frozenset()
        self.thinking: Thinking | None = None
        self.stop: tuple[str, ...] = ()

    async def plan(self, ask: ChatAsk) -> ChatPlan:
        self.asks.append(ask)
        if ask.messages[-1].get("content") == "raise":
            raise TemplateError("the template says no")
        prompt = ["assistant:"] if ask.add_generation_prompt and not ask.continue_final_message else []
        text = "\n".join([*(f"{message['role']}: {message.get('content')}" for message in ask.messages), *prompt])
        tools = {} if ask.choice is ToolChoice.NONE else {tool.name: tool for tool in ask.tools}
        ids = (f"call_{number}" for number in itertools.count())
        return ChatPlan(
            text=text,
            tokens=await self.tokenize(text, add_special=True, parse_special=True),
            parser=lambda: OutputParser(FORMAT, tools=tools, parallel=ask.parallel, new_id=lambda: next(ids)),
            grammar=_spec(ask.grammar, ask.schema, [*tools] if ask.choice is ToolChoice.REQUIRED else []),
            visible=self.visible,
            thinking=self.thinking,
            stop=self.stop,
        )

    async def constrain(self, *, grammar: str | None, schema: Any, strict: bool) -> GrammarSpec | None:
        self.constraints.append((grammar, schema, strict))
        return _spec(grammar, schema)

    async def place(self, text: str, data: Sequence[str], where: str) -> Placed:
        raise InvalidRequest(f"{where}: the model takes no images and no sound", where)

    async def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return ByteVocab().tokenize(text, add_special=add_special, parse_special=parse_special)


def _spec(grammar: str | None, schema: Any, tools: Sequence[str] = ()) -> GrammarSpec | None:
    if grammar == "wrong":
        raise InvalidRequest("this is no grammar")
    if grammar is None and schema is None and not tools:
        return None
    return GrammarSpec(source=msgspec.json.encode([grammar, schema, tools]).decode())
