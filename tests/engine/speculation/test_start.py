"""What speculation needs of a model, and what it says where that is missing."""

import attrs
import pytest

from engine.errors import ModelLoadError
from engine.native.options import ContextOptions
from engine.text.backend import DecodeStatus
from engine.text.speculation.options import SpeculationOptions
from engine.text.speculation.speculation import Speculation
from engine.text.speculation.start import open_speculation
from tests.engine.fake_backend import FakeBackend

LOOKUP = SpeculationOptions(lookup_ngram_min=2)


def opened(backend: FakeBackend, options: SpeculationOptions = LOOKUP) -> Speculation:
    return open_speculation(options, backend, ContextOptions(), step_target=0.15)


def test_the_memory_is_tried_and_left_empty() -> None:
    backend = FakeBackend()
    assert opened(backend).enabled
    assert backend.n_decodes == 1
    assert backend.kv.used == 0


def test_nothing_is_tried_where_nothing_is_drafted() -> None:
    backend = FakeBackend()
    assert not opened(backend, SpeculationOptions()).enabled
    assert not opened(backend, SpeculationOptions(lookup_ngram_min=2, longest=0)).enabled
    assert backend.n_decodes == 0


def test_a_recurrent_model_is_refused_with_the_reason() -> None:
    backend = FakeBackend()
    backend.info = attrs.evolve(backend.info, is_recurrent=True)
    with pytest.raises(ModelLoadError, match=r"drafts cannot be checked with fake.gguf: its state is recurrent"):
        opened(backend)


def test_a_memory_that_gives_nothing_back_is_refused() -> None:
    backend = FakeBackend()
    backend.remove = lambda seq, p0, p1: None  # type: ignore[method-assign]
    with pytest.raises(ModelLoadError, match="tokens cannot be taken out of its memory again"):
        opened(backend)


def test_no_room_is_a_reason_too() -> None:
    backend = FakeBackend()
    backend.script = lambda runs: DecodeStatus.NO_ROOM
    with pytest.raises(ModelLoadError, match="three tokens find no room"):
        opened(backend)


def test_the_rules_fit_the_batch_and_each_other() -> None:
    rules = opened(FakeBackend(n_batch=8), SpeculationOptions(lookup_ngram_min=1, longest=3, least=5)).rules
    assert (rules.longest, rules.least, rules.most_rows) == (3, 3, 8)
