"""What a request for text gets that says nothing: what flags ask for must be possible with the model."""

from typing import TYPE_CHECKING, Final

import trio

from cli.options import OPTIONS
from engine.errors import InvalidRequest, ModelLoadError
from engine.native.sampling_plan import validate

if TYPE_CHECKING:
    from engine.bridge import TextEngine
    from llamabox.services import Prompts
    from llamabox.settings import GenerationDefaults

_SAMPLING: Final = "defaults.sampling."


async def check_text_defaults(defaults: "GenerationDefaults", engine: "TextEngine", prompts: "Prompts") -> None:
    """Raises ModelLoadError naming the flag. A grammar takes a second: the vocabulary is prepared for it."""
    if engine.info.no_generation is not None:
        return
    try:
        validate(defaults.sampling, n_vocab=engine.info.n_vocab)
    except InvalidRequest as error:
        raise ModelLoadError(f"{_flag(f'{_SAMPLING}{error.param}')}: {error.message}") from None
    await _check_constraint(defaults, engine, prompts)


async def _check_constraint(defaults: "GenerationDefaults", engine: "TextEngine", prompts: "Prompts") -> None:
    from api.constraint import default_constraint  # late: it is imported beside the model's load

    wanted = default_constraint(defaults)
    try:
        spec = await prompts.constrain(grammar=wanted.grammar, schema=wanted.schema, strict=wanted.strict)
        if spec is not None:
            await trio.to_thread.run_sync(engine.grammars.compile, spec)
    except InvalidRequest as error:
        name = "grammar" if wanted.grammar is not None else "json_schema"
        raise ModelLoadError(f"{_flag(f'defaults.{name}')}: {error.message}") from None


def _flag(setting: str) -> str:
    """The first option that sets it."""
    return next(option.name for option in OPTIONS if option.setting == setting)
