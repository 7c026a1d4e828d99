"""The benchmark of KV modes runs, and what it times is what it says: every sequence holds its own cells."""

import pytest

from engine.native.model import Model
from engine.native.options import FlashAttention, ModelOptions
from tests.models.tiny_llm import write_tiny_llm
from tools.bench import kv_modes


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_llm(tmp_path_factory.mktemp("models") / "tiny-llm.gguf"))


def test_every_case_is_measured(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", path, "--streams", "3", "--depths", "40", "20", "--steps", "2", "--threads", "1"]
    assert kv_modes.main(arguments) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    named = [tuple(cell.strip() for cell in row[:3]) for row in rows]
    cases = [("20", "3 decode"), ("40", "3 decode"), ("40", "1 decode"), ("40", "1 decode, 2 idle")]
    assert named == [(flash, *case) for flash in ("on", "off") for case in cases]
    assert all(float(row[5]) > 0 for row in rows)


@pytest.mark.parametrize("unified", [True, False])
def test_a_step_leaves_every_sequence_as_long_as_it_was(path: str, *, unified: bool) -> None:
    model = Model(ModelOptions(path=path))
    cache = kv_modes.Cache(model, unified=unified, flash=FlashAttention.ON, n_seqs=3, depth=30, threads=1)
    states = cache.prefill(list(range(10, 40)), [8, 30])
    cache.hold(states[30], 3)
    assert [cache.context.memory.span(seq) for seq in range(3)] == [(0, 29)] * 3
    assert cache.step(kv_modes.Case(30, 2, 3)) > 0
    assert [cache.context.memory.span(seq) for seq in range(3)] == [(0, 29)] * 3
    cache.hold(states[8], 1)
    assert [cache.context.memory.span(seq) for seq in range(3)] == [(0, 7), (-1, -1), (-1, -1)]
    cache.context.close()
    model.close()
