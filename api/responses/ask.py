"""A Responses request to what is asked of the model."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from api.ask import Asked
from api.constraint import Constraint
from api.convert.constraint import one_constraint, to_blame
from api.convert.transcript import Transcript
from api.convert.typed import typed
from api.convert.variables import without_thinking
from api.errors import bad_request
from api.modalities import TEXT_ONLY, Modalities
from api.responses.items import add_input
from api.responses.shapes import ResponsesFields
from api.responses.tools import read_offer
from llamabox.chat.ask import ChatAsk
from llamabox.settings import GenerationDefaults


@attrs.frozen(kw_only=True)
class _SchemaFormat:
    schema: dict[str, Any]
    strict: bool | None = None


_REFUSED: Final[Mapping[str, str]] = {
    "conversation": "there are no conversations here, go on from a response by previous_response_id",
    "prompt": "there are no stored prompts here, send the text as input",
}


def responses_ask(
    fields: ResponsesFields,
    defaults: GenerationDefaults,
    modalities: Modalities = TEXT_ONLY,
    earlier: Sequence[dict[str, Any]] = (),
) -> Asked:
    """The conversation, which begins with the items ``earlier``, and what is wanted next. Raises ApiError 400.

    An assistant's message at the end is continued.
    """
    _refuse(fields)
    transcript = Transcript()
    if fields.instructions:
        transcript.add("system", fields.instructions)
    add_input(list(earlier), transcript, modalities, field="previous_response_id")
    add_input(fields.input, transcript, modalities)
    if not transcript.messages:
        raise bad_request("input: there is none", "input")
    offer = read_offer(fields.tools, fields.tool_choice)
    constraint = one_constraint(fields, _schema(fields), offer, defaults)
    effort = fields.reasoning.effort if fields.reasoning is not None else None
    variables, enable_thinking = without_thinking(fields.chat_template_kwargs, False if effort == "none" else None)
    goes_on = transcript.is_unfinished
    ask = ChatAsk(
        messages=transcript.messages,
        tools=offer.tools,
        choice=offer.choice,
        named=offer.named,
        parallel=fields.parallel_tool_calls is not False,
        schema=constraint.schema,
        strict=constraint.strict,
        grammar=constraint.grammar,
        enable_thinking=enable_thinking,
        reasoning_effort=None if effort == "none" else effort,
        variables=variables,
        add_generation_prompt=not goes_on,
        continue_final_message=goes_on,
    )
    return Asked(ask=ask, param=to_blame(constraint, offer), legacy=False)


def _refuse(fields: ResponsesFields) -> None:
    for name, reason in _REFUSED.items():
        if getattr(fields, name) is not None:
            raise bad_request(f"{name}: {reason}", name)
    if fields.background:
        raise bad_request("background: responses are made at once here, none in the background", "background")
    if fields.truncation == "auto":
        raise bad_request("truncation: this server leaves nothing out of a conversation", "truncation")


def _schema(fields: ResponsesFields) -> Constraint:
    """What ``text.format`` asks for."""
    given = fields.text.format if fields.text is not None else None
    match (given or {}).get("type", "text"):
        case "text":
            return Constraint()
        case "json_object":
            return Constraint(schema={"type": "object"}, param="text.format")
        case "json_schema":
            wanted = typed(given, _SchemaFormat, "text.format")
            return Constraint(schema=wanted.schema, strict=wanted.strict is True, param="text.format")
        case _:
            raise bad_request("text.format.type: text, json_object or json_schema", "text.format.type")
