"""Puts drafts into a step's batch, as many tokens of them as pay, and learns from what came of them.

Speculative decoding (Leviathan et al., 2023, arXiv:2211.17192; Chen et al., 2023, arXiv:2302.01318): one decode
computes the logits behind every drafted token. Both papers accept a drafted token x with probability
min(1, p(x) / q(x)) and else draw from the rest of p. Here the draft is a fixed token, q(x) = 1: to accept it with
probability p(x), and else draw from p without x, is to draw from p and to look whether it is x. So each token is drawn
with the request's own sampler, in order, and the first one that is not the drafted one ends the draft (see
``engine.text.next_tokens``): the text is exactly what it would be without drafts, penalties, grammar and random
numbers included.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from engine.text.backend import Vocab
from engine.text.generation import Generation
from engine.text.masks import Masks
from engine.text.plan import PlannedRun, StepPlan
from engine.text.scheduler import Scheduler
from engine.text.sequence import Sequence as Text
from engine.text.speculation.acceptance import Acceptance
from engine.text.speculation.drafter import Draft, Drafter
from engine.text.speculation.lengths import allot
from engine.text.speculation.probing import Probing
from engine.text.speculation.row_cost import RowCost

# A step with drafts may last so many times what a step should, or as long as it would without them.
_CEILING: Final = 2.0
# A first token that is less likely than this leaves the turn to the next drafter.
_WEAK: Final = 0.5


@attrs.frozen(kw_only=True)
class DraftRules:
    """How many tokens a draft has (``least`` to ``longest``) and a batch with drafts at most (``most_rows``)."""

    longest: int = 16
    least: int = 1
    most_rows: int = 512
    step_target: float = 0.150  # seconds that a step should take


class Speculation:
    """``drafters`` are asked in order. Without any nothing is ever drafted. Used by the engine thread."""

    def __init__(self, drafters: Sequence[Drafter] = (), rules: DraftRules | None = None) -> None:
        self.rules = rules or DraftRules()
        self.acceptance = Acceptance()
        self.drafters = tuple(drafters)
        self._rows = RowCost()
        self._probing = Probing(self.acceptance)
        self._paused = False
        self._proposed: dict[Text, list[tuple[Drafter, Draft]]] = {}  # what was proposed for this step, in the batch

    @property
    def enabled(self) -> bool:
        """Whether there is a drafter."""
        return bool(self.drafters)

    def extend(
        self, plan: StepPlan, scheduler: Scheduler, generations: Mapping[str, Generation], vocab: Vocab, masks: Masks
    ) -> StepPlan:
        """The plan with drafts behind the tokens of those that generate, where that pays."""
        self._proposed = {}
        paused, self._paused = self._paused, False
        room = self._room(plan, scheduler) if self.drafters and not paused else {}
        cost = self._cost(plan) if room else None
        if cost is None:
            return plan
        drafts = self._propose(room, cost, generations, vocab, masks)
        if not drafts:
            return plan
        lengths = allot(
            [self.acceptance.chances(text, draft) for text, draft in drafts.items()],
            streams=_streams(plan),
            cost=cost,
            least=self.rules.least,
            most=self._most(plan),
            ceiling=max(_CEILING * self.rules.step_target, cost(0)),
        )
        chosen = {text: draft.first(n) for (text, draft), n in zip(drafts.items(), lengths, strict=True) if n}
        return _with(plan, scheduler, chosen) if chosen else plan

    def pause(self) -> None:
        """There was no room for drafts: the next step has none."""
        self._paused = True

    def observe(self, text: Text, tokens: list[int]) -> None:
        """The sequence went on with these: what was proposed is judged, whether it was in the batch or not."""
        for drafter, draft in self._proposed.pop(text, ()):
            self.acceptance.observe(text, draft, tokens)
            if drafter.price != 0:
                self._probing.observe(text, draft, tokens)

    def measured(self, plan: StepPlan, seconds: float, prefill_token: float | None) -> None:
        """A step took so long; ``prefill_token``: seconds of a prompt's token beside others, where known."""
        if self.drafters:
            self._rows.row = prefill_token
            if plan.n_prefill == 0:
                self._rows.measured(plan.n_decode + plan.n_drafted, seconds)

    def forget(self, text: Text) -> None:
        """The sequence has ended."""
        self._proposed.pop(text, None)
        self.acceptance.forget(text)
        self._probing.forget(text)
        for drafter in self.drafters:
            drafter.forget(text)

    def idle(self) -> None:
        """Nothing is to be computed right now."""
        for drafter in self.drafters:
            drafter.idle()

    def close(self) -> None:
        """Free and save what drafters hold. Idempotent."""
        for drafter in self.drafters:
            drafter.close()

    # --- inside ---

    def _most(self, plan: StepPlan) -> int:
        """Drafted tokens that fit one native batch: beyond it the decode would begin anew."""
        return self.rules.most_rows - sum(len(planned.run.tokens) for planned in plan.runs)

    def _room(self, plan: StepPlan, scheduler: Scheduler) -> dict[Text, int]:
        """How many tokens may be drafted for each of those that generate at their own speed."""
        most = min(self.rules.longest, self._most(plan))
        room: dict[Text, int] = {}
        for planned in plan.runs:
            text = planned.sequence
            if not planned.run.logits or not text.is_decoding or text.request.tokens_per_second > 0:
                continue
            left = text.n_remaining
            # The last token is drawn behind the draft, and never computed.
            tokens = most if left is None else min(most, left - 1)
            tokens = min(tokens, scheduler.limits.n_ctx_slot - text.cells(len(text.tokens)))
            if tokens >= max(1, self.rules.least):
                room[text] = tokens
        return room

    def _cost(self, plan: StepPlan) -> Callable[[int], float] | None:
        """Seconds of the step by the number of drafted tokens in it; None: nothing is measured yet."""
        curve = self._rows.curve()
        if curve is None:
            return None
        streams = max(1, _streams(plan))
        if not plan.n_prefill:
            return lambda count: curve(streams + count)
        # Beside a prompt a row costs what the prompt's own cost.
        base = curve(streams)
        row = base / streams if self._rows.row is None else self._rows.row
        return lambda count: base + (plan.n_prefill + count) * row

    def _propose(
        self,
        room: dict[Text, int],
        cost: Callable[[int], float],
        generations: Mapping[str, Generation],
        vocab: Vocab,
        masks: Masks,
    ) -> dict[Text, Draft]:
        """The drafts of the first drafter that has a good one, cut where the text cannot go on like that."""
        open_for = dict(room)
        drafts: dict[Text, Draft] = {}
        for drafter in self.drafters:
            asked = dict(open_for)
            if drafter.price != 0:
                asked = self._probing.worth_asking(open_for, drafter.price, cost, self.rules.least)
            for text, draft in drafter.propose(asked).items() if asked else ():
                self._proposed.setdefault(text, []).append((drafter, draft))
                masks.wait(text)
                allowed = _allowed(draft, generations[text.request.id], vocab)
                if len(allowed) >= max(1, self.rules.least):
                    drafts[text] = allowed
                    if self.acceptance.chances(text, allowed.first(1))[0] >= _WEAK:
                        del open_for[text]
        return drafts


