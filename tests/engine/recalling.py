"""An engine whose KV cache is small and has host memory behind it, and what displaces prompts."""

from typing import Final

from engine.text.adapters import AdapterSet
from engine.text.cell_rent import CellRent
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.fake_cells import FakeCells

A: Final[AdapterSet] = ((1, 0.5),)
PROMPT: Final = "once upon a time in a far away land"
MEGABYTE: Final = 1 << 20


def small(host_bytes: int = MEGABYTE, n_slots: int = 2, rent: CellRent | None = None, **fields: object) -> Driver:
    backend = FakeBackend(**{"n_cells": 64, "n_ctx_slot": 64, "n_slots": n_slots, "n_batch": 16} | fields)
    driver = Driver(backend, host_bytes=host_bytes, rent=rent)
    slow(driver, 0.0)
    return driver


def slow(driver: Driver, seconds: float) -> None:
    """Let a copy take so long, and a decode 0.1 s for each token."""
    if driver.host is not None:
        cells = driver.host._cells
        assert isinstance(cells, FakeCells)
        cells.before_copy = lambda: driver.clock.on(seconds)
    driver.backend.before_decode = lambda runs: driver.clock.on(0.1 * sum(len(run.tokens) for run in runs))


def run(driver: Driver, name: str, prompt: str, max_tokens: int = 4, **fields: object) -> Box:
    box = driver.ask(name, prompt, max_tokens, **fields)
    driver.finish()
    adapters = fields.get("adapters", ())
    assert isinstance(adapters, tuple)
    assert box.tokens == continuation(prompt.encode(), max_tokens, adapters)
    return box


def crowd_out(driver: Driver, letter: str = "z") -> None:
    """Fill the KV cache with something else."""
    run(driver, f"crowd-{letter}-{len(driver.boxes)}", letter * 60, 5)


def left_by(prompt: str, max_tokens: int = 4, adapters: AdapterSet = ()) -> str:
    """What a conversation consists of that the KV cache held: the last token was never computed."""
    return prompt + bytes(continuation(prompt.encode(), max_tokens - 1, adapters)).decode()
