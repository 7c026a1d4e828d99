"""Makes what the options ask for, or says why this model cannot have it."""

from engine.errors import ModelLoadError, NativeError, StorageError
from engine.native.model import ModelFacts
from engine.native.options import ContextOptions
from engine.text.backend import Backend, DecodeStatus, Run
from engine.text.info import ModelInfo
from engine.text.speculation.draft_model import open_draft_model
from engine.text.speculation.drafter import Drafter
from engine.text.speculation.lookup import Lookup
from engine.text.speculation.ngrams import NgramFile, load
from engine.text.speculation.options import SpeculationOptions
from engine.text.speculation.speculation import DraftRules, Speculation


def open_speculation(
    options: SpeculationOptions, backend: Backend, context: ContextOptions, *, step_target: float
) -> Speculation:
    """Nothing is drafted where nothing was asked for. ``context``: that of the model itself.

    Raises ModelLoadError: a model that cannot take tokens back, a lookup cache or a draft model that is of no use.
    """
    if not options.enabled:
        return Speculation()
    _check(backend)
    drafters: list[Drafter] = []
    if options.lookup_ngram_min:
        drafters.append(_lookup(options, backend.info))
    if options.model.path:
        drafters.append(open_draft_model(options, backend, context, step_target))
    rules = DraftRules(
        longest=options.longest,
        least=max(1, min(options.least, options.longest)),
        most_rows=min(backend.info.n_batch, backend.info.n_ubatch),
        step_target=step_target,
    )
    return Speculation(drafters, rules)


def why_not(facts: ModelFacts | ModelInfo) -> str | None:
    """Why the model's memory does not give up single tokens again; None: it does."""
    return "its state is recurrent, tokens cannot be taken out of it again" if facts.is_recurrent else None


def _check(backend: Backend) -> None:
    """Compute three tokens and take two back, as a draft that was wrong would be."""
    reason = backend.info.no_generation or why_not(backend.info)
    if reason is None:
        token = backend.info.bos or 0
        try:
            if backend.decode([Run(0, 0, [token] * 3, logits=False)]) is not DecodeStatus.OK:
                reason = "three tokens find no room"
            backend.remove(0, 1, None)
            if reason is None and backend.span(0) != (0, 0):
                reason = "tokens cannot be taken out of its memory again"
            backend.remove(0, 0, None)
        except NativeError as error:
            reason = str(error)
    if reason is not None:
        raise ModelLoadError(f"drafts cannot be checked with {backend.info.path}: {reason}")


def _lookup(options: SpeculationOptions, info: ModelInfo) -> Lookup:
    try:
        static = load(options.lookup_static, info.n_vocab) if options.lookup_static else None
        dynamic = NgramFile(options.lookup_dynamic, info.n_vocab) if options.lookup_dynamic else None
    except StorageError as error:
        raise ModelLoadError(str(error)) from error
    return Lookup(options.lookup_ngram_min, static, dynamic)
