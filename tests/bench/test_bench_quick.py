"""The verdict of the quick bench, and the file of its expected figures."""

import subprocess
from pathlib import Path

import pytest
import trio
import trio.testing

from tools.bench import quick
from tools.bench.expected import STORED, Expected, judge, read
from tools.bench.load import LoadError

OWN = Expected(key="own_x", what="x", expected=2.0, tolerance=0.25, peer=False)
PEER = Expected(key="peer_y", what="y", expected=1.0, tolerance=0.1, peer=True)


def test_what_is_in_range_is_good_at_both_ends() -> None:
    for own, peer in ((1.5, 0.9), (2.0, 1.0), (2.5, 1.1)):
        verdict = judge([OWN, PEER], {"own_x": own, "peer_y": peer}, {}, peer=True)
        assert (verdict.word, verdict.status) == ("good", 0)
        assert verdict.better == []


def test_what_fell_is_named_with_its_figures() -> None:
    verdict = judge([OWN, PEER], {"own_x": 1.49, "peer_y": 1.0}, {}, peer=True)
    assert (verdict.word, verdict.status) == ("REGRESSION", 1)
    assert verdict.regressions == ["own_x (x): 1.490, expected 2, at least 1.500"]
    assert "| own_x: x | 1.490 | 2 | 1.500 | REGRESSION |" in verdict.table
    assert "| peer_y: y | 1.000 | 1 | 0.900 | ok |" in verdict.table


def test_better_than_stored_is_said_and_no_fault() -> None:
    verdict = judge([OWN], {"own_x": 2.6}, {}, peer=True)
    assert verdict.status == 0
    assert verdict.better == ["own_x (x): 2.600, expected 2"]


def test_what_was_not_measured_is_a_fault_with_its_reason() -> None:
    verdict = judge([OWN, PEER], {}, {"own_x": "it broke"}, peer=True)
    assert (verdict.word, verdict.status) == ("INCOMPLETE", 2)
    assert verdict.missing == ["own_x (x): not measured: it broke", "peer_y (y): not measured: nobody measures it"]


def test_without_a_peer_only_own_figures_count() -> None:
    verdict = judge([OWN, PEER], {"own_x": 2.0}, {}, peer=False)
    assert verdict.status == 0
    assert "peer_y" not in verdict.table


def test_every_stored_figure_is_measured_by_one_step() -> None:
    measured = [key for _, keys in quick.STEPS for key in keys]
    assert sorted(measured) == sorted(one.key for one in read())
    assert all(one.peer == one.key.startswith("peer_") for one in read())


@pytest.mark.parametrize(
    "text",
    [
        "[a]\nwhat = 'x'\nexpected = 1.0",
        "[a]\nwhat = 'x'\nexpected = 0.0\ntolerance = 0.1",
        "[a]\nwhat = 'x'\nexpected = 1.0\ntolerance = 1.0",
        "[a]\nwhat = 'x'\nexpected = 1.0\ntolerance = 0.1\npeers = true",
    ],
)
def test_an_entry_that_says_nothing_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text(text)
    with pytest.raises(ValueError, match="a: what, expected"):
        read(tmp_path / "quick.toml")


async def test_a_step_that_fails_leaves_its_reason_and_the_others_go_on(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(run: quick.Quick) -> None:
        raise LoadError("no answer")

    async def fine(run: quick.Quick) -> None:
        run.figures["own_b"] = 1.5

    async def slow(run: quick.Quick) -> None:
        await trio.sleep(1000)

    steps = ((broken, ("own_a", "peer_a")), (fine, ("own_b",)), (slow, ("own_c",)), (fine, ("own_d",)))
    monkeypatch.setattr(quick, "STEPS", steps)
    run = quick.Quick(Path("model"), None, 2, 1)
    await run.run()
    assert run.figures == {"own_b": 1.5}
    late = f"the time was over ({quick.LIMIT:g} s)"
    assert {key: run.failures[key] for key in ("own_a", "own_c", "own_d")} == {
        "own_a": "no answer",
        "own_c": late,
        "own_d": late,
    }
    assert "own_b 1.500" in capsys.readouterr().err


def test_the_exit_status_is_the_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def measured(run: quick.Quick) -> None:
        run.figures |= {one.key: one.expected * 0.1 if one.key == "own_batch" else one.expected for one in read()}

    monkeypatch.setattr(quick.Quick, "run", measured)
    assert quick.main(["--model", "m", "--no-peer"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("out of range: own_batch (")
    assert "quick: REGRESSION" in said.out
    assert "peer_" not in said.out


def test_the_script_runs_the_command() -> None:
    script = STORED.with_name("quick")
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert 'tools.bench quick "$@"' in script.read_text(encoding="utf-8")
