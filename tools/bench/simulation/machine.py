"""A backend that computes nothing: a step moves a virtual clock by what it would cost."""

from collections.abc import Callable, Sequence

from engine.text.backend import DecodeStatus, Run
from engine.text.info import ModelInfo
from engine.text.plan import Limits
from engine.text.requests import SamplingParams, TokenInfo
from tools.bench.simulation.cost import CostModel
from tools.bench.simulation.traces import N_VOCAB


class Clock:
    """Virtual seconds. ``clock()`` reads it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Sampler:
    """Draws numbers that follow from the request's seed; of the logits it knows nothing."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def accept(self, tokens: Sequence[int]) -> None:
        """Nothing: the drawn numbers depend on no text."""

    def sample(self, index: int, mask: object = None) -> tuple[int, TokenInfo | None]:
        self._state = (self._state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        return self._state % N_VOCAB, None

    def close(self) -> None:
        """Nothing is held."""


class _Vocab:
    """Each token is one letter, none ends a text."""

    n_vocab = N_VOCAB

    def piece(self, token: int, *, special: bool) -> bytes:
        return b"x"

    def is_eog(self, token: int) -> bool:
        return False


class Machine:
    """What the engine loop needs of a backend to generate text. ``cells``: how many are in use.

    ``before``: called at the beginning of each decode, ``after``: at its end.
    """

    def __init__(self, cost: CostModel, limits: Limits, clock: Clock) -> None:
        self.info = _info(limits)
        self.n_seqs = limits.n_seqs
        self.vocab = _Vocab()
        self.cells: Callable[[], int] = lambda: 0
        self.before: Callable[[Sequence[Run]], None] = lambda runs: None
        self.after: Callable[[], None] = lambda: None
        self._cost = cost
        self._clock = clock
        self.n_computed = 0  # tokens

    def decode(self, runs: Sequence[Run]) -> DecodeStatus:
        self.before(runs)
        n_tokens = sum(len(run.tokens) for run in runs)
        self.n_computed += n_tokens
        self._clock.now += self._cost.seconds(n_tokens, self.cells() + n_tokens)
        self.after()
        return DecodeStatus.OK

    def create_sampler(self, params: SamplingParams) -> _Sampler:
        return _Sampler(params.seed or 0)

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None:
        """Sharing costs nothing."""

    def remove(self, seq: int, p0: int, p1: int | None) -> None:
        """Nor does giving up."""

    def shift(self, seq: int, p0: int, p1: int | None, delta: int) -> None:
        raise AssertionError("no conversation of the simulation outgrows its slot")

    def span(self, seq: int) -> tuple[int, int]:
        raise AssertionError("only streams are asked for, and these cells are one cache")

    def exchange(self, a: int, b: int) -> bool:
        raise AssertionError("one cache for all sequences has no streams")

    def clear_abort(self) -> None:
        """Nothing aborts."""


def _info(limits: Limits) -> ModelInfo:
    return ModelInfo(
        path="", description="simulated", architecture="simulated", vocab_type=1, n_vocab=N_VOCAB,
        n_ctx_train=limits.n_ctx_slot, n_embd=1, n_params=1, size=1, n_ctx=limits.n_cells,
        n_ctx_slot=limits.n_ctx_slot, n_slots=limits.n_slots, n_batch=limits.n_batch, n_ubatch=limits.n_batch,
        bos=None, eos=None, add_bos=False, can_shift=False, is_recurrent=False, has_encoder=False, n_swa=0,
        chat_template=None, tool_template=None,
    )  # fmt: skip
