"""Prompts that come back where the KV cache cannot be cut: an engine on the fake backend."""

import pytest

from engine.errors import NativeError
from engine.text.adapters import AdapterSet
from engine.text.backend import DecodeStatus
from engine.text.commands import EraseSlot
from engine.text.sequence import Status
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import FakeBackend, continuation
from tests.engine.test_media import chunk, request

A: AdapterSet = ((1, 0.5),)
LEAST, TAIL = 8, 4  # as the driver has them
STORY = "once upon a time in a far away land there was"


def backend(**fields: object) -> FakeBackend:
    return FakeBackend(**{"n_cells": 512, "n_ctx_slot": 128, "can_shift": False, "cuts": False} | fields)


def engine(kept_bytes: int = 1 << 20, **fields: object) -> Driver:
    return Driver(backend(**fields), kept_bytes=kept_bytes)


def run(driver: Driver, name: str, prompt: str, max_tokens: int = 4, **fields: object) -> int:
    """Let a request run; the answer is the right one. Returns how many tokens were computed."""
    before = driver.backend.computed
    box = driver.ask(name, prompt, max_tokens, **fields)
    driver.finish()
    expect(box, prompt, max_tokens)
    driver.check_idle()
    return driver.backend.computed - before


def expect(box: Box, prompt: str, max_tokens: int = 4) -> None:
    assert box.tokens == continuation(prompt.encode(), max_tokens)


def answer_to(prompt: str, max_tokens: int = 4) -> str:
    return bytes(continuation(prompt.encode(), max_tokens)).decode()


def test_the_next_turn_goes_on_from_where_the_last_one_ended() -> None:
    driver = engine()
    assert run(driver, "a", STORY) == len(STORY) + 3
    turn = STORY + answer_to(STORY) + " and then"
    assert run(driver, "b", turn) == 1 + len(" and then") + 3
    assert driver.boxes["b"].finished().timings.cache_n == len(STORY) + 3


def test_a_turn_that_writes_the_end_of_the_last_one_otherwise_goes_on_from_its_prompt() -> None:
    driver = engine()
    run(driver, "a", STORY)
    turn = STORY[:-2] + "!! and then"
    assert run(driver, "b", turn) == len(turn) - (len(STORY) - TAIL) + 3


def test_the_same_prompt_again_computes_its_tail() -> None:
    driver = engine()
    run(driver, "a", STORY)
    assert run(driver, "b", STORY) == TAIL + 3


def test_what_two_prompts_begin_with_is_kept_for_a_third() -> None:
    driver = engine()
    for name in "xy":
        run(driver, name, STORY + name * 20)
    assert run(driver, "z", STORY + "z" * 20) == 20 + 3


def test_a_beginning_that_several_bring_at_once_is_computed_once() -> None:
    driver = engine(n_batch=16)
    boxes = {name: driver.ask(name, STORY + name * 20) for name in "wxyz"}
    driver.finish()
    for name, box in boxes.items():
        expect(box, STORY + name * 20)
    assert driver.backend.computed == len(STORY) + 4 * (20 + 3)


def test_equal_prompts_at_once_are_computed_once_but_for_their_tail() -> None:
    driver = engine(n_batch=16)
    for name in "wxyz":
        driver.ask(name, STORY)
    driver.finish()
    assert driver.backend.computed == len(STORY) + 3 + 3 * (TAIL + 3)
    driver.loop._update_gauges()
    assert driver.loop.stats.host_saved_total == len(STORY) - TAIL + len(STORY) + 3, "no state but the usual ones"


def test_an_equal_prompt_is_waited_for_up_to_its_last_token() -> None:
    """Which is computed in any case: a state of all would be of no use to who waits."""
    driver = engine(n_batch=16)
    driver.checkpoints.least = 32
    short = STORY[: 32 + TAIL - 1]
    for name in "ab":
        driver.ask(name, short)
    driver.finish()
    assert driver.backend.computed == len(short) + 3 + 1 + 3


@pytest.mark.parametrize("paused", [True, False])
def test_nobody_waits_for_a_prompt_that_is_paused_or_gone(paused: bool) -> None:
    driver = engine(n_batch=16, n_slots=2)
    first = driver.ask("a", STORY + "a" * 20)
    second = driver.ask("b", STORY + "b" * 20)
    driver.step()
    assert [s.request.id for s in driver.scheduler.waiting] == ["b"]
    if paused:
        first.is_full = True
    else:
        driver.cancel("a")
    while not second.terminals:
        driver.step()
    expect(second, STORY + "b" * 20)
    first.is_full = False
    driver.finish()


