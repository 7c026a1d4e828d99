"""Loads llguidance: its only importer."""

import functools
import importlib
from typing import Any


@functools.cache
def load() -> Any:
    """The package, imported on the first call (a twentieth of a second)."""
    return importlib.import_module("llguidance")


@functools.cache
def limits() -> Any:
    """Bounds to what a grammar may cost, so that a hostile one ends in an error within a second or so."""
    return load().LLParserLimits(
        initial_lexer_fuel=500_000,
        step_lexer_fuel=100_000,
        max_lexer_states=50_000,
        max_grammar_size=100_000,
        verbose_errors=False,  # else an error quotes the parser's whole state
    )
