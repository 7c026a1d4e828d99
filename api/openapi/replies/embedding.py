"""Replies of the embedding and rerank routes."""

from typing import Any, Literal

import attrs
from msgspec import UNSET, UnsetType


@attrs.frozen(kw_only=True)
class TextUsage:
    prompt_tokens: int
    total_tokens: int


@attrs.frozen(kw_only=True)
class EmbeddingObject:
    """A vector as numbers or base64; without pooling a list of them."""

    object: Literal["embedding"]
    index: int
    embedding: list[Any] | str


@attrs.frozen(kw_only=True)
class EmbeddingList:
    """POST /v1/embeddings."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: TextUsage


@attrs.frozen(kw_only=True)
class NativeEmbedding:
    """POST /embedding: vectors of one text, a single one unless pooling is none."""

    index: int
    embedding: list[Any]


@attrs.frozen(kw_only=True)
class RankedDocument:
    text: str


@attrs.frozen(kw_only=True)
class RerankResult:
    index: int
    relevance_score: float
    document: RankedDocument | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class RankedText:
    """What became of one of ``texts``."""

    index: int
    score: float
    text: str | UnsetType = UNSET


@attrs.frozen(kw_only=True)
class RerankReply:
    """POST /v1/rerank: the most relevant document first."""

    model: str
    object: Literal["list"]
    results: list[RerankResult]
    usage: TextUsage
