"""One model family: its template, and what its models write."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from llamabox.chat.template import ChatTemplate
from tests.chat.families.samples import Call
from tests.chat.families.wires import Wire, call_id

_HERE = Path(__file__).parent


@cache
def _source(name: str) -> str:
    return (_HERE / f"{name}.jinja").read_text(encoding="utf-8")


@cache
def _compiled(name: str) -> ChatTemplate:
    """Not the program's own cache, which is too small for tests that go over all families again and again."""
    return ChatTemplate(_source(name))


@attrs.frozen(kw_only=True)
class Family:
    """``source`` is the template, ``wire`` one turn as the model writes it."""

    name: str
    writes: Wire
    also: tuple[Wire, ...] = ()  # other spellings of the same that its models are known to write
    parallel: bool = True  # several calls in one turn
    model_ids: bool = False  # calls have ids on the wire
    id_of: Callable[[int, str], str] = lambda number, _: call_id(number)  # of the n-th call of this name
    ids_late: bool = False  # behind the arguments: too late to be told with the name
    reasoning: bool = False
    reasoning_open: bool = False  # with thinking enabled the prompt has opened the reasoning
    reasoning_kept: bool = False  # the template writes the reasoning of the turn in progress
    reasoning_key: str = "reasoning_content"
    tools: bool = True  # False: the template knows none
    system: bool = True  # False: the template refuses the role
    content_beside_calls: bool = True
    string_arguments: bool = False  # the template takes the arguments as text
    python_values: bool = False  # what is no string or number, the template writes as Python would, the model as JSON
    end: str  # of the turn, as the template writes it
    special: tuple[str, ...] = ()  # markers that are control tokens in the vocabulary, as far as known

    @property
    def source(self) -> str:
        """The template."""
        return _source(self.name)

    def wire(self, calls: Sequence[Call] = (), *, content: str = "", reasoning: str = "") -> str:
        """What the model writes behind the generation prompt, without the turn's end.

        Where the prompt has opened the reasoning, it begins with the reasoning's text, and closes it.
        """
        return self.writes(calls, content, reasoning)

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] = (),
        *,
        thinking: bool = True,
        prompt: bool = False,
    ) -> str:
        """The template's text; ``prompt``: with the generation prompt."""
        variables: dict[str, Any] = {
            "messages": messages,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "enable_thinking": thinking,
            "add_generation_prompt": prompt,
        }
        if tools:
            variables |= {
                "tools": tools,
                "xml_tools": [json.dumps(tool["function"], ensure_ascii=False) for tool in tools],
                "functions": json.dumps([tool["function"] for tool in tools], ensure_ascii=False, indent=2),
            }
        return _compiled(self.name).render(variables)

    def assistant(self, calls: Sequence[Call] = (), *, content: str = "", reasoning: str = "") -> dict[str, Any]:
        """The message that stands for a turn, as the template takes it."""
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if reasoning:
            message[self.reasoning_key] = reasoning
        if calls:
            message["tool_calls"] = [
                {
                    "id": self.id_of(number, name),
                    "type": "function",
                    "function": {
                        "name": name,
                        "arguments": json.dumps(arguments, ensure_ascii=False) if self.string_arguments else arguments,
                    },
                }
                for number, (name, arguments) in enumerate(calls)
            ]
        return message

    def result(self, number: int, name: str, content: str) -> dict[str, Any]:
        """The message with the result of the n-th call."""
        return {"role": "tool", "tool_call_id": self.id_of(number, name), "name": name, "content": content}
