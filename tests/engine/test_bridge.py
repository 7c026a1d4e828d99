"""Requests through the bridge: they run, are cancelled, are read slowly."""

import pytest
import trio
import trio.testing

from engine.bridge import open_text_engine
from engine.errors import ContextExceeded, InvalidRequest
from engine.text.events import Event, Tokens
from engine.text.requests import GenerationRequest, GrammarSpec
from tests.engine.rig import Rig, ask, check_complete, expected, generate, read_all, text


@pytest.fixture
def rig() -> Rig:
    return Rig(n_cells=512, n_ctx_slot=512, n_batch=256)


# --- requests run ---


async def test_a_request_runs_and_its_events_end_with_the_terminal_one(rig: Rig) -> None:
    async with open_text_engine(rig.start) as engine:
        assert engine.info is rig.backend.info
        assert engine.vocab is rig.backend.vocab
        request = ask("a", max_tokens=9)
        async with engine.generate(request) as events:
            seen = await read_all(events)
            assert await read_all(events) == [], "it stays ended"
        check_complete(seen, request)
        assert engine.stats().tokens_predicted_total == 9
    rig.check_over()


async def test_many_run_at_once(rig: Rig) -> None:
    requests = [ask(str(i), "prompt" + str(i % 3), 10 + i) for i in range(12)]
    seen: dict[str, list[Event]] = {}

    async def run(request: GenerationRequest) -> None:
        seen[request.id] = await generate(engine, request)

    async with open_text_engine(rig.start) as engine, trio.open_nursery() as nursery:
        for request in requests:
            nursery.start_soon(run, request)
    for request in requests:
        check_complete(seen[request.id], request)
    rig.check_over()


async def test_the_slots_say_who_runs(rig: Rig) -> None:
    rig.step_by_step()
    async with open_text_engine(rig.start) as engine, engine.generate(ask("a", max_tokens=5, slot=1)):
        await rig.at_decode()
        await rig.step()
        idle, busy, *_ = engine.slots()
        assert (idle.id, idle.request_id) == (0, None)
        assert (busy.id, busy.request_id, busy.n_prompt, busy.n_past) == (1, "a", 5, 5)
        assert (busy.n_decoded, busy.n_remain, busy.is_prefilling) == (1, 4, False)
        assert busy.prompt == tuple(b"hello")


async def test_what_can_never_run_is_refused_on_entering(rig: Rig) -> None:
    async with open_text_engine(rig.start) as engine:
        with pytest.raises(ContextExceeded):
            await generate(engine, ask("a", "x" * 600))
        with pytest.raises(InvalidRequest):
            await generate(engine, ask("a", slot=9))
        assert rig.backend.n_decodes == 0


async def test_a_second_request_with_the_same_id_does_no_harm_to_the_first(rig: Rig) -> None:
    rig.step_by_step()
    request = ask("same")
    async with open_text_engine(rig.start) as engine, engine.generate(request) as events:
        await rig.at_decode()
        with pytest.raises(InvalidRequest):
            async with engine.generate(request):
                pass
        rig.let_run()
        check_complete(await read_all(events), request)


# --- cancelled ---


async def test_cancelled_before_it_began(rig: Rig) -> None:
    rig.step_by_step()
    first = ask("first")
    async with open_text_engine(rig.start) as engine, engine.generate(first) as events:
        await rig.at_decode()
        async with engine.generate(ask("never", "x" * 100)):
            pass
        assert await rig.step() == [1]
        assert rig.scheduler.find("never") is None
        rig.let_run()
        check_complete(await read_all(events), first)
    rig.check_over()
    assert rig.backend.computed == 5 + 4


async def test_cancelled_in_a_long_prefill_which_is_aborted(rig: Rig) -> None:
    rig.step_by_step()
    async with open_text_engine(rig.start) as engine:
        async with engine.generate(ask("long", "x" * 200)):
            assert await rig.at_decode() == [200]
        # Nobody lets the decode go: leaving the block has aborted it.
        async with engine.generate(ask("next")) as events:
            assert await rig.at_decode() == [5]
            assert rig.scheduler.find("long") is None
            assert rig.scheduler.cells_active == 0
            rig.let_run()
            check_complete(await read_all(events), ask("next"))
    rig.check_over()


