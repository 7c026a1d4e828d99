"""POST /tokenize and POST /detokenize."""

from api.decode import read
from api.gate import token_side
from api.http import ApiRequest, Response, json_response
from api.pieces import detokenize, pieces
from api.prompt_forms import check_token, tokenize_mixed
from api.shapes import DetokenizeFields, TokenizeFields
from llamabox.services import Services


async def tokenize(services: Services, request: ApiRequest) -> Response:
    """Text to token ids, with their pieces if asked for."""
    engine, prompts = token_side(services)
    fields = await read(request, TokenizeFields)
    parts = [fields.content] if isinstance(fields.content, str) else fields.content
    tokens = await tokenize_mixed(
        parts,
        prompts,
        engine.info.n_vocab,
        add_special=bool(fields.add_special),
        parse_special=fields.parse_special is not False,
        param="content",
    )
    if not fields.with_pieces:
        return json_response({"tokens": tokens})
    found = await pieces(tokens, engine.vocab)
    return json_response({"tokens": [{"id": t, "piece": _piece(p)} for t, p in zip(tokens, found, strict=True)]})


async def untokenize(services: Services, request: ApiRequest) -> Response:
    """Token ids to text."""
    engine, _ = token_side(services)
    fields = await read(request, DetokenizeFields)
    for token in fields.tokens:
        check_token(token, engine.info.n_vocab, "tokens")
    return json_response({"content": await detokenize(fields.tokens, engine.vocab)})


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)
