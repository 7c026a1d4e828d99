"""The whole engine with real grammars: what comes out obeys them, and where they allow everything nothing changes."""

import ctypes
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import jsonschema
import numpy as np
import pytest

from engine.guidance import grammars
from engine.guidance.gbnf import gbnf_to_lark
from engine.native import library
from engine.native.candidates import Candidates
from engine.native.options import ContextOptions, ModelOptions
from engine.text.commands import Submit
from engine.text.events import FinishReason
from engine.text.loop import Started
from engine.text.options import EngineOptions
from engine.text.requests import GenerationRequest, GrammarSpec, SamplingParams, Thinking, Trigger
from engine.text.start import start_text_engine
from tests.engine.driver import Box
from tests.engine.fake_backend import bits_of
from tests.models.tiny_llm import N_VOCAB

OPTIONS = {"x-guidance": {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "role": {"enum": ["engineer", "manager", None, 3]},
        "age": {"type": "integer", "minimum": 18, "maximum": 99},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3},
        "boss": {"anyOf": [{"type": "null"}, {"enum": [{"ok": True}, {"ok": False, "why": "é"}]}]},
    },
    "required": ["name", "role", "age", "tags"],
    "additionalProperties": False,
}
WILD = SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0)


class Engine:
    """A started engine on the tiny model, stepped by hand."""

    def __init__(self, model: Path) -> None:
        options = EngineOptions(
            model=ModelOptions(path=str(model)),
            context=ContextOptions(n_ctx=4096, n_batch=256),
            n_parallel=4,
            warmup=False,
            debug=True,
        )
        self.started: Started = start_text_engine(options, self._publish)
        self.vocab = self.started.backend.vocab
        self._asked = 0

    def _publish(self, batch: Sequence[tuple[Box, Any]]) -> None:
        for box, event in batch:
            box.events.append(event)

    def tokens(self, text: str) -> list[int]:
        return self.vocab.tokenize(text, add_special=True, parse_special=True)

    def spec(self, source: str, *triggers: Trigger) -> Any:
        return self.started.backend.grammars.compile(GrammarSpec(source=source, triggers=triggers))

    def schema(self, schema: dict[str, Any]) -> Any:
        return self.spec("start: x\nx: %json " + json.dumps(schema | OPTIONS))

    def run(self, *requests: dict[str, Any], prompt: str = "they have the") -> list[Box]:
        boxes = [Box() for _ in requests]
        for box, fields in zip(boxes, requests, strict=True):
            self._asked += 1
            request = GenerationRequest(id=str(self._asked), prompt=self.tokens(prompt), **fields)
            self.started.loop.commands.put(Submit(request, box))
        loop = self.started.loop
        for _ in range(5000):
            if all(box.terminals for box in boxes):
                loop.check_books()
                return boxes
            loop.step()
            loop._flush()
        raise AssertionError("not at an end")

    def close(self) -> None:
        self.started.loop.close()
        self.started.backend.close()


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[Engine]:
    engine = Engine(tiny_model)
    yield engine
    engine.close()


def seeds(grammar: Any, count: int, **fields: Any) -> list[dict[str, Any]]:
    sampling = fields.pop("sampling", WILD)
    return [
        {"grammar": grammar, "max_tokens": 400, "sampling": attrs.evolve(sampling, seed=seed), **fields}
        for seed in range(count)
    ]


def test_json_is_always_valid(engine: Engine) -> None:
    boxes = engine.run(*seeds(engine.schema(PERSON), 40))
    for box in boxes:
        assert box.finished().reason is FinishReason.EOS
        jsonschema.validate(json.loads(box.text), PERSON)
    assert len({box.text for box in boxes}) > 30


@pytest.mark.parametrize(
    "values",
    [
        {"repeat_penalty": 1.8, "presence_penalty": 2.0, "frequency_penalty": 1.0},
        {"logit_bias": tuple((token, 30.0) for token in range(270, 300))},
        {"samplers": ("top_k", "penalties", "temperature"), "top_k": 5, "repeat_penalty": 1.5},
        {"mirostat": 2},
        {"ignore_eos": True},
        {"temperature": 0.0},
        {"temperature": 0.0, "repeat_penalty": 1.8},
        {"n_probs": 3, "post_sampling_probs": True},
        {"logprobs": True},
    ],
)
def test_json_is_valid_whatever_the_sampling(engine: Engine, values: dict[str, Any]) -> None:
    boxes = engine.run(*seeds(engine.schema(PERSON), 3, sampling=attrs.evolve(WILD, **values)))
    for box in boxes:
        assert box.finished().reason is FinishReason.EOS
        jsonschema.validate(json.loads(box.text), PERSON)
        infos = [info for event in box.events for info in event.infos]
        wanted = values.keys() & {"n_probs", "logprobs"}
        assert [info.token for info in infos] == (box.tokens if wanted else [])


def test_one_of_a_list(engine: Engine) -> None:
    words = ["red", "green", "greenish", "", "the others", "é€😀"]
    grammar = engine.spec("start: " + " | ".join(json.dumps(word, ensure_ascii=False) for word in words))
    boxes = engine.run(*seeds(grammar, 40))
    assert {box.text for box in boxes} <= set(words)
    assert len({box.text for box in boxes}) > 2
    assert {box.finished().reason for box in boxes} == {FinishReason.EOS}


