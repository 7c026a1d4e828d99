"""What the rank head reads: a query and a document as one text, the document cut where that is asked for."""

import re
from collections.abc import Sequence
from typing import Final

import trio

from engine.embedding.requests import RankFormat
from engine.text.backend import Vocab
from llamabox.embedding.texts import off_loop

_FIELD: Final = re.compile(r"\{(query|document)\}")


async def query_length(query: str, form: RankFormat, vocab: Vocab, limiter: trio.CapacityLimiter) -> int:
    """Tokens of a pair whose document is empty."""
    (pair,) = await tokenize_pairs(query, [""], form, vocab, limiter)
    return len(pair)


async def tokenize_pairs(
    query: str,
    documents: Sequence[str],
    form: RankFormat,
    vocab: Vocab,
    limiter: trio.CapacityLimiter,
    *,
    document_limit: int | None = None,
    limit: int | None = None,
) -> list[list[int]]:
    """The tokens of each pair. Documents are cut at the end to ``document_limit`` tokens, and so that a pair has
    ``limit``; a query that leaves no room for them still makes longer pairs.
    """

    def plain() -> list[list[int]]:
        asked = vocab.tokenize(query, add_special=False, parse_special=False)
        start = [*form.before, *asked, *form.between]
        limits = [document_limit, None if limit is None else max(0, limit - len(start) - len(form.after))]
        most = min((each for each in limits if each is not None), default=None)
        found = [vocab.tokenize(text, add_special=False, parse_special=False) for text in documents]
        return [[*start, *tokens[:most], *form.after] for tokens in found]

    def templated(template: str) -> list[list[int]]:
        texts = documents
        if document_limit is not None:
            texts = [_beginning(text, document_limit, vocab) for text in texts]
        return [_filled(template, query, text, vocab, limit) for text in texts]

    size = sum(map(len, documents)) + len(query) * (1 if form.template is None else len(documents))
    template = form.template
    return await off_loop(plain if template is None else lambda: templated(template), size, limiter)


def fill(template: str, query: str, document: str) -> str:
    """``template`` with its fields replaced; what the texts themselves say in braces stays as it is."""
    values = {"query": query, "document": document}
    return _FIELD.sub(lambda match: values[match[1]], template)


def _filled(template: str, query: str, document: str, vocab: Vocab, limit: int | None) -> list[int]:
    """The pair's tokens, by as much of the document as ``limit`` has room for."""
    tokens = _tokens(fill(template, query, document), vocab)
    if limit is None or len(tokens) <= limit:
        return tokens
    kept = len(_tokens(document, vocab))
    while len(tokens) > limit and kept > 0:  # again where the beginning alone has other tokens
        kept = max(0, kept - (len(tokens) - limit))
        tokens = _tokens(fill(template, query, _beginning(document, kept, vocab)), vocab)
    return tokens


def _beginning(text: str, n_tokens: int, vocab: Vocab) -> str:
    tokens = _tokens(text, vocab)
    if len(tokens) <= n_tokens:
        return text
    cut = b"".join(vocab.piece(token, special=True) for token in tokens[:n_tokens]).decode(errors="ignore")
    # Some vocabularies put a space before each text.
    return cut if text.startswith(" ") else cut.removeprefix(" ")


def _tokens(text: str, vocab: Vocab) -> list[int]:
    """Special ones are the template's matter."""
    return vocab.tokenize(text, add_special=False, parse_special=True)
