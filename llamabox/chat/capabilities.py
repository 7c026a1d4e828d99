"""What a template can do, found by rendering it with sentinels and looking for them in the output."""

import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from llamabox.chat.errors import TemplateError, TemplateLimitError

_SYSTEM: Final = "sntnl-system-7"
_USER: Final = "sntnl-user-7"
_SECOND: Final = "sntnl-second-7"
_DEVELOPER_LITERAL: Final = re.compile(r"""['"]developer['"]""")
# A list that is printed raw shows its keys.
_RAW_LIST: Final = re.compile(r"""['"](type|text)['"]""")

type Render = Callable[[dict[str, Any]], str]


@attrs.frozen(kw_only=True)
class Capabilities:
    """Which messages a template takes. The defaults are those of ChatML."""

    string_content: bool = True
    list_content: bool = False
    system_role: bool = True
    developer_role: bool = False
    alternation: bool = False  # neighbours of the same role are refused, or one is lost


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
    return Capabilities(
        string_content=string_content,
        list_content=list_content,
        system_role=shows([message("system", _SYSTEM), user], _SYSTEM, _USER),
        developer_role=bool(_DEVELOPER_LITERAL.search(source))
        and shows([message("developer", _SYSTEM), user], _SYSTEM, _USER),
        alternation=not shows([user, second], _USER, _SECOND),
    )