def test_a_grammar_that_allows_everything_changes_nothing(engine: Engine) -> None:
    everything = engine.spec("start: /(?s:.*)/")
    for sampling in (SamplingParams(temperature=0), SamplingParams(temperature=0, repeat_penalty=1.3)):
        free, held = engine.run(
            {"max_tokens": 60, "sampling": sampling}, {"max_tokens": 60, "sampling": sampling, "grammar": everything}
        )
        assert free.tokens == held.tokens
        assert len(held.tokens) == 60


def test_a_triggered_grammar_begins_with_its_trigger(engine: Engine) -> None:
    free = engine.run({"max_tokens": 60, "sampling": SamplingParams(temperature=0)})[0].text
    trigger = free[20:24]
    before = free[: free.index(trigger)]
    spec = engine.spec(f'start: {json.dumps(trigger)} "<" /[0-9]/ ">!"', Trigger(trigger, included=True))
    (box,) = engine.run({"max_tokens": 60, "sampling": SamplingParams(temperature=0), "grammar": spec})
    assert box.text.startswith(before + trigger)
    assert box.text[len(before) + len(trigger) :][:1] == "<"
    assert box.text.endswith(">!")
    assert box.finished().reason is FinishReason.EOS


def test_forced_text_is_not_sampled(engine: Engine) -> None:
    stats = engine.started.loop.stats
    before = stats.decode_total
    (box,) = engine.run({"grammar": engine.spec('start: "' + "they have the " * 20 + '" /[0-9]/'), "max_tokens": 400})
    assert box.text[:-1] == "they have the " * 20
    assert stats.decode_total - before <= 4
    assert len(box.tokens) > 60


def test_reasoning_is_cut_off(engine: Engine) -> None:
    end = engine.vocab.tokenize("</think>", add_special=False, parse_special=True)
    thinking = Thinking(budget=5, open=True, start="<think>", end_text="</think>", end=tuple(end))
    grammar = engine.spec('start: "yes" | "no"', Trigger("</think>", included=False))
    (box,) = engine.run({"thinking": thinking, "grammar": grammar, "max_tokens": 100})
    thought, _, answer = box.text.partition("</think>")
    assert len(box.tokens) == 5 + len(end) + len(box.tokens[5 + len(end) :])
    assert thought
    assert answer in ("yes", "no")


def test_a_visible_marker_is_text(engine: Engine) -> None:
    (marker,) = engine.vocab.tokenize("<|im_start|>", add_special=False, parse_special=True)
    grammar = engine.spec(f'start: <[{marker}]> "ok"')
    seen, hidden = engine.run({"grammar": grammar, "visible": frozenset({marker})}, {"grammar": grammar})
    assert (seen.text, hidden.text) == ("<|im_start|>ok", "ok")
    assert seen.tokens == hidden.tokens


def test_the_engine_ends_while_the_vocabulary_is_prepared(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, build = threading.Event(), grammars.build_tokenizer

    def watched(vocab: Any, tokenize: Any, stopped: Callable[[], bool]) -> Any:
        begun.set()
        while not stopped():
            pass
        return build(vocab, tokenize, stopped)

    monkeypatch.setattr(grammars, "build_tokenizer", watched)
    engine = Engine(tiny_model)
    engine.started.backend.grammars.prepare()
    assert begun.wait(20)
    engine.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "llama-box grammar vocabulary"]


GBNF = r"""
root   ::= object
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}"
value  ::= object | string | number | "true" | "false" | "null"
string ::= "\"" [^"\\\x00-\x1F]* "\"" ws
number ::= "-"? [0-9]+ ws
ws     ::= [ \n]?
"""


@pytest.mark.parametrize(
    "prefix", ["", "{", '{"', '{"the', '{"the"', '{"a": ', '{"a": tr', '{"a": -', '{"a": 12', '{"é', "{}"]
)
def test_masks_agree_with_the_native_grammar_sampler(engine: Engine, prefix: str) -> None:
    lib, vocab = library.start(), engine.vocab
    tokens = vocab.tokenize(prefix, add_special=False, parse_special=False)
    native = lib.llama_sampler_init_grammar(vocab.handle, GBNF.encode(), b"root")
    for token in tokens:
        lib.llama_sampler_accept(native, token)
    candidates = Candidates(lib, N_VOCAB)
    array = candidates.fill(np.zeros(N_VOCAB, np.float32), None)
    lib.llama_sampler_apply(native, ctypes.byref(array))
    expected = {array.data[i].id for i in range(array.size) if array.data[i].logit != -np.inf}
    lib.llama_sampler_free(native)

    matcher = engine.spec(gbnf_to_lark(GBNF)).matcher()
    assert matcher.consume(tokens)
    matcher.compute_mask()

    # The native sampler takes control tokens for their spelling, and allows bytes that no character has; ours allows
    # one of several tokens with the same text.
    def texts(ids: set[int]) -> set[bytes]:
        pieces = (vocab.piece(token, special=True) for token in ids - set(vocab.control_tokens()))
        return {piece for piece in pieces if piece.isascii()}

    allowed = set(bits_of(matcher.mask))
    assert texts(allowed) == texts(expected)
    assert bool(allowed & set(vocab.eog)) == prefix.endswith("}")
