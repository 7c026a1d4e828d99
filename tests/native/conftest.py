"""A tiny model for the session, and backends over it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.native.options import ContextOptions, ModelOptions
from engine.text.llama_backend import LlamaBackend
from tests.models.tiny_llm import write_tiny_llm

type MakeBackend = Callable[..., LlamaBackend]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llm(tmp_path_factory.mktemp("models") / "tiny-llm.gguf")


@pytest.fixture
def make_backend(tiny_model: Path) -> Iterator[MakeBackend]:
    """Makes backends over the tiny model (or ``path``) with context options by name; all are closed at the end."""
    backends: list[LlamaBackend] = []

    def make(
        *, path: Path = tiny_model, n_slots: int = 1, copies_cells: bool = False, **options: object
    ) -> LlamaBackend:
        defaults = {"n_ctx": 512, "n_batch": 256, "n_ubatch": 64, "n_seq_max": 4}
        context = ContextOptions(**(defaults | options))
        backend = LlamaBackend(ModelOptions(path=str(path)), context, n_slots=n_slots, copies_cells=copies_cells)
        backends.append(backend)
        return backend

    yield make
    for backend in backends:
        backend.close()


@pytest.fixture
def backend(make_backend: MakeBackend) -> LlamaBackend:
    return make_backend()
