"""How probable the tokens of a prompt are, through the loop on the fake backend."""

import pytest

from engine.errors import InvalidRequest
from engine.text.backend import DecodeStatus, Run
from engine.text.events import Finished, PrefillProgress
from engine.text.requests import SamplingParams, TokenInfo
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import EOG, FakeBackend, FakeVocab, continuation, next_token
from tests.engine.test_media import chunk, request

PROMPT = "once upon a time in a far away land"
LOGPROBS = SamplingParams(logprobs=True)


def expected(prompt: str) -> list[tuple[int, float]]:
    """Each token with its logarithm; of the first nothing is known."""
    tokens = list(prompt.encode())
    away = [(next_token(tokens[:end]) - tokens[end]) % FakeVocab.n_vocab for end in range(1, len(tokens))]
    return [(token, -float(n)) for token, n in zip(tokens, [0, *away], strict=True)]


def told(box: Box) -> list[tuple[int, float]]:
    """All came at once, in the first event that is no progress."""
    first, *rest = [event for event in box.events if not isinstance(event, PrefillProgress)]
    assert not any(event.prompt_infos for event in rest)
    return [(info.token, info.logprob) for info in first.prompt_infos]


def score(driver: Driver, name: str, prompt: str = PROMPT, max_tokens: int = 3, **fields: object) -> Box:
    return driver.ask(name, prompt, max_tokens, score_prompt=True, sampling=LOGPROBS, **fields)


def whole(box: Box, prompt: str = PROMPT, max_tokens: int = 3) -> bool:
    return told(box) == expected(prompt) and box.tokens == continuation(prompt.encode(), max_tokens)


@pytest.mark.parametrize("n_batch", [1, 2, 5, 34, 35, 36, 64])
@pytest.mark.parametrize("kv_unified", [True, False])
def test_each_token_has_its_own_whatever_the_batches(n_batch: int, kv_unified: bool) -> None:
    driver = Driver(FakeBackend(n_batch=n_batch, n_slots=1, kv_unified=kv_unified))
    box = score(driver, "a")
    driver.finish()
    assert whole(box)
    driver.check_idle()


@pytest.mark.parametrize("prompt", ["x", "xy"])
def test_the_first_token_follows_on_nothing(prompt: str) -> None:
    driver = Driver()
    box = score(driver, "a", prompt)
    driver.finish()
    assert whole(box, prompt)
    first = box.events[0]
    assert first.prompt_infos[0] == TokenInfo(token=ord("x"), piece=b"x", logprob=0.0)


def test_a_prompt_may_be_all_that_is_wanted() -> None:
    driver = Driver()
    box = score(driver, "a", max_tokens=0)
    driver.finish()
    assert [type(event) for event in box.events] == [Finished]
    assert whole(box, max_tokens=0)


def test_the_token_that_ends_it_has_its_entry_too() -> None:
    driver = Driver()
    driver.backend.choose = lambda history: EOG if len(history) == len(PROMPT) else next_token(history)
    scored, plain = score(driver, "a"), driver.ask("b", PROMPT, 3, sampling=LOGPROBS)
    driver.finish()
    assert told(scored) == expected(PROMPT)
    assert [info.token for info in scored.finished().infos] == [EOG]
    assert scored.finished().text == plain.finished().text == ""
    assert not plain.finished().infos


def test_what_is_cached_is_computed_again_and_left_for_others() -> None:
    driver = Driver()
    for name in "ab":
        box = score(driver, name)
        driver.finish()
        assert box.finished().timings.cache_n == 0
        assert whole(box)
    box = driver.ask("c", PROMPT + "!", 1)
    driver.finish()
    assert box.finished().timings.cache_n == len(PROMPT)
    driver.check_idle()


def test_nobody_is_waited_for_who_computes_the_same() -> None:
    driver = Driver(FakeBackend(n_batch=8, n_slots=2))
    first, second = driver.ask("first", PROMPT, 3), score(driver, "second")
    driver.finish()
    assert first.tokens == continuation(PROMPT.encode(), 3)
    assert second.finished().timings.cache_n == 0
    assert whole(second)


