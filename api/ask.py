"""What a request of the OpenAI chat API asks of the model."""

from typing import Any

import attrs

from api.constraint import Constraint, formatted
from api.convert.constraint import one_constraint, to_blame
from api.convert.variables import without_thinking
from api.custom.chat import with_functions
from api.errors import bad_request
from api.legacy_functions import modern
from api.messages import check_messages
from api.modalities import TEXT_ONLY, Modalities
from api.shapes import ChatFields, Templated
from api.tools import Offer, read_offer
from llamabox.chat.ask import ChatAsk
from llamabox.settings import GenerationDefaults


@attrs.frozen(kw_only=True)
class Asked:
    """``param``: the field to blame for a grammar that does not compile, None where it may be one of several."""

    ask: ChatAsk
    param: str | None
    legacy: bool  # the reply is to call functions in the older form


def template_ask(fields: Templated, modalities: Modalities = TEXT_ONLY) -> ChatAsk:
    """What decides the text of the prompt. Raises ApiError 400 naming the field."""
    return _ask(fields, read_offer(fields), Constraint(), modalities)


def chat_ask(fields: ChatFields, defaults: GenerationDefaults, modalities: Modalities = TEXT_ONLY) -> Asked:
    """All of what is asked; ``defaults`` may constrain the answer where the request does not. Raises ApiError 400."""
    offer = read_offer(fields)
    constraint = one_constraint(fields, formatted(fields.response_format), offer, defaults)
    legacy = bool(fields.functions)
    param = to_blame(constraint, offer)
    if legacy and param == "tools":
        param = "functions"
    return Asked(ask=_ask(fields, offer, constraint, modalities), param=param, legacy=legacy)


def _ask(fields: Templated, offer: Offer, constraint: Constraint, modalities: Modalities) -> ChatAsk:
    messages = modern(fields.messages)
    check_messages(messages, modalities)
    generation_prompt, goes_on = _ending(fields, messages)
    variables, enable_thinking = without_thinking(fields.chat_template_kwargs, None)
    effort = fields.reasoning_effort
    if effort == "none":
        effort = None
        enable_thinking = False if enable_thinking is None else enable_thinking
    return ChatAsk(
        messages=with_functions(messages),
        tools=offer.tools,
        choice=offer.choice,
        named=offer.named,
        parallel=fields.parallel_tool_calls is not False and not fields.functions,
        schema=constraint.schema,
        strict=constraint.strict,
        grammar=constraint.grammar,
        enable_thinking=enable_thinking,
        reasoning_effort=effort,
        reasoning_budget=_budget(fields),
        variables=variables,
        add_generation_prompt=generation_prompt,
        continue_final_message=goes_on,
    )


def _ending(fields: Templated, messages: list[dict[str, Any]]) -> tuple[bool, bool]:
    """(add_generation_prompt, continue_final_message): who says nothing about either goes on where the model spoke."""
    prompt, goes_on = fields.add_generation_prompt, fields.continue_final_message
    if prompt and goes_on:
        message = "continue_final_message and add_generation_prompt exclude each other"
        raise bad_request(message, "continue_final_message")
    last = messages[-1]
    if goes_on and (last["role"] != "assistant" or last.get("tool_calls")):
        message = "continue_final_message needs a last message of the assistant, without tool calls"
        raise bad_request(message, "continue_final_message")
    if prompt is None and goes_on is None:
        goes_on = last["role"] == "assistant" and not last.get("tool_calls")
    goes_on = bool(goes_on)
    return (not goes_on if prompt is None else prompt), goes_on


def _budget(fields: Templated) -> int | None:
    """Both names mean the same."""
    first, second = fields.thinking_budget_tokens, fields.reasoning_budget
    if first is not None and second is not None and first != second:
        raise bad_request("reasoning_budget: thinking_budget_tokens says otherwise", "reasoning_budget")
    return second if first is None else first
