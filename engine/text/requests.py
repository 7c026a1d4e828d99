"""What one generation is asked to do. Frozen: a request never changes once it is submitted."""

from collections.abc import Buffer, Callable, Mapping, Sequence
from typing import Final, Protocol

import attrs

from engine.text.adapters import NO_ADAPTERS, AdapterSet
from engine.text.media import MediaSpan

# Order in which contract.md applies the samplers when neither a flag nor a request says otherwise.
DEFAULT_SAMPLERS: Final = ("penalties", "dry", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
KNOWN_SAMPLERS: Final = (*DEFAULT_SAMPLERS, "top_n_sigma")
# How llama.cpp abbreviates them.
SAMPLER_LETTERS: Final[Mapping[str, str]] = {
    "e": "penalties",
    "d": "dry",
    "k": "top_k",
    "y": "typ_p",
    "p": "top_p",
    "m": "min_p",
    "x": "xtc",
    "t": "temperature",
}
DEFAULT_DRY_BREAKERS: Final = ("\n", ":", '"', "*")


@attrs.frozen(kw_only=True)
class SamplingParams:
    """How tokens are drawn. ``temperature`` 0 is greedy. Values are validated where they enter (API, CLI)."""

    seed: int | None = None  # None: random
    temperature: float = 0.8
    top_k: int = 40  # 0: off
    top_p: float = 0.9  # 1: off
    min_p: float = 0.1  # 0: off
    top_n_sigma: float = -1.0  # <= 0: off
    typical_p: float = 1.0  # 1: off
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    repeat_last_n: int = 64  # tokens; 0: off, -1: the context
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = DEFAULT_DRY_BREAKERS
    mirostat: int = 0  # 0: off, 1, 2
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    samplers: tuple[str, ...] = DEFAULT_SAMPLERS
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, bias); -inf forbids
    ignore_eos: bool = False
    min_keep: int = 0
    n_probs: int = 0  # number of alternatives to report per token
    logprobs: bool = False  # report the chosen token's log probability (also with n_probs 0)
    post_sampling_probs: bool = False  # report probabilities after the sampler chain, not of the raw logits


@attrs.frozen
class Trigger:
    """Text of the model that wakes a grammar; ``included``: the grammar begins with it, else right behind it."""

    text: str
    included: bool


@attrs.frozen(kw_only=True)
class GrammarSpec:
    """A grammar in llguidance's Lark dialect. Without triggers it holds from the first token, else from one of them.

    ``instead``: makes the one to be used where this one cannot be compiled, which is an error without.
    """

    source: str
    triggers: tuple[Trigger, ...] = ()
    instead: Callable[[], "GrammarSpec"] | None = attrs.field(default=None, eq=False, repr=False)


class Matcher(Protocol):
    """Where one text is in its grammar. Used by one thread at a time. Never raises: after an error see ``error``."""

    @property
    def mask(self) -> Buffer:
        """The tokens that ``compute_mask`` found allowed: one bit a token, the lowest of the first byte is token 0."""

    @property
    def complete(self) -> bool:
        """Whether the text is a whole text of the grammar to which nothing can be added."""

    @property
    def error(self) -> str:
        """Why the matcher cannot go on, "" while it can."""

    def compute_mask(self) -> None:
        """Fill ``mask``. Takes up to milliseconds, without holding the interpreter."""

    def forced(self) -> list[int]:
        """The tokens that have to come next, as far as there is only one way on."""

    def tokenize(self, data: bytes) -> list[int]:
        """Tokens for bytes that are text; they need not be whole characters."""

    def validate(self, tokens: Sequence[int]) -> int:
        """How many of the tokens may come next, in this order."""

    def consume(self, tokens: Sequence[int]) -> bool:
        """Take the tokens. False: one of them may not come, and the matcher is in error from now on."""


class Grammar(Protocol):
    """A compiled GrammarSpec, for any number of requests at once. Made by ``TextEngine.grammars``."""

    @property
    def spec(self) -> GrammarSpec:
        """What it was compiled from."""

    def matcher(self) -> Matcher:
        """A matcher at the grammar's beginning. Any thread."""


class Grammars(Protocol):
    """Compiles grammars for one model."""

    def prepare(self) -> None:
        """Begin to prepare the vocabulary in the background, where that is not done yet: the first grammar needs it."""

    def compile(self, spec: GrammarSpec) -> Grammar:
        """Takes milliseconds, or as long as the vocabulary is being prepared: not for the event loop. Thread-safe.

        Raises InvalidRequest with the reason.
        """


@attrs.frozen(kw_only=True)
class Thinking:
    """A limit to the model's reasoning: after ``budget`` tokens of it the tokens ``end`` are put into its mouth."""

    budget: int
    open: bool  # the prompt has begun the reasoning already
    start: str  # text that begins it, "" if only the prompt does
    end_text: str  # text that ends it
    end: tuple[int, ...]  # tokens that end it


@attrs.frozen(kw_only=True)
class GenerationRequest:
    """One prompt, one continuation. ``n`` choices are ``n`` requests: the prefix cache computes their prompt once."""

    id: str  # unique in the process; on every log line
    prompt: Sequence[int]  # token ids, at least one; pseudo-tokens where a medium stands (engine.text.media)
    sampling: SamplingParams = attrs.field(factory=SamplingParams)
    max_tokens: int | None = None  # None: no limit of its own
    until_context_full: bool = False  # end with "limit" when the slot's context is full instead of shifting it
    n_keep: int = 0  # prompt tokens that a context shift keeps; -1: the whole prompt
    n_discard: int = 0  # tokens that a context shift drops; 0: half of what is not kept
    stop: tuple[str, ...] = ()  # never part of the text that is sent
    n_indent: int = 0  # minimum indentation of a new line; generation ends where a line has less (infill)
    t_max_predict_ms: float = 0.0  # end the generation this long after the first token, at a line end; 0: off
    cache_prompt: bool = True  # may reuse and leave behind cached prefixes
    slot: int | None = None  # run on this slot, None: any
    tokens_per_second: float = 0.0  # even pace, 0: as fast as possible
    special: bool = False  # render control tokens as text
    report_progress: bool = False  # deliver PrefillProgress events
    score_prompt: bool = False  # report the probabilities of its own tokens too: all of them are computed then
    visible: frozenset[int] = frozenset()  # control tokens to be rendered as text even without ``special``
    grammar: Grammar | None = None
    thinking: Thinking | None = None
    adapters: AdapterSet = NO_ADAPTERS
    media: tuple[MediaSpan, ...] = ()  # in the prompt, in order; its context is never shifted


@attrs.frozen(kw_only=True)
class TokenProb:
    """One candidate. ``logprob`` is the natural logarithm; ``prob`` = exp(logprob)."""

    token: int
    piece: bytes
    logprob: float


@attrs.frozen(kw_only=True)
class TokenInfo(TokenProb):
    """The token that is there, and the ``n_probs`` most probable ones in its place, best first."""

    top: tuple[TokenProb, ...] = ()