def test_a_prompt_that_is_about_to_arrive_there_is_still_waited_for() -> None:
    """What is waited for was asked for when it was far away; it is not given up just before it is there."""
    driver = engine(n_batch=4, n_slots=2)
    driver.ask("a", STORY + "a" * 20)
    driver.ask("b", STORY + "b" * 20)
    driver.finish()
    assert driver.backend.computed == len(STORY) + 2 * (20 + 3)


def test_who_gave_way_comes_back_without_computing_anew() -> None:
    driver = engine(n_cells=96, n_ctx_slot=96, n_slots=2)
    boxes = {name: driver.ask(name, name * 40, 16) for name in "ab"}
    driver.finish()
    for name, box in boxes.items():
        expect(box, name * 40, 16)
    assert driver.loop.stats.preemptions_total > 0
    assert driver.backend.computed < 2 * 40 + 2 * 15 + 8


def test_adapters_have_states_of_their_own() -> None:
    driver = engine()
    run(driver, "a", STORY)
    before = driver.backend.computed
    box = driver.ask("b", STORY, adapters=A)
    driver.finish()
    assert box.tokens == continuation(STORY.encode(), 4, A)
    assert driver.backend.computed - before == len(STORY) + 3


def test_who_wants_no_cache_leaves_nothing_and_finds_nothing() -> None:
    driver = engine()
    run(driver, "a", STORY, cache_prompt=False)
    assert run(driver, "b", STORY) == len(STORY) + 3
    assert run(driver, "c", STORY, cache_prompt=False) == len(STORY) + 3


def test_without_host_memory_everything_is_computed() -> None:
    driver = engine(0)
    run(driver, "a", STORY)
    assert run(driver, "b", STORY) == len(STORY) + 3


def test_an_aborted_step_that_computed_a_whole_prompt_starts_over_from_what_is_kept() -> None:
    """Its last token cannot be taken back."""
    driver = engine()
    box = driver.ask("a", STORY)
    calls = iter([None, DecodeStatus.ABORTED])
    driver.backend.script = lambda runs: next(calls, None)
    driver.backend.abort_after = TAIL
    driver.finish()
    expect(box, STORY)
    assert driver.backend.computed == len(STORY) + TAIL + 3


def test_an_aborted_step_that_computed_a_prompt_of_one_token_starts_over() -> None:
    driver = engine()
    box = driver.ask("a", "x")
    calls = iter([DecodeStatus.ABORTED])
    driver.backend.script = lambda runs: next(calls, None)
    driver.backend.abort_after = 1
    driver.finish()
    expect(box, "x")


def test_an_abort_leaves_nothing_of_what_is_half_computed() -> None:
    """Neither to whom it was meant for, nor to others of the batch, nor to who is not in it at all."""
    driver = engine(n_slots=3, n_batch=32)
    boxes = {"paced": driver.ask("paced", "p" * 20, tokens_per_second=0.1), "b": driver.ask("b", "b" * 20)}
    driver.steps(3)
    boxes |= {name: driver.ask(name, name * 60) for name in "c"}
    calls = iter([DecodeStatus.ABORTED])
    driver.backend.script = lambda runs: next(calls, None)
    driver.step()
    assert [s.n_past for s in driver.scheduler.running] == [0, 0, 0]
    driver.finish()
    for name, box in boxes.items():
        expect(box, name[0] * {"c": 60}.get(name, 20))


def test_the_prompt_of_who_left_in_the_middle_of_it_is_right_the_next_time() -> None:
    driver = engine()

    def leave(runs: object) -> DecodeStatus:
        assert driver.loop.prefilling == {"a"}
        driver.cancel("a")
        driver.backend.script = lambda runs: None
        return DecodeStatus.ABORTED

    driver.ask("a", STORY * 2)
    driver.backend.script = leave
    driver.backend.abort_after = 64
    driver.finish()
    assert driver.checkpoints.n_bytes == 0
    run(driver, "b", STORY * 2)


@pytest.mark.parametrize("status", [DecodeStatus.ABORTED, DecodeStatus.NO_ROOM])
def test_a_medium_that_is_half_computed_spoils_the_state_before_it(status: DecodeStatus) -> None:
    driver = engine(n_slots=2)
    answers = iter([status, None, None])
    driver.backend.media_script = lambda _: next(answers)
    other = driver.ask("b", STORY, 8)
    pictured = driver.submit(request("a", STORY, chunk("x"), "and so on"))
    driver.finish()
    driver.check_idle()
    assert pictured.finished()
    expect(other, STORY, 8)


