"""Grammars by llguidance over the tiny model's vocabulary: what compiles, what is refused, what is closed."""

import threading
from collections.abc import Iterator

import pytest

from engine.errors import EngineUnavailable, InvalidRequest
from engine.guidance.grammars import GuidanceGrammars
from engine.guidance.reason import readable
from engine.guidance.trial import needs_trial
from engine.native.library import start
from engine.text.llama_backend import LlamaBackend
from engine.text.requests import GrammarSpec, Matcher
from tests.engine.fake_backend import bits_of
from tests.models.tiny_llm import EOS
from tests.native.conftest import MakeBackend


@pytest.fixture(scope="module")
def model(tiny_model: object) -> Iterator[LlamaBackend]:
    from engine.native.options import ContextOptions, ModelOptions

    backend = LlamaBackend(ModelOptions(path=str(tiny_model)), ContextOptions(n_ctx=64))
    yield backend
    backend.close()


def matcher(model: LlamaBackend, source: str) -> Matcher:
    return model.grammars.compile(GrammarSpec(source=source)).matcher()


def allowed(model: LlamaBackend, matcher: Matcher) -> list[bytes]:
    matcher.compute_mask()
    return [model.vocab.piece(token, special=True) for token in bits_of(matcher.mask)]


def tokens(model: LlamaBackend, text: str) -> list[int]:
    return model.vocab.tokenize(text, add_special=False, parse_special=False)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llama-box grammar vocabulary"]


# --- matchers ---


def test_a_matcher_follows_its_grammar(model: LlamaBackend) -> None:
    m = matcher(model, 'start: " the" | " then" | " all"')
    assert set(allowed(model, m)) == {b" ", b" t", b" th", b" the", b" a", b" al", b" all"}
    assert m.consume(tokens(model, " the"))
    assert (m.complete, m.error) == (False, "")
    assert set(allowed(model, m)) == {b"n", b"</s>", b"<|im_end|>"}, "all ends of a text are one"
    assert m.consume(tokens(model, "n"))
    assert (m.complete, m.error) == (True, "")


def test_matchers_of_one_grammar_do_not_know_of_each_other(model: LlamaBackend) -> None:
    grammar = model.grammars.compile(GrammarSpec(source='start: "ab"'))
    first, second = grammar.matcher(), grammar.matcher()
    assert first.consume(tokens(model, "ab"))
    assert first.complete
    assert not second.complete
    assert second.validate(tokens(model, "ab")) == len(tokens(model, "ab"))


def test_what_is_forced(model: LlamaBackend) -> None:
    m = matcher(model, 'start: "hello" ("1" | "2")')
    assert b"".join(model.vocab.piece(token, special=False) for token in m.forced()) == b"hello"
    assert m.consume(m.forced())
    assert m.forced() == []


def test_a_refused_token_leaves_an_error(model: LlamaBackend) -> None:
    m = matcher(model, 'start: "ab"')
    assert m.validate(tokens(model, "xy")) == 0
    assert m.error == ""
    assert not m.consume(tokens(model, "xy"))
    assert "satisfy the grammar" in m.error
    assert "\n" not in m.error


def test_control_tokens_are_no_text(model: LlamaBackend) -> None:
    start_of_turn = model.vocab.tokenize("<|im_start|>", add_special=False, parse_special=True)
    m = matcher(model, "start: /(?s:.*)/")
    m.compute_mask()
    assert set(bits_of(m.mask)) & set(model.vocab.control_tokens()) == set(model.vocab.eog)
    assert m.validate(start_of_turn) == 0
    m = matcher(model, f'start: <[{start_of_turn[0]}]> "x"')
    assert m.forced()[:1] == start_of_turn
    assert m.validate(tokens(model, "<|im_start|>")) == 0


def test_bytes_are_tokenized_as_text_even_in_the_middle_of_a_character(model: LlamaBackend) -> None:
    m = matcher(model, "start: /(?s:.*)/")
    for data in (b"", b"the end", "é€😀".encode(), "é".encode()[1:], b"\xff\x00", b"<|im_end|>"):
        made = m.tokenize(data)
        assert b"".join(model.vocab.piece(token, special=True) for token in made) == data
        assert not set(made) & set(model.vocab.control_tokens())


def test_the_source_is_lark_whatever_it_looks_like(model: LlamaBackend) -> None:
    with pytest.raises(InvalidRequest, match=r"begins with \{"):
        matcher(model, ' {"grammars": [{"lark_grammar": "start: \\"a\\""}]}')


