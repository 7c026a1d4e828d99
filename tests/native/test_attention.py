"""Attention of our own: what the formula says, for every shape, mask and type of cells, by any number of threads."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.native import library
from engine.native.context import Context
from engine.native.kernels import load
from engine.native.model import Model
from engine.native.options import ContextOptions, ModelOptions
from tests.native.attention import Attention
from tests.native.variants import each_variant, needs_avx2

pytestmark = needs_avx2
KINDS = [Kind.F16, Kind.F32, Kind.BF16, Kind.Q8_0, Kind.Q4_0]


_attached = each_variant(lambda: load.attach(library.start()._lib))


def attentions() -> int:
    """How many were ours."""
    return load.attach(library.start()._lib).attentions


def random_mask(rng: np.random.Generator, streams: int, tokens: int, cells: int, share: float) -> NDArray[np.float16]:
    """Some cells cannot be seen, in runs, as in a cache of several texts; some have a bias; a token may see none."""
    mask = rng.normal(size=(streams, tokens, cells)).astype(np.float16) * np.float16(0.5)
    hidden = np.repeat(rng.random((streams, tokens, -(-cells // 24))) < share, 24, axis=2)[..., :cells]
    mask[hidden] = -np.inf
    return mask


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_it_is_what_the_formula_says(data: st.DataObject) -> None:
    draw: Any = data.draw
    streams, kv_heads, shared = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 2, 7, 40, 72, 67])),
    )
    tokens, cells = draw(st.integers(1, 40)), draw(st.integers(1, 1600))
    kind = draw(st.sampled_from(KINDS))
    k_width, v_width = draw(st.sampled_from([32, 64, 96])), draw(st.sampled_from([32, 64, 128]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def numbers(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=shape).astype(np.float32)

    attention = Attention(
        q=numbers(streams, kv_heads * shared, tokens, k_width) * 3,
        k=numbers(streams, kv_heads, cells, k_width),
        v=numbers(streams, kv_heads, cells, v_width),
        mask=random_mask(rng, streams, tokens, cells, draw(st.sampled_from([0.0, 0.5, 0.95])))
        if draw(st.booleans())
        else None,
        sinks=numbers(kv_heads * shared) if draw(st.booleans()) else None,
        softcap=draw(st.sampled_from([0.0, 5.0])),
        kind=kind,
    )
    before = attentions()
    result = attention.compute(draw(st.integers(1, 3)))
    assert attentions() == before + 1
    assert np.abs(result - attention.expected()).max() < 2e-5


def test_many_cells_are_shared_among_threads() -> None:
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=size).astype(np.float32) for size in ((1, 4, 1, 64), (1, 1, 5000, 64), (1, 1, 5000, 64)))
    mask = np.zeros((1, 1, 5000), np.float16)
    mask[..., 3000:] = -np.inf
    attention = Attention(q=q, k=k, v=v, mask=mask)
    results = [attention.compute(n_threads) for n_threads in (1, 2, 5)]
    assert all(np.abs(result - attention.expected()).max() < 1e-5 for result in results)


def test_parts_are_no_more_than_the_work_buffer_holds() -> None:
    rng = np.random.default_rng(6)
    sizes = ((1, 8, 8, 32), (1, 1, 1600, 32), (1, 1, 1600, 128))
    q, k, v = (rng.normal(size=size).astype(np.float32) for size in sizes)
    attention = Attention(q=q, k=k, v=v, mask=None)
    assert np.abs(attention.compute(3) - attention.expected()).max() < 1e-5


def test_what_cannot_be_seen_may_be_no_number() -> None:
    """Cells of another text, which the model went mad about."""
    rng = np.random.default_rng(5)
    q, k, v = (rng.normal(size=size).astype(np.float32) for size in ((1, 4, 2, 64), (1, 2, 100, 64), (1, 2, 100, 64)))
    mask = np.zeros((1, 2, 100), np.float16)
    mask[..., 30:60] = -np.inf
    mask[:, 1] = -np.inf  # this token sees nothing at all: its result is zero
    right = Attention(q=q, k=k.copy(), v=v, mask=mask).expected()
    for poison in (np.nan, np.inf):
        k[:, :, 30:60] = poison
        assert np.abs(Attention(q=q, k=k, v=v, mask=mask).compute(2) - right).max() < 1e-5


@pytest.mark.parametrize(("k_width", "v_width"), [(36, 64), (64, 40)])
def test_what_is_not_ours_stays_the_librarys(k_width: int, v_width: int) -> None:
    rng = np.random.default_rng(4)
    sizes = ((1, 2, 3, k_width), (1, 1, 70, k_width), (1, 1, 70, v_width))
    q, k, v = (rng.normal(size=size).astype(np.float32) for size in sizes)
    attention = Attention(q=q, k=k, v=v, mask=None)
    before = attentions()
    assert np.abs(attention.compute(2) - attention.expected()).max() < 1e-2
    assert attentions() == before


def test_a_model_attends_by_it(tiny_model: Path) -> None:
    with (
        closing(Model(ModelOptions(path=str(tiny_model), n_gpu_layers=0))) as model,
        closing(Context(model, ContextOptions(n_ctx=256))) as context,
    ):
        batch = context.new_batch()
        batch.add_run(0, 0, [5, 6, 7], logits=True)
        before = attentions()
        assert context.decode(batch) == 0
        assert attentions() > before
