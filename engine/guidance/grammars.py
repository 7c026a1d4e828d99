"""Compiles grammars for one model, and keeps those that were compiled last."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Buffer, Sequence
from concurrent.futures import Future
from typing import Any, Final

import numpy as np

from engine.errors import EngineUnavailable, InvalidRequest
from engine.guidance import library, trial
from engine.guidance.matcher import GuidanceGrammar, GuidanceMatcher
from engine.guidance.reason import readable
from engine.guidance.tokenizer import build_tokenizer
from engine.native.threads import unbind
from engine.native.vocab import LlamaVocab
from engine.text.requests import GrammarSpec

log = logging.getLogger("engine.guidance")

_MOST_KEPT: Final = 64
_MOST_CHARACTERS: Final = 256 * 1024
_CLOSED: Final = "the server is shutting down"


class GuidanceGrammars:
    """Satisfies ``engine.text.requests.Grammars``. ``tokenize`` is the native function ``llama_tokenize``."""

    def __init__(self, vocab: LlamaVocab, tokenize: Any) -> None:
        self._vocab = vocab
        self._native_tokenize = tokenize
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._tokenizer: Future[Any] = Future()
        self._builder: threading.Thread | None = None
        self._kept: OrderedDict[str, Any] = OrderedDict()  # source → LLMatcher at its beginning, or why there is none

    def prepare(self) -> None:
        """Begin to prepare the vocabulary on a thread of its own, unless that has begun already. Does not block."""
        with self._lock:
            if self._builder is None and not self._closed.is_set():
                self._builder = threading.Thread(target=self._build, name="llama-box grammar vocabulary")
                self._builder.start()

    def compile(self, spec: GrammarSpec) -> GuidanceGrammar:
        """See ``Grammars.compile``. Raises EngineUnavailable once closed."""
        self.prepare()
        with self._lock:
            prototype = self._kept.get(spec.source)
            if prototype is not None:
                self._kept.move_to_end(spec.source)
        if self._closed.is_set():
            raise EngineUnavailable(_CLOSED)
        tokenizer = self._tokenizer.result()
        if prototype is None:
            try:
                prototype = self._compile(tokenizer, spec.source)
            except InvalidRequest as error:
                prototype = error.message
            self._keep(spec.source, prototype)
        if isinstance(prototype, str):
            raise InvalidRequest(prototype)
        return GuidanceGrammar(spec, prototype, tokenizer)

    def close(self) -> None:
        """Compile no more, and wait for the preparation to end. To be called before the model is freed. Idempotent."""
        self._closed.set()
        with self._lock:
            builder = self._builder
            self._kept.clear()
        if builder is not None:
            builder.join()
        elif not self._tokenizer.done():
            self._tokenizer.set_exception(EngineUnavailable(_CLOSED))

    def _build(self) -> None:
        unbind()  # the engine thread, which starts this one, may be bound to a processor
        try:
            self._tokenizer.set_result(build_tokenizer(self._vocab, self._native_tokenize, self._closed.is_set))
        except ValueError as error:
            reason = EngineUnavailable(_CLOSED) if self._closed.is_set() else InvalidRequest(f"no grammars: {error}")
            self._tokenizer.set_exception(reason)
        except EngineUnavailable as error:
            self._tokenizer.set_exception(error)
        except BaseException as error:
            log.exception("the vocabulary could not be prepared for grammars")
            self._tokenizer.set_exception(EngineUnavailable(f"grammars cannot be used with this model: {error}"))

    def _compile(self, tokenizer: Any, source: str) -> Any:
        if len(source) > _MOST_CHARACTERS:
            raise InvalidRequest(f"the grammar, schemas included, has more than {_MOST_CHARACTERS} characters")
        if source.lstrip().startswith("{"):  # llguidance would take it for JSON of its own
            raise InvalidRequest("the grammar cannot be used: it begins with {, where Lark has the name of a rule")
        if trial.needs_trial(source):
            trial.check(source)
        guidance = library.load()
        try:
            with self._vocab.in_use():  # the tokenizer calls it
                prototype = guidance.LLMatcher(
                    tokenizer, guidance.LLMatcher.grammar_from_lark(source), log_level=0, limits=library.limits()
                )
                if prototype.is_error():
                    raise InvalidRequest(f"the grammar cannot be used: {readable(prototype.get_error())}")
                first = GuidanceMatcher(prototype, tokenizer)
                first.compute_mask()  # copies begin with what this finds out
                if first.error:
                    raise InvalidRequest(f"the grammar cannot be used: {first.error}")
                copy = GuidanceMatcher(prototype.deep_copy(), tokenizer)
                _check_second(copy, first.mask, tokenizer.eos_tokens)
        except ValueError as error:  # the vocabulary is closed
            raise EngineUnavailable(_CLOSED) from error
        for warning in prototype.get_grammar_warnings():
            log.info("not enforced of a JSON schema: %s", warning)
        return prototype

    def _keep(self, source: str, prototype: Any) -> None:
        with self._lock:
            if self._closed.is_set():
                return
            self._kept[source] = prototype
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)


def _check_second(matcher: GuidanceMatcher, mask: Buffer, ends: Sequence[int]) -> None:
    """Raise InvalidRequest for what goes wrong behind a first token: that is where a grammar that is too much fails."""
    allowed = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little"))
    token = next((int(token) for token in allowed if token not in ends), None)
    if token is not None and matcher.consume((token,)):
        matcher.compute_mask()
    if matcher.error:
        raise InvalidRequest(f"the grammar cannot be used: {matcher.error}")
