"""The soak: what its clients do, what they complain about, and what counts as a server that swells."""

import json
from pathlib import Path

import attrs
import pytest

from tools.bench import soak
from tools.bench.prompts import Prompts
from tools.bench.soaking.answers import CHAT, COMPLETIONS, Answer, misshapen, request_of
from tools.bench.soaking.flat import Sample, growth, slope, swellings
from tools.bench.soaking.visits import Ask, Leaving, Visit, plan

PROMPTS = Prompts(seed=1, scenario="soak", round=0)
GOOD = json.dumps({"city": "Rome", "unit": "celsius", "days": [1, 7]})


def visit(**changes: object) -> Visit:
    (found, *_) = plan(1, 0, 1.0, 60.0)
    changes = {"ask": Ask.FREE, "leaving": Leaving.AT_END, "choices": 1, "tokens": 10, "stream": True} | changes
    return attrs.evolve(found, **changes)


def chunk(index: int = 0, reason: str | None = None, **delta: object) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def usage(tokens: int) -> dict[str, object]:
    return {"choices": [], "usage": {"completion_tokens": tokens}}


def answer(*bodies: dict[str, object]) -> Answer:
    found = Answer()
    for body in bodies:
        found.take(body)
    return found


def test_a_round_is_the_same_for_the_same_seed_and_another_one_for_another_number() -> None:
    visits = plan(3, 0, 20.0, 30.0)
    assert visits == plan(3, 0, 20.0, 30.0)
    assert visits != plan(4, 0, 20.0, 30.0)
    assert visits != plan(3, 1, 20.0, 30.0)
    assert {what.leaving for what in visits} == set(Leaving)
    assert {what.ask for what in visits} == set(Ask)
    assert {what.choices for what in visits} == {1, 2, 3}
    assert [what.arrives for what in visits] == sorted(what.arrives for what in visits)
    assert 0 < visits[0].arrives <= visits[-1].arrives < 30
    assert 500 < len(visits) < 700
    assert all(what.stream for what in visits if what.leaving in (Leaving.MID_STREAM, Leaving.SLOWLY))


def test_requests_ask_for_what_is_planned() -> None:
    path, body = request_of(visit(ask=Ask.SCHEMA, stream=False), PROMPTS)
    assert (path, "stream" in body, body["response_format"]["type"]) == (CHAT, False, "json_schema")
    assert request_of(visit(ask=Ask.TOOLS), PROMPTS)[1]["tool_choice"] == "required"
    assert request_of(visit(ask=Ask.GRAMMAR), PROMPTS)[0] == COMPLETIONS
    assert request_of(visit(ask=Ask.SEVERAL, choices=3), PROMPTS)[1]["n"] == 3
    assert request_of(visit(leaving=Leaving.SLOWLY), PROMPTS)[1]["top_logprobs"] == 20


def test_a_group_has_one_prompt_in_all_rounds_and_others_have_their_own() -> None:
    def system(number: int, **changes: object) -> str:
        _, body = request_of(visit(**changes), attrs.evolve(PROMPTS, round=number))
        return body["messages"][0]["content"]

    assert system(0, group=2, name="0.1") == system(5, group=2, name="5.7")
    assert system(0, group=2) != system(0, group=3)
    assert system(0, group=None, name="0.1") != system(0, group=None, name="0.2")


def test_a_whole_answer_is_no_reason_to_complain() -> None:
    streamed = answer(chunk(content="a"), chunk(content="b"), chunk(reason="length"), usage(10))
    assert streamed.complaints(visit()) == []
    whole = {
        "choices": [{"index": i, "message": {"content": GOOD}, "finish_reason": "stop"} for i in range(2)],
        "usage": {"completion_tokens": 20},
    }
    assert answer(whole).complaints(visit(ask=Ask.SCHEMA, choices=2)) == []
    text = {"choices": [{"index": 0, "text": "<a-b>", "finish_reason": "stop"}]}
    assert answer(text, usage(3)).complaints(visit(ask=Ask.GRAMMAR)) == []


