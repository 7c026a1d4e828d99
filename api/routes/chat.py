"""POST /v1/chat/completions and POST /apply-template."""

from api.ask import chat_ask, template_ask
from api.chat_reply import ChatChunks, whole_chat
from api.custom.chat import custom_names
from api.decode import read
from api.errors import bad_request
from api.gate import text_side
from api.guidance import Guidance, blaming
from api.http import ApiRequest, Response, json_response
from api.job import Job, build_job
from api.modalities import Modalities
from api.openai_stream import check_stream_options
from api.prompt_forms import TokenizedPrompt
from api.response_fields import refuse_selection
from api.shapes import ChatFields, Templated
from api.turn.answer import answer_turns
from llamabox.chat.ask import ChatPlan
from llamabox.services import Services


async def chat(services: Services, request: ApiRequest) -> Response:
    """One or more answers to a conversation."""
    engine, prompts = text_side(services)
    fields = await read(request, ChatFields)
    _check(fields)
    asked = chat_ask(fields, services.settings.defaults, Modalities.of(engine.info))
    with blaming(asked.param):
        plan = await prompts.plan(asked.ask)
    job = await _job(services, request, fields, plan, asked.param)
    custom = custom_names(fields.tools)
    return await answer_turns(
        services,
        request,
        job,
        plan,
        lambda: ChatChunks(job, legacy=asked.legacy, custom=custom),
        lambda turns: whole_chat(job, turns, legacy=asked.legacy, custom=custom),
        custom=custom,
        reasoning_in_content=services.settings.chat.reasoning_in_content,
    )


async def apply_template(services: Services, request: ApiRequest) -> Response:
    """The prompt that a conversation becomes."""
    engine, prompts = text_side(services)
    plan = await prompts.plan(template_ask(await read(request, Templated), Modalities.of(engine.info)))
    return json_response({"prompt": plan.text})


async def _job(services: Services, request: ApiRequest, fields: ChatFields, plan: ChatPlan, param: str | None) -> Job:
    return await build_job(
        services,
        request,
        fields,
        [TokenizedPrompt(plan.tokens, plan.text, plan.media)],
        prefix="chatcmpl",
        n=fields.n or 1,
        logprobs=bool(fields.logprobs),
        n_probs=fields.top_logprobs,
        guidance=Guidance.of_plan(plan, param),
    )


def _check(fields: ChatFields) -> None:
    refuse_selection(fields.response_fields)
    check_stream_options(fields)
    if fields.top_logprobs is not None and not fields.logprobs:
        raise bad_request("top_logprobs needs logprobs", "top_logprobs")
