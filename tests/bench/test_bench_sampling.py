"""The sampling benchmark runs, and its native side is the library's own function."""

import pytest

from engine.text.requests import SamplingParams
from tests.models.tiny_llm import write_tiny_llm
from tools.bench import sampling


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_llm(tmp_path_factory.mktemp("models") / "tiny-llm.gguf"))


def test_every_case_is_measured(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sampling.main(["--model", model, "--streams", "3", "--rounds", "1", "--steps", "1"]) == 0
    out = capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("| ")]
    cases = sampling.cases()
    assert [row[0].strip() for row in rows[1 : 1 + len(cases)]] == [case.name for case in cases]
    assert all(float(cell.split("/")[0]) > 0 for row in rows[1 : 1 + len(cases)] for cell in row[1:3])
    assert len(rows) == 2 + len(cases) + sum(case.steps for case in cases)


def test_both_sides_draw_the_same(model: str) -> None:
    bench = sampling.Bench(model, 2)
    case = sampling.Case("", SamplingParams(seed=4, temperature=2.0))
    ours, native = bench.ours(case), bench.native(case)
    for _ in range(30):
        assert [draw()[0] for draw in ours] == [draw() for draw in native]
        bench.step()
    bench.close()