def test_a_medium_without_room_lets_the_others_go_on() -> None:
    """Only the youngest gives way: nothing of the others has been touched."""
    driver = engine(n_slots=4)
    others = {name: driver.ask(name, name * 40, 15) for name in "bcd"}
    driver.steps(6)
    answers = iter([DecodeStatus.NO_ROOM])
    driver.backend.media_script = lambda _: next(answers, None)
    pictured = driver.submit(request("a", STORY, chunk("x"), "and so on"))
    driver.finish()
    driver.check_idle()
    assert driver.loop.stats.preemptions_total == 0
    assert pictured.finished()
    for name, box in others.items():
        expect(box, name * 40, 15)
    assert driver.backend.computed == 3 * (40 + 14) + 2 * len(STORY) + 5 + len("and so on") + 3


@pytest.mark.parametrize("status", [DecodeStatus.ABORTED, DecodeStatus.NO_ROOM])
def test_a_window_does_not_go_back_for_a_medium(status: DecodeStatus) -> None:
    """What its first part pushed out is not there any more."""
    driver = Driver(backend(cuts=True, n_slots=2), kept_bytes=1 << 20, can_reuse=False)
    answers = iter([status])
    driver.backend.media_script = lambda _: next(answers, None)
    wanted = request("a", STORY, chunk("x"), "and so on")
    pictured = driver.submit(wanted)
    other = driver.ask("b", STORY[::-1], 8)
    while driver.backend.n_encoded == 0:
        driver.step()
    assert driver.scheduler.running[0].n_past == 0
    driver.finish()
    assert pictured.tokens == continuation(wanted.prompt, 4)
    expect(other, STORY[::-1], 8)


def test_lengths_to_keep_are_chosen_anew_where_a_prompt_begins_again() -> None:
    """Meanwhile a state may have been kept that leads past the old ones: it would stop nowhere."""
    driver = engine(n_batch=16)
    driver.ask("a", STORY * 2)
    driver.step()
    (sequence,) = driver.scheduler.running
    books, kept = driver.scheduler.books, driver.checkpoints
    assert books.keeps(sequence, 40)
    kept.reach = lambda tokens, held, key: len(STORY)
    books.restart(sequence)
    assert (sequence.recall_to, sequence.save_at) == (len(STORY), [2 * len(STORY) - TAIL])


def test_nobody_is_aborted_who_runs_beside_others() -> None:
    """They would have to begin again."""
    driver = engine(n_slots=2, n_batch=128)
    seen: list[frozenset[str]] = []
    driver.backend.before_decode = lambda runs: seen.append(driver.loop.prefilling)
    driver.ask("a", "a" * 100, max_tokens=1)
    driver.finish()
    driver.ask("b", "b" * 10, max_tokens=3)
    driver.ask("c", "c" * 100, max_tokens=3)
    driver.finish()
    assert seen[0] == {"a"}
    assert set(seen[1:]) == {frozenset()}


def test_a_window_does_not_go_back_for_a_token() -> None:
    """The last token that it sees may have been given up once the next one was there."""
    driver = Driver(backend(cuts=True), kept_bytes=1 << 20, can_reuse=False)
    box = driver.ask("a", STORY, 8)
    driver.steps(3)
    calls = iter([DecodeStatus.ABORTED])
    driver.backend.script = lambda runs: next(calls, None)
    driver.backend.abort_after = 1
    driver.step()
    (sequence,) = driver.scheduler.running
    assert (sequence.n_past, sequence.recall_to) == (0, len(STORY) - TAIL)
    driver.finish()
    expect(box, STORY, 8)


def test_what_was_shifted_is_not_kept() -> None:
    """Its cells are no longer what its tokens alone would give."""
    driver = Driver(backend(can_shift=True, cuts=True, n_ctx_slot=64), kept_bytes=1 << 20, can_reuse=False)
    box = driver.ask("a", STORY, 40)
    driver.finish()
    assert box.finished().truncated
    driver.loop._update_gauges()
    assert driver.loop.stats.host_saved_total == len(STORY) - TAIL


@pytest.mark.parametrize("cells", [5, 9])
def test_a_conversation_about_an_image_goes_on_where_it_was(cells: int) -> None:
    driver = engine()
    image = chunk("x", 5, cells)
    first = request("a", STORY, image, "what is it")
    driver.submit(first)
    driver.finish()
    before, encoded = driver.backend.computed, driver.backend.n_encoded
    second = request("b", STORY, image, "what is it" + bytes(driver.boxes["a"].tokens).decode() + " and why")
    box = driver.submit(second)
    driver.finish()
    driver.check_idle()
    assert box.tokens == continuation(second.prompt, 4)
    assert driver.backend.computed - before == 1 + len(" and why") + 3
    assert driver.backend.n_encoded == encoded
    assert box.finished().timings.cache_n == len(STORY) + cells + len("what is it") + 3


