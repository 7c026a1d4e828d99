"""The forms in which texts may come: one or a list, as text or as token ids. All of them to token ids."""

from collections.abc import Sequence
from typing import Any, Final

from api.errors import ApiError, bad_request
from api.prompt_forms import check_token
from engine.embedding.requests import EmbeddingInfo
from engine.native.options import Pooling
from engine.text.backend import Vocab
from llamabox.embedding.texts import cut, tokenize_texts
from llamabox.services import Services

MAX_TEXTS: Final = 2048
# With pooling none every token has a vector: so many numbers fill 64 MiB here and several times that as JSON.
MAX_NUMBERS: Final = 16 * 1024 * 1024

type Text = str | list[int]


async def token_lists(
    given: str | list[Any], param: str, services: Services, vocab: Vocab, info: EmbeddingInfo, limit: int | None = None
) -> list[list[int]]:
    """One list of tokens for each text, in order, cut to ``limit``. Raises ApiError 400 naming the field."""
    texts = split(given, param, info.n_vocab)
    plain = [(index, text) for index, text in enumerate(texts) if isinstance(text, str)]
    tokenized = await tokenize_texts([text for _, text in plain], vocab, services.tokenizing)
    result: list[list[int]] = [text if isinstance(text, list) else [] for text in texts]
    for (index, _), tokens in zip(plain, tokenized, strict=True):
        result[index] = tokens
    if limit is not None:
        result = [cut(tokens, limit, vocab) for tokens in result]
    names = [param] if isinstance(given, str) or _is_tokens(given) else [f"{param}[{i}]" for i in range(len(result))]
    check_lengths(result, names, info)
    return result


def split(given: str | list[Any], param: str, n_vocab: int) -> list[Text]:
    """The texts that ``given`` holds. Raises ApiError 400 naming the field."""
    if isinstance(given, str):
        return [_text(given, param)]
    if not given:
        raise bad_request(f"{param}: the list is empty", param)
    if _is_tokens(given):
        return [_tokens(given, param, n_vocab)]
    if len(given) > MAX_TEXTS:
        raise bad_request(f"{param}: at most {MAX_TEXTS} texts in one request, not {len(given)}", param)
    return [_entry(entry, f"{param}[{index}]", n_vocab) for index, entry in enumerate(given)]


def check_lengths(texts: Sequence[Sequence[int]], names: Sequence[str], info: EmbeddingInfo) -> None:
    """Raises ApiError 400 for a text without tokens and for one that does not fit, with the numbers."""
    for tokens, name in zip(texts, names, strict=True):
        if not tokens:
            raise bad_request(f"{name}: the text has no tokens", name)
        if len(tokens) > info.max_tokens:
            message = f"{name}: the text has {len(tokens)} tokens, the model takes {info.max_tokens}"
            raise too_long(message, name, len(tokens), info.max_tokens)
    total = sum(map(len, texts))
    if info.pooling is Pooling.NONE and total * info.n_embd > MAX_NUMBERS:
        most = MAX_NUMBERS // info.n_embd
        message = f"{total} tokens, each with a vector (pooling none): at most {most} in one request"
        raise bad_request(message, names[0].partition("[")[0])


def too_long(message: str, name: str, n_tokens: int, limit: int) -> ApiError:
    """The 400 of a text that does not fit, with the numbers."""
    return ApiError(400, message, name, "exceed_context_size_error", {"n_prompt_tokens": n_tokens, "n_ctx": limit})


def _is_tokens(given: list[Any]) -> bool:
    return isinstance(given[0], int)


def _entry(entry: object, name: str, n_vocab: int) -> Text:
    if isinstance(entry, str):
        return _text(entry, name)
    if isinstance(entry, list):
        return _tokens(entry, name, n_vocab)
    raise bad_request(f"{name}: expected text or token ids", name)


def _text(text: str, name: str) -> str:
    if not text:
        raise bad_request(f"{name}: the text is empty", name)
    return text


def _tokens(tokens: list[Any], name: str, n_vocab: int) -> list[int]:
    for token in tokens:
        if not isinstance(token, int) or isinstance(token, bool):
            raise bad_request(f"{name}: token ids and nothing else", name)
        check_token(token, n_vocab, name)
    return tokens