def _streams(plan: StepPlan) -> int:
    """Sequences that get their next token from the step, prompts left out."""
    return sum(planned.run.logits and planned.sequence.is_decoding for planned in plan.runs)


def _allowed(draft: Draft, generation: Generation, vocab: Vocab) -> Draft:
    """The draft up to what ends the text, what is no token of the model, and what its grammar forbids."""
    count = next((i for i, t in enumerate(draft.tokens) if not 0 <= t < vocab.n_vocab or vocab.is_eog(t)), len(draft))
    steering = generation.steering
    if steering is not None and count:
        count = steering.allowed(draft.tokens[:count])
    return draft.first(count)


def _with(plan: StepPlan, scheduler: Scheduler, drafts: Mapping[Text, Draft]) -> StepPlan:
    """The plan with these drafts, as far as there are cells for them."""
    n_planned = sum(len(planned.run.tokens) for planned in plan.runs)
    cells = scheduler.room_for_drafts(n_planned, sum(map(len, drafts.values())))
    runs: list[PlannedRun] = []
    for planned in plan.runs:
        draft = drafts.get(planned.sequence)
        if draft is None or len(draft) > cells:
            runs.append(planned)
            continue
        cells -= len(draft)
        run = attrs.evolve(planned.run, tokens=[*planned.run.tokens, *draft.tokens], n_drafted=len(draft))
        runs.append(PlannedRun(planned.sequence, run))
    return attrs.evolve(plan, runs=tuple(runs))
