"""What a request handler may use: the one object that the composition root fills and hands to the HTTP layer."""

import enum
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import attrs
import trio

from engine.bridge import TextEngine
from engine.image_bridge import ImageEngine
from engine.text.adapters import AdapterSet, adapter_set
from engine.text.requests import GenerationRequest, GrammarSpec
from llamabox.chat.ask import ChatAsk, ChatPlan
from llamabox.chat.placing import Placed
from llamabox.images.codec import ImageCodec
from llamabox.metrics import Metrics
from llamabox.response_store import ResponseStore
from llamabox.settings import Settings


class Phase(enum.Enum):
    """Life of the server. FAILED: the model did not load, or its engine died; only an end follows."""

    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


_NEXT: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.LOADING: frozenset({Phase.READY, Phase.STOPPING, Phase.FAILED}),
    Phase.READY: frozenset({Phase.STOPPING, Phase.FAILED}),
    Phase.FAILED: frozenset({Phase.STOPPING}),
    Phase.STOPPING: frozenset(),
}


_COMPILERS: Final = 2  # threads that compile grammars at the same time
_TOKENIZERS: Final = 2  # threads that tokenize texts to be embedded at the same time


class Prompts(Protocol):
    """Conversations to prompts and text to tokens, off the event loop where that takes long."""

    @property
    def source(self) -> str:
        """Text of the chat template."""

    @property
    def reasons(self) -> bool:
        """Whether the model may reason before it answers."""

    async def plan(self, ask: ChatAsk) -> ChatPlan:
        """The prompt of a conversation, and how its answer is to be generated and read.

        Raises TemplateError for messages that are malformed or that the template refuses, InvalidRequest for a
        grammar or schema that is none.
        """

    async def constrain(self, *, grammar: str | None, schema: Any, strict: bool) -> GrammarSpec | None:
        """What holds from the first token on: ``grammar`` (GBNF or llguidance's Lark) or a JSON schema; at most one.

        None for neither. ``strict``: see ``ChatAsk``. Raises InvalidRequest.
        """

    async def place(self, text: str, data: Sequence[str], where: str) -> Placed:
        """Tokens of ``text`` with images and sounds, given as base64 texts, at its marks. Raises InvalidRequest."""

    async def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of ``text``."""


class Running:
    """What clients wait for: the generations, by id, and how many other requests."""

    def __init__(self) -> None:
        self._requests: dict[str, GenerationRequest] = {}
        self._others = 0
        self._lot = trio.lowlevel.ParkingLot()
        self.stopping_words: dict[int, str] = {}  # by slot: what ended the last generation there, "" if no stop string

    def __len__(self) -> int:
        return len(self._requests) + self._others

    def get(self, request_id: str) -> GenerationRequest | None:
        return self._requests.get(request_id)

    @contextmanager
    def added(self, request: GenerationRequest) -> Iterator[None]:
        """The request counts for the length of the block."""
        self._requests[request.id] = request
        try:
            yield
        finally:
            del self._requests[request.id]
            self._one_less()

    @contextmanager
    def other(self) -> Iterator[None]:
        """Something that is no generation counts for the length of the block."""
        self._others += 1
        try:
            yield
        finally:
            self._others -= 1
            self._one_less()

    def _one_less(self) -> None:
        if not len(self):
            self._lot.unpark_all()

    async def wait_until_none(self) -> None:
        """Return when nothing runs."""
        while len(self):
            await self._lot.park()


@attrs.define(kw_only=True)
class Services:
    """``text`` and ``prompts`` are there from READY on; ``model_ids`` are the names that the model answers to."""

    settings: Settings
    metrics: Metrics
    model_ids: Sequence[str]
    text: TextEngine | None = None
    prompts: Prompts | None = None
    images: ImageEngine | None = None
    image_ids: Sequence[str] = ()  # the names that the image model answers to
    image_codec: ImageCodec = attrs.field(factory=ImageCodec, init=False)
    created: int = attrs.field(factory=lambda: int(time.time()))  # Unix time of the start
    running: Running = attrs.field(factory=Running, init=False)
    responses: ResponseStore = attrs.field(factory=ResponseStore, init=False)
    compiling: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_COMPILERS), init=False)
    adapters: AdapterSet = attrs.field(init=False)  # of requests that do not choose; may be replaced at any time
    tokenizing: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_TOKENIZERS), init=False)
    _phase: Phase = attrs.field(default=Phase.LOADING, init=False)

    @adapters.default
    def _adapters_at_first(self) -> AdapterSet:
        options = self.settings.engine.adapters
        return adapter_set((i, lora.scale) for i, lora in enumerate(options.loras) if options.apply_loras)

    @property
    def phase(self) -> Phase:
        return self._phase

    def enter(self, phase: Phase) -> None:
        """Go on to ``phase``. Raises RuntimeError where the life of a server knows no such step."""
        if phase not in _NEXT[self._phase]:
            raise RuntimeError(f"no way from {self._phase.value} to {phase.value}")
        self._phase = phase
