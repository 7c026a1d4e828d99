"""POST /v1/chat/completions and POST /apply-template."""

from api.answer import answer
from api.chat_reply import ChatShape, whole_chat
from api.decode import read
from api.errors import bad_request
from api.gate import text_side
from api.http import ApiRequest, Response, json_response
from api.job import build_job
from api.messages import check_messages, refuse_format, refuse_tools, template_arguments
from api.openai_stream import OpenAiStream
from api.prompt_forms import TokenizedPrompt
from api.response_fields import refuse_selection
from api.shapes import ChatFields, Templated
from llamabox.services import Services


async def chat(services: Services, request: ApiRequest) -> Response:
    """One or more answers to a conversation."""
    _, prompts = text_side(services)
    fields = await read(request, ChatFields)
    _check(fields)
    text, tokens = await prompts.chat_tokens(fields.messages, **template_arguments(fields))
    job = await build_job(
        services,
        request,
        fields,
        [TokenizedPrompt(tokens, text)],
        prefix="chatcmpl",
        n=fields.n or 1,
        logprobs=bool(fields.logprobs),
        n_probs=fields.top_logprobs,
    )
    return await answer(
        services, request, job, lambda: OpenAiStream(job, ChatShape(job)), lambda choices: whole_chat(job, choices)
    )


async def apply_template(services: Services, request: ApiRequest) -> Response:
    """The prompt that a conversation becomes."""
    _, prompts = text_side(services)
    fields = await read(request, Templated)
    refuse_tools(fields)
    check_messages(fields.messages)
    return json_response({"prompt": await prompts.chat(fields.messages, **template_arguments(fields))})


def _check(fields: ChatFields) -> None:
    refuse_tools(fields)
    refuse_format(fields)
    refuse_selection(fields.response_fields)
    check_messages(fields.messages)
    if fields.top_logprobs is not None and not fields.logprobs:
        raise bad_request("top_logprobs needs logprobs", "top_logprobs")
