"""Models with random weights: the library loads them, and their numbers are of a healthy size."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import ContextOptions, ModelOptions
from tools.bench.random_model import FORMATS, Experts, Shape, write

SHAPES = [
    Shape(layers=2, width=64, feed_forward=128, heads=4, kv_heads=2, tied=True),
    Shape(layers=1, width=128, feed_forward=96, heads=4, kv_heads=4, tied=False),
    Shape(1, 256, 0, heads=4, kv_heads=2, tied=False, experts=Experts(6, 2, 256), head_width=32),
    Shape(2, 128, 96, heads=2, kv_heads=1, tied=True, head_width=32, window=16),
]


@pytest.mark.parametrize("shape", SHAPES, ids=["tied", "untied", "experts", "window"])
@pytest.mark.parametrize("form", FORMATS)
def test_the_library_runs_it(tiny_model: Path, tmp_path: Path, shape: Shape, form: str) -> None:
    """Another token, other logits; none of them huge or not a number."""
    path = tmp_path / "random.gguf"
    write(path, shape, FORMATS[form], tiny_model)
    with (
        closing(Model(ModelOptions(path=str(path), n_gpu_layers=0))) as model,
        closing(Context(model, ContextOptions(n_ctx=256))) as context,
    ):
        batch = context.new_batch()
        rows = []
        for position, token in enumerate((5, 6)):
            batch.clear()
            batch.add_run(0, position, [token], logits=True)
            assert context.decode(batch) == 0
            rows.append(np.array(context.logits_row(0)))
    assert all(0.01 < row.std() < 100 for row in rows)
    assert not np.allclose(rows[0], rows[1])
