"""The simulation: costs, traces, what it reports, and that it reports the same again."""

import sys

import pytest

from engine.text.plan import Limits
from tools.bench import simulate
from tools.bench.simulation import growth
from tools.bench.simulation.cost import CostModel, fit, parse_point
from tools.bench.simulation.run import Measured, Simulation
from tools.bench.simulation.traces import KINDS, N_VOCAB, Conversation, Turn, conversations

SMALL = Limits(n_slots=4, n_cells=20_000, n_ctx_slot=8_000, n_batch=512, n_seqs=12, n_vocab=N_VOCAB, can_shift=False)


def run(trace: list[Conversation], cost: CostModel, limits: Limits = SMALL) -> Measured:
    return Simulation(limits, cost, trace, 0.150).run()


def test_a_fit_finds_the_costs_behind_the_points() -> None:
    cost = CostModel(fixed=5e-3, token=2e-4, cell=3e-8, pair=4e-9)
    points = [(n, c, cost.seconds(n, c)) for n in (1, 64, 512) for c in (100, 5_000, 90_000)]
    found = fit(points)
    assert found.seconds(200, 30_000) == pytest.approx(cost.seconds(200, 30_000), rel=1e-6)
    assert found.pair == pytest.approx(cost.pair, rel=1e-4)


def test_a_fit_has_no_negative_costs() -> None:
    # A step that is cheaper with more cells: what little the cells seem to save is left out.
    points = [(n, c, 1e-3 + 1e-4 * n - 1e-9 * c) for n in (1, 10, 100) for c in (10, 1_000, 10_000)]
    found = fit(points)
    assert found.cell == 0.0
    assert min(found.fixed, found.token, found.pair) >= 0
    assert found.token == pytest.approx(1e-4, rel=0.01)


@pytest.mark.parametrize(
    "points", [[(1, 1, 1.0)] * 3, [(1, c, 1.0) for c in (1, 2, 3, 4)], [(n, 9, 1.0) for n in range(1, 6)]]
)
def test_points_that_do_not_tell_are_refused(points: list[tuple[int, int, float]]) -> None:
    with pytest.raises(ValueError, match="points"):
        fit(points)


