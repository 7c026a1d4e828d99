"""The text engine's backend over a model that cannot generate: it has a vocabulary, and refuses everything else."""

from collections.abc import Buffer, Sequence
from typing import Never, NoReturn

from engine.errors import InvalidRequest
from engine.native.model import Model
from engine.text.adapters import AdapterSet
from engine.text.backend import Run
from engine.text.info import ModelInfo
from engine.text.media import MediaChunk
from engine.text.requests import GrammarSpec, SamplingParams


class _NoGrammars:
    def __init__(self, reason: str) -> None:
        self._reason = reason

    def prepare(self) -> None:
        """Nothing to do."""

    def compile(self, spec: GrammarSpec) -> NoReturn:
        """Raise InvalidRequest."""
        raise InvalidRequest(self._reason)


class NoGeneration:
    """Satisfies ``engine.text.backend.Backend``; holds no cells and decodes nothing. ``reason``: why."""

    def __init__(self, model: Model, info: ModelInfo, reason: str) -> None:
        self.info = info
        self.vocab = model.vocab
        self.n_seqs = info.n_slots
        self.grammars = _NoGrammars(f"the loaded model generates no text: {reason}")
        self._model = model
        self._reason = reason

    @property
    def media(self) -> None:
        """There is none: the start refuses a projector."""

    @property
    def n_encoded(self) -> int:
        """Nothing."""
        return 0

    def decode_media(self, seq: int, start: int, chunk: MediaChunk) -> Never:
        """Never reached: there is no projector."""
        raise AssertionError("a model that cannot generate is asked to decode")

    @property
    def identity(self) -> Never:
        """Never reached: ``info.can_copy_state`` is False."""
        raise AssertionError("a model that cannot generate has no state")

    def set_adapters(self, adapters: AdapterSet) -> None:
        """There are none: the start refuses them."""

    def save_state(self, seq: int) -> Never:
        """Never reached: ``info.can_copy_state`` is False."""
        raise AssertionError("a model that cannot generate has no state")

    def restore_state(self, seq: int, state: Buffer) -> Never:
        """Never reached: ``info.can_copy_state`` is False."""
        raise AssertionError("a model that cannot generate has no state")

    def decode(self, runs: Sequence[Run]) -> Never:
        """Never reached: no sampler, no sequence."""
        raise AssertionError("a model that cannot generate is asked to decode")

    def create_sampler(self, params: SamplingParams) -> NoReturn:
        """Raise InvalidRequest: this is where a request for text ends."""
        raise InvalidRequest(f"the loaded model generates no text: {self._reason}")

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        """There are no cells."""

    def remove(self, seq: int, p0: int, p1: int | None) -> None:
        """There are no cells."""

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None:
        """There are no cells."""

    def span(self, seq: int) -> tuple[int, int]:
        """No sequence holds anything."""
        return -1, -1

    def exchange(self, a: int, b: int) -> bool:
        """There are no cells."""
        return True

    def abort(self) -> None:
        """Nothing runs."""

    def clear_abort(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Free the model. Idempotent."""
        self._model.close()
