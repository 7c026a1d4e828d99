"""The text engine as Trio code sees it (interface; the body follows)."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from engine.text.backend import Vocab
from engine.text.events import Event
from engine.text.info import EngineStats, ModelInfo, SlotState
from engine.text.requests import GenerationRequest


class TextEngine(Protocol):
    """A running text engine. Tests use a fake of this protocol."""

    info: ModelInfo
    vocab: Vocab
    measured_rate: float | None  # tokens/s of one sequence, when options.measure_rate

    def generate(self, request: GenerationRequest) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Run a request: ``async with engine.generate(r) as events: async for event in events: …``

        The iterator ends after the terminal event (Finished or Failed is the last item). Leaving the block cancels:
        the sequence is gone within one engine step. Entering raises ContextExceeded, InvalidRequest or
        EngineUnavailable for what is refused at once.
        """

    def slots(self) -> tuple[SlotState, ...]:
        """The slots as they were after the last step."""

    def stats(self) -> EngineStats:
        """Running totals and gauges."""