@pytest.mark.parametrize("text", ["1,2", "0,1,1", "1,-1,1", "1,1,0", "1,1,nan", "1,1,inf", "a,1,1"])
def test_a_point_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_point(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_has_so_many_turns_and_is_the_same_for_the_same_seed(kind: str) -> None:
    trace = conversations(kind, 50, 10.0, 32, seed=7)
    assert sum(len(conversation.turns) for conversation in trace) == 50
    assert trace == conversations(kind, 50, 10.0, 32, seed=7)
    assert trace != conversations(kind, 50, 10.0, 32, seed=8)
    starts = [conversation.start for conversation in trace]
    assert starts == sorted(starts)
    assert starts[0] == 0.0


def test_conversations_share_their_openings_and_nothing_else() -> None:
    one, other = Conversation(0.0, 1, ((5, 40),), ()), Conversation(0.0, 2, ((5, 40), (6, 10)), ())
    assert len(one.opening()) == 40
    assert other.opening()[:40] == one.opening()
    assert len(other.opening()) == 50


def test_virtual_time_is_that_of_the_steps() -> None:
    # 100 prompt tokens in one step, then three tokens more: four steps of 1 s, and 10 ms for each token computed.
    trace = [Conversation(2.0, 1, (), (Turn(100, 4, 0.0),))]
    found = run(trace, CostModel(fixed=1.0, token=0.01))
    assert list(found.ttft) == [pytest.approx(2.0)]
    assert list(found.gaps) == [pytest.approx(1.01)] * 3
    assert found.seconds == pytest.approx(2.0 + 2.0 + 3 * 1.01)
    assert (found.n_prompt, found.n_cached, found.n_output, found.n_computed) == (100, 0, 4, 103)
    assert len(found.running) == len(found.scheduler_ns) == len(found.loop_ns) == 4


def test_cells_in_use_cost() -> None:
    trace = [Conversation(0.0, 1, (), (Turn(100, 2, 0.0),))]
    found = run(trace, CostModel(fixed=0.0, cell=1.0))
    assert list(found.ttft) == [pytest.approx(100.0)]
    assert list(found.gaps) == [pytest.approx(101.0)]


def test_a_second_turn_starts_from_the_first_and_comes_after_its_pause() -> None:
    trace = [Conversation(0.0, 1, (), (Turn(100, 10, 5.0), Turn(20, 1, 0.0)))]
    found = run(trace, CostModel(fixed=1.0))
    assert found.n_prompt == 100 + 130
    # Of the first turn all is cached but its last token, which was never computed.
    assert found.n_cached == 109
    assert found.seconds == pytest.approx(10 + 5 + 1)


def test_the_idle_age_follows_from_the_costs_unless_it_is_given() -> None:
    trace = conversations("chat", 60, 2.0, 16, seed=2)
    cost = CostModel(fixed=1e-3, token=1e-3, pair=1e-7)
    measured, given = Simulation(SMALL, cost, trace, 0.150), Simulation(SMALL, cost, trace, 0.150, idle_age=300)
    measured.run()
    given.run()
    # 10,000 tokens are computed until a cell has cost one; of that the rule takes 0.58, and what is asked for again.
    share = measured.scheduler.cache.returns.share
    assert measured.scheduler.idle_age == pytest.approx(5820 * share, rel=0.15)
    assert given.scheduler.idle_age == 300
    assert max(given.measured.cells) < max(measured.measured.cells)


def test_a_conversation_that_outgrows_its_slot_is_cut() -> None:
    turns = (Turn(100, 10, 0.0), Turn(8_000, 10, 0.0), Turn(1, 1, 0.0))
    found = run([Conversation(0.0, 1, (), turns)], CostModel(fixed=1.0))
    assert (found.n_requests, found.n_cut) == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_trace_gives_the_same_figures(kind: str) -> None:
    one, other = (
        run(conversations(kind, 40, 20_000.0, 8, seed=3), CostModel(fixed=0.5, token=1e-5, pair=1e-9)) for _ in range(2)
    )
    assert one.n_requests + one.n_cut == 40
    assert one.n_cached > 0
    assert max(one.running) > 2  # some ran side by side
    for name in ("seconds", "n_prompt", "n_cached", "n_output", "n_computed", "n_preempted", "ttft", "gaps", "running"):
        assert getattr(one, name) == getattr(other, name), name


def test_growth_has_a_row_for_each_size() -> None:
    rows = growth.measure([2_048, 4_096], [64, 256], repeats=2)
    assert [row.cached for row in rows] == [2_048, 4_096]
    assert all(set(row.microseconds) == {64, 256} and min(row.microseconds.values()) > 0 for row in rows)


def test_decode_steps_are_measured_where_all_decode() -> None:
    samples = growth.decode_steps(3, repeats=4)
    assert len(samples) == 4
    assert min(samples) > 0


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--requests",
        "12",
        "--traces",
        "chat",
        "rag",
        "--slots",
        "4",
        "--cells",
        "20000",
        "--slot-context",
        "6000",
    ]
    assert simulate.main([*arguments, "--rate", "1000", "--output", "4", "--growth", "2048"]) == 0
    out = capsys.readouterr().out
    assert "4 slots, 28 sequences, 20,000 cells" in out
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines] == [
        "| virtual time", "| ---", "| chat", "| rag", "| real time", "| ---", "| chat", "| rag",
        "| cached tokens", "| ---", "| 2,048",
    ]  # fmt: skip


def test_points_take_the_place_of_a_machine(capsys: pytest.CaptureFixture[str]) -> None:
    points = [f"{n},{c},{0.01 + 1e-4 * n}" for n in (1, 50) for c in (10, 1000)]
    arguments = [part for point in points for part in ("--point", point)]
    assert simulate.main([*arguments, "--requests", "2", "--traces", "rag", "--output", "2", "--growth"]) == 0
    assert "fitted: 10 ms a step + 100 µs a token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--point", "1,1,1"], "4 points"),
        (["--slots", "8", "--sequences", "4"], "as many sequences"),
        (["--slots", "64", "--batch", "32"], "too small"),
        (["--rate", "0"], "--rate"),
        (["--growth", "5"], "--growth"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        simulate.main(arguments)
    assert exit_.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_plot_without_matplotlib_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit):
        simulate.main(["--plot", "curves.png"])
    assert "--group bench" in capsys.readouterr().err
