"""Grammars, visible markers and limits to reasoning in the loop, on the fake backend stepped by hand."""

import threading
from collections.abc import Iterator

import pytest

from engine.errors import InvalidRequest
from engine.text.backend import DecodeStatus
from engine.text.commands import Cancel, Stop
from engine.text.events import FinishReason, PrefillProgress, Tokens
from engine.text.requests import SamplingParams, Thinking, Trigger
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import EOG, FakeBackend, continuation
from tests.engine.fake_grammar import FakeGrammar

PROMPT = "hello"


@pytest.fixture(params=[0, 2], ids=["no threads", "threads"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    driver = Driver(mask_threads=request.param)
    yield driver
    driver.loop.close()


def grammar(driver: Driver, texts: str, *triggers: Trigger) -> FakeGrammar:
    return driver.backend.grammars.of(texts, *triggers)


def ask(driver: Driver, texts: str, max_tokens: int | None = 50, request_id: str = "a", **fields: object) -> Box:
    return driver.ask(request_id, PROMPT, max_tokens, grammar=grammar(driver, texts), **fields)


def check_complete(box: Box, text: str) -> None:
    assert (box.text, box.finished().reason) == (text, FinishReason.EOS)
    assert box.tokens == list(text.encode())


# --- grammars ---


def test_only_what_the_grammar_allows_is_generated(driver: Driver) -> None:
    box = ask(driver, "xay|xbz|q")
    driver.finish()
    assert box.text in ("xay", "xbz", "q")
    check_complete(box, box.text)
    driver.check_idle()


def test_a_complete_text_ends_without_another_step(driver: Driver) -> None:
    box = ask(driver, "ax|bx|cx")
    driver.finish()
    assert len(box.text) == 2
    check_complete(box, box.text)
    assert driver.backend.n_decodes == 1, "the prompt; x is forced, and nobody asks for what comes behind it"


def test_a_text_that_may_end_ends_where_the_model_says_so(driver: Driver) -> None:
    driver.backend.choose = lambda history: EOG if history[-1] == ord("b") else ord("b")
    box = ask(driver, "ab|abb|abbb")
    driver.finish()
    check_complete(box, "ab")


def test_the_end_may_not_come_before_the_grammar_allows_it(driver: Driver) -> None:
    driver.backend.choose = lambda history: EOG
    box = ask(driver, "xa|yb")
    driver.finish()
    check_complete(box, box.text)
    assert box.text


def test_forced_tokens_are_computed_in_one_run(driver: Driver) -> None:
    runs: list[int] = []
    driver.backend.before_decode = lambda batch: runs.extend(len(run.tokens) for run in batch)
    box = ask(driver, "the long beginning a1|the long beginning b2|the long beginning c3")
    driver.finish()
    check_complete(box, box.text)
    assert runs == [len(PROMPT), len("the long beginning ")]
    assert [e.text for e in box.events] == ["the long beginning ", box.text[-2:]]
    sampler = driver.backend.samplers[0]
    assert sampler.seen == [*PROMPT.encode(), *box.tokens], "penalties see what was forced"
    assert box.finished().timings.predicted_n == len(box.text)


def test_who_wants_probabilities_gets_them_for_every_token(driver: Driver) -> None:
    box = ask(driver, "abc|abd", sampling=SamplingParams(logprobs=True))
    driver.finish()
    check_complete(box, box.text)
    assert [info.token for e in box.events for info in e.infos] == box.tokens
    assert driver.backend.n_decodes == 3


def test_an_empty_text_is_a_generation_too(driver: Driver) -> None:
    box = ask(driver, "")
    driver.finish()
    check_complete(box, "")
    driver.check_idle()


def test_a_grammar_that_fails_is_given_up_and_the_text_goes_on(driver: Driver) -> None:
    box = ask(driver, "ab$|ac$|b", 6)
    driver.backend.choose = lambda history: ord("c") if history[-1] == ord("a") else ord("a")
    driver.finish()
    assert (box.text, box.finished().reason) == ("acacac", FinishReason.LIMIT)


def test_a_triggered_grammar_leaves_the_text_before_it_alone(driver: Driver) -> None:
    driver.backend.say(len(PROMPT), [b"so", b" <", b"c>", b"?", b"?", b"?", b"?"])
    made = grammar(driver, "<c>[1]|<c>[2]", Trigger("<c>", included=True))
    box = driver.ask("a", PROMPT, 50, grammar=made)
    driver.finish()
    assert box.text in ("so <c>[1]", "so <c>[2]")
    assert box.finished().reason is FinishReason.EOS


def test_a_limit_ends_a_forced_text(driver: Driver) -> None:
    box = ask(driver, "abcdefgh", 3)
    driver.finish()
    assert (box.text, box.finished().reason) == ("abc", FinishReason.LIMIT)
    assert box.finished().timings.predicted_n == 3
    driver.check_idle()


def test_a_stop_string_ends_a_forced_text(driver: Driver) -> None:
    box = ask(driver, "abcdefgh", stop=("de",))
    driver.finish()
    end = box.finished()
    assert (box.text, end.reason, end.stopping_word) == ("abc", FinishReason.WORD, "de")
    driver.check_idle()


def test_a_full_context_ends_a_forced_text() -> None:
    driver = Driver(FakeBackend(n_cells=16, n_slots=1))
    box = ask(driver, "a" * 40, None, until_context_full=True)
    driver.finish()
    end = box.finished()
    assert (end.reason, end.truncated, len(box.tokens)) == (FinishReason.LIMIT, True, 16 - len(PROMPT) + 1)


def test_a_context_is_shifted_under_a_forced_text() -> None:
    driver = Driver(FakeBackend(n_cells=16, n_slots=1))
    box = ask(driver, "a" * 60 + "1|" + "a" * 60 + "2", 80)
    driver.finish()
    check_complete(box, box.text)
    assert box.finished().truncated
    driver.check_idle()


def test_progress_is_told_of_prompts_only() -> None:
    driver = Driver(FakeBackend(n_batch=8))
    box = ask(driver, "a" * 20 + "1|" + "a" * 20 + "2", report_progress=True)
    driver.finish()
    check_complete(box, box.text)
    assert len([e for e in box.events if isinstance(e, PrefillProgress)]) == 1


def test_everything_forbidden_fails_the_request_alone(driver: Driver) -> None:
    driver.backend.samplers.clear()
    other = driver.ask("other", "world", 5)
    box = ask(driver, "ab|cd")
    driver.backend.choose = lambda history: continuation(history, 1)[0]

    def nothing_left(index: int, mask: object = None) -> object:
        raise InvalidRequest("nothing is allowed")

    driver.backend.before_decode = lambda runs: setattr(driver.backend.samplers[1], "sample", nothing_left)
    driver.finish()
    assert str(box.failed().error) == "nothing is allowed"
    assert other.tokens == continuation(list(b"world"), 5)
    driver.check_idle()


def test_steered_and_free_requests_do_not_disturb_each_other(driver: Driver) -> None:
    boxes = [ask(driver, "[alpha]|[beta]|[gamma]", request_id=f"s{i}") for i in range(2)]
    free = driver.ask("free", "world", 12)
    driver.finish()
    for box in boxes:
        check_complete(box, box.text)
    assert free.tokens == continuation(list(b"world"), 12)
    driver.check_idle()


def mask_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("llama-box masks")]


def test_threads_are_there_from_the_first_mask_to_the_end() -> None:
    driver = Driver(mask_threads=2)
    driver.ask("free", "world", 3)
    driver.finish()
    assert not mask_threads()
    ask(driver, "ab|bc")
    driver.finish()
    assert mask_threads()
    driver.loop.close()
    assert not mask_threads()
    box = ask(driver, "ab|bc", request_id="late")
    driver.finish()
    check_complete(box, box.text)
    driver.loop.commands.put(Stop())
    driver.loop.run()
    assert not mask_threads()


# --- at every step ---


def texts() -> str:
    return "|".join("begin: " + middle + " and so it ends" for middle in ("one", "two", "three"))


@pytest.mark.parametrize("what", ["cancel", "abort", "no room"])
def test_disturbed_at_every_step(driver: Driver, what: str) -> None:
    """Forced runs that are cancelled, aborted or find no room leave no trace in the books nor in a text."""
    for at in range(12):
        backend = FakeBackend(n_batch=8)
        game = Driver(backend, mask_threads=driver.loop._masks._threads)
        boxes = [ask(game, texts(), request_id=key) for key in ("a", "b")]
        if what != "cancel":
            status = DecodeStatus.ABORTED if what == "abort" else DecodeStatus.NO_ROOM
            backend.script = lambda runs, at=at, status=status, backend=backend: (
                status if backend.n_decodes == at + 1 else None
            )
        for step in range(at + 1):
            if what == "cancel" and step == at:
                game.cancel("a")
            if game.busy:
                game.step()
        game.finish()
        game.loop.close()
        game.check_idle()
        for box in boxes if what != "cancel" else boxes[1:]:
            assert box.text in texts().split("|")
            check_complete(box, box.text)
        if not boxes[0].terminals:
            assert what == "cancel"
            assert any(text.startswith(boxes[0].text) for text in texts().split("|"))


def test_a_cancel_while_a_mask_is_computed(driver: Driver) -> None:
    box = ask(driver, "ab|bc")
    driver.backend.before_decode = lambda runs: driver.loop.commands.put(Cancel("a"))
    driver.backend.script = lambda runs: DecodeStatus.ABORTED
    driver.step()
    driver.step()
    assert not box.terminals
    assert not driver.busy
    driver.check_idle()


# --- reasoning ---


def test_reasoning_is_ended_by_force(driver: Driver) -> None:
    thinking = Thinking(budget=3, open=True, start="", end_text="</t>", end=tuple(b"</t>"))
    box = driver.ask("a", PROMPT, 12, thinking=thinking)
    driver.finish()
    first = continuation(list(PROMPT.encode()), 3)
    history = [*PROMPT.encode(), *first, *b"</t>"]
    assert box.tokens == [*first, *b"</t>", *continuation(history, 5)]
    assert driver.backend.n_decodes == 3 + 1 + 4, "the end is computed in one run"
    driver.check_idle()


def test_no_reasoning_at_all(driver: Driver) -> None:
    thinking = Thinking(budget=0, open=True, start="", end_text="</t>", end=tuple(b"</t>"))
    box = driver.ask("a", PROMPT, 6, thinking=thinking)
    driver.finish()
    assert box.tokens == [*b"</t>", *continuation([*PROMPT.encode(), *b"</t>"], 2)]


def test_reasoning_that_the_output_begins_itself(driver: Driver) -> None:
    driver.backend.say(len(PROMPT), [b"<t>", *[b"x"] * 30])
    thinking = Thinking(budget=2, open=False, start="<t>", end_text="</t>", end=tuple(b"</t>"))
    box = driver.ask("a", PROMPT, 9, thinking=thinking)
    driver.finish()
    assert box.text == "<t>xx</t>xx"


# --- markers ---


def test_visible_markers_are_text_and_others_are_not(driver: Driver) -> None:
    driver.backend.vocab.hidden = {1: b"<call>", 2: b"<other>"}
    driver.backend.choose = lambda history: [1, 2, ord("x"), EOG][len(history) - len(PROMPT)]
    box = driver.ask("a", PROMPT, 50, visible=frozenset({1, EOG}))
    driver.finish()
    assert (box.text, box.tokens) == ("<call>x", [1, 2, ord("x")])
    assert box.finished().reason is FinishReason.EOS


def test_a_visible_marker_may_wake_a_grammar(driver: Driver) -> None:
    driver.backend.vocab.hidden = {1: b"<call>"}
    driver.backend.choose = lambda history: 1
    made = grammar(driver, "<call>ok", Trigger("<call>", included=True))
    box = driver.ask("a", PROMPT, 50, visible=frozenset({1}), grammar=made)
    driver.finish()
    assert (box.text, box.tokens) == ("<call>ok", [1, *b"ok"])


# --- pace ---


def test_forced_tokens_keep_the_pace(driver: Driver) -> None:
    began = driver.clock.now
    box = ask(driver, "abcdefgh1|abcdefgh2|abcdefgh3", tokens_per_second=2.0)
    driver.finish()
    check_complete(box, box.text)
    assert driver.clock.now - began == pytest.approx(4.0), "eight tokens before the last decode"
    assert isinstance(box.events[0], Tokens)