async def test_a_short_step_is_not_aborted(rig: Rig) -> None:
    rig.step_by_step()
    async with open_text_engine(rig.start) as engine, engine.generate(ask("other", "other")) as events:
        await rig.at_decode()
        async with engine.generate(ask("short")):
            await rig.step()
        assert not rig.backend.aborting
        rig.let_run()
        check_complete(await read_all(events), ask("other", "other"))


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
async def test_cancelled_between_tokens_it_is_gone_within_one_step(rig: Rig, how: str) -> None:
    rig.step_by_step()
    other = ask("other", "other", 9)
    async with open_text_engine(rig.start) as engine, engine.generate(other) as others:
        await rig.at_decode()
        with trio.CancelScope() as scope:
            try:
                async with engine.generate(ask("a", max_tokens=50)) as events:
                    await rig.step()
                    await rig.step()
                    assert isinstance(await anext(events), Tokens)
                    if how == "raise":
                        raise KeyError(how)
                    if how == "cancel":
                        scope.cancel()
                        await anext(events)
                        raise AssertionError("a cancelled reader gets nothing")
            except KeyError:
                assert how == "raise"
        assert scope.cancelled_caught == (how == "cancel")
        assert rig.scheduler.find("a") is not None
        await rig.step()
        assert rig.scheduler.find("a") is None
        (left,) = rig.scheduler.running
        assert rig.scheduler.cells_active == left.n_past
        rig.let_run()
        check_complete(await read_all(others), other)
    rig.check_over()


async def test_a_reader_that_waits_can_be_cancelled(rig: Rig) -> None:
    rig.step_by_step()
    async with open_text_engine(rig.start) as engine, engine.generate(ask("a")) as events:
        await rig.at_decode()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(anext, events)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        rig.let_run()
        check_complete(await read_all(events), ask("a"))


async def test_leaving_after_the_end_cancels_nothing(rig: Rig) -> None:
    async with open_text_engine(rig.start) as engine:
        for _ in range(3):
            check_complete(await generate(engine, ask("again")), ask("again"))
    rig.check_over()


# --- slow readers ---


@pytest.mark.parametrize("capacity", [1, 4])
async def test_a_slow_reader_pauses_nobody_but_itself(rig: Rig, capacity: int) -> None:
    rig.deliver_before_each_decode()
    slow, fast = ask("slow", "slow", 40), ask("fast", "fast", 60)
    async with open_text_engine(rig.start, event_buffer=capacity) as engine, engine.generate(slow) as unread:
        seen = await generate(engine, fast)
        check_complete(seen, fast)
        # A step may have been planned before the newest event was delivered, and its own event comes on top.
        assert 1 <= engine.slots()[0].n_decoded <= capacity + 2
        assert rig.scheduler.find("slow") is not None
        check_complete(await read_all(unread), slow)
    rig.check_over()


async def test_a_reader_who_is_late_with_progress_is_a_slow_reader_too() -> None:
    rig = Rig(n_cells=512, n_ctx_slot=512, n_batch=8)
    rig.deliver_before_each_decode()
    slow, fast = ask("slow", "s" * 300, 4, report_progress=True), ask("fast", "fast", 60)
    async with open_text_engine(rig.start, event_buffer=4) as engine, engine.generate(slow) as unread:
        check_complete(await generate(engine, fast), fast)
        assert engine.slots()[0].n_past <= 8 * (4 + 2)
        assert text(await read_all(unread)) == expected(slow)
    rig.check_over()


async def test_a_paused_request_can_be_cancelled(rig: Rig) -> None:
    async with open_text_engine(rig.start, event_buffer=1) as engine:
        async with engine.generate(ask("slow", "slow", 100)) as events:
            await anext(events)
        check_complete(await generate(engine, ask("next", max_tokens=1)), ask("next", max_tokens=1))
    rig.check_over()


async def test_a_grammar_is_compiled_in_a_thread_and_holds(rig: Rig) -> None:
    async with open_text_engine(rig.start) as engine:
        spec = GrammarSpec(source="yes|no")
        grammar = await trio.to_thread.run_sync(engine.grammars.compile, spec)
        events = await generate(engine, ask("a", max_tokens=9, grammar=grammar))
        assert text(events) in ("yes", "no")
        with pytest.raises(InvalidRequest):
            await trio.to_thread.run_sync(engine.grammars.compile, GrammarSpec(source="bad"))
    rig.check_over()
