"""What an infill request brings, as a prompt in the tokens of the loaded model."""

from collections.abc import Sequence
from typing import Final

from api.errors import bad_request, not_supported
from api.fields import GenerationFields
from api.gate import text_side
from api.job import token_limit
from api.prompt_forms import tokenize_mixed
from api.shapes import InfillFile, Prompt
from llamabox.infill import InfillParts, infill_prompt
from llamabox.services import Prompts, Services

# Names that llama-server gives to what the request does not name: prompts should look the same to a model.
_REPOSITORY: Final = "myproject\n"
_THIS_FILE: Final = "filename\n"
_OTHER_FILE: Final = "tmp"
_SNIPPET: Final = "\n\n--- snippet ---\n\n"  # before each file where the vocabulary has no token for it


def check_infill(services: Services, param: str | None = None) -> None:
    """Raises ApiError 501 where the model knows no holes."""
    engine, _ = text_side(services)
    if missing := engine.info.fim.missing:
        tokens = " and ".join(missing)
        raise not_supported(f"The model cannot infill: its vocabulary has no {tokens} token", param)


def check_infill_route(services: Services) -> None:
    """Raises ApiError 501 where POST /infill is off, or the model knows no holes."""
    if not services.settings.server.infill:
        raise not_supported("This server does not infill: start it with --infill")
    check_infill(services)


async def infill_tokens(
    services: Services,
    fields: GenerationFields,
    *,
    prefix: Prompt,
    suffix: Prompt,
    names: tuple[str, str],
    files: Sequence[InfillFile] | None = None,
    prompt: str = "",
) -> list[int]:
    """The prompt's tokens; control tokens that a text spells are text in it. ``check_infill`` has passed.

    ``names``: the fields that prefix and suffix come from. ``files`` None: no repository around the hole, so its
    tokens are left out. Raises ApiError 400 naming the field.
    """
    engine, prompts = text_side(services)
    n_vocab = engine.info.n_vocab
    defaults = services.settings.defaults

    async def mixed(given: Prompt, param: str) -> list[int]:
        if isinstance(given, dict):
            raise bad_request(f"{param}: a hole has text and tokens around it, no images or sounds", param)
        parts = [given] if isinstance(given, str) else given
        return await tokenize_mixed(parts, prompts, n_vocab, add_special=False, parse_special=False, param=param)

    parts = InfillParts(
        prefix=await mixed(prefix, names[0]),
        suffix=await mixed(suffix, names[1]),
        prompt=await _text(prompt, prompts),
        files=[] if files is None else await _files(services, files),
    )
    max_tokens, _ = token_limit(fields.token_limit, defaults.n_predict)
    return infill_prompt(parts, engine.info, suffix_first=defaults.spm_infill, max_tokens=max_tokens)


async def _files(services: Services, files: Sequence[InfillFile]) -> list[int]:
    """The other files with their headings, and the heading of the file with the hole."""
    engine, prompts = text_side(services)
    fim = engine.info.fim
    tokens: list[int] = []
    if fim.repository is not None:
        tokens += [fim.repository, *await _text(_REPOSITORY, prompts)]
    for file in files:
        if fim.separator is None:
            tokens += await _text(_SNIPPET, prompts)
        else:
            tokens += [fim.separator, *await _text(f"{file.filename or _OTHER_FILE}\n", prompts)]
        tokens += await _text(file.text, prompts)
    if fim.separator is not None:
        tokens += [fim.separator, *await _text(_THIS_FILE, prompts)]
    return tokens


async def _text(text: str, prompts: Prompts) -> list[int]:
    return await prompts.tokenize(text, add_special=False, parse_special=False) if text else []
