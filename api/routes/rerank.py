"""POST /v1/rerank: documents in the order of their relevance to a query."""

from typing import Any

from api.decode import read
from api.embedding.run import compute, rank_side, usage
from api.embedding.shapes import RerankFields
from api.embedding.texts import MAX_TEXTS, check_lengths
from api.errors import bad_request
from api.gate import model_name
from api.http import ApiRequest, Response, json_response
from llamabox.embedding.texts import tokenize_pairs
from llamabox.embedding.vectors import sigmoid
from llamabox.services import Services


async def rerank(services: Services, request: ApiRequest) -> Response:
    """Jina's route. With ``normalize`` false the scores are the model's own."""
    engine, info = rank_side(services)
    fields = await read(request, RerankFields)
    model = model_name(services, fields.model)
    documents = _documents(fields)
    pairs = await tokenize_pairs(fields.query, documents, info.rank, engine.vocab, services.tokenizing)
    check_lengths(pairs, [f"documents[{index}]" for index in range(len(pairs))], info)
    scores = [float(vector[0]) for vector in await compute(services, request, engine, pairs)]
    if fields.normalize is not False and not info.scores_are_shares:
        shown = [sigmoid(score) for score in scores]
    else:
        shown = scores
    # Sorted by the raw scores: large ones are all 1 when they are normalised.
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: fields.top_n]
    with_documents = fields.return_documents is not False

    def result(index: int) -> dict[str, Any]:
        entry: dict[str, Any] = {"index": index, "relevance_score": shown[index]}
        return entry | {"document": {"text": documents[index]}} if with_documents else entry

    body = {"model": model, "object": "list", "results": [result(index) for index in order], "usage": usage(pairs)}
    return json_response(body)


def _documents(fields: RerankFields) -> list[str]:
    """The documents' texts. Raises ApiError 400 naming the field."""
    if not fields.query:
        raise bad_request("query: the text is empty", "query")
    if not fields.documents:
        raise bad_request("documents: the list is empty", "documents")
    if len(fields.documents) > MAX_TEXTS:
        message = f"documents: at most {MAX_TEXTS} in one request, not {len(fields.documents)}"
        raise bad_request(message, "documents")
    documents = [document if isinstance(document, str) else document.text for document in fields.documents]
    for index, text in enumerate(documents):
        if not text:
            raise bad_request(f"documents[{index}]: the text is empty", f"documents[{index}]")
    return documents