# --- refusals ---


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "Empty grammar|empty"),
        ("start: nowhere", 'unknown name: "nowhere"'),
        ('start: "a', "lexer error"),
        ("start: /(/", "unclosed group"),
        ('start: x\nx: %json {"type": "nonsense"}', "cannot be used: JSON schema: Invalid type: nonsense$"),
        ('start: x\nx: %json {"type": "string", "pattern": "(?=a)"}', "look-around"),
        ("start: x\nx: x x", "no text matches it"),
        ("start: <[99999]>", "99999"),
        ("start: " + "(" * 20_000 + '"a"' + ")" * 20_000, "too deeply nested"),
        ("start: /" + "(" * 20_000 + "a" + ")" * 20_000 + "/", "invalid regex"),
        ("start: x\nx: %json " + "[" * 100_000, "recursion limit"),
        ("start: x\nx: %json " + '{"not":' * 20_000 + "1" + "}" * 20_000, "recursion limit"),
        ('start: "' + "a" * 300_000 + '"', "more than 262144 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_reason(model: LlamaBackend, source: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        model.grammars.compile(GrammarSpec(source=source))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    assert "backtrace" not in message


@pytest.mark.parametrize(
    "source",
    [
        'start: ("a"{1000}){1000}',
        "start: /((a{1000}){1000}){1000}/",
        'start: x{1000000000}\nx: "a" | "b" x',
        'start: x\nx: x x | "a" |',
        "start: /(a|b)*a(a|b){30}/",
        "start: " + '"a"? ' * 2000,
        'start: x\nx: %json {"type": "array", "items": {"enum": ["a"]}, "minItems": 100000000}',
    ],
)
def test_a_grammar_that_is_too_much_ends_in_an_error_or_goes_on(model: LlamaBackend, source: str) -> None:
    try:
        m = matcher(model, source)
    except InvalidRequest as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "too many" in refusal.lower() or "max is 2000" in refusal
        return
    for char in ("[", '"') if "json" in source else "aaaaa":
        m.compute_mask()
        assert m.consume(tokens(model, char))
    m.forced()
    assert not m.error


def test_a_grammar_that_would_kill_the_process_is_refused(model: LlamaBackend) -> None:
    rules = "".join(f'r{i}: r{i + 1} "a"\n' for i in range(8000))
    with pytest.raises(InvalidRequest, match="too complex"):
        model.grammars.compile(GrammarSpec(source=f'start: r0\n{rules}r8000: "x"'))


def test_a_grammar_that_would_take_for_ever_is_refused(model: LlamaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.guidance.trial._TIMEOUT", 1.5)
    patterns = [f'{{"pattern": "w{i}"}}' for i in range(40)]
    schema = f'{{"type": "string", "allOf": [{", ".join(patterns)}]}}'
    with pytest.raises(InvalidRequest, match="too complex"):
        model.grammars.compile(GrammarSpec(source=f"start: x\nx: %json {schema}"))


def test_what_might_do_harm_and_does_not_is_compiled(model: LlamaBackend) -> None:
    source = 'start: x\nx: %json {"allOf": [{"type": "string", "pattern": "^[a-c]+$"}, {"maxLength": 3}]}'
    assert needs_trial(source)
    assert matcher(model, source).validate(tokens(model, '"abc"')) == len(tokens(model, '"abc"'))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('start: "a" | /[b-d]+/', False),
        ('start: x\nx: %json {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}', False),
        ("start: a & b", True),
        ("start: ~a", True),
        ('start: %json {"\\u0061llOf": []}', True),
        ('start: "' + "a" * 70_000 + '"', True),
        ("start: a\n" + 'b: "x"\n' * 501, True),
        ('start: %json {"$ref": ' + "{" * 301, True),
    ],
)
def test_what_is_tried_in_a_child_first(source: str, expected: bool) -> None:
    assert needs_trial(source) is expected


def test_reasons_are_one_line() -> None:
    assert readable('at 1(8): unknown name: "b"\n   1 | start: b\n             ^\n') == 'at 1(8): unknown name: "b"'
    assert readable("panic: assertion failed\n<backtrace>\n 0: somewhere") == "assertion failed"
    assert readable("Parser Error: no\n<state>\nTokens: many") == "Parser Error: no"
    assert readable("x" * 1000) == "x" * 399 + "…"


# --- cache ---


def test_the_grammars_used_last_are_kept(model: LlamaBackend) -> None:
    kept = model.grammars._kept
    kept.clear()
    for i in range(100):
        model.grammars.compile(GrammarSpec(source=f'start: "{i}"'))
        model.grammars.compile(GrammarSpec(source='start: "often"'))
    assert len(kept) == 64
    first = kept['start: "often"']
    assert model.grammars.compile(GrammarSpec(source='start: "often"'))._prototype is first
    assert 'start: "99"' in kept
    assert 'start: "0"' not in kept


