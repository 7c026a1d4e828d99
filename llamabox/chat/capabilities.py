"""What a template can do, found by rendering it with sentinels and looking for them in the output."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from llamabox.chat.errors import TemplateError, TemplateLimitError

_SYSTEM: Final = "sntnl-system-7"
_USER: Final = "sntnl-user-7"
_SECOND: Final = "sntnl-second-7"
_LATE: Final = "sntnl-late-7"
_ANSWER: Final = "sntnl-answer-7"
_REASONING: Final = "sntnl-reasoning-7"
_CALL: Final = {"id": "sntnl0007", "type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}
_TURN: Final = {"role": "assistant", "content": _ANSWER, "tool_calls": [_CALL]}
_THOUGHTS: Final = {"reasoning_content": _REASONING, "thinking": _REASONING}
_DEVELOPER_LITERAL: Final = re.compile(r"""['"]developer['"]""")
# A list that is printed raw shows its keys.
_RAW_LIST: Final = re.compile(r"""['"](text|thinking)['"]\s*:\s*['"]sntnl-""")

type Render = Callable[[dict[str, Any]], str]


@attrs.frozen(kw_only=True)
class Capabilities:
    """Which messages a template takes. The defaults are those of ChatML."""

    string_content: bool = True
    list_content: bool = False
    system_role: bool = True
    developer_role: bool = False
    alternation: bool = False  # neighbours of the same role are refused, or one is lost
    late_system: bool = True  # system messages elsewhere than at the beginning, or several of them
    thinking_parts: bool = False  # an assistant's content may have a part of type "thinking"
    reasoning_beside_text_and_calls: bool = True  # all three in one message of the assistant

    # What the differential analysis finds out: fields of its ``Description``.
    reasoning_field: str | None = "reasoning_content"  # of an assistant's message; None: nothing is written
    calls_shown: bool = True
    results_shown: bool = True
    parallel_calls: bool = True  # several calls in one message
    object_arguments: bool = True
    string_arguments: bool = False  # arguments of calls as JSON text
    id_length: int | None = None  # the only length of call ids that is taken
    tool_argument_name: str = "tools"  # the variable for tools
    tools_as_text: bool = False  # that variable is JSON text

    def described(self, description: Mapping[str, Any]) -> "Capabilities":
        """The same with the fields that the analysis has found out, as plain data."""
        return attrs.evolve(self, **{name: description[name] for name in DESCRIBED if name in description})


DESCRIBED: Final = (
    "reasoning_field",
    "calls_shown",
    "results_shown",
    "parallel_calls",
    "object_arguments",
    "string_arguments",
    "id_length",
    "tool_argument_name",
    "tools_as_text",
)


def probe(source: str, render: Render) -> Capabilities:
    """Capabilities of a template whose variables ``render`` turns into text.

    Raises TemplateError if it cannot render a single user message, TemplateLimitError if a probe does too much.
    """

    def shows(messages: list[dict[str, Any]], *sentinels: str) -> bool:
        try:
            text = render({"messages": messages, "add_generation_prompt": True})
        except TemplateLimitError:
            raise
        except TemplateError:
            return False
        return all(sentinel in text for sentinel in sentinels) and not _RAW_LIST.search(text)

    def takes(turn: dict[str, Any]) -> bool:
        """Whether the template renders this turn between a question and the tool's result."""
        result = {**message("tool", _SECOND), "name": "f", "tool_call_id": _CALL["id"]}
        try:
            render({"messages": [user, turn, result], "add_generation_prompt": True})
        except TemplateLimitError:
            raise
        except TemplateError:
            return False
        return True

    def content(text: str) -> Any:
        return text if string_content else [{"type": "text", "text": text}]

    def message(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": content(text)}

    string_content = shows([{"role": "user", "content": _USER}], _USER)
    list_content = shows([{"role": "user", "content": [{"type": "text", "text": _USER}]}], _USER)
    if not string_content and not list_content:
        # Once more, for its reason.
        text = render({"messages": [{"role": "user", "content": _USER}], "add_generation_prompt": True})
        if _USER not in text:
            raise TemplateError("the template does not write what a user says")
        string_content = True
    user, second = message("user", _USER), message("user", _SECOND)
    answer = message("assistant", _ANSWER)
    early, late = message("system", _SYSTEM), message("system", _LATE)
    system_role = shows([early, user], _SYSTEM, _USER)
    thinking = [{"type": "thinking", "thinking": _REASONING}, {"type": "text", "text": _ANSWER}]
    return Capabilities(
        string_content=string_content,
        list_content=list_content,
        system_role=system_role,
        developer_role=bool(_DEVELOPER_LITERAL.search(source))
        and shows([message("developer", _SYSTEM), user], _SYSTEM, _USER),
        alternation=not shows([user, second], _USER, _SECOND),
        late_system=system_role
        and shows([early, late, user], _SYSTEM, _LATE, _USER)
        and shows([early, user, answer, late, second], _SYSTEM, _USER, _ANSWER, _LATE, _SECOND),
        thinking_parts="thinking" in source
        and shows([user, {"role": "assistant", "content": thinking}, second], _REASONING, _ANSWER, _SECOND),
        reasoning_beside_text_and_calls=not (takes(_TURN) and not takes({**_TURN, **_THOUGHTS})),
    )
