"""POST /v1/embeddings and the native POST /embedding."""

from collections.abc import Sequence

import msgspec

from api.decode import read
from api.embedding.encode import encode_list
from api.embedding.formats import RENDERERS, refuse_unoffered, wanted_type
from api.embedding.run import compute, embedding_side, usage
from api.embedding.shapes import EmbeddingFields, NativeEmbeddingFields
from api.embedding.texts import token_lists
from api.embedding.truncation import wanted_limit
from api.errors import bad_request
from api.gate import model_name
from api.http import ApiRequest, Response, raw_response
from engine.embedding.requests import EmbeddingInfo, Vector
from engine.native.options import Pooling
from llamabox.embedding.vectors import EUCLIDEAN, NONE, normalize, stack
from llamabox.services import Services


async def embeddings(services: Services, request: ApiRequest) -> Response:
    """OpenAI's route, with Jina's fields."""
    engine, info = embedding_side(services)
    fields = await read(request, EmbeddingFields)
    model = model_name(services, fields.model)
    render = RENDERERS[wanted_type(fields)]
    refuse_unoffered(fields)
    _check_dimensions(fields.dimensions, info)
    texts = await token_lists(fields.input, "input", services, engine.vocab, info, wanted_limit(fields, info))
    found = await compute(services, request, engine, texts)
    data = await encode_list(
        _shaped(found, fields.dimensions, _norm(fields.normalized, info)),
        lambda index, vector: {"object": "embedding", "index": index, "embedding": render(vector)},
    )
    tail = msgspec.json.encode({"model": model, "usage": usage(texts)})
    return raw_response(b'{"object":"list","data":' + data + b"," + tail[1:])


async def native(services: Services, request: ApiRequest) -> Response:
    """llama-server's route: a plain list, each text with a list of vectors (one, unless pooling is none)."""
    engine, info = embedding_side(services)
    fields = await read(request, NativeEmbeddingFields)
    _check_dimensions(fields.dimensions, info)
    if fields.content is not None and fields.input is not None:
        raise bad_request("content: not together with input", "content")
    param, given = ("input", fields.input) if fields.content is None else ("content", fields.content)
    if given is None:
        raise bad_request("content: Object missing required field `content`", "content")
    texts = await token_lists(given, param, services, engine.vocab, info, wanted_limit(fields, info))
    found = await compute(services, request, engine, texts)
    norm = EUCLIDEAN if fields.embd_normalize is None else fields.embd_normalize
    render = RENDERERS[fields.encoding_format or "float"]
    shaped = _shaped(found, fields.dimensions, NONE if info.pooling is Pooling.NONE else norm)
    rows = [vector if vector.ndim > 1 else vector[None] for vector in shaped]
    return raw_response(await encode_list(rows, lambda index, vector: {"index": index, "embedding": render(vector)}))


def _check_dimensions(dimensions: int | None, info: EmbeddingInfo) -> None:
    if dimensions is not None and dimensions > info.n_embd:
        raise bad_request(f"dimensions: the model's vectors have {info.n_embd}", "dimensions")


def _norm(normalized: bool | None, info: EmbeddingInfo) -> int:
    """The norm of vectors. That of single tokens (pooling none) is left alone unless it is asked for."""
    if normalized is None:
        normalized = info.pooling is not Pooling.NONE
    return EUCLIDEAN if normalized else NONE


def _shaped(vectors: Sequence[Vector], dimensions: int | None, norm: int) -> Sequence[Vector]:
    """The vectors of texts, or of each token of texts, cut to ``dimensions`` and divided by their ``norm``."""
    if vectors[0].ndim > 1:
        return [normalize(vector[:, :dimensions], norm) for vector in vectors]
    return list(normalize(stack(vectors)[:, :dimensions], norm))
