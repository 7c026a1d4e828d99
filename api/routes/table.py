"""Which path leads where."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs

from api.http import ApiRequest, Response
from api.page.files import FOLDER
from api.routes import (
    chat,
    completions,
    embeddings,
    images,
    kept_responses,
    lora,
    messages,
    page,
    rerank,
    responses,
    slot_files,
    state,
    tokens,
)
from api.routes.openapi import openapi
from llamabox.services import Services

type Handler = Callable[[Services, ApiRequest], Awaitable[Response]]


@attrs.frozen
class Route:
    """``handler`` answers ``method`` on all ``paths``."""

    method: str
    paths: Sequence[str]
    handler: Handler


_RESPONSE: Final = ("/v1/responses/<response_id>", "/responses/<response_id>")

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", ("/openapi.json",), openapi(lambda: ROUTES)),
    Route("GET", ("/health", "/v1/health"), state.health),
    Route("GET", ("/v1/models", "/models"), state.models),
    Route("GET", ("/v1/models/<path:model>", "/models/<path:model>"), state.model),
    Route("GET", ("/props",), state.props),
    Route("GET", ("/metrics",), state.metrics),
    Route("GET", ("/slots",), state.slots),
    Route("POST", ("/slots/<id_slot>",), slot_files.act),
    Route("GET", ("/lora-adapters",), lora.adapters),
    Route("POST", ("/lora-adapters",), lora.change),
    Route("POST", ("/tokenize",), tokens.tokenize),
    Route("POST", ("/detokenize",), tokens.untokenize),
    Route("POST", ("/apply-template",), chat.apply_template),
    Route("POST", ("/completion", "/completions"), completions.native),
    Route("POST", ("/v1/completions",), completions.completions),
    Route("POST", ("/v1/chat/completions", "/chat/completions"), chat.chat),
    Route("POST", ("/v1/responses", "/responses"), responses.create),
    Route("POST", ("/v1/responses/input_tokens", "/responses/input_tokens"), responses.input_tokens),
    Route("POST", ("/v1/responses/compact", "/responses/compact"), responses.compact),
    Route("GET", _RESPONSE, kept_responses.retrieve),
    Route("DELETE", _RESPONSE, kept_responses.delete),
    Route("GET", tuple(f"{path}/input_items" for path in _RESPONSE), kept_responses.input_items),
    Route("POST", tuple(f"{path}/cancel" for path in _RESPONSE), kept_responses.cancel),
    Route("POST", ("/v1/messages",), messages.create),
    Route("POST", ("/v1/messages/count_tokens",), messages.count_tokens),
    Route("POST", ("/infill",), completions.infill),
    Route("POST", ("/v1/embeddings",), embeddings.embeddings),
    Route("POST", ("/embedding", "/embeddings"), embeddings.native),
    Route("POST", ("/v1/rerank", "/rerank", "/reranking", "/v1/reranking", "/v2/rerank"), rerank.rerank),
    Route("POST", ("/v1/images/generations",), images.generations),
    Route("POST", ("/v1/images/edits",), images.edits),
    Route("POST", ("/v1/images/variations",), images.variations),
)

# The page is no part of the interface that /openapi.json describes.
PAGE: Final[tuple[Route, ...]] = (
    Route("GET", ("/",), page.index),
    Route("GET", (f"{FOLDER}server.json",), page.about),
    Route("GET", (f"{FOLDER}<name>",), page.file),
)
