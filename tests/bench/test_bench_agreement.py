"""The report about texts with drafts: what is equal, what is a tie, what is wrong."""

from engine.text.events import Finished, FinishReason, Timings
from engine.text.requests import TokenInfo, TokenProb
from tests.live.agreement import Outcome, Tie
from tools.bench.agreement import Report, prompts


def outcome(tokens: list[int], *, second: int = 9, gap: float = 2.0, drafted: int = 0, right: int = 0) -> Outcome:
    """A text whose best tokens are its own, and whose second best is ``second``, ``gap`` below, everywhere."""

    def info(token: int) -> TokenInfo:
        other = TokenProb(token=second, piece=b"", logprob=-1.0 - gap)
        best = TokenProb(token=token, piece=b"", logprob=-1.0)
        return TokenInfo(token=token, piece=b"", logprob=-1.0, top=(best, other))

    timings = Timings(draft_n=drafted, draft_n_accepted=right)
    end = Finished(
        reason=FinishReason.LIMIT, stopping_word="", text="", tokens=(), slot=0, timings=timings, truncated=False
    )
    return Outcome(tokens, [info(token) for token in tokens], end)


def test_texts_are_equal_part_at_a_tie_or_are_wrong() -> None:
    plain = [
        outcome([1, 2, 3]),
        outcome([1, 2, 3], gap=0.1),
        outcome([1, 2, 3]),
        outcome([1, 2, 3], gap=0.1),
        outcome([1, 2, 3]),
    ]
    drafted = [
        outcome([1, 2, 3], drafted=4, right=3),
        outcome([1, 9, 7], drafted=1),
        outcome([1, 9, 3]),
        outcome([1, 8, 3]),
        outcome([1, 2]),
    ]
    report = Report.of(plain, drafted)
    assert report.n_equal == 1
    assert [(tie.at, round(tie.gap, 3)) for tie in report.ties] == [(1, 0.1)]
    assert [line.split(":")[0] for line in report.wrong] == ["prompt 2", "prompt 3", "prompt 4"]
    assert ["no tie" in report.wrong[0], "best two" in report.wrong[1], "longer" in report.wrong[2]] == [True] * 3
    assert (report.n_drafted, report.n_right) == (5, 3)
    assert report.line("x").startswith("x: 1 equal, 1 part at a tie (widest gap 0.10), 3 wrong; 3 of 5 drafted")


def test_no_ties_no_gap() -> None:
    assert Report(n_equal=1, ties=[], wrong=[], n_drafted=0, n_right=0).line("x").count("gap 0.00") == 1
    assert Report(n_equal=0, ties=[Tie(3, 0.5)], wrong=[], n_drafted=0, n_right=0).line("x").count("gap 0.50") == 1


def test_no_two_prompts_are_alike() -> None:
    assert len(set(prompts(50))) == 50
    assert max(map(len, prompts(50))) < 200
