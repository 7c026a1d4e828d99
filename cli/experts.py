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
    found = expert_overrides(values.get("--cpu-moe"), values.get("--n-cpu-moe"))
    overrides = (*engine.model.tensor_overrides, *found)
    return attrs.evolve(engine, model=attrs.evolve(engine.model, tensor_overrides=overrides)) if found else engine


def expert_overrides(every: Given | None, first: Given | None) -> tuple[tuple[str, str], ...]:
    """The overrides for all experts, or for those of the first layers; none where the flags say nothing."""
    if every and every.value:
        return ((_EXPERTS, _MAIN_MEMORY),)
    if first and first.value:
        # One expression: the library compiles each of them anew for each tensor.
        layers = "|".join(str(layer) for layer in range(first.value))
        return ((rf"blk\.(?:{layers}){_EXPERTS}", _MAIN_MEMORY),)
    return ()
