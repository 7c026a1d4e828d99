"""Messages as clients send them, made to suit a template. Pure: plain dicts in, plain dicts out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llamabox.chat.capabilities import Capabilities
from llamabox.chat.errors import TemplateError
from llamabox.chat.normalise import Message, reasoning, roles, tools
from llamabox.chat.normalise.checks import checked
from llamabox.chat.normalise.links import linked, with_id_length

__all__ = ("Message", "suit", "validate")


def validate(messages: Sequence[Mapping[str, Any]], mark_media: Callable[[], str] | None = None) -> list[Message]:
    """Copies of the messages in one shape. Raises TemplateError naming the message.

    ``mark_media`` gives the text to put in the place of each image or sound, in their order; None: there may be none.
    Content is text, "" where there is none; the arguments of calls are objects; reasoning is ``reasoning_content``;
    calls have ids, results the ids and names of their calls; the old function messages have the form of tools.
    """
    if not messages:
        raise TemplateError("messages must not be empty")
    return linked([checked(index, message, mark_media) for index, message in enumerate(messages)])


def suit(messages: Sequence[Message], capabilities: Capabilities) -> list[Message]:
    """Validated messages in the shape that the template can render. The input stays as it is."""
    suited = _suit_roles(_suit_tools(messages, capabilities), capabilities)
    suited = reasoning.with_reasoning(
        suited,
        capabilities.reasoning_field,
        as_parts=capabilities.thinking_parts,
        beside_text_and_calls=capabilities.reasoning_beside_text_and_calls,
    )
    if not capabilities.string_content and capabilities.list_content:
        suited = [{**message, "content": _parts(message["content"])} for message in suited]
    return suited


def _suit_tools(messages: Sequence[Message], capabilities: Capabilities) -> list[Message]:
    suited = list(messages)
    if not capabilities.calls_shown:
        suited = tools.calls_as_text(suited)
    elif not capabilities.parallel_calls:
        suited = tools.one_call_each(suited)
    if not capabilities.results_shown:
        suited = tools.results_as_text(suited)
    if capabilities.id_length is not None:
        suited = with_id_length(suited, capabilities.id_length)
    if capabilities.string_arguments and not capabilities.object_arguments:
        suited = tools.with_text_arguments(suited)
    return suited


def _suit_roles(messages: list[Message], capabilities: Capabilities) -> list[Message]:
    suited = messages if capabilities.developer_role else roles.without_developer(messages)
    if not capabilities.system_role:
        suited = roles.without_system(suited)
    elif not capabilities.late_system:
        suited = roles.system_first(suited)
    return roles.alternating(suited) if capabilities.alternation else suited


def _parts(content: str | list[Any]) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []
