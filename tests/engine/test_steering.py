"""What may come next: a grammar that is woken, obeyed, completed or given up, and the limit to reasoning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.requests import GenerationRequest, SamplingParams, Thinking, Trigger
from engine.text.steering import Phase, Steering, steering_for
from tests.engine.fake_backend import EOG, FakeVocab, bits_of
from tests.engine.fake_grammar import FakeGrammars, TextsMatcher
from tests.engine.test_detokenizer import every_split

CALL = Trigger("<c>", included=True)
BEHIND = Trigger("</t>", included=False)
THINKING = Thinking(budget=2, open=True, start="<t>", end_text="</t>", end=tuple(b"</t>"))


class Speaker:
    """A steering and who obeys it; tokens are bytes, or pieces that get a number when they are first said."""

    def __init__(self, texts: str | None = None, *triggers: Trigger, **fields: object) -> None:
        self.vocab = FakeVocab()
        self.matcher: TextsMatcher | None = None
        if texts is not None:
            self.matcher = FakeGrammars(self.vocab).of(texts).matcher()
        self.steering = Steering(n_vocab=257, matcher=self.matcher, triggers=triggers, **fields)
        self.said = b""

    def token(self, piece: bytes) -> int:
        if len(piece) == 1:
            return piece[0]
        for token, known in self.vocab.pieces.items():
            if known == piece:
                return token
        token = 128 + len(self.vocab.pieces)
        self.vocab.pieces[token] = piece
        return token

    def say(self, *pieces: bytes) -> None:
        """The model says so, and nothing is forced meanwhile."""
        for piece in pieces:
            assert self.steering.forced() is None
            self.accept(self.token(piece), piece)

    def accept(self, token: int, piece: bytes) -> None:
        self.said += piece
        self.steering.accept(token, piece)

    def follow(self) -> bytes:
        """Say all that is forced."""
        said = b""
        while (token := self.steering.forced()) is not None:
            piece = self.vocab.piece(token, special=True)
            self.accept(token, piece)
            said += piece
        return said

    @property
    def allowed(self) -> bytes | None:
        """The characters that may come next, an end token as ``.``; None: any."""
        mask = self.steering.mask()
        return None if mask is None else bytes(46 if token == EOG else token for token in bits_of(mask))


# --- grammars ---


def test_without_triggers_a_grammar_holds_from_the_first_token() -> None:
    speaker = Speaker("ab|ac|b")
    assert speaker.steering.phase is Phase.ACTIVE
    assert speaker.allowed == b"ab"
    speaker.say(b"a")
    assert speaker.allowed == b"bc"
    assert not speaker.steering.complete
    speaker.say(b"c")
    assert speaker.steering.complete


def test_a_text_that_might_go_on_is_not_complete_and_may_end() -> None:
    speaker = Speaker("a|ab|ac|b")
    speaker.say(b"a")
    assert not speaker.steering.complete
    assert speaker.allowed == b"bc."


def test_the_empty_text_is_complete_at_once() -> None:
    assert Speaker("").steering.complete


def test_a_waiting_grammar_asks_for_nothing() -> None:
    speaker = Speaker("<c>ab", CALL)
    speaker.say(b"so ", b"<", b"c")
    assert (speaker.allowed, speaker.steering.needs_mask, speaker.steering.complete) == (None, False, False)
    assert speaker.matcher.n_masks == 0


def test_an_included_trigger_begins_the_grammar_under_every_split() -> None:
    for pieces in every_split(b"x<c>ab"):
        speaker = Speaker("<c>abcd|<c>abef", CALL)
        for piece in pieces:
            speaker.accept(speaker.token(piece), piece)
        assert speaker.steering.phase is Phase.ACTIVE
        assert speaker.matcher.text == b"<c>ab"
        assert speaker.allowed == b"ce"


def test_a_trigger_that_is_not_included_lets_the_grammar_begin_behind_it_under_every_split() -> None:
    for pieces in every_split(b"x</t>ab"):
        speaker = Speaker("abcd|abef", BEHIND)
        for piece in pieces:
            speaker.accept(speaker.token(piece), piece)
        assert speaker.steering.phase is Phase.ACTIVE
        assert speaker.matcher.text == b"ab"
        assert speaker.allowed == b"ce"


@pytest.mark.parametrize("pieces", [[b"<c>x"], [b"y<c", b">x"], [b"<c>", b"x"]])
def test_text_that_does_not_fit_the_grammar_is_no_reason_to_stop(pieces: list[bytes]) -> None:
    speaker = Speaker("<c>ab", CALL)
    for piece in pieces:
        speaker.accept(speaker.token(piece), piece)
    assert speaker.steering.phase is Phase.DONE
    assert speaker.allowed is None
    speaker.say(b"<c>", b"whatever")
    assert not speaker.steering.complete


def test_a_grammar_that_fails_on_the_way_is_given_up() -> None:
    speaker = Speaker("ab$|ac$|b")
    speaker.say(b"a", b"b")
    assert speaker.allowed is None
    assert speaker.steering.phase is Phase.DONE
    speaker.say(b"z")


def test_the_second_trigger_wakes_nothing_more() -> None:
    speaker = Speaker("<c>a<c>b|<c>z", CALL)
    speaker.say(b"<c>")
    speaker.say(b"a")
    assert speaker.follow() == b"<c>b"
    assert speaker.steering.complete


def test_an_empty_trigger_is_there_from_the_beginning() -> None:
    assert Speaker("ab", Trigger("", included=True)).steering.phase is Phase.ACTIVE


def test_each_state_has_its_mask_computed_once() -> None:
    speaker = Speaker("ab|ac|cd")
    assert speaker.steering.needs_mask
    speaker.steering.compute_mask()
    assert not speaker.steering.needs_mask
    assert speaker.allowed == speaker.allowed == b"ac"
    assert speaker.matcher.n_masks == 1
    speaker.say(b"a")
    assert speaker.steering.needs_mask
    assert speaker.allowed == b"bc"
    assert speaker.matcher.n_masks == 2


# --- forced tokens ---


def test_what_is_forced_is_told_token_by_token() -> None:
    speaker = Speaker("xabc|xabde|y")
    speaker.say(b"x")
    assert speaker.follow() == b"ab"
    speaker.say(b"d")
    assert speaker.follow() == b"e"
    assert speaker.steering.complete


def test_what_is_forced_from_the_beginning() -> None:
    speaker = Speaker("abc")
    assert not speaker.steering.needs_mask
    assert speaker.follow() == b"abc"


def test_a_forbidden_token_is_not_forced() -> None:
    speaker = Speaker("abcd", forbidden=frozenset(b"c"))
    assert speaker.follow() == b"ab"
    assert speaker.allowed == b"c", "who forbids what the grammar demands has to hear of it"


def test_without_fast_forward_forced_tokens_are_sampled() -> None:
    speaker = Speaker("abc", fast_forward=False)
    for char in b"abc":
        assert speaker.steering.forced() is None
        assert speaker.allowed == bytes([char])
        speaker.say(bytes([char]))
    assert speaker.steering.complete


def test_another_token_than_the_forced_one_drops_the_others() -> None:
    speaker = Speaker(thinking=THINKING)
    speaker.say(b"a", b"b")
    assert speaker.steering.forced() == ord("<")
    speaker.accept(ord("z"), b"z")
    assert speaker.steering.forced() is None


# --- reasoning ---


@pytest.mark.parametrize("budget", [0, 1, 3])
def test_reasoning_is_ended_after_its_budget(budget: int) -> None:
    speaker = Speaker(thinking=Thinking(budget=budget, open=True, start="", end_text="</t>", end=tuple(b"</t>\n")))
    speaker.say(*[b"x"] * budget)
    assert speaker.follow() == b"</t>\n"
    speaker.say(*[b"y"] * 20)
    assert speaker.allowed is None


def test_the_end_of_reasoning_may_wake_the_grammar() -> None:
    speaker = Speaker("ab|ac", BEHIND, thinking=THINKING)
    speaker.say(b"x", b"y")
    assert speaker.follow() == b"</t>a"
    assert speaker.allowed == b"bc"


@pytest.mark.parametrize(("texts", "said"), [("\na|\nb", b"</t>\n"), ("a|b", b"</t>")])
def test_what_comes_behind_the_end_of_reasoning_is_the_grammars_to_allow(texts: str, said: bytes) -> None:
    thinking = Thinking(budget=2, open=True, start="", end_text="</t>", end=tuple(b"</t>\n"))
    speaker = Speaker(texts, BEHIND, thinking=thinking)
    speaker.say(b"x", b"y")
    assert speaker.follow() == said
    assert speaker.allowed == b"ab"


def test_a_call_ends_the_reasoning() -> None:
    speaker = Speaker(
        "<c>abc|<c>abd", CALL, thinking=Thinking(budget=3, open=True, start="", end_text="</t>", end=(1,))
    )
    speaker.say(b"x", b"<c>")
    assert speaker.follow() == b"ab"
    speaker.say(b"c")
    assert speaker.steering.complete


def test_a_grammar_that_covers_the_reasoning_has_the_last_word() -> None:
    speaker = Speaker("xxx</t>a|xxx</t>b|xxx</t>c", thinking=THINKING, fast_forward=False)
    speaker.say(b"x", b"x")
    assert speaker.allowed == b"x", "the end may not come yet"
    speaker.say(b"x")
    for char in b"</t>":
        assert speaker.allowed == bytes([char])
        speaker.say(bytes([char]))
    assert speaker.allowed == b"abc"


def test_without_fast_forward_the_end_of_reasoning_is_sampled_too() -> None:
    speaker = Speaker(thinking=THINKING, fast_forward=False)
    speaker.say(b"x", b"y")
    for char in b"</t>":
        assert speaker.allowed == bytes([char])
        assert not speaker.steering.needs_mask
        speaker.say(bytes([char]))
    assert speaker.allowed is None


# --- any text ---


@given(st.data(), st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4), st.booleans())
def test_who_obeys_says_a_text_of_the_grammar(data: st.DataObject, texts: list[str], fast: bool) -> None:
    speaker = Speaker("|".join(texts), fast_forward=fast)
    while not speaker.steering.complete:
        if speaker.follow():
            continue
        chosen = data.draw(st.sampled_from(speaker.allowed))
        if chosen == ord("."):
            break
        speaker.say(bytes([chosen]))
    assert speaker.said.decode() in texts


# --- from a request ---


def test_a_request_without_wishes_is_not_steered() -> None:
    assert steering_for(GenerationRequest(id="a", prompt=[1]), 257) is None


def test_a_request_gets_what_it_asks_for() -> None:
    grammar = FakeGrammars(FakeVocab()).of("<c>ab", CALL)

    def steering(**sampling: object) -> Steering:
        request = GenerationRequest(id="a", prompt=[1], grammar=grammar, sampling=SamplingParams(**sampling))
        made = steering_for(request, 257)
        assert made is not None
        for char in b"<c>":
            made.accept(char, bytes([char]))
        return made

    assert steering().forced() == ord("a")
    assert steering(logprobs=True).forced() is None
    assert steering(n_probs=2).forced() is None
    assert steering(logit_bias=((ord("a"), -float("inf")), (ord("b"), -3.0))).forced() is None
    assert steering(logit_bias=((ord("a"), -3.0),)).forced() == ord("a")
    assert len(grammar.matchers) == 5, "one for each request"
