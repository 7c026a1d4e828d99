"""The one constraint of an answer, from whatever field of a request asks for it."""

from api.constraint import Constraint, default_constraint, requested
from api.errors import bad_request
from api.fields import GenerationFields
from api.tools import Offer
from llamabox.chat.ask import ToolChoice
from llamabox.settings import GenerationDefaults


def one_constraint(fields: GenerationFields, own: Constraint, offer: Offer, defaults: GenerationDefaults) -> Constraint:
    """``own`` is what the API's own field asks for; the server's default yields to all.

    Raises ApiError 400 for two constraints, and for a grammar that leaves no room for the tools.
    """
    given = requested(fields, None)
    callable_tools = bool(offer.tools) and offer.choice is not ToolChoice.NONE
    if given and own:
        raise bad_request(f"{own.param} and {given.param} exclude each other", own.param)
    if given.grammar is not None and callable_tools:
        raise bad_request("grammar: it leaves no room for tools (tool_choice none does)", "grammar")
    if own or given:
        return own or given
    default = default_constraint(defaults)
    return Constraint() if callable_tools and default.grammar is not None else default


def to_blame(constraint: Constraint, offer: Offer) -> str | None:
    """The field at fault when a grammar does not compile, None where it may be one of several."""
    kinds = [constraint.param] if constraint else []
    if offer.tools and offer.choice is not ToolChoice.NONE:
        kinds.append("tools")
    return kinds[0] if len(kinds) == 1 else None
