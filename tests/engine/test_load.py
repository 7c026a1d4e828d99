"""Weights stay as they are in the file where products are ours."""

import logging
from pathlib import Path
from unittest import mock

import attrs
import pytest

from engine.native import library
from engine.native.kernels.load import Kernels
from engine.native.options import FlashAttention, ModelOptions
from engine.native.preflight import Verdict
from engine.native.probe_model import write_probe
from engine.text import load
from engine.text.load import load_model
from engine.text.options import EngineOptions
from engine.text.start import _start

OURS = Kernels(mock.Mock(), variant="avx2")
THEIRS = Kernels(None, "a reason")


@pytest.fixture
def options(tmp_path: Path) -> EngineOptions:
    path = tmp_path / "probe.gguf"
    write_probe(path)
    return EngineOptions(model=ModelOptions(path=str(path)))


@pytest.mark.parametrize(
    ("kernels", "wished", "works", "repacked"),
    [
        (OURS, True, True, False),
        (OURS, False, True, False),
        (THEIRS, True, True, True),
        (THEIRS, True, False, False),
        (THEIRS, False, True, False),
    ],
)
def test_when_weights_are_repacked(
    kernels: Kernels, wished: bool, works: bool, repacked: bool, options: EngineOptions
) -> None:
    options = attrs.evolve(options, model=attrs.evolve(options.model, extra_buffers=wished))
    with (
        mock.patch.object(library, "kernels", return_value=kernels),
        mock.patch.object(load.preflight, "check", lambda extra_buffers: Verdict(extra_buffers and works)),
    ):
        model = load_model(options)
    try:
        assert model.options.extra_buffers == repacked
    finally:
        model.close()


@pytest.mark.parametrize(
    ("kernels", "flash", "step"),
    [(OURS, FlashAttention.AUTO, False), (THEIRS, FlashAttention.AUTO, True), (THEIRS, FlashAttention.OFF, False)],
)
def test_prompts_grow_by_large_steps_where_attention_has_large_tiles(
    kernels: Kernels, flash: FlashAttention, step: bool, options: EngineOptions
) -> None:
    options = attrs.evolve(options, context=attrs.evolve(options.context, flash_attention=flash, n_ctx=256))
    with mock.patch.object(library, "kernels", return_value=kernels):
        started = _start(options, lambda outbox: None, load_model(options))
    limits = started.loop.scheduler.limits
    started.loop.close()
    started.backend.close()
    assert (limits.deep_tile > limits.tile) == step


def test_the_log_tells_whose_products(options: EngineOptions, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="engine.text")
    # the probe has some weights in Q4_1
    lines = ["matrix products: ours for avx2, beside llama.cpp's own for weights of other types"]
    lines.append("matrix products: llama.cpp's own (a reason)")
    for kernels in (OURS, THEIRS):
        with mock.patch.object(library, "kernels", return_value=kernels):
            load_model(options).close()
    assert [message for message in caplog.messages if message.startswith("matrix")] == lines
