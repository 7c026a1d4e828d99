"""POST /v1/messages and POST /v1/messages/count_tokens."""

import attrs

from api.anthropic.ask import messages_ask
from api.anthropic.errors import telling_errors
from api.anthropic.reply import Reply, whole_message
from api.anthropic.shapes import CountFields, MessagesFields
from api.anthropic.stream import MessagesStream
from api.decode import read
from api.gate import text_side
from api.guidance import Guidance, blaming
from api.http import ApiRequest, Response, json_response
from api.job import build_job
from api.modalities import Modalities
from api.prompt_forms import TokenizedPrompt
from api.turn.answer import answer_turns
from llamabox.services import Services


@telling_errors
async def create(services: Services, request: ApiRequest) -> Response:
    """One answer to a conversation."""
    engine, prompts = text_side(services)
    fields = await read(request, MessagesFields)
    asked = messages_ask(fields, services.settings.defaults, Modalities.of(engine.info))
    with blaming(asked.param):
        plan = await prompts.plan(asked.ask)
    sequences = fields.stop_sequences
    job = await build_job(
        services,
        request,
        fields if sequences is None else attrs.evolve(fields, stop=sequences),
        [TokenizedPrompt(plan.tokens, plan.text, plan.media)],
        prefix="msg",
        guidance=Guidance.of_plan(plan, asked.param),
    )
    reply = Reply(
        uid=request.uid,
        model=job.model,
        stop=frozenset(sequences or ()),
        hides_thinking=fields.hides_thinking,
    )
    return await answer_turns(
        services,
        request,
        job,
        plan,
        lambda: MessagesStream(reply, request.id),
        lambda turns: whole_message(reply, turns[0]),
    )


@telling_errors
async def count_tokens(services: Services, request: ApiRequest) -> Response:
    """How long the prompt of a conversation is. Nothing is generated."""
    engine, prompts = text_side(services)
    fields = await read(request, CountFields)
    asked = messages_ask(fields, services.settings.defaults, Modalities.of(engine.info))
    with blaming(asked.param):
        plan = await prompts.plan(asked.ask)
    return json_response({"input_tokens": plan.n_tokens})
