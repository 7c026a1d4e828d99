"""The engine loop, stepped by hand: what a request sees from its submission to its one terminal event."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ContextExceeded, EngineUnavailable, InvalidRequest
from engine.text.commands import Resume, Stop
from engine.text.events import FinishReason, PrefillProgress, Tokens
from engine.text.loop import QUIET
from engine.text.requests import SamplingParams
from tests.engine.driver import Driver, reference, text_of
from tests.engine.fake_backend import EOG, FakeBackend, continuation
from tests.engine.test_detokenizer import every_split, splits

PROMPT = "hello"


def say(driver: Driver, pieces: list[bytes], *, end: bool = True) -> None:
    driver.backend.say(len(PROMPT), pieces, end=end)


# --- ends ---


def test_a_generation_ends_at_its_limit() -> None:
    driver = Driver()
    box = driver.ask("a", PROMPT, 5)
    driver.finish()
    end = box.finished()
    assert (end.reason, end.stopping_word, end.truncated) == (FinishReason.LIMIT, "", False)
    assert box.tokens == continuation(list(PROMPT.encode()), 5)
    assert box.text == text_of(box.tokens)
    assert (end.timings.cache_n, end.timings.prompt_n, end.timings.predicted_n) == (0, 5, 5)
    driver.check_idle()


def test_each_token_is_told_in_the_step_that_made_it() -> None:
    driver = Driver()
    box = driver.ask("a", PROMPT, 4)
    for count in range(1, 4):
        driver.step()
        assert [type(e) for e in box.events] == [Tokens] * count
    driver.step()
    assert box.finished().tokens == tuple(box.tokens[-1:])
    assert driver.batches == [1, 1, 1, 1], "all events of a step at once"


def test_the_model_ends_the_generation_and_its_end_token_is_no_text() -> None:
    driver = Driver()
    say(driver, [b"one", b" two"])
    box = driver.ask("a", PROMPT, 50, special=True)
    driver.finish()
    assert box.finished().reason is FinishReason.EOS
    assert (box.text, box.tokens) == ("one two", [0, 1])
    assert EOG not in box.tokens
    driver.check_idle()


def test_the_end_token_may_come_first() -> None:
    driver = Driver()
    say(driver, [])
    box = driver.ask("a", PROMPT, 50)
    driver.finish()
    assert box.finished().reason is FinishReason.EOS
    assert (box.text, len(box.events)) == ("", 1)


@pytest.mark.parametrize("can_shift", [True, False])
def test_a_full_context_is_a_limit_with_the_truncated_flag(can_shift: bool) -> None:
    driver = Driver(FakeBackend(n_cells=24, n_slots=1, can_shift=can_shift))
    box = driver.ask("a", PROMPT, None, until_context_full=can_shift)
    driver.finish()
    end = box.finished()
    assert (end.reason, end.truncated) == (FinishReason.LIMIT, True)
    assert len(box.tokens) == 24 - len(PROMPT) + 1
    driver.check_idle()


def test_a_shifted_context_is_told_too() -> None:
    driver = Driver(FakeBackend(n_cells=24, n_slots=1))
    box = driver.ask("a", PROMPT, 40)
    driver.step()
    request = driver.scheduler.running[0].request
    driver.finish()
    assert box.finished().truncated
    assert box.tokens == reference(request, driver.scheduler.limits).tokens


def test_a_time_limit_ends_the_generation_at_a_line_end() -> None:
    driver = Driver()
    say(driver, [b"a", b"\n", b"b", b"c", b"\n", b"d"])
    driver.backend.before_decode = lambda runs: setattr(driver.clock, "now", driver.clock.now + 1)
    box = driver.ask("a", PROMPT, 50, t_max_predict_ms=2500)
    driver.finish()
    assert box.finished().reason is FinishReason.LIMIT
    assert box.text == "a\nbc\n"


# --- text ---


@given(st.data(), st.text("ab<>é€", max_size=10), st.lists(st.sampled_from(["<>", "ba", "€", "aaa"]), unique=True))
def test_stop_strings_end_the_text_wherever_tokens_end(data: st.DataObject, text: str, stops: list[str]) -> None:
    driver = Driver()
    say(driver, data.draw(splits(text.encode())))
    box = driver.ask("a", PROMPT, 50, stop=tuple(stops))
    driver.finish()
    at = min((text.find(s) for s in stops if s in text), default=None)
    end = box.finished()
    assert box.text == (text if at is None else text[:at])
    assert end.reason is (FinishReason.EOS if at is None else FinishReason.WORD)
    assert end.stopping_word == ("" if at is None else next(s for s in stops if text.startswith(s, at)))
    driver.check_idle()


def test_one_stop_string_under_every_split() -> None:
    for pieces in every_split("aé<END>b".encode()):
        driver = Driver()
        say(driver, pieces)
        box = driver.ask("a", PROMPT, 50, stop=("<END>",))
        driver.finish()
        assert box.text == "aé"
        assert box.finished().reason is FinishReason.WORD


def test_what_might_have_become_a_stop_string_comes_with_the_end() -> None:
    driver = Driver()
    say(driver, [b"a<", b"E", b"N"])
    box = driver.ask("a", PROMPT, 50, stop=("<END>",))
    driver.finish()
    assert [e.text for e in box.events if isinstance(e, Tokens)] == ["a"]
    end = box.finished()
    assert (end.text, end.tokens) == ("<EN", (0, 1, 2))


def test_every_token_is_told_once_with_the_event_that_completes_its_text() -> None:
    driver = Driver()
    euro = "€".encode()
    say(driver, [b"x", euro[:1], euro[1:2], euro[2:], b"", b"y"])
    box = driver.ask("a", PROMPT, 50)
    driver.finish()
    assert box.text == "x€y"
    assert box.tokens == [0, 1, 2, 3, 4, 5]


def test_infos_come_with_their_tokens() -> None:
    driver = Driver()
    say(driver, [b"a", b"<", b"b", b"<", b"E", b"c"])
    box = driver.ask("a", PROMPT, 50, stop=("<E>",), sampling=SamplingParams(logprobs=True))
    plain = driver.ask("b", PROMPT, 50)
    driver.finish()
    told = [e for e in box.events if isinstance(e, Tokens)] + [box.finished()]
    assert all([i.token for i in e.infos] == list(e.tokens) for e in told)
    assert sum(len(e.infos) for e in told) == 6
    assert all(not e.infos for e in plain.events if isinstance(e, Tokens))


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([b"a", b"b<E>"], 2),
        ([b"a", b"b<", b"E>c"], 2),
        ([b"ab<E>c"], 1),
        ([b"ab", b"<E>"], 1),
        ([b"ab", b"<", b"E", b">c"], 1),
        ([b"ab", b"\xe2", b"\x82\xac<E>"], 3),
    ],
)
def test_a_token_whose_beginning_is_shown_before_a_stop_string_is_told(pieces: list[bytes], shown: int) -> None:
    driver = Driver()
    say(driver, pieces)
    box = driver.ask("a", PROMPT, 50, stop=("<E>",), sampling=SamplingParams(logprobs=True))
    driver.finish()
    assert box.text in ("ab", "ab\u20ac")
    assert box.tokens == [*range(shown)]
    assert len(box.finished().infos) == len(box.finished().tokens)


def test_a_line_with_too_little_indentation_ends_the_text_before_it() -> None:
    driver = Driver()
    say(driver, [b"a\n", b"    b\n", b"  c", b"d"])
    box = driver.ask("a", PROMPT, 50, n_indent=4)
    driver.finish()
    assert box.finished().reason is FinishReason.LIMIT
    assert box.text == "a\n    b\n"


def test_nothing_of_an_outdented_line_comes_with_the_end() -> None:
    driver = Driver()
    say(driver, [b"a\n", b"b<", b"c"])
    box = driver.ask("a", PROMPT, 50, n_indent=4, stop=("<END>",))
    driver.finish()
    assert box.text == "a\n", "what was held back for the stop string is behind the cut"


@pytest.mark.parametrize("pieces", [[b"a\n", b"bc<END>"], [b"a\n", b"b", b"<END>"]])
def test_a_stop_string_does_not_save_an_outdented_line(pieces: list[bytes]) -> None:
    driver = Driver()
    say(driver, pieces)
    box = driver.ask("a", PROMPT, 50, n_indent=4, stop=("<END>",))
    driver.finish()
    assert box.text == "a\n"


# --- beginnings ---


def test_what_is_refused_fails_at_once_with_the_reason() -> None:
    driver = Driver()
    box = driver.ask("large", "x" * 64)
    driver.step()
    error = box.failed().error
    assert isinstance(error, ContextExceeded)
    assert (error.n_prompt_tokens, error.n_ctx) == (64, 64)
    assert driver.backend.samplers[0].closed
    assert driver.backend.n_decodes == 0


def test_sampling_that_the_library_refuses_fails_its_request_alone() -> None:
    driver = Driver()
    create = driver.backend.create_sampler

    def refuse(params: SamplingParams) -> object:
        if params.top_k == 7:
            raise InvalidRequest("not this one", "top_k")
        return create(params)

    driver.backend.create_sampler = refuse  # type: ignore[method-assign, assignment]
    bad = driver.ask("bad", PROMPT, 3, sampling=SamplingParams(top_k=7))
    good = driver.ask("good", PROMPT, 3)
    driver.finish()
    assert (str(bad.failed().error), bad.failed().error.param) == ("not this one", "top_k")
    assert good.tokens == continuation(list(PROMPT.encode()), 3)


def test_the_sampler_has_seen_the_prompt_and_what_it_drew() -> None:
    driver = Driver(FakeBackend(n_batch=4))
    box = driver.ask("a", PROMPT, 3)
    driver.finish()
    assert driver.backend.samplers[0].seen == list(PROMPT.encode()) + box.tokens


def test_progress_is_told_for_each_part_of_a_prompt() -> None:
    driver = Driver(FakeBackend(n_batch=8))
    driver.ask("first", "p" * 10, 1)
    driver.finish()
    box = driver.ask("a", "p" * 10 + "q" * 20, 2, report_progress=True)
    quiet = driver.ask("b", "r" * 20, 2)
    driver.finish()
    told = [e for e in box.events if isinstance(e, PrefillProgress)]
    assert [e.processed for e in told] == [18, 26, 30]
    assert {(e.total, e.cache) for e in told} == {(30, 10)}
    assert box.events[: len(told)] == told, "all of it before the first token"
    assert not any(isinstance(e, PrefillProgress) for e in quiet.events)


def priced(driver: Driver) -> list[list[int]]:
    """The sizes of the runs of each batch, as they come; a step takes 10 ms and 1 ms for each token of a prompt."""
    batches: list[list[int]] = []

    def count(runs: list) -> None:
        batches.append([len(run.tokens) for run in runs])
        driver.clock.now += 0.010 + 0.001 * sum(n for n in batches[-1] if n > 1)

    driver.backend.before_decode = count
    return batches


def test_the_prefill_share_of_a_step_follows_from_what_steps_cost() -> None:
    driver = Driver(FakeBackend(n_cells=512, n_ctx_slot=512), step_target=0.030)
    batches = priced(driver)
    driver.ask("a", PROMPT, 400)
    driver.steps(30)
    driver.ask("b", "b" * 200, 4)
    driver.steps(3)
    assert batches[30][:1] == [1]
    assert 16 <= batches[30][1] < 64, "the stream goes on beside it"
    driver.steps(5)
    assert all(len(b) == 2 and 0.010 + 0.001 * b[1] <= 0.030 + 0.001 for b in batches[31:38])


@pytest.mark.parametrize(("n_waiting", "longest"), [(1, 0.030), (3, 0.090), (4, 0.120), (7, 0.120)])
def test_steps_are_longer_where_more_wait_for_a_first_token_than_run(n_waiting: int, longest: float) -> None:
    driver = Driver(FakeBackend(n_cells=4096, n_ctx_slot=512, n_slots=8, n_batch=256), step_target=0.030)
    batches = priced(driver)
    driver.ask("a", PROMPT, 400)
    driver.steps(30)
    driver.ask("first", "z" * 450, 1)  # what a token costs is known from here on
    driver.steps(35)
    del batches[:]
    for waiting in range(n_waiting):
        driver.ask(f"b{waiting}", str(waiting) * 400, 4)
    driver.steps(3)  # the first of them does not know yet how many there are
    taken = [0.010 + 0.001 * sum(batch[1:]) for batch in batches[1:]]
    assert taken == [pytest.approx(longest, rel=0.15)] * 2


# --- figures ---


def test_the_counters_add_up() -> None:
    driver = Driver(FakeBackend(n_batch=64))
    prompt = "p" * 20
    driver.ask("a", prompt, 4)
    driver.finish()
    driver.ask("b", prompt + "b", 3)
    driver.ask("c", "c" * 5, 5)
    driver.finish()
    stats = driver.loop.stats
    assert stats.prompt_tokens_total == 20 + 1 + 5
    assert stats.prompt_cached_tokens_total == 20
    assert stats.tokens_predicted_total == 4 + 3 + 5
    assert stats.decode_total == driver.backend.n_decodes == 4 + 5
    assert stats.busy_slots_total == 4 + 3 + 5
    assert stats.preemptions_total == 0


def test_the_gauges_are_those_of_the_last_step() -> None:
    driver = Driver(FakeBackend(n_cells=64, n_slots=1))
    driver.ask("a", PROMPT, 3)
    driver.ask("b", "other", 3)
    driver.step()
    stats = driver.loop.stats
    assert (stats.kv_cells, stats.kv_cells_used, stats.kv_cells_active) == (64, 5, 5)
    assert (stats.requests_processing, stats.requests_deferred) == (1, 1)
    driver.finish()
    driver.step()
    stats = driver.loop.stats
    assert (stats.kv_cells_used, stats.kv_cells_active) == (14, 0)
    assert (stats.requests_processing, stats.requests_deferred) == (0, 0)


def test_times_are_counted_from_submission_admission_and_first_token() -> None:
    driver = Driver(FakeBackend(n_slots=1))
    driver.backend.before_decode = lambda runs: setattr(driver.clock, "now", driver.clock.now + 1)
    driver.ask("a", PROMPT, 2)
    box = driver.ask("b", "other", 4)
    driver.finish()
    timings = box.finished().timings
    assert timings.queue_ms == pytest.approx(2000)
    assert timings.prompt_ms == pytest.approx(1000)
    assert timings.predicted_ms == pytest.approx(3000)


# --- stop and death ---


def run_with(driver: Driver, command: Callable[[], None]) -> None:
    """Run the loop; ``command`` is called before its third decode."""

    def third(runs: object) -> None:
        if driver.backend.n_decodes == 3:
            command()

    driver.backend.before_decode = third
    driver.loop.run()


def test_a_loop_that_is_asked_nothing_for_a_while_is_tidied_once() -> None:
    driver = Driver()
    for _ in range(2):
        driver.ask("a", "prompt")
        driver.finish()
        asked, tidied = driver.clock.now, [*driver.tidied]
        driver.steps(3)
        assert driver.tidied == [*tidied, asked + QUIET]


def test_stop_fails_what_is_left() -> None:
    driver = Driver(FakeBackend(n_slots=1))
    short, long, waiting = driver.ask("a", PROMPT, 2), driver.ask("b", PROMPT, 20), driver.ask("c", PROMPT, 20)
    run_with(driver, lambda: driver.loop.commands.put(Stop()))
    assert short.finished().reason is FinishReason.LIMIT
    assert len(long.tokens) == 1
    for box in (long, waiting):
        assert isinstance(box.failed().error, EngineUnavailable)
    driver.check_idle()


def test_stop_wakes_an_idle_loop() -> None:
    driver = Driver()
    driver.loop.commands.put(Resume())
    driver.loop.commands.put(Stop())
    driver.loop.run()
    assert driver.batches == []


def test_the_death_of_the_loop_fails_all_and_is_raised() -> None:
    driver = Driver(FakeBackend(n_slots=2))
    boxes = [driver.ask(name, PROMPT, 20) for name in "abc"]

    def die() -> None:
        raise AssertionError("impossible")

    with pytest.raises(AssertionError, match="impossible"):
        run_with(driver, die)
    for box in boxes:
        assert isinstance(box.failed().error, EngineUnavailable)
        assert "impossible" in str(box.failed().error)
    assert all(sampler.closed for sampler in driver.backend.samplers)


def test_the_death_of_the_library_fails_all_even_if_nothing_can_be_cleaned_up() -> None:
    driver = Driver(FakeBackend(n_slots=2))
    boxes = [driver.ask(name, PROMPT, 20, cache_prompt=False) for name in "abc"]

    def broken(*_: object) -> None:
        raise AssertionError("impossible")

    def die() -> None:
        driver.backend.remove = driver.backend.copy = broken
        broken()

    with pytest.raises(AssertionError, match="impossible"):
        run_with(driver, die)
    for box in boxes:
        assert isinstance(box.failed().error, EngineUnavailable)


def test_something_that_is_no_command_is_not_ignored() -> None:
    driver = Driver()
    driver.loop.commands.put("stop")  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="not a command: 'stop'"):
        driver.loop.step()
