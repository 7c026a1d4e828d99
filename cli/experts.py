"""--cpu-moe and --n-cpu-moe: expert weights in main memory, as overrides of the tensors' buffer types."""

from collections.abc import Mapping
from typing import Final

import attrs

from cli.parse import Given
from engine.text.options import EngineOptions

# The names that the library gives to the experts' matrices.
_EXPERTS: Final = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_MAIN_MEMORY: Final = "CPU"


def with_expert_overrides(engine: EngineOptions, values: Mapping[str, Given]) -> EngineOptions:
    """The options with the overrides that the two flags stand for, after those that were given, which win."""
    patterns = []
    if (every := values.get("--cpu-moe")) and every.value:
        patterns.append(_EXPERTS)
    elif first := values.get("--n-cpu-moe"):
        patterns += [rf"blk\.{layer}{_EXPERTS}" for layer in range(first.value)]
    overrides = (*engine.model.tensor_overrides, *((pattern, _MAIN_MEMORY) for pattern in patterns))
    return attrs.evolve(engine, model=attrs.evolve(engine.model, tensor_overrides=overrides))
