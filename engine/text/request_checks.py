"""What of a request can never run, with these limits."""

from engine.errors import ContextExceeded, InvalidRequest
from engine.text.media import spans_fit
from engine.text.plan import Limits
from engine.text.requests import GenerationRequest


def check_request(request: GenerationRequest, limits: Limits) -> None:
    """Raises ContextExceeded or InvalidRequest. Looks at each token."""
    if not request.prompt:
        raise InvalidRequest("the prompt has no tokens", "prompt")
    if request.media and not spans_fit(request.prompt, request.media):
        raise InvalidRequest("text must follow behind the last image or sound of a prompt", "prompt")
    if (not request.media and min(request.prompt) < 0) or max(request.prompt) >= limits.n_vocab:
        raise InvalidRequest(f"a token is not in the vocabulary (0 to {limits.n_vocab - 1})", "prompt")
    check_limits(request, limits)


def check_limits(request: GenerationRequest, limits: Limits) -> None:
    """What of it takes no time. Raises ContextExceeded or InvalidRequest."""
    n_prompt = len(request.prompt)
    for span in request.media:
        n_prompt += span.extra
    if n_prompt >= limits.n_ctx_slot:
        raise ContextExceeded(n_prompt, limits.n_ctx_slot)
    if request.score_prompt and request.media:
        raise InvalidRequest("the probabilities of a prompt with images or sound are not available", "prompt")
    if request.slot is not None and not 0 <= request.slot < limits.n_slots:
        raise InvalidRequest(f"there are slots 0 to {limits.n_slots - 1}", "id_slot")
    for adapter, _ in request.adapters:
        if not 0 <= adapter < limits.n_adapters:
            raise InvalidRequest(f"there are {limits.n_adapters} adapters", "lora")