def test_the_tail_of_a_prompt_cuts_no_image() -> None:
    """Its state is kept from behind the image then."""
    driver = engine()
    driver.submit(request("a", STORY, chunk("x", 9), "?!"))
    driver.finish()
    before = driver.backend.computed
    other = request("b", STORY, chunk("x", 9), "??")
    box = driver.submit(other)
    driver.finish()
    assert box.tokens == continuation(other.prompt, 4)
    assert driver.backend.computed - before == 2 + 3
    assert driver.backend.n_encoded == 1


def test_an_image_that_several_bring_at_once_is_computed_once() -> None:
    driver = engine(n_batch=16)
    wanted = [request(name, STORY, chunk("x"), name * 20) for name in "wxyz"]
    boxes = [driver.submit(one) for one in wanted]
    driver.finish()
    for one, box in zip(wanted, boxes, strict=True):
        assert box.tokens == continuation(one.prompt, 4)
    assert driver.backend.n_encoded == 1
    assert driver.backend.computed == len(STORY) + 5 + 4 * (20 + 3)


def test_prompts_of_other_adapters_are_no_branches() -> None:
    driver = engine(n_batch=16)
    driver.ask("a", STORY + "a" * 20, adapters=A)
    driver.step()
    driver.ask("b", STORY + "b" * 20)
    driver.step()
    assert driver.scheduler.running[1].save_at == [len(STORY) + 20 - TAIL]
    driver.finish()


def test_a_state_that_finds_no_room_is_forgotten_and_the_prompt_computed() -> None:
    driver = engine()
    run(driver, "a", STORY)
    driver.backend.refuses_state = True
    assert run(driver, "b", STORY) == len(STORY) + 3


def test_the_figures_say_what_was_copied() -> None:
    driver = engine()
    run(driver, "a", STORY)
    run(driver, "b", STORY)
    driver.loop._update_gauges()
    stats = driver.loop.stats
    assert stats.host_saved_total == (len(STORY) - TAIL) + (len(STORY) + 3)
    assert stats.host_restored_total == len(STORY) - TAIL
    assert stats.host_tokens == stats.host_saved_total
    assert stats.host_bytes > 0


def test_a_failed_step_leaves_no_state() -> None:
    driver = engine()
    box = driver.ask("a", STORY)
    driver.backend.script = lambda runs: NativeError("broken")
    driver.finish()
    assert box.terminals
    driver.backend.script = lambda runs: None
    assert run(driver, "b", STORY) == len(STORY) + 3


def test_what_a_request_leaves_is_known_as_that() -> None:
    driver = engine()
    saved: list[tuple[int, bool]] = []
    driver.checkpoints.save = lambda seq, tokens, key, *, is_left=False: saved.append((len(tokens), is_left))
    run(driver, "a", STORY)
    assert saved == [(len(STORY) - TAIL, False), (len(STORY) + 3, True)]


def test_a_running_prompt_is_only_asked_for_what_is_worth_it() -> None:
    driver = engine(n_batch=16)
    driver.ask("a", STORY + "a" * 20)
    driver.step()
    (sequence,) = driver.scheduler.running
    assert sequence.status is Status.RUNNING
    books = driver.scheduler.books
    assert not books.keeps(sequence, sequence.n_past + LEAST - 1)
    sequence.recall_to = sequence.n_past + 1
    assert not books.keeps(sequence, sequence.n_past + LEAST)
    sequence.recall_to = 0
    assert books.keeps(sequence, sequence.n_past + LEAST)
    assert books.keeps(sequence, sequence.n_past + LEAST)
    assert sequence.save_at == [sequence.n_past + LEAST, len(STORY) + 20 - TAIL]
    driver.finish()


def test_what_was_erased_is_gone_but_for_what_another_prompt_begins_with() -> None:
    driver = engine()
    run(driver, "a", STORY + "a" * 20, slot=0)
    run(driver, "b", STORY + "b" * 20, slot=1)
    run(driver, "c", STORY + "c" * 20, slot=1)
    erased = Box()
    driver.loop.commands.put(EraseSlot("erase", 0, erased))
    driver.step()
    assert erased.events[0].n_tokens == len(STORY) + 20 + 3
    driver.check_idle()
    assert run(driver, "again", STORY + "a" * 20) == 20 + 3, "what b and c begin with is theirs"
    driver.loop.commands.put(EraseSlot("again", 0, again := Box()))
    driver.step()
    assert again.events[0].n_tokens == 0, "the slot remembers nothing"
