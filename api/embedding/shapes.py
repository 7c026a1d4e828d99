"""What the embedding and rerank routes accept. Fields that are not named here are accepted and ignored."""

from typing import Annotated, Any, Literal

import attrs
from msgspec import Meta

from api.embedding.truncation import TruncationFields

# A text, token ids, or a list of those; api.embedding.texts tells them apart.
Input = str | list[Any]
Format = Literal["float", "base64"]
Type = Literal["float", "base64", "binary", "ubinary"]
Dimensions = Annotated[int, Meta(ge=1)]


@attrs.frozen(kw_only=True)
class EmbeddingFields(TruncationFields):
    """POST /v1/embeddings. ``embedding_type`` to ``task`` are Jina's."""

    input: Input
    model: str | None = None
    encoding_format: Format | None = None
    dimensions: Dimensions | None = None
    user: str | None = None
    embedding_type: Type | list[Type] | None = None
    encoding_type: Type | list[Type] | None = None  # its older name
    normalized: bool | None = None
    late_chunking: bool | None = None  # refused where true
    task: str | None = None  # refused


@attrs.frozen(kw_only=True)
class NativeEmbeddingFields(TruncationFields):
    """POST /embedding: one of ``content`` and ``input``."""

    content: Input | None = None
    input: Input | None = None
    encoding_format: Format | None = None
    dimensions: Dimensions | None = None
    embd_normalize: Annotated[int, Meta(ge=-1, le=1000)] | None = None


@attrs.frozen(kw_only=True)
class Document:
    text: str


@attrs.frozen(kw_only=True)
class RerankFields(TruncationFields):
    """POST /v1/rerank. ``texts``, ``return_text`` and ``raw_scores`` are Text Embeddings Inference's names."""

    query: str
    documents: list[str | Document] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    normalize: bool | None = None
    raw_scores: bool | None = None
    max_tokens_per_doc: Annotated[int, Meta(ge=1)] | None = None  # Cohere's
    max_chunks_per_doc: int | None = None  # Cohere's older one, refused
    rank_fields: list[str] | None = None  # Cohere's, refused but for the text
