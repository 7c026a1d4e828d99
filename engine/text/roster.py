"""Who runs, sorted by what a step does with them: kept from step to step, sorted anew when somebody comes or goes."""

from collections.abc import Sequence as Row

from engine.text.adapters import AdapterSet
from engine.text.backend import Run
from engine.text.plan import PlannedRun
from engine.text.sequence import Sequence


class Roster:
    """All lists are in order of admission.

    Who decodes keeps one run for as long as it does, as ``Sequence.run`` too: the token that it generates moves it on
    (see ``Scheduler.append``). Who changes in any other way what is next says so by ``is_behind``, and the next plan
    lets all ``catch_up``.
    """

    def __init__(self, n_ctx_slot: int) -> None:
        self._n_ctx_slot = n_ctx_slot
        self.decodes: list[PlannedRun] = []
        self.prefills: list[Sequence] = []  # who has more to compute than a token
        self.with_media: list[Sequence] = []
        self.adapters: tuple[AdapterSet, ...] = ()  # the sets in use
        self.is_paced = False  # somebody has to wait for the time of its next token
        self.is_behind = False  # a run may not be of its sequence's next token, or not of one that can be computed
        self.has_forced = False  # somebody who decodes has more than one token pending
        self.has_full = False  # somebody who decodes has no place for a token

    def update(self, running: Row[Sequence]) -> None:
        """These run now."""
        known = {planned.sequence: planned for planned in self.decodes}
        self.decodes, self.prefills, self.with_media, self.is_paced = [], [], [], False
        used: dict[AdapterSet, None] = {}
        for sequence in running:
            request = sequence.request
            used[request.adapters] = None
            if request.media:
                self.with_media.append(sequence)
            if request.tokens_per_second > 0:
                self.is_paced = True
            if sequence.n_past < sequence.n_prefill and len(sequence.tokens) - sequence.n_past != 1:
                self.prefills.append(sequence)
                continue
            planned = known.get(sequence)
            if planned is None or planned.run is not sequence.run:
                planned = self._newcomer(sequence)
            self.decodes.append(planned)
        self.adapters = tuple(used)

    def catch_up(self) -> None:
        """Let each run be of its sequence's next token."""
        if not self.is_behind:
            return
        self.has_forced = self.has_full = False
        for planned in self.decodes:
            sequence, run = planned.sequence, planned.run
            run.start = start = sequence.n_past
            run.tokens = tokens = sequence.tokens[start : start + 1]
            run.logits = sequence.n_pending == len(tokens)
            self.has_forced |= not run.logits
            self.has_full |= start >= self._n_ctx_slot
        self.is_behind = self.has_forced or self.has_full

    def _newcomer(self, sequence: Sequence) -> PlannedRun:
        assert sequence.seq is not None, "only running sequences are planned"
        start = sequence.n_past
        sequence.run = Run(sequence.seq, start, sequence.tokens[start : start + 1], True)
        self.is_behind |= sequence.n_pending > 1 or start >= self._n_ctx_slot
        return PlannedRun(sequence, sequence.run)

    def check_integrity(self, running: Row[Sequence]) -> None:
        """Raise AssertionError where what is kept is not what sorting these would give."""
        decodes = [planned.sequence for planned in self.decodes]
        assert decodes == [s for s in running if s.is_decoding], "the wrong decodes are kept"
        assert self.prefills == [s for s in running if not s.is_decoding], "the wrong prefills are kept"
        assert self.with_media == [s for s in running if s.request.media], "the wrong media are kept"
        assert self.adapters == tuple(dict.fromkeys(s.adapters for s in running)), "the wrong adapters are kept"
        assert self.is_paced == any(s.request.tokens_per_second > 0 for s in running), "the wrong pace is kept"
        for sequence, run in ((planned.sequence, planned.run) for planned in self.decodes):
            assert sequence.run is run, "a sequence with another run than is kept"
            assert run.seq == sequence.seq, "a kept run of another id"
            if not self.is_behind and sequence.n_pending:  # else its token is still to be drawn
                tokens = sequence.tokens[sequence.n_past :]
                assert (run.start, list(run.tokens), run.logits) == (sequence.n_past, tokens, True), "a run left behind"
