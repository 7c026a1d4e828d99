"""What a client of a soak sends, and what is wrong with what it got. Pure."""

import json
import re
from typing import Any, Final

import attrs

from tools.bench.prompts import Message, Prompts
from tools.bench.soaking.visits import Ask, Leaving, Visit

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
CITIES: Final = ("Berlin", "Paris", "Rome")
UNITS: Final = ("celsius", "fahrenheit")
GRAMMAR: Final = r'root ::= "<" [a-z]+ ("-" [a-z]+)? ">"'
SHAPE: Final = re.compile(r"<[a-z]+(-[a-z]+)?>")
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "city": {"enum": list(CITIES)},
        "unit": {"enum": list(UNITS)},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 7}, "maxItems": 3},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
TOOL: Final = {"type": "function", "function": {"name": "weather", "description": "", "parameters": SCHEMA}}
REASONS: Final = {"stop", "length", "tool_calls"}


def request_of(visit: Visit, prompts: Prompts) -> tuple[str, dict[str, Any]]:
    """Path and body."""
    body: dict[str, Any] = {
        "max_tokens": visit.tokens,
        "temperature": visit.temperature,
        "seed": visit.seed,
        "n": visit.choices,
    }
    if visit.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    messages = _messages(visit, prompts)
    if visit.ask is Ask.GRAMMAR:
        text = "\n".join(message["content"] for message in messages)
        return COMPLETIONS, body | {"prompt": text, "grammar": GRAMMAR}
    body["messages"] = messages
    if visit.ask is Ask.SCHEMA:
        format_ = {"name": "weather", "strict": True, "schema": SCHEMA}
        body["response_format"] = {"type": "json_schema", "json_schema": format_}
    if visit.ask is Ask.TOOLS:
        body |= {"tools": [TOOL], "tool_choice": "required"}
    if visit.leaving is Leaving.SLOWLY and visit.ask is Ask.FREE:
        body |= {"logprobs": True, "top_logprobs": 20, "ignore_eos": True}  # long events: buffers fill
    return CHAT, body


def _messages(visit: Visit, prompts: Prompts) -> list[Message]:
    if visit.ask is Ask.COPY:
        text = prompts.text(max(20, visit.prompt // 4), "copy", visit.name)
        return [{"role": "user", "content": f"Repeat this text twice: {text}. Once more: {text}. And again:"}]
    if visit.group is None:
        return prompts.visitor(_number(visit), visit.prompt)
    shared = attrs.evolve(prompts, scenario=f"soak, group {visit.group}", round=0)
    return shared.shared(_number(visit), 200 + 50 * visit.group)


def _number(visit: Visit) -> int:
    major, _, minor = visit.name.partition(".")
    return int(major) * 100_000 + int(minor)


@attrs.define
class Answer:
    """What has arrived of an answer, by index of the choice."""

    texts: dict[int, str] = attrs.field(factory=dict)
    arguments: dict[int, str] = attrs.field(factory=dict)
    reasons: dict[int, str] = attrs.field(factory=dict)
    tokens: int | None = None
    errors: list[str] = attrs.field(factory=list)
    events: int = 0

    def take(self, body: dict[str, Any]) -> None:
        """A chunk of a stream, or a whole answer."""
        self.events += 1
        if "error" in body or "choices" not in body:
            self.errors.append(f"an error came: {json.dumps(body)[:300]}")
            return
        for choice in body["choices"]:
            index = choice["index"]
            message = choice.get("delta") or choice.get("message") or {}
            text = message.get("content") or choice.get("text") or ""
            self.texts[index] = self.texts.get(index, "") + text
            for call in message.get("tool_calls") or ():
                self.arguments[index] = self.arguments.get(index, "") + (call["function"].get("arguments") or "")
            if reason := choice.get("finish_reason"):
                if index in self.reasons:
                    self.errors.append(f"choice {index} ended twice")
                self.reasons[index] = reason
        if usage := body.get("usage"):
            self.tokens = usage["completion_tokens"]

    def complaints(self, visit: Visit) -> list[str]:
        """What is wrong with it as the whole answer of this visit."""
        found = list(self.errors)
        if sorted(self.reasons) != list(range(visit.choices)):
            found.append(f"{visit.choices} choices were asked for, {sorted(self.reasons)} ended")
        found += [f"finish_reason {reason!r}" for reason in self.reasons.values() if reason not in REASONS]
        if self.tokens is None or not 0 <= self.tokens <= visit.tokens * visit.choices:
            found.append(f"{self.tokens} tokens, at most {visit.tokens} each were asked for")
        for index, reason in self.reasons.items():
            if reason in ("stop", "tool_calls") and (why := self._broken(visit.ask, index)):
                found.append(f"choice {index}: {why}")
        return found

    def _broken(self, ask: Ask, index: int) -> str:
        text = self.texts.get(index, "")
        match ask:
            case Ask.SCHEMA:
                return misshapen(text)
            case Ask.TOOLS:
                return misshapen(self.arguments.get(index, ""))
            case Ask.GRAMMAR if not SHAPE.fullmatch(text):
                return f"not by the grammar: {text!r}"
        return ""


def misshapen(text: str) -> str:
    """Why the text is not JSON by ``SCHEMA``; "": it is."""
    try:
        found = json.loads(text)
    except ValueError as error:
        return f"no JSON ({error}): {text!r}"
    days = found.get("days") if isinstance(found, dict) else None
    right = (
        isinstance(days, list)
        and found.keys() == {"city", "unit", "days"}
        and found["city"] in CITIES
        and found["unit"] in UNITS
        and len(days) <= 3
        and all(isinstance(day, int) and 1 <= day <= 7 for day in days)
    )
    return "" if right else f"not by the schema: {text!r}"
