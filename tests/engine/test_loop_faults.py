"""The engine loop when requests are cancelled, paused or aborted and when the library fails, at every step."""

from collections.abc import Callable, Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequest, NativeError
from engine.text.backend import DecodeStatus, Run
from engine.text.commands import Cancel
from engine.text.events import FinishReason
from engine.text.loop import ABORT_WORTH
from engine.text.requests import GenerationRequest
from tests.engine.driver import Box, Driver, reference
from tests.engine.fake_backend import FakeBackend, continuation, next_token

SHARED = "abcdefghijklmnopqrst"
LONG = "x" * 200


def crowd(driver: Driver) -> dict[str, GenerationRequest]:
    """Four requests that share prefixes, wait for slots, shift their contexts and preempt each other."""
    asked = {
        "a": (SHARED, 16),
        "b": (SHARED + "b", 20),
        "c": ("c" * 9, 12),
        "d": (SHARED + "d" * 6, 8),
    }
    requests = {
        key: GenerationRequest(id=key, prompt=list(prompt.encode()), max_tokens=count)
        for key, (prompt, count) in asked.items()
    }
    for request in requests.values():
        driver.submit(request)
    return requests


def crowded(*, kv_unified: bool = True) -> Driver:
    return Driver(FakeBackend(n_cells=52, n_ctx_slot=32, n_slots=3, n_seqs=4, n_batch=8, kv_unified=kv_unified))


def expect_all(driver: Driver, requests: dict[str, GenerationRequest], *, but: Sequence[str] = ()) -> None:
    """Everybody has got exactly what he would have got alone."""
    for key, request in requests.items():
        if key not in but:
            assert driver.boxes[key].finished().reason is FinishReason.LIMIT
            assert driver.boxes[key].tokens == reference(request, driver.scheduler.limits).tokens
    driver.check_idle()


def n_steps(*, kv_unified: bool) -> int:
    driver = crowded(kv_unified=kv_unified)
    requests = crowd(driver)
    count = 0
    while driver.busy:
        driver.step()
        count += 1
    expect_all(driver, requests)
    assert driver.loop.stats.preemptions_total or not kv_unified, "the crowd is no crowd"
    assert any(driver.boxes[key].finished().truncated for key in requests)
    return count


N_STEPS = {kv_unified: n_steps(kv_unified=kv_unified) for kv_unified in (True, False)}
BOTH = pytest.mark.parametrize("kv_unified", [True, False], ids=["unified", "streams"])


# --- cancelled ---


@BOTH
@pytest.mark.parametrize("victim", "abcd")
def test_cancelled_at_every_step(victim: str, kv_unified: bool) -> None:
    for count in range(N_STEPS[kv_unified]):
        driver = crowded(kv_unified=kv_unified)
        requests = crowd(driver)
        driver.steps(count)
        box = driver.boxes[victim]
        told = len(box.events)
        over = bool(box.terminals)
        driver.cancel(victim)
        driver.step()
        assert driver.scheduler.find(victim) is None
        driver.finish()
        assert len(box.events) == told, "an event after the cancellation"
        assert len(box.terminals) == over
        expect_all(driver, requests, but=victim)


def test_cancelling_what_is_unknown_or_over_is_no_error() -> None:
    driver = Driver()
    driver.cancel("nobody")
    box = driver.ask("a", "hello", 2)
    driver.finish()
    driver.cancel("a")
    driver.step()
    assert box.finished().reason is FinishReason.LIMIT


def test_cancelled_in_the_queue_before_it_began() -> None:
    driver = Driver()
    box = driver.ask("a", "hello", 2)
    driver.cancel("a")
    driver.step()
    assert (box.events, driver.backend.n_decodes) == ([], 0)
    driver.check_idle()


# --- a long prefill is aborted ---


def test_only_long_prefills_are_named_and_only_while_they_are_computed() -> None:
    driver = Driver(FakeBackend(n_cells=512, n_batch=256, n_ctx_slot=512))
    seen: list[frozenset[str]] = []
    driver.backend.before_decode = lambda runs: seen.append(driver.loop.prefilling)
    driver.ask("long", "x" * ABORT_WORTH, 2)
    driver.ask("short", "y" * (ABORT_WORTH - 1), 2)
    driver.finish()
    assert seen == [{"long"}, frozenset()]
    assert driver.loop.prefilling == frozenset()


