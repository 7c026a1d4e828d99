"""A Messages request to what is asked of the model."""

from api.anthropic.blocks import add_message, add_system
from api.anthropic.shapes import CountFields
from api.anthropic.tools import read_offer
from api.ask import Asked
from api.constraint import Constraint
from api.convert.constraint import one_constraint, to_blame
from api.convert.transcript import Transcript
from api.convert.variables import without_thinking
from api.errors import bad_request
from api.modalities import TEXT_ONLY, Modalities
from llamabox.chat.ask import ChatAsk
from llamabox.settings import GenerationDefaults


def messages_ask(fields: CountFields, defaults: GenerationDefaults, modalities: Modalities = TEXT_ONLY) -> Asked:
    """The conversation and what is wanted next. Raises ApiError 400.

    An assistant's message at the end is continued. A client that says nothing of thinking gets what the server does.
    """
    if not fields.messages:
        raise bad_request("messages: there is none", "messages")
    transcript = Transcript()
    add_system(fields.system, transcript)
    for index, message in enumerate(fields.messages):
        add_message(message, transcript, f"messages[{index}]", modalities)
    offer, parallel = read_offer(fields.tools, fields.tool_choice)
    constraint = one_constraint(fields, _schema(fields), offer, defaults)
    asked, budget = _thinking(fields)
    variables, enable_thinking = without_thinking(fields.chat_template_kwargs, asked)
    goes_on = transcript.is_unfinished
    ask = ChatAsk(
        messages=transcript.messages,
        tools=offer.tools,
        choice=offer.choice,
        named=offer.named,
        parallel=parallel,
        schema=constraint.schema,
        strict=constraint.strict,
        grammar=constraint.grammar,
        enable_thinking=enable_thinking,
        reasoning_effort=fields.output_config.effort if fields.output_config is not None else None,
        reasoning_budget=budget,
        variables=variables,
        add_generation_prompt=not goes_on,
        continue_final_message=goes_on,
    )
    return Asked(ask=ask, param=to_blame(constraint, offer), legacy=False)


def _thinking(fields: CountFields) -> tuple[bool | None, int | None]:
    """(enable_thinking, reasoning_budget)."""
    if fields.thinking is None:
        return None, None
    match fields.thinking.type:
        case "disabled":
            return False, None
        case "adaptive":
            return True, None
        case "enabled":
            if fields.thinking.budget_tokens is None:
                raise bad_request("thinking.budget_tokens: type enabled needs it", "thinking.budget_tokens")
            return True, fields.thinking.budget_tokens


def _schema(fields: CountFields) -> Constraint:
    """What the answer must look like."""
    config = fields.output_config.format if fields.output_config is not None else None
    if config is not None and fields.output_format is not None:
        raise bad_request("output_format: output_config.format says it as well", "output_format")
    if fields.output_format is not None:
        return Constraint(schema=fields.output_format.schema, param="output_format")
    return Constraint(schema=None if config is None else config.schema, param="output_config.format")