def test_what_did_not_compile_is_not_tried_again(model: LlamaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    source = GrammarSpec(source="start: not_there")
    with pytest.raises(InvalidRequest) as first:
        model.grammars.compile(source)

    def never(self: GuidanceGrammars, tokenizer: object, source: str) -> None:
        raise AssertionError("that was found out before")

    monkeypatch.setattr(GuidanceGrammars, "_compile", never)
    with pytest.raises(InvalidRequest) as second:
        model.grammars.compile(source)
    assert str(second.value) == str(first.value)


def test_a_trial_that_could_not_be_made_says_nothing_of_the_grammar(
    model: LlamaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = GrammarSpec(source='start: x\nx: %json {"type": "string", "pattern": "abc"}')
    with monkeypatch.context() as patch:
        patch.setattr("engine.guidance.trial.module_command", lambda module: ("false",))
        with pytest.raises(EngineUnavailable, match="could not be tried"):
            model.grammars.compile(spec)
    assert model.grammars.compile(spec).matcher().validate(tokens(model, '"abc"'))


def test_what_of_a_schema_is_not_enforced_is_logged_once(model: LlamaBackend, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="engine.guidance")
    schema = '{"type": "object", "propertyNames": {"maxLength": 3}, "x-guidance": {"lenient": true}}'
    for _ in range(2):
        model.grammars.compile(GrammarSpec(source=f"start: x\nx: %json {schema}"))
    assert caplog.messages == ['not enforced of a JSON schema: Unimplemented keys: ["propertyNames"]']


# --- the vocabulary's preparation ---


def test_the_vocabulary_is_prepared_once_and_compile_waits_for_it(make_backend: MakeBackend) -> None:
    backend = make_backend()
    assert not threads(), "nobody has asked for it yet"
    backend.grammars.prepare()
    backend.grammars.prepare()
    assert matcher(backend, 'start: "ab"').validate(tokens(backend, "ab")) == len(tokens(backend, "ab"))
    backend.close()
    assert not threads()


def test_closing_while_the_vocabulary_is_being_prepared(
    make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preparation ends, who waits for it is refused, and the model outlives both."""
    backend = make_backend()
    begun, go_on = threading.Event(), threading.Event()
    refusals: list[str] = []
    real = backend.vocab.pieces

    def slow(first: int, last: int) -> list[bytes]:
        begun.set()
        assert go_on.wait(20)
        return real(first, last)

    def ask() -> None:
        with pytest.raises(EngineUnavailable) as caught:
            backend.grammars.compile(GrammarSpec(source='start: "a"'))
        refusals.append(str(caught.value))

    monkeypatch.setattr("engine.guidance.tokenizer._AT_ONCE", 100)
    monkeypatch.setattr(backend.vocab, "pieces", slow)
    asker = threading.Thread(target=ask)
    asker.start()
    assert begun.wait(20)
    closer = threading.Thread(target=backend.close)
    closer.start()
    while not backend.grammars._closed.is_set():
        assert closer.is_alive()
    go_on.set()
    for thread in (closer, asker):
        thread.join(20)
        assert not thread.is_alive()
    assert refusals == ["the server is shutting down"]
    assert not threads()
    assert backend.vocab.handle is None


def test_after_the_end_nothing_is_compiled(make_backend: MakeBackend) -> None:
    backend = make_backend()
    grammar = backend.grammars.compile(GrammarSpec(source='start: "ab"'))
    used = grammar.matcher()
    backend.close()
    backend.grammars.close()
    with pytest.raises(EngineUnavailable):
        backend.grammars.compile(GrammarSpec(source='start: "ab"'))
    backend.grammars.prepare()
    assert not threads()
    del used  # what still exists is freed without the model


def test_closed_before_anybody_asked(make_backend: MakeBackend) -> None:
    backend = make_backend()
    backend.close()
    with pytest.raises(EngineUnavailable):
        backend.grammars.compile(GrammarSpec(source='start: "ab"'))


def test_a_model_without_a_tokenizer_has_no_grammars() -> None:
    class NoVocab:
        eog = ()

    grammars = GuidanceGrammars(NoVocab(), start().llama_tokenize)
    with pytest.raises(InvalidRequest, match="no tokenizer"):
        grammars.compile(GrammarSpec(source='start: "ab"'))
    grammars.close()


def test_a_preparation_that_fails_is_told_to_who_asks() -> None:
    class Broken:
        eog = (EOS,)
        n_vocab = 10

        def control_tokens(self) -> tuple[int, ...]:
            raise MemoryError("no memory")

    grammars = GuidanceGrammars(Broken(), start().llama_tokenize)
    with pytest.raises(EngineUnavailable, match="no memory"):
        grammars.compile(GrammarSpec(source='start: "ab"'))
    grammars.close()
