"""POST /v1/rerank: documents in the order of their relevance to a query."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.decode import read
from api.embedding.run import compute, rank_side, usage
from api.embedding.shapes import Document, RerankFields
from api.embedding.texts import MAX_TEXTS, check_lengths, too_long
from api.embedding.truncation import wanted_limit
from api.errors import bad_request
from api.gate import model_name
from api.http import ApiRequest, Response, json_response
from engine.embedding.requests import EmbeddingInfo
from engine.text.backend import Vocab
from llamabox.embedding.pairs import query_length, tokenize_pairs
from llamabox.embedding.vectors import sigmoid
from llamabox.services import Services


async def rerank(services: Services, request: ApiRequest) -> Response:
    """Jina's route, which Cohere's clients understand as well; asked with ``texts``, Text Embeddings Inference's."""
    engine, info = rank_side(services)
    fields = await read(request, RerankFields)
    model = model_name(services, fields.model)
    field, documents = _documents(fields)
    pairs = await _pairs(fields, documents, engine.vocab, info, services)
    check_lengths(pairs, [f"{field}[{index}]" for index in range(len(pairs))], info)
    scores = [float(vector[0]) for vector in await compute(services, request, engine, pairs)]
    raw = fields.raw_scores or fields.normalize is False
    shown = scores if raw or info.scores_are_shares else [sigmoid(score) for score in scores]
    # Sorted by the raw scores: large ones are all 1 when they are normalised.
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: fields.top_n]
    if fields.documents is None:
        return json_response(
            [
                {"index": index, "score": shown[index]} | ({"text": documents[index]} if fields.return_text else {})
                for index in order
            ]
        )
    return json_response(
        {
            "model": model,
            "object": "list",
            "results": [_result(index, shown, documents, fields) for index in order],
            "usage": usage(pairs),
        }
    )


async def _pairs(
    fields: RerankFields, documents: Sequence[str], vocab: Vocab, info: EmbeddingInfo, services: Services
) -> list[list[int]]:
    """Raises ApiError 400 for a query that leaves no room for any document."""
    wanted = wanted_limit(fields, info)
    limit = info.max_tokens if wanted is None else wanted
    asked = await query_length(fields.query, info.rank, vocab, services.tokenizing)
    # In a template an empty document may take as many tokens as a short one.
    least = asked + 1 if info.rank.template is None else asked
    if least > limit:
        message = (
            f"query: with what the model puts around it it has {asked} tokens, a document has to fit into {limit} too"
        )
        raise too_long(message, "query", asked, limit)
    return await tokenize_pairs(
        fields.query,
        documents,
        info.rank,
        vocab,
        services.tokenizing,
        document_limit=fields.max_tokens_per_doc,
        limit=wanted,
    )


def _result(index: int, shown: Sequence[float], documents: Sequence[str], fields: RerankFields) -> Mapping[str, Any]:
    entry: dict[str, Any] = {"index": index, "relevance_score": shown[index]}
    return entry if fields.return_documents is False else entry | {"document": {"text": documents[index]}}


def _documents(fields: RerankFields) -> tuple[str, list[str]]:
    """The field that has the documents, and their texts. Raises ApiError 400 naming the field."""
    if not fields.query:
        raise bad_request("query: the text is empty", "query")
    if fields.max_chunks_per_doc is not None:
        message = "max_chunks_per_doc: a document is scored as a whole, not in chunks"
        raise bad_request(message, "max_chunks_per_doc")
    if fields.rank_fields is not None and fields.rank_fields != ["text"]:
        raise bad_request("rank_fields: of a document its text is scored", "rank_fields")
    if fields.documents is not None and fields.texts is not None:
        raise bad_request("texts: not together with documents", "texts")
    given: tuple[str, Sequence[str | Document] | None] = ("documents", fields.documents)
    if fields.texts is not None:
        given = ("texts", fields.texts)
    field, documents = given
    if documents is None:
        raise bad_request("documents: Object missing required field `documents`", "documents")
    if not documents:
        raise bad_request(f"{field}: the list is empty", field)
    if len(documents) > MAX_TEXTS:
        raise bad_request(f"{field}: at most {MAX_TEXTS} in one request, not {len(documents)}", field)
    texts = [document if isinstance(document, str) else document.text for document in documents]
    for index, text in enumerate(texts):
        if not text:
            raise bad_request(f"{field}[{index}]: the text is empty", f"{field}[{index}]")
    return field, texts
