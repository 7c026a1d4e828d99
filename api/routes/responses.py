"""POST /v1/responses."""

import secrets

import attrs

from api.decode import read
from api.gate import text_side
from api.guidance import Guidance, blaming
from api.http import ApiRequest, Response
from api.job import build_job
from api.modalities import Modalities
from api.prompt_forms import TokenizedPrompt
from api.responses.ask import responses_ask
from api.responses.keep import items_of, keeping, last_turn, resolved
from api.responses.namespaces import parts_of
from api.responses.reply import Reply, settings, whole_response
from api.responses.shapes import ResponsesFields
from api.responses.stream import ResponsesStream
from api.turn.answer import answer_turns
from llamabox.services import Services


async def create(services: Services, request: ApiRequest) -> Response:
    """One answer to a conversation, which may go on from a kept one."""
    engine, prompts = text_side(services)
    fields = await read(request, ResponsesFields)
    fields = attrs.evolve(fields, input=resolved(services.responses, fields.input))
    before = last_turn(services.responses, fields.previous_response_id)
    asked = responses_ask(fields, services.settings.defaults, Modalities.of(engine.info), items_of(before))
    keep = keeping(services.responses, fields, before)
    with blaming(asked.param):
        plan = await prompts.plan(asked.ask)
    job = await build_job(
        services,
        request,
        fields,
        [TokenizedPrompt(plan.tokens, plan.text, plan.media)],
        prefix="resp",
        logprobs=fields.wants_logprobs,
        n_probs=fields.top_logprobs,
        guidance=Guidance.of_plan(plan, asked.param),
    )
    reply = Reply(
        uid=secrets.token_hex(16),  # not the request's, which /slots shows: who knows it may read what is kept
        created=job.created,
        model=job.model,
        settings=settings(fields, asked.ask, job.requests[0].sampling),
        logprobs=fields.wants_logprobs,
        sealed_reasoning=fields.wants_sealed_reasoning,
        names=parts_of(fields.tools),
    )
    return await answer_turns(
        services,
        request,
        job,
        plan,
        lambda: ResponsesStream(reply, keep),
        lambda turns: keep(whole_response(reply, turns[0])),
    )
