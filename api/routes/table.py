"""Which path leads where."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs

from api.http import ApiRequest, Response
from api.routes import chat, completions, images, messages, responses, state, tokens
from api.routes.unavailable import unavailable
from llamabox.services import Services

type Handler = Callable[[Services, ApiRequest], Awaitable[Response]]


@attrs.frozen
class Route:
    """``handler`` answers ``method`` on all ``paths``."""

    method: str
    paths: Sequence[str]
    handler: Handler


_SLOT_FILES = unavailable("Slots cannot be saved, restored or erased in this release (--slot-save-path)")
_LORA = unavailable("LoRA adapters are not available in this release (--lora)")
_INFILL = unavailable("Infill is not available in this release (--infill)")
_EMBEDDINGS = unavailable("Embeddings are not available in this release (--embeddings)")
_RERANK = unavailable("Rerank is not available in this release (--rerank)")

ROUTES: Final = (
    Route("GET", ("/health", "/v1/health"), state.health),
    Route("GET", ("/v1/models", "/models"), state.models),
    Route("GET", ("/props",), state.props),
    Route("GET", ("/metrics",), state.metrics),
    Route("GET", ("/slots",), state.slots),
    Route("POST", ("/slots/<id_slot>",), _SLOT_FILES),
    Route("GET", ("/lora-adapters",), _LORA),
    Route("POST", ("/lora-adapters",), _LORA),
    Route("POST", ("/tokenize",), tokens.tokenize),
    Route("POST", ("/detokenize",), tokens.untokenize),
    Route("POST", ("/apply-template",), chat.apply_template),
    Route("POST", ("/completion", "/completions"), completions.native),
    Route("POST", ("/v1/completions",), completions.completions),
    Route("POST", ("/v1/chat/completions", "/chat/completions"), chat.chat),
    Route("POST", ("/v1/responses", "/responses"), responses.create),
    Route("POST", ("/v1/messages",), messages.create),
    Route("POST", ("/v1/messages/count_tokens",), messages.count_tokens),
    Route("POST", ("/infill",), _INFILL),
    Route("POST", ("/v1/embeddings", "/embedding", "/embeddings"), _EMBEDDINGS),
    Route("POST", ("/v1/rerank", "/rerank", "/reranking", "/v1/reranking"), _RERANK),
    Route("POST", ("/v1/images/generations",), images.generations),
    Route("POST", ("/v1/images/edits",), images.edits),
)
