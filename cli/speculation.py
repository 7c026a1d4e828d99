"""What the options about drafts need beside them, and the files that they name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from cli.errors import UsageError
from cli.experts import expert_overrides
from cli.files import check_directory, check_readable
from cli.parse import Given
from engine.text.speculation.options import SpeculationOptions

_PREFIX: Final = "engine.speculation."
_MODEL: Final = (
    f"{_PREFIX}model.devices",
    f"{_PREFIX}model.n_gpu_layers",
    f"{_PREFIX}model.tensor_overrides",
    f"{_PREFIX}least_probability",
    "--cpu-moe-draft",
    "--n-cpu-moe-draft",
)


def speculation_settings(options: SpeculationOptions, values: Mapping[str, Given]) -> SpeculationOptions:
    """The options, complete. UsageError for those that would do nothing, and for files that are of no use."""
    _check_needs(options, values)
    least, longest = values.get(f"{_PREFIX}least"), values.get(f"{_PREFIX}longest")
    if least and longest and least.value > longest.value > 0:
        raise UsageError(f"{least.spelling}: {least.value} is more than {longest.spelling} {longest.value}")
    if options.model.path:
        check_readable(options.model.path, "--model-draft")
    if options.lookup_static:
        check_readable(options.lookup_static, "--lookup-cache-static")
    if options.lookup_dynamic:
        check_directory(str(Path(options.lookup_dynamic).absolute().parent), "--lookup-cache-dynamic")
    overrides = expert_overrides(values.get("--cpu-moe-draft"), values.get("--n-cpu-moe-draft"))
    if overrides:
        overrides = (*options.model.tensor_overrides, *overrides)
        options = attrs.evolve(options, model=attrs.evolve(options.model, tensor_overrides=overrides))
    return options


def _check_needs(options: SpeculationOptions, values: Mapping[str, Given]) -> None:
    for key in _MODEL:
        if (given := values.get(key)) and not options.model.path:
            raise UsageError(f"{given.spelling}: needs --model-draft")
    for key in ("lookup_static", "lookup_dynamic"):
        if (given := values.get(_PREFIX + key)) and not options.lookup_ngram_min:
            raise UsageError(f"{given.spelling}: needs --lookup-ngram-min")
    for key in ("longest", "least"):
        if (given := values.get(_PREFIX + key)) and not (options.model.path or options.lookup_ngram_min):
            raise UsageError(f"{given.spelling}: needs --model-draft or --lookup-ngram-min")
