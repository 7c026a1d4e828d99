"""POST /v1/completions and the native POST /completion and POST /infill."""

from collections.abc import Sequence
from typing import Any

from api.answer import answer
from api.best_of import best, candidates
from api.completion_reply import CompletionStream, whole_completion
from api.constraint import default_constraint, requested
from api.decode import read
from api.errors import bad_request
from api.fields import GenerationFields
from api.gate import text_side
from api.guidance import Guidance, blaming
from api.http import ApiRequest, Response
from api.infill import check_infill, check_infill_route, infill_tokens
from api.job import Job, build_job
from api.native_reply import NativeStream, whole_native
from api.openai_stream import check_stream_options
from api.pieces import detokenize
from api.prompt_forms import MAX_PROMPTS, TokenizedPrompt, split_prompts, tokenize_prompts
from api.response_fields import refuse_selection
from api.shapes import CompletionFields, InfillFields, NativeFields
from engine.text.backend import Vocab
from llamabox.services import Services


async def completions(services: Services, request: ApiRequest) -> Response:
    """OpenAI's older route: text goes on from a prompt."""
    engine, builder = text_side(services)
    fields = await read(request, CompletionFields)
    n, of = fields.n or 1, candidates(fields)
    _check(fields)
    if fields.suffix:
        prompts = await _holes(services, fields, fields.suffix)
    else:
        prompts = await tokenize_prompts(fields.prompt, builder, engine.info.n_vocab)
    job = await build_job(
        services,
        request,
        fields,
        prompts,
        prefix="cmpl",
        n=of,
        logprobs=fields.logprobs is not None or of > n,
        n_probs=fields.logprobs,
        guidance=await _guidance(services, fields, fields.response_format),
        score_prompt=_scores_prompt(fields),
    )
    echoes = await _texts(job, engine.vocab) if fields.echo else []
    return await answer(
        services,
        request,
        job,
        lambda: CompletionStream(job, echoes),
        lambda choices: whole_completion(job, choices, echoes, told=best(choices, n=n, of=of)),
    )


async def native(services: Services, request: ApiRequest) -> Response:
    """llama-server's route: text goes on from a prompt."""
    engine, builder = text_side(services)
    fields = await read(request, NativeFields)
    prompts = await tokenize_prompts(fields.prompt, builder, engine.info.n_vocab)
    return await _answer_natively(services, request, fields, prompts, fields.n_cmpl or fields.n or 1)


async def infill(services: Services, request: ApiRequest) -> Response:
    """llama-server's route: what belongs between two texts."""
    check_infill_route(services)
    fields = await read(request, InfillFields)
    tokens = await infill_tokens(
        services,
        fields,
        prefix=fields.input_prefix,
        suffix=fields.input_suffix,
        names=("input_prefix", "input_suffix"),
        files=fields.input_extra or (),
        prompt=fields.prompt or "",
    )
    prompts = [TokenizedPrompt(tokens)]
    return await _answer_natively(services, request, fields, prompts, fields.n_cmpl or fields.n or 1)


async def _answer_natively(
    services: Services, request: ApiRequest, fields: GenerationFields, prompts: Sequence[TokenizedPrompt], n: int
) -> Response:
    engine, _ = text_side(services)
    guidance = await _guidance(services, fields)
    job = await build_job(services, request, fields, prompts, prefix="native", n=n, guidance=guidance)
    texts = await _texts(job, engine.vocab)
    return await answer(
        services,
        request,
        job,
        lambda: NativeStream(job, texts),
        lambda choices: whole_native(job, choices, texts),
    )


async def _holes(services: Services, fields: CompletionFields, suffix: str) -> list[TokenizedPrompt]:
    """Each prompt with the suffix behind the hole. Raises ApiError."""
    check_infill(services, "suffix")
    texts = split_prompts(fields.prompt)
    if len(texts) > MAX_PROMPTS:
        raise bad_request(f"prompt: at most {MAX_PROMPTS} prompts in one request", "prompt")
    return [
        TokenizedPrompt(
            await infill_tokens(services, fields, prefix=text, suffix=suffix, names=("prompt", "suffix")),
            text if isinstance(text, str) else None,
        )
        for text in texts
    ]


def _check(fields: CompletionFields) -> None:
    refuse_selection(fields.response_fields)
    check_stream_options(fields)
    if fields.suffix and _scores_prompt(fields):
        raise bad_request("echo: the tokens of a prompt with a suffix are not those of its text", "echo")
    if fields.streaming and candidates(fields) > (fields.n or 1):
        raise bad_request("best_of: what is chosen among more than n is not known while it streams", "best_of")


def _scores_prompt(fields: CompletionFields) -> bool:
    return bool(fields.echo and (fields.logprobs is not None or fields.n_probs))


async def _guidance(
    services: Services, fields: GenerationFields, response_format: dict[str, Any] | None = None
) -> Guidance:
    """The constraint that the request or the server has. Raises ApiError 400 naming the field."""
    _, builder = text_side(services)
    constraint = requested(fields, response_format) or default_constraint(services.settings.defaults)
    if not constraint:
        return Guidance()
    with blaming(constraint.param):
        spec = await builder.constrain(grammar=constraint.grammar, schema=constraint.schema, strict=constraint.strict)
    return Guidance(grammar=spec, param=constraint.param)


async def _texts(job: Job, vocab: Vocab) -> list[str]:
    """The prompt's text for each choice."""
    texts = [await _text(prompt, vocab) for prompt in job.prompts]
    return [texts[choice // job.n] for choice in range(len(job.requests))]


async def _text(prompt: TokenizedPrompt, vocab: Vocab) -> str:
    return prompt.text if prompt.text is not None else await detokenize(prompt.tokens, vocab)