@pytest.mark.parametrize(
    ("bodies", "changes", "complaint"),
    [
        ([chunk(content="a"), usage(1)], {}, "1 choices were asked for, [] ended"),
        ([chunk(reason="stop"), usage(1)], {"choices": 2}, "2 choices were asked for, [0] ended"),
        ([chunk(reason="stop"), chunk(reason="stop"), usage(1)], {}, "choice 0 ended twice"),
        ([chunk(reason="error"), usage(1)], {}, "finish_reason 'error'"),
        ([chunk(reason="stop")], {}, "None tokens"),
        ([chunk(reason="length"), usage(11)], {}, "11 tokens, at most 10"),
        ([{"error": {"message": "no"}}], {}, "an error came"),
        ([chunk(content="{", reason="stop"), usage(1)], {"ask": Ask.SCHEMA}, "choice 0: no JSON"),
        ([chunk(content="<A>", reason="stop"), usage(1)], {"ask": Ask.GRAMMAR}, "not by the grammar"),
        ([chunk(content="x", reason="tool_calls"), usage(1)], {"ask": Ask.TOOLS}, "choice 0: no JSON"),
    ],
)
def test_what_is_wrong_is_said(bodies: list[dict[str, object]], changes: dict[str, object], complaint: str) -> None:
    assert complaint in "; ".join(answer(*bodies).complaints(visit(**changes)))


def test_an_answer_that_was_cut_needs_no_shape() -> None:
    cut = answer(chunk(content='{"ci', reason="length"), usage(10))
    assert cut.complaints(visit(ask=Ask.SCHEMA)) == []


def test_arguments_of_a_call_are_joined() -> None:
    calls = [chunk(tool_calls=[{"index": 0, "function": {"arguments": part}}]) for part in (GOOD[:5], GOOD[5:])]
    assert answer(*calls, chunk(reason="tool_calls"), usage(9)).complaints(visit(ask=Ask.TOOLS)) == []


@pytest.mark.parametrize("broken", ["[]", '{"city": "Rome"}', GOOD.replace("Rome", "Bonn"), GOOD.replace("7", "8")])
def test_json_of_another_shape(broken: str) -> None:
    assert misshapen(broken).startswith("not by the schema")
    assert misshapen(GOOD) == ""


# --- what a server holds ---


def rounds(*memory: float, threads: int = 9, files: int = 20) -> list[Sample]:
    return [Sample(seconds=60.0 * i, memory=m, threads=threads, files=files) for i, m in enumerate(memory)]


def test_a_trend_is_found_through_noise_and_outliers() -> None:
    assert slope(rounds(100, 101, 99, 100, 140, 100, 101)) == pytest.approx(0, abs=1 / 60)
    assert slope(rounds(100, 110, 121, 90, 140, 150)) == pytest.approx(10 / 60, rel=0.1)


def test_growth_in_the_warm_up_is_none() -> None:
    warm = rounds(100, 300, 500, 510, 511, 510, 509, 511, 510)
    assert growth(warm) == pytest.approx(0, abs=2)
    assert swellings(warm) == []


def test_memory_that_grows_is_a_fault() -> None:
    leaking = rounds(*(300 + 3 * n for n in range(12)))
    assert growth(leaking) == pytest.approx(21)
    assert swellings(leaking) == ["memory grew by 21.0 MB after the warm-up, 8.0 are allowed"]


def test_few_rounds_tell_nothing() -> None:
    assert growth(rounds(100, 200, 300, 400)) is None
    assert swellings(rounds(100, 200, 300, 400)) == []


def test_threads_and_files_that_stay_are_a_fault() -> None:
    flat = rounds(*[100.0] * 9)
    assert swellings(flat) == []
    more = [attrs.evolve(s, threads=9 + 2 * i, files=20 + i) for i, s in enumerate(flat)]
    assert [line.split(":")[0] for line in swellings(more)] == ["threads", "files"]
    burst = [*flat[:-1], attrs.evolve(flat[-1], threads=40)]
    assert swellings(burst) == [], "a pool that was busy a moment ago"


def test_books_must_have_been_checked() -> None:
    assert soak.checks("INFO the KV books agreed with the library's in 12 checks") == []
    assert soak.checks("INFO the KV books agreed with the library's in 0 checks") != []
    assert soak.checks("nothing") != []


def test_a_server_of_its_own_checks_its_books(tmp_path: Path) -> None:
    args = soak.parse(["--model", str(tmp_path)])
    assert args.command.endswith("-m tools.bench.soaking.checked")
    assert (args.rate, soak.parse(["--tiny"]).rate) == (1.7, 20.0)
    with pytest.raises(SystemExit):
        soak.parse(["--model", "m", "--rate", "0"])
