"""What the engine thread tells the loop. Per request: PrefillProgress*, Tokens*, then exactly one terminal event."""

import enum

import attrs

from engine.embedding.requests import Embedded
from engine.errors import EngineError
from engine.text.requests import TokenInfo
from engine.text.snapshot import Snapshot


class FinishReason(enum.Enum):
    """Why a generation ended by itself (native ``stop_type`` values)."""

    EOS = "eos"
    WORD = "word"
    LIMIT = "limit"


@attrs.frozen(kw_only=True)
class Timings:
    """Counts in tokens, durations in milliseconds. ``cache_n + prompt_n`` is the prompt's length."""

    cache_n: int = 0  # prompt tokens taken from the prefix cache
    prompt_n: int = 0  # prompt tokens computed for this request
    prompt_ms: float = 0.0  # from admission to the first token's logits
    queue_ms: float = 0.0  # from submission to admission
    predicted_n: int = 0
    predicted_ms: float = 0.0  # from the first token's logits to the last token
    draft_n: int = 0
    draft_n_accepted: int = 0


@attrs.frozen(kw_only=True)
class PrefillProgress:
    """``processed`` of ``total`` prompt tokens are in the KV cache, ``cache`` of them reused; since ``time_ms``."""

    total: int
    cache: int
    processed: int
    time_ms: float


@attrs.frozen(kw_only=True)
class Tokens:
    """New text, whole UTF-8 characters only, nothing that may become a stop string. ``text`` may be empty.

    ``infos`` (only when asked for) has one entry for each token in ``tokens``. ``prompt_infos`` (likewise) has one for
    each of the prompt, in the first event that is no progress; nothing is said of the first token. Then the token that
    ends a generation is among the others.
    """

    text: str
    tokens: tuple[int, ...]
    slot: int
    timings: Timings
    infos: tuple[TokenInfo, ...] = ()
    prompt_infos: tuple[TokenInfo, ...] = ()


@attrs.frozen(kw_only=True)
class Finished:
    """The generation ended. ``text`` is what was still held back."""

    reason: FinishReason
    stopping_word: str  # "" unless reason is WORD
    text: str
    tokens: tuple[int, ...]  # tokens whose text is in ``text`` and that no Tokens event carried
    slot: int
    timings: Timings
    truncated: bool  # the context was shifted
    infos: tuple[TokenInfo, ...] = ()
    prompt_infos: tuple[TokenInfo, ...] = ()


@attrs.frozen(kw_only=True)
class Failed:
    """The generation could not go on."""

    error: EngineError


@attrs.frozen(kw_only=True)
class SlotDone:
    """A command about a slot was carried out: ``n_tokens`` were copied (``snapshot``), restored or erased."""

    n_tokens: int
    snapshot: Snapshot | None = None


type Event = PrefillProgress | Tokens | Finished | Failed
type TerminalEvent = Finished | Failed
type Notice = Event | SlotDone | Embedded
