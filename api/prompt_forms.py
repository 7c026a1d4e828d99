"""The forms in which a prompt may come: text, token ids, a mix, or a list of those."""

from collections.abc import Sequence
from typing import Any, Final

import attrs

from api.convert.typed import typed
from api.errors import bad_request
from api.guidance import blaming
from api.shapes import Prompt
from engine.text.media import MediaSpan
from llamabox.services import Prompts

MAX_PROMPTS: Final = 1024
MAX_MEDIA: Final = 128  # in all prompts of a request: each may take some megabytes until it is computed


@attrs.frozen(kw_only=True)
class _PromptObject:
    prompt_string: str | list[Any]
    multimodal_data: list[str] | None = None


@attrs.frozen
class TokenizedPrompt:
    """``text`` is None where the prompt did not come as plain text; with ``media`` it always did."""

    tokens: Sequence[int]
    text: str | None = None
    media: tuple[MediaSpan, ...] = ()


async def tokenize_prompts(prompt: Prompt, prompts: Prompts, n_vocab: int) -> list[TokenizedPrompt]:
    """One entry for each prompt, in order. Raises ApiError 400 naming the field."""
    parts = split_prompts(prompt)
    if len(parts) > MAX_PROMPTS:
        raise bad_request(f"prompt: at most {MAX_PROMPTS} prompts in one request", "prompt")
    if sum(_count_media(part) for part in parts) > MAX_MEDIA:
        raise bad_request(f"prompt: at most {MAX_MEDIA} images and sounds in one request", "prompt")
    result = [await _tokenize(part, prompts, n_vocab) for part in parts]
    if not all(entry.tokens for entry in result):
        raise bad_request("prompt: a prompt needs at least one token", "prompt")
    return result


def split_prompts(prompt: Prompt) -> Sequence[Prompt]:
    """A list with a number in it is one prompt; any other list is a list of prompts."""
    if isinstance(prompt, str | dict):
        return [prompt]
    if not prompt:
        raise bad_request("prompt: the list is empty", "prompt")
    if any(_is_token(entry) for entry in prompt):
        return [prompt]
    for entry in prompt:
        if not isinstance(entry, str | list | dict):
            raise bad_request("prompt: expected text, token ids, or a list of those", "prompt")
    return prompt


async def tokenize_mixed(
    parts: list[Any], prompts: Prompts, n_vocab: int, *, add_special: bool, parse_special: bool, param: str
) -> list[int]:
    """Token ids as they are, texts tokenized; a start token only before a leading text. Raises ApiError 400."""
    tokens: list[int] = []
    for index, part in enumerate(parts):
        if isinstance(part, str):
            special = add_special and index == 0
            tokens += await prompts.tokenize(part, add_special=special, parse_special=parse_special)
        elif _is_token(part):
            check_token(part, n_vocab, param)
            tokens.append(part)
        else:
            raise bad_request(f"{param}: expected text or token ids", param)
    return tokens


def check_token(token: int, n_vocab: int, param: str) -> None:
    """Raises ApiError 400 unless the vocabulary has it: the native library would end the process."""
    if not 0 <= token < n_vocab:
        raise bad_request(f"{param}: no token {token} in a vocabulary of {n_vocab}", param)


async def _tokenize(part: Prompt, prompts: Prompts, n_vocab: int) -> TokenizedPrompt:
    if isinstance(part, dict):
        return await _tokenize_object(part, prompts, n_vocab)
    if isinstance(part, str):
        return TokenizedPrompt(await prompts.tokenize(part, add_special=True, parse_special=True), part)
    return TokenizedPrompt(
        await tokenize_mixed(part, prompts, n_vocab, add_special=True, parse_special=True, param="prompt")
    )


async def _tokenize_object(part: dict[str, Any], prompts: Prompts, n_vocab: int) -> TokenizedPrompt:
    """llama-server's ``{prompt_string, multimodal_data}``: base64 texts, and marks in the text where they go."""
    fields = typed(part, _PromptObject, "prompt")
    if not fields.multimodal_data:
        return await _tokenize(fields.prompt_string, prompts, n_vocab)
    if not isinstance(fields.prompt_string, str):
        raise bad_request("prompt.prompt_string: with multimodal_data it must be a text", "prompt.prompt_string")
    where = "prompt.multimodal_data"
    with blaming(where):
        placed = await prompts.place(fields.prompt_string, fields.multimodal_data, where)
    return TokenizedPrompt(placed.tokens, fields.prompt_string, placed.media)


def _count_media(part: Prompt) -> int:
    data = part.get("multimodal_data") if isinstance(part, dict) else None
    return len(data) if isinstance(data, list) else 0


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
