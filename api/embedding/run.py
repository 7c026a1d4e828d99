"""Runs a request for vectors or scores, cancelled with its client."""

from collections.abc import Sequence

import numpy as np

from api.errors import ApiError, not_supported
from api.http import ApiRequest
from engine.bridge import TextEngine
from engine.embedding.requests import EmbeddingInfo, EmbeddingRequest, Vector
from engine.native.options import Pooling
from llamabox.services import Services


def embedding_side(services: Services) -> tuple[TextEngine, EmbeddingInfo]:
    """The engine that computes vectors. Raises ApiError 501 where there is none."""
    engine = services.text
    if engine is None or engine.embedding is None:
        raise not_supported("This server computes no embeddings: start it with --embeddings")
    if engine.embedding.pooling is Pooling.RANK:
        raise not_supported("This server ranks documents (pooling rank): it has scores for pairs, no embeddings")
    return engine, engine.embedding


def rank_side(services: Services) -> tuple[TextEngine, EmbeddingInfo]:
    """The engine that computes scores. Raises ApiError 501 where there is none."""
    engine = services.text
    if engine is None or engine.embedding is None or engine.embedding.pooling is not Pooling.RANK:
        raise not_supported("This server ranks no documents: start it with --rerank and a reranker model")
    return engine, engine.embedding


async def compute(
    services: Services, request: ApiRequest, engine: TextEngine, texts: Sequence[Sequence[int]]
) -> tuple[Vector, ...]:
    """The vectors of the texts. Cancellation (the client left) drops what is not computed.

    Raises ApiError 500 when the model computes something other than numbers, and what ``TextEngine.embed`` raises.
    """
    job = EmbeddingRequest(id=f"embd-{request.uid}", texts=texts)
    n_tokens = job.n_tokens
    with services.running.other():
        vectors = (await engine.embed(job)).vectors
    request.tokens = lambda: (n_tokens, 0, 0)
    if not all(np.isfinite(vector).all() for vector in vectors):
        raise ApiError(500, "The model computed something other than numbers")
    return vectors


def usage(texts: Sequence[Sequence[int]]) -> dict[str, int]:
    """OpenAI's usage object."""
    n_tokens = sum(map(len, texts))
    return {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
