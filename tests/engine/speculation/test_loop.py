"""Speculation in the engine loop: the same text as without it, with exact books, whoever comes and goes."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import NativeError
from engine.text.backend import DecodeStatus
from engine.text.events import Finished, FinishReason
from engine.text.requests import GenerationRequest, SamplingParams
from engine.text.speculation.lookup import Lookup
from engine.text.speculation.speculation import DraftRules, Speculation
from tests.engine.driver import Driver, reference, text_of
from tests.engine.fake_backend import EOG, FakeBackend, continuation
from tests.engine.speculation.fake_drafter import FakeDrafter
from tests.engine.test_media import chunk, request

RIGHT = (99,)


def driver(pattern: tuple[int, ...] = RIGHT, *, rules: DraftRules | None = None, **fields: object) -> Driver:
    backend = FakeBackend(**fields)
    return Driver(backend, speculation=Speculation([FakeDrafter(pattern)], rules or DraftRules(longest=6)))


def test_right_drafts_save_decodes() -> None:
    plain, drafted = Driver(), driver()
    for each in (plain, drafted):
        each.ask("a", "hello", max_tokens=30)
        each.finish()
        each.check_idle()
    assert drafted.boxes["a"].tokens == plain.boxes["a"].tokens == continuation(list(b"hello"), 30)
    assert drafted.backend.n_decodes == 2 + 4, "a prompt, a first token to measure, and 7 tokens each time"
    assert plain.backend.n_decodes == 30


@pytest.mark.parametrize("right", range(7))
def test_the_first_wrong_token_ends_a_draft_and_nothing_of_it_stays(right: int) -> None:
    drafted = driver((right,))
    box = drafted.ask("a", "hello", max_tokens=40)
    drafted.finish()
    drafted.check_idle()
    assert box.tokens == continuation(list(b"hello"), 40)
    timings = box.finished().timings
    assert timings.predicted_n == 40
    assert timings.draft_n > 0
    assert (timings.draft_n_accepted == 0) == (right == 0)
    assert (timings.draft_n_accepted == timings.draft_n) == (right == 6)


def test_the_whole_batch_is_checked_in_one_decode() -> None:
    drafted = driver(n_slots=4)
    for key in "abc":
        drafted.ask(key, f"hello {key}", max_tokens=30)
    drafted.steps(3)
    runs: list[int] = []
    drafted.backend.before_decode = lambda batch: runs.extend(run.n_drafted for run in batch)
    drafted.step()
    assert runs == [6, 6, 6]


def test_a_prompt_joins_a_batch_with_drafts() -> None:
    drafted = driver(n_batch=64)
    drafted.ask("a", "hello", max_tokens=60)
    drafted.steps(3)
    box = drafted.ask("b", "0123456789" * 3, max_tokens=20)
    batches: list[list[tuple[int, int]]] = []
    drafted.backend.before_decode = lambda batch: batches.append([(run.n_own, run.n_drafted) for run in batch])
    drafted.finish()
    drafted.check_idle()
    assert any(batch[0][1] > 0 and batch[1][0] > 1 for batch in batches if len(batch) > 1)
    assert box.tokens == continuation(list(b"0123456789" * 3), 20)


def test_a_draft_never_goes_beyond_the_tokens_that_were_asked_for() -> None:
    for most in range(1, 12):
        drafted = driver()
        box = drafted.ask("a", "hello", max_tokens=most)
        drafted.finish()
        assert box.tokens == continuation(list(b"hello"), most)
        assert box.finished().reason is FinishReason.LIMIT
        assert drafted.backend.computed <= len(b"hello") + most


def test_an_end_token_inside_a_draft_ends_the_text() -> None:
    drafted = driver()
    script = continuation(list(b"hello"), 9)
    drafted.backend.choose = lambda history: [*script, EOG][len(history) - 5]
    box = drafted.ask("a", "hello", max_tokens=40)
    drafted.finish()
    drafted.check_idle()
    assert box.finished().reason is FinishReason.EOS
    assert box.text == text_of(script)


def test_a_stop_string_inside_a_draft_ends_the_text() -> None:
    expected = text_of(continuation(list(b"hello"), 12))
    drafted = driver()
    box = drafted.ask("a", "hello", max_tokens=40, stop=(expected[8:11],))
    drafted.finish()
    drafted.check_idle()
    assert box.finished().reason is FinishReason.WORD
    assert box.text == expected[:8]


def test_a_paced_request_gets_no_drafts() -> None:
    drafted = driver()
    box = drafted.ask("a", "hello", max_tokens=8, tokens_per_second=2.0)
    drafted.finish()
    assert box.finished().timings.draft_n == 0


def test_tokens_of_a_draft_have_their_probabilities() -> None:
    drafted = driver()
    box = drafted.ask("a", "hello", max_tokens=20, sampling=SamplingParams(logprobs=True))
    drafted.finish()
    infos = [info.token for event in box.events if hasattr(event, "infos") for info in event.infos]
    assert infos == box.tokens == continuation(list(b"hello"), 20)


def test_the_sampler_sees_each_token_once() -> None:
    drafted = driver((2, 0, 6))
    box = drafted.ask("a", "hello", max_tokens=25)
    drafted.finish()
    assert drafted.backend.samplers[0].seen == [*b"hello", *box.tokens]


@pytest.mark.parametrize("texts", ["abcdefghijk|abcdxyz", "a|abc|abcdefgh", "x"])
def test_a_grammar_holds_with_drafts(texts: str) -> None:
    answers = []
    for each in (Driver(), driver((3, 1, 6)), driver()):
        box = each.ask("a", "hello", max_tokens=40, grammar=each.backend.grammars.of(texts))
        each.finish()
        each.check_idle()
        answers.append((box.text, box.finished().reason))
    assert answers[0] == answers[1] == answers[2]


def test_drafts_that_a_grammar_forbids_are_not_computed() -> None:
    drafted = driver()
    drafted.ask("a", "hello", max_tokens=40, grammar=drafted.backend.grammars.of("0|123|13"))
    drafts: list[int] = []
    drafted.backend.before_decode = lambda batch: drafts.extend(run.n_drafted for run in batch)
    drafted.finish()
    assert set(drafts) == {0}


def test_lookup_drafts_what_stood_there_before() -> None:
    backend = FakeBackend(n_cells=512, n_slots=1)
    copied = list(b"the quick brown fox jumps over the lazy dog")
    prompt = [*copied, 10]
    backend.choose = lambda history: copied[len(history) - len(prompt)] if len(history) < 2 * len(copied) else EOG
    drafted = Driver(backend, speculation=Speculation([Lookup(2)], DraftRules(longest=8, least=1)))
    box = drafted.submit(GenerationRequest(id="a", prompt=prompt, max_tokens=100))
    drafted.finish()
    drafted.check_idle()
    assert box.text == text_of(copied)[:-1]
    assert box.finished().timings.draft_n_accepted > 25
    assert backend.n_decodes < 20


@pytest.mark.parametrize("n_cells", [32, 256])
def test_texts_behind_images_are_drafted_too(n_cells: int) -> None:
    wanted = request("a", "look at ", chunk("cat", 5, 9), " now", max_tokens=30)
    plain, drafted = Driver(FakeBackend(n_cells=n_cells, n_slots=1)), driver((4, 6), n_cells=n_cells, n_slots=1)
    plain_box, box = plain.submit(wanted), drafted.submit(wanted)
    for each in (plain, drafted):
        each.finish()
        each.check_idle()
    assert box.tokens == plain_box.tokens
    assert box.finished().reason is plain_box.finished().reason
    assert box.finished().timings.draft_n_accepted > 0


def test_no_room_for_a_draft_is_no_reason_to_preempt() -> None:
    drafted = driver()
    box = drafted.ask("a", "hello", max_tokens=20)
    drafted.backend.script = lambda runs: DecodeStatus.NO_ROOM if any(run.n_drafted for run in runs) else None
    drafted.finish()
    assert box.tokens == continuation(list(b"hello"), 20)
    assert drafted.loop.stats.preemptions_total == 0


@pytest.mark.parametrize("computed", range(8))
def test_an_abort_inside_a_draft_leaves_nothing_of_it(computed: int) -> None:
    drafted = driver()
    box = drafted.ask("a", "hello", max_tokens=20)
    drafted.steps(3)
    drafted.backend.abort_after = computed
    drafted.backend.script = lambda runs: DecodeStatus.ABORTED
    drafted.step()
    drafted.backend.script = lambda runs: None
    drafted.finish()
    drafted.check_idle()
    assert box.tokens == continuation(list(b"hello"), 20)


def test_a_failed_decode_leaves_nothing_of_a_draft() -> None:
    drafted = driver()
    box = drafted.ask("a", "hello", max_tokens=20)
    drafted.steps(3)
    drafted.backend.fail_after = 4
    drafted.backend.script = lambda runs: NativeError("broken")
    drafted.step()
    assert "broken" in str(box.failed().error)
    drafted.backend.script = lambda runs: None
    other = drafted.ask("b", "hello", max_tokens=20)
    drafted.finish()
    drafted.check_idle()
    assert other.tokens == continuation(list(b"hello"), 20)


def test_the_drafter_hears_of_ends_and_of_idle_times() -> None:
    drafter = FakeDrafter(RIGHT)
    drafted = Driver(speculation=Speculation([drafter], DraftRules(longest=4)))
    drafted.ask("a", "hello", max_tokens=5)
    drafted.ask("b", "hello", max_tokens=50)
    drafted.steps(4)
    drafted.cancel("b")
    drafted.finish()
    drafted.step()
    assert sorted(text.request.id for text in drafter.forgotten) == ["a", "b"]
    assert drafter.n_idle > 0
    drafted.loop.close()
    assert drafter.closed


@attrs.frozen
class Visitor:
    request: GenerationRequest
    arrives_at: int
    cancel_at: int | None


@st.composite
def visitors(draw: st.DrawFn, index: int, most: int) -> Visitor:
    length = draw(st.integers(1, most))
    shared = draw(st.integers(0, length))
    return Visitor(
        GenerationRequest(
            id=str(index),
            prompt=[97 + i % 5 for i in range(shared)] + [107 + (index + i) % 3 for i in range(length - shared)],
            max_tokens=draw(st.integers(1, 40)),
            cache_prompt=draw(st.booleans()),
            until_context_full=draw(st.booleans()),
            n_keep=draw(st.integers(-1, 6)),
            n_discard=draw(st.sampled_from([0, 0, 3])),
        ),
        draw(st.integers(0, 12)),
        draw(st.none() | st.integers(0, 30)),
    )


@st.composite
def parties(draw: st.DrawFn) -> tuple[dict[str, int], list[Visitor], tuple[int, ...], DraftRules]:
    n_slots = draw(st.integers(1, 4))
    n_cells = draw(st.sampled_from([24, 40, 64, 128]))
    n_ctx_slot = draw(st.sampled_from([n_cells, n_cells // n_slots, n_cells * 2 // (n_slots + 1)]))
    fields: dict[str, int] = {
        "n_slots": n_slots, "n_cells": n_cells, "n_ctx_slot": n_ctx_slot, "can_shift": draw(st.booleans()),
        "kv_unified": draw(st.booleans()),
        "n_seqs": n_slots + draw(st.sampled_from([0, 1, 6])), "n_batch": draw(st.sampled_from([4, 8, 16, 64])),
    }  # fmt: skip
    guests = [draw(visitors(i, min(30, n_ctx_slot - 1))) for i in range(draw(st.integers(1, 6)))]
    pattern = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=5)))
    rules = DraftRules(
        longest=draw(st.sampled_from([1, 3, 8])),
        least=draw(st.sampled_from([1, 2])),
        most_rows=min(fields["n_batch"], draw(st.sampled_from([6, 64]))),
    )
    return fields, guests, pattern, rules


@given(parties())
@settings(deadline=None)
def test_whoever_comes_and_goes_the_text_is_that_of_a_request_alone(
    party: tuple[dict[str, int], list[Visitor], tuple[int, ...], DraftRules],
) -> None:
    fields, guests, pattern, rules = party
    drafted = driver(pattern, rules=rules, **fields)
    cancelled: set[str] = set()
    step = 0
    while step < 31 or drafted.busy:
        assert step < 2000, "somebody starves"
        for guest in guests:
            if guest.arrives_at == step:
                drafted.submit(guest.request)
            if guest.cancel_at == step and guest.arrives_at < step:
                cancelled.add(guest.request.id)
                drafted.cancel(guest.request.id)
        drafted.step()  # which checks the books
        step += 1
    drafted.check_idle()
    for guest in guests:
        expected = reference(guest.request, drafted.scheduler.limits)
        box = drafted.boxes[guest.request.id]
        if guest.request.id in cancelled and not box.terminals:
            assert box.tokens == expected.tokens[: len(box.tokens)]
        else:
            assert box.tokens == expected.tokens
            assert isinstance(box.events[-1], Finished)


@pytest.mark.parametrize("kv_unified", [True, False])
@pytest.mark.parametrize("step", range(12))
def test_a_request_can_be_cancelled_at_every_step(step: int, kv_unified: bool) -> None:
    drafted = driver((4, 0, 2, 6), n_slots=2, kv_unified=kv_unified)
    drafted.ask("a", "hello", max_tokens=50)
    other = drafted.ask("b", "hello there", max_tokens=50)
    drafted.steps(step)
    drafted.cancel("a")
    drafted.finish()
    drafted.check_idle()
    assert other.tokens == continuation(list(b"hello there"), 50)
