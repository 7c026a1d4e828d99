"""Who runs, sorted by what a step does with them: kept from step to step, one by one changed as they come and go."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence as Row
from operator import attrgetter
from typing import Final

from engine.text.adapters import AdapterSet
from engine.text.backend import Run
from engine.text.plan import PlannedRun
from engine.text.prompt_index import PromptIndex
from engine.text.sequence import Sequence
from engine.text.tokens import row

_ADMISSION: Final = attrgetter("admission")
_ADMISSION_OF_RUN: Final = attrgetter("sequence.admission")


class Roster:
    """All lists are in order of admission.

    Who decodes keeps one run for as long as it does, as ``Sequence.run`` too: the token that it generates moves it on
    (see ``Scheduler.append``). Who changes in any other way what is next says so by ``is_behind``, and the next plan
    lets all ``catch_up``.
    """

    def __init__(self, n_ctx_slot: int) -> None:
        self._n_ctx_slot = n_ctx_slot
        self._admissions = 0
        self.decodes: list[PlannedRun] = []
        self.prefills: list[Sequence] = []  # who has more to compute than a token
        self.prompts = PromptIndex()  # of the prefills
        self.with_media: list[Sequence] = []
        self.adapters: Counter[AdapterSet] = Counter()  # the sets in use, and by how many
        self.n_paced = 0  # who has to wait for the time of its next token
        self.is_behind = False  # a run may not be of its sequence's next token, or not of one that can be computed
        self.has_forced = False  # somebody who decodes has more than one token pending
        self.has_full = False  # somebody who decodes has no place for a token
        self.has_prompt = False  # somebody who decodes does so for the last token of its prompt

    # --- sequences come and go ---

    def join(self, sequence: Sequence) -> None:
        """It runs now."""
        self._admissions += 1
        sequence.admission = self._admissions
        self.adapters[sequence.adapters] += 1
        self.n_paced += sequence.is_paced
        if sequence.request.media:
            self.with_media.append(sequence)
        if sequence.is_decoding:
            self._add_decode(sequence)
        else:
            self.prefills.append(sequence)
            self.prompts.file(sequence)

    def leave(self, sequence: Sequence) -> None:
        """It runs no more."""
        self.adapters[sequence.adapters] -= 1
        if not self.adapters[sequence.adapters]:
            del self.adapters[sequence.adapters]
        self.n_paced -= sequence.is_paced
        if sequence.request.media:
            self.with_media.remove(sequence)
        if sequence.run is None:
            self.prefills.remove(sequence)
            self.prompts.remove(sequence)
        else:
            self._remove_decode(sequence)

    def place(self, sequence: Sequence) -> None:
        """What it has computed, or where, is another now."""
        run = sequence.run
        if run is None:
            if sequence.is_decoding:
                self.prefills.remove(sequence)
                self.prompts.remove(sequence)
                self._add_decode(sequence)
            else:
                self.prompts.file(sequence)
        elif not sequence.is_decoding:
            self._remove_decode(sequence)
            insort(self.prefills, sequence, key=_ADMISSION)
            self.prompts.file(sequence)
        elif run.seq != sequence.seq:
            self._remove_decode(sequence)
            self._add_decode(sequence)

    def _add_decode(self, sequence: Sequence) -> None:
        assert sequence.seq is not None, "only running sequences are planned"
        start = sequence.n_past
        sequence.run = Run(sequence.seq, start, sequence.tokens[start : start + 1], True)
        self.is_behind |= sequence.n_pending > 1 or start >= self._n_ctx_slot or sequence.is_prefilling
        insort(self.decodes, PlannedRun(sequence, sequence.run), key=_ADMISSION_OF_RUN)

    def _remove_decode(self, sequence: Sequence) -> None:
        at = bisect_left(self.decodes, sequence.admission, key=_ADMISSION_OF_RUN)
        assert self.decodes[at].sequence is sequence, "the decodes are out of order"
        del self.decodes[at]
        sequence.run = None

    # --- a step ---

    def catch_up(self) -> None:
        """Let each run be of its sequence's next token."""
        if not self.is_behind:
            return
        self.has_forced = self.has_full = self.has_prompt = False
        for planned in self.decodes:
            sequence, run = planned.sequence, planned.run
            run.start = start = sequence.n_past
            run.tokens = tokens = sequence.tokens[start : start + 1]
            run.logits = sequence.n_pending == len(tokens)
            self.has_forced |= not run.logits
            self.has_full |= start >= self._n_ctx_slot
            self.has_prompt |= start < sequence.n_prefill
        self.is_behind = self.has_forced or self.has_full or self.has_prompt

    # --- checking ---

    def check_integrity(self, running: Row[Sequence]) -> None:
        """Raise AssertionError where what is kept is not what sorting these would give."""
        decodes = [planned.sequence for planned in self.decodes]
        assert decodes == [s for s in running if s.is_decoding], "the wrong decodes are kept"
        assert self.prefills == [s for s in running if not s.is_decoding], "the wrong prefills are kept"
        self.prompts.check_integrity(self.prefills)
        assert self.with_media == [s for s in running if s.request.media], "the wrong media are kept"
        assert self.adapters == Counter(s.adapters for s in running), "the wrong adapters are kept"
        assert self.n_paced == sum(s.is_paced for s in running), "the wrong number is paced"
        assert all(s.run is None for s in self.prefills), "a prompt with a run that is kept"
        assert self.is_behind or not any(s.is_prefilling for s in decodes), "a prompt that is not known to be one"
        for sequence, run in ((planned.sequence, planned.run) for planned in self.decodes):
            assert sequence.run is run, "a sequence with another run than is kept"
            assert run.seq == sequence.seq, "a kept run of another id"
            if not self.is_behind and sequence.n_pending:  # else its token is still to be drawn
                tokens = sequence.tokens[sequence.n_past :]
                assert (run.start, row(run.tokens), run.logits) == (sequence.n_past, tokens, True), "a run left behind"