@pytest.mark.parametrize("done", [0, 1, 2, 50, 199, 200, 201, 202, 205, 206, 207])
def test_an_abort_in_the_middle_of_a_prefill_spares_the_rest_and_hurts_nobody(done: int) -> None:
    """``done`` tokens of [one decode, 200 of the cancelled prompt, 6 of another prompt] are computed."""
    driver = Driver(FakeBackend(n_cells=512, n_batch=256, n_ctx_slot=512))
    driver.loop._cost.prefill_token = 1e-6
    stream = driver.ask("stream", "hello", 12)
    driver.steps(3)
    cancelled = driver.ask("long", LONG, 5)
    other = driver.ask("other", "second", 5)

    def cancel(runs: Sequence[Run]) -> None:
        if [len(run.tokens) for run in runs] == [1, 200, 6]:
            driver.backend.abort_after = done
            driver.cancel("long")
            driver.backend.abort()

    driver.backend.before_decode = cancel
    driver.step()
    assert driver.backend.aborting
    driver.finish()
    assert cancelled.events == []
    assert stream.tokens == continuation(list(b"hello"), 12)
    assert other.tokens == continuation(list(b"second"), 5)
    driver.check_idle()


def test_a_cancel_that_comes_between_plan_and_decode_spares_the_whole_prefill() -> None:
    driver = Driver(FakeBackend(n_cells=512, n_batch=256, n_ctx_slot=512))
    plan = driver.scheduler.plan

    def late(*args: object) -> object:
        made = plan(*args)
        if made.runs:
            driver.cancel("a")
        return made

    driver.scheduler.plan = late
    box = driver.ask("a", LONG, 5)
    driver.step()
    driver.step()
    assert (driver.backend.n_decodes, box.events) == (0, [])
    driver.check_idle()


@BOTH
def test_an_abort_that_comes_too_late_costs_nothing_but_time(kv_unified: bool) -> None:
    for count in range(N_STEPS[kv_unified]):
        driver = crowded(kv_unified=kv_unified)
        requests = crowd(driver)

        def late(_: object, driver: Driver = driver, count: int = count) -> None:
            if driver.backend.n_decodes == count:
                driver.backend.abort()

        driver.backend.before_decode = late
        driver.finish()
        expect_all(driver, requests)


# --- clients that do not read ---


@BOTH
@pytest.mark.parametrize("victim", "abcd")
def test_who_does_not_read_pauses_and_nobody_else_does(victim: str, kv_unified: bool) -> None:
    driver = crowded(kv_unified=kv_unified)
    requests = crowd(driver)
    box = driver.boxes[victim]
    while not box.events:
        driver.step()
    box.is_full = True
    told = len(box.events)
    driver.steps(3 * N_STEPS[kv_unified])
    assert len(box.events) <= told + 1, "only a token that was computed again after a preemption may come"
    others = [key for key in requests if key != victim]
    assert all(driver.boxes[key].terminals for key in others)
    box.is_full = False
    driver.finish()
    expect_all(driver, requests)


# --- the library fails ---


def at_decode(driver: Driver, number: int, answer: DecodeStatus | Exception) -> Callable[[Sequence[Run]], object]:
    return lambda runs: answer if driver.backend.n_decodes == number else None


def test_no_room_once_at_every_step() -> None:
    for count in range(1, N_STEPS[True] + 1):
        driver = crowded()
        requests = crowd(driver)
        driver.backend.script = at_decode(driver, count, DecodeStatus.NO_ROOM)
        driver.finish()
        expect_all(driver, requests)


def test_no_room_for_the_last_one_alone_fails_it() -> None:
    driver = Driver()
    driver.ask("before", "gone", 1)
    driver.finish()
    driver.backend.script = lambda runs: DecodeStatus.NO_ROOM
    boxes = [driver.ask("a", "hello", 3), driver.ask("b", "world", 3)]
    driver.finish(most=50)
    for box in boxes:
        assert isinstance(box.failed().error, NativeError)
    driver.check_idle()


def test_a_library_with_less_room_than_the_books_say_still_serves_one_after_the_other() -> None:
    driver = Driver(FakeBackend(n_cells=64, n_ctx_slot=64))
    backend = driver.backend

    def full(runs: Sequence[Run]) -> DecodeStatus | None:
        wanted = sum(len(run.tokens) for run in runs)
        return DecodeStatus.NO_ROOM if len(backend.kv.cells) + wanted > 40 else None

    backend.script = full
    boxes = {name: driver.ask(name, name * 25, 4) for name in "ab"}
    driver.finish(most=100)
    for name, box in boxes.items():
        assert box.tokens == continuation(list(name.encode() * 25), 4)