def test_states_in_memory_are_left_where_they_are() -> None:
    backend = FakeBackend(can_shift=False, cuts=False)
    driver = Driver(backend, kept_bytes=1 << 20, can_reuse=False, can_cut=False)
    for name in "ab":
        box = score(driver, name)
        driver.finish()
        assert whole(box)


def test_host_memory_is_not_asked() -> None:
    driver = Driver(FakeBackend(n_cells=64, n_ctx_slot=64, n_slots=1), host_bytes=1 << 20)
    for prompt in (PROMPT, "something else that takes all of the cells", PROMPT):
        box = score(driver, prompt[:3] + str(len(driver.boxes)), prompt)
        driver.finish()
        assert whole(box, prompt)
    assert driver.loop.stats.host_restored_total == 0


def test_no_chunks_of_older_prompts_are_moved_there() -> None:
    driver = Driver(FakeBackend(n_slots=1), reuse_chunk=4)
    driver.ask("a", "xxx" + PROMPT, 1)
    driver.finish()
    box = score(driver, "b", "yy" + PROMPT)
    driver.finish()
    assert whole(box, "yy" + PROMPT)


def test_streams_run_on_beside_it() -> None:
    driver = Driver(FakeBackend(n_batch=8, n_slots=3))
    streams = [driver.ask(name, name * 5, 20) for name in "xy"]
    driver.steps(3)
    box = score(driver, "a")
    driver.finish()
    assert whole(box)
    for name, stream in zip("xy", streams, strict=True):
        assert stream.tokens == continuation(name.encode() * 5, 20)
        assert not any(event.prompt_infos for event in stream.events)


@pytest.mark.parametrize("at", range(2, 12))
def test_who_gives_way_in_between_is_told_everything_once(at: int) -> None:
    driver = Driver(FakeBackend(n_batch=4, n_slots=2, n_cells=96, n_ctx_slot=64))
    other = driver.ask("other", "hello", 30)
    driver.steps(2)
    box = score(driver, "a")
    driver.steps(at)
    sequence = driver.scheduler.find("a")
    if sequence is not None and sequence.seq is not None:
        driver.scheduler.books.preempt(sequence)
    driver.finish()
    assert whole(box)
    assert other.tokens == continuation(b"hello", 30)
    driver.check_idle()


@pytest.mark.parametrize("cuts", [True, False])
@pytest.mark.parametrize("at", range(1, 6))
def test_an_aborted_step_begins_again(cuts: bool, at: int) -> None:
    backend = FakeBackend(n_batch=10, n_slots=1, cuts=cuts, can_shift=cuts)
    statuses = [DecodeStatus.OK] * (at - 1) + [DecodeStatus.ABORTED]

    def script(runs: list[Run]) -> DecodeStatus:
        return statuses.pop(0) if statuses else DecodeStatus.OK

    backend.script = script
    driver = Driver(backend, **({} if cuts else {"can_reuse": False, "can_cut": False}))
    box = score(driver, "a")
    driver.finish()
    assert whole(box)
    driver.check_idle()


def test_what_it_costs_is_no_measure_for_others() -> None:
    driver = Driver(FakeBackend(n_batch=64, n_slots=1))
    driver.backend.before_decode = lambda runs: driver.clock.on(0.001 * sum(len(run.tokens) for run in runs))
    driver.ask("a", PROMPT, 3)
    driver.finish()
    cost = driver.loop._cost.prefill_token
    driver.backend.before_decode = lambda runs: driver.clock.on(1.0)
    score(driver, "b", max_tokens=0)
    driver.finish()
    assert driver.loop._cost.prefill_token == cost


def test_a_step_takes_no_more_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.text.filling._MOST_SCORED", 7)
    sizes: list[int] = []
    driver = Driver(FakeBackend(n_batch=64, n_slots=1))
    driver.backend.before_decode = lambda runs: sizes.append(len(runs[0].tokens))
    box = score(driver, "a", max_tokens=1)
    driver.finish()
    assert whole(box, max_tokens=1)
    assert max(sizes) == 7


def test_prompts_with_media_are_refused() -> None:
    driver = Driver()
    with pytest.raises(InvalidRequest, match="images or sound"):
        driver.scheduler.validate(request("a", "look ", chunk("1"), "?", score_prompt=True))
