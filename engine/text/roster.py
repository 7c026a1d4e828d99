"""Who runs, sorted by what a step does with them: kept from step to step, sorted anew when somebody comes or goes."""

from collections.abc import Sequence as Row

from engine.text.adapters import AdapterSet
from engine.text.backend import Run
from engine.text.plan import PlannedRun
from engine.text.sequence import Sequence


class Roster:
    """All lists are in order of admission.

    Who decodes keeps one run for as long as it does: each plan moves it on (see ``engine.text.filling``).
    """

    def __init__(self) -> None:
        self.decodes: list[PlannedRun] = []
        self.prefills: list[Sequence] = []  # who has more to compute than a token
        self.with_media: list[Sequence] = []
        self.adapters: tuple[AdapterSet, ...] = ()  # the sets in use
        self.is_paced = False  # somebody has to wait for the time of its next token

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
            if planned is None or planned.run.seq != sequence.seq:
                assert sequence.seq is not None, "only running sequences are planned"
                planned = PlannedRun(sequence, Run(sequence.seq, sequence.n_past, (), False))
            self.decodes.append(planned)
        self.adapters = tuple(used)

    def check_integrity(self, running: Row[Sequence]) -> None:
        """Raise AssertionError where what is kept is not what sorting these would give."""
        now = Roster()
        now.update(running)
        assert [p.sequence for p in self.decodes] == [p.sequence for p in now.decodes], "the wrong decodes are kept"
        assert [p.run.seq for p in self.decodes] == [p.run.seq for p in now.decodes], "a kept run of another id"
        assert (self.prefills, self.with_media) == (now.prefills, now.with_media), "the wrong prefills are kept"
        assert (self.adapters, self.is_paced) == (now.adapters, now.is_paced), "the wrong adapters or pace are kept"
