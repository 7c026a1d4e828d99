"""A generation request, ready to run: one engine request for each choice."""

import secrets
import time
from collections.abc import Sequence
from typing import Final

import attrs

from api.errors import bad_request
from api.fields import GenerationFields
from api.gate import model_name, text_side
from api.guidance import Guidance, compile_grammar
from api.http import ApiRequest
from api.lora import chosen_adapters
from api.prompt_forms import MAX_PROMPTS, TokenizedPrompt
from api.rate import REQUEST_HEADER, rate_cap, requested_rate
from api.sampling import sampling_params
from engine.text.requests import GenerationRequest, SamplingParams
from llamabox.services import Services
from llamabox.settings import GenerationDefaults

_SEEDS: Final = 2**32 - 1  # the native generator takes 32 bits; all ones mean random


@attrs.frozen(kw_only=True)
class Job:
    """Choice ``i`` belongs to prompt ``i // n``."""

    id: str
    model: str
    created: int  # Unix time
    fields: GenerationFields
    prompts: Sequence[TokenizedPrompt]
    n: int  # choices of each prompt
    stop: tuple[str, ...]  # stop strings that the client knows of
    requests: Sequence[GenerationRequest]

    def prompt_of(self, choice: int) -> TokenizedPrompt:
        return self.prompts[choice // self.n]


async def build_job(
    services: Services,
    request: ApiRequest,
    fields: GenerationFields,
    prompts: Sequence[TokenizedPrompt],
    *,
    prefix: str,
    n: int = 1,
    logprobs: bool = False,
    n_probs: int | None = None,
    guidance: Guidance | None = None,
    score_prompt: bool = False,
) -> Job:
    """Everything that can be refused before the engine is asked. Raises ApiError.

    ``score_prompt``: the probabilities of the prompt's own tokens are to be told.
    """
    guidance = guidance or Guidance()
    engine, builder = text_side(services)
    model = model_name(services, fields.model)
    defaults = services.settings.defaults
    sampling = await sampling_params(fields, defaults, engine, builder, logprobs=logprobs, n_probs=n_probs)
    rate = requested_rate(request.headers.get(REQUEST_HEADER), rate_cap(services))
    if len(prompts) * n > MAX_PROMPTS:
        raise bad_request(f"n: at most {MAX_PROMPTS} choices in one request", "n")
    template = _template(fields, defaults, sampling, engine.info.n_slots, rate / (len(prompts) * n))
    stop = template.stop
    template = attrs.evolve(
        template,
        stop=(*stop, *(word for word in guidance.stop if word not in stop)),
        visible=guidance.visible,
        thinking=guidance.thinking,
        grammar=await compile_grammar(services, engine, guidance),
        score_prompt=score_prompt,
        adapters=chosen_adapters(fields.lora, len(engine.info.loras), services.adapters),
    )
    job_id = f"{prefix}-{request.uid}"
    requests = [
        attrs.evolve(
            template,
            id=f"{job_id}-{i}",
            prompt=prompts[i // n].tokens,
            media=prompts[i // n].media,
            sampling=_choice(sampling, i % n),
        )
        for i in range(len(prompts) * n)
    ]
    created = int(time.time())
    return Job(
        id=job_id,
        model=model,
        created=created,
        fields=fields,
        prompts=prompts,
        n=n,
        stop=stop,
        requests=requests,
    )


def _choice(sampling: SamplingParams, index: int) -> SamplingParams:
    """Choices of one prompt differ by their seeds alone, none of which is the one that means random.

    A random seed is drawn here, so that a reply can name the seed that gives it again.
    """
    seed = secrets.randbelow(_SEEDS) if sampling.seed is None else (sampling.seed + index) % _SEEDS
    return attrs.evolve(sampling, seed=seed)


def _template(
    fields: GenerationFields, defaults: GenerationDefaults, sampling: SamplingParams, n_slots: int, rate: float
) -> GenerationRequest:
    slot = None if fields.id_slot in {None, -1} else fields.id_slot
    if slot is not None and slot >= n_slots:
        raise bad_request(f"id_slot: there are {n_slots} slots", "id_slot")
    max_tokens, until_full = token_limit(fields.token_limit, defaults.n_predict)
    return GenerationRequest(
        id="",
        prompt=(),
        sampling=sampling,
        max_tokens=max_tokens,
        until_context_full=until_full,
        n_keep=_or(fields.n_keep, defaults.n_keep),
        n_discard=_or(fields.n_discard, 0),
        stop=_stop(fields.stop, defaults.stop),
        n_indent=_or(fields.n_indent, 0),
        t_max_predict_ms=max(fields.t_max_predict_ms or 0.0, 0.0),
        cache_prompt=_or(fields.cache_prompt, defaults.cache_prompt),
        slot=slot,
        tokens_per_second=rate,
        special=defaults.special,
        report_progress=fields.streaming and bool(fields.return_progress),
    )


def token_limit(asked: int | None, default: int) -> tuple[int | None, bool]:
    """(most tokens or None, end when the context is full). A positive default caps what is asked for."""
    value = default if asked is None else asked
    cap = default if default > 0 else None
    if value < 0:
        return cap, value == -2
    return (value if cap is None else min(value, cap)), False


def _stop(asked: str | list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """An empty stop string would end everything at once, so it is none."""
    if asked is None:
        return default
    words = [asked] if isinstance(asked, str) else asked
    return tuple(word for word in words if word)


def _or[T](value: T | None, default: T) -> T:
    return default if value is None else value