@BOTH
@pytest.mark.parametrize("computed", [0, 3, 5])
def test_a_native_error_at_every_step_fails_the_batch_and_nobody_else(computed: int, kv_unified: bool) -> None:
    for count in range(1, N_STEPS[kv_unified] + 1):
        driver = crowded(kv_unified=kv_unified)
        requests = crowd(driver)
        hit: list[str] = []

        def fail(runs: Sequence[Run], driver: Driver = driver, hit: list[str] = hit, count: int = count) -> object:
            if driver.backend.n_decodes != count:
                return None
            ids = {s.seq: s.request.id for s in driver.scheduler.running}
            hit.extend(ids[run.seq] for run in runs)
            return NativeError("boom")

        driver.backend.script = fail
        driver.backend.fail_after = computed
        driver.finish()
        assert hit
        for key in hit:
            assert str(driver.boxes[key].failed().error) == "boom"
        expect_all(driver, requests, but=hit)


def test_a_sampler_that_fails_ends_its_request_alone() -> None:
    for count in range(1, 9):
        driver = crowded()
        requests = crowd(driver)

        def choose(history: Sequence[int], count: int = count) -> int:
            if history[0] == ord("c") and len(history) == 8 + count:
                raise NativeError("no candidate is left")
            return next_token(history)

        driver.backend.choose = choose
        driver.finish()
        assert str(driver.boxes["c"].failed().error) == "no candidate is left"
        assert len(driver.boxes["c"].tokens) == count - 1
        expect_all(driver, requests, but="c")


# --- all of it at random ---


@attrs.frozen
class Fault:
    """What the decode of that number answers, after it has computed ``done`` tokens."""

    number: int
    answer: DecodeStatus | None  # None: NativeError
    done: int


faults = st.builds(
    Fault, st.integers(1, 60), st.sampled_from([DecodeStatus.ABORTED, DecodeStatus.NO_ROOM, None]), st.integers(0, 16)
)


@settings(max_examples=150)
@given(
    st.lists(faults, max_size=6, unique_by=lambda f: f.number),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), max_size=2),
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 30), st.integers(1, 20)), max_size=2),
    st.sampled_from([8, 16, 64]),
    st.booleans(),
)
def test_every_request_gets_one_terminal_event_and_no_wrong_token(
    faults: list[Fault], cancels: dict[str, int], pauses: dict[str, tuple[int, int]], n_batch: int, kv_unified: bool
) -> None:
    fields = {"n_cells": 52, "n_ctx_slot": 32, "n_slots": 3, "n_seqs": 5, "n_batch": n_batch}
    driver = Driver(FakeBackend(**fields, kv_unified=kv_unified))
    requests = crowd(driver)
    for key, prompt in (("e", SHARED + "b" * 5), ("f", "f" * 40)):
        requests[key] = GenerationRequest(id=key, prompt=list(prompt.encode()), max_tokens=6)
        driver.submit(requests[key])

    def script(runs: Sequence[Run]) -> DecodeStatus | Exception | None:
        for fault in faults:
            if fault.number == driver.backend.n_decodes:
                driver.backend.abort_after = driver.backend.fail_after = fault.done
                return fault.answer or NativeError("boom")
        return None

    driver.backend.script = script
    step = 0
    while driver.busy or step < 60:
        for key, at in cancels.items():
            if step == at:
                driver.loop.commands.put(Cancel(key))
        for key, (at, length) in pauses.items():
            driver.boxes[key].is_full = at <= step < at + length
        driver.step()
        step += 1
        assert step < 1000
    for key, request in requests.items():
        check(driver.boxes[key], request, driver, cancelled=key in cancels)
    driver.check_idle()


def check(box: Box, request: GenerationRequest, driver: Driver, *, cancelled: bool) -> None:
    assert len(box.terminals) == 1 or (cancelled and not box.terminals)
    assert box.terminals == box.events[len(box.events) - len(box.terminals) :], "an event after the terminal event"
    if request.id == "f":
        assert not isinstance(box.terminals[:1], InvalidRequest)
        assert box.tokens == [], "larger than a slot"
        return
    expected = reference(request, driver.scheduler.limits).tokens
    assert box.tokens == expected[: len(box.tokens)]
    if not cancelled and box.terminals and hasattr(box.terminals[0], "reason"):
        assert box.tokens == expected
