"""The body of the engine thread: drain, plan, decode, sample, publish.

One file, though a long one: every path through a step ends in the one outbox and in the books of the running
generations, and whether each request gets its one terminal event is to be read in one place.
"""

import logging
import queue
from collections.abc import Callable
from collections.abc import Sequence as Row
from time import monotonic

import attrs

from engine.embedding.worker import EmbeddingWorker
from engine.errors import EngineError, EngineUnavailable, NativeError
from engine.text.adapters import NO_ADAPTERS, AdapterSet
from engine.text.backend import Backend, DecodeStatus
from engine.text.cell_rent import CellRent
from engine.text.checkpoints import Checkpoints
from engine.text.commands import (
    Cancel,
    CancelEmbed,
    Command,
    Embed,
    EraseSlot,
    Mailbox,
    RestoreSlot,
    Resume,
    SaveSlot,
    Stop,
    Submit,
)
from engine.text.copy_cost import TimedMemory
from engine.text.events import Event, Failed, FinishReason, Notice
from engine.text.foreign_cells import ForeignCells
from engine.text.generation import Generation
from engine.text.host_memory import HostMemory
from engine.text.info import EngineStats
from engine.text.masks import Masks
from engine.text.next_tokens import NextTokens
from engine.text.plan import PlannedMedia, StepPlan
from engine.text.prompt_scores import begin_scores, score
from engine.text.recall import budget, prepare, recall
from engine.text.scheduler import Scheduler
from engine.text.sequence import Sequence, Status
from engine.text.slot_keeper import SlotKeeper
from engine.text.speculation.speculation import Speculation
from engine.text.steering import steering_for
from engine.text.step_cost import StepCost, stretch
from engine.text.stream_cache import COPY_PRICE, StreamCache

log = logging.getLogger("engine.text")

# A prefill of fewer tokens is over before an abort would have spared anything.
ABORT_WORTH = 64
LEAST_PREFILL = 16
QUIET = 2.0  # seconds
CHECKED_STEPS = 64  # with `debug` the books are compared after so many steps at the latest

type Publish = Callable[[list[tuple[Mailbox, Notice]]], None]


@attrs.frozen
class Started:
    """An engine that is ready to run: what a starter makes on the engine thread."""

    backend: Backend
    loop: "EngineLoop"
    measured_rate: float | None = None  # tokens/s of one sequence


class EngineLoop:
    """Runs requests on a backend until it is stopped. One thread; ``commands`` and ``prefilling`` are for others.

    ``publish`` gets all events of a step at once; it must neither block nor raise. ``mask_threads``: how many may
    compute masks while the backend decodes. ``embeddings``: the other kind of work, one batch of it after each step.
    ``host``: the same that the scheduler has. ``rent``: says how long idle prefixes are kept; measured if left out.
    ``speculation``: who drafts; it is closed with the loop. ``copies``: what the scheduler copies with, where each id
    has a stream of cells. ``foreign``: who is told of the cells of others that steps read. ``tidy``: called once when
    nothing has been asked for ``QUIET`` seconds.
    """

    def __init__(
        self,
        backend: Backend,
        scheduler: Scheduler,
        publish: Publish,
        *,
        step_target: float = 0.150,
        mask_threads: int = 0,
        embeddings: EmbeddingWorker | None = None,
        host: HostMemory | Checkpoints | None = None,
        speculation: Speculation | None = None,
        rent: CellRent | None = None,
        copies: TimedMemory | None = None,
        foreign: ForeignCells | None = None,
        tidy: Callable[[], None] = lambda: None,
        debug: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.prefilling: frozenset[str] = frozenset()  # requests whose long prefill is being computed right now
        self.stats = EngineStats(kv_cells=scheduler.limits.n_cells)
        self.scheduler = scheduler
        self.embeddings = EmbeddingWorker() if embeddings is None else embeddings
        self.embeddings.wake = lambda: self.commands.put(Resume())
        self._backend = backend
        self._publish = publish
        self._target = step_target
        self._debug = debug
        self._clock = clock
        self._cost = StepCost()
        self._rent = rent or CellRent()
        self._copies = copies
        self._foreign = foreign
        self._tidy = tidy
        self._is_tidy = False
        self._masks = Masks(mask_threads)
        self._host = host
        self._speculation = speculation or Speculation()
        self._next_tokens = NextTokens(backend.vocab, scheduler, self._masks, clock)
        self._slots = SlotKeeper(backend, scheduler.books)
        self._adapters: AdapterSet | None = NO_ADAPTERS  # what the backend decodes with; None: unknown
        self._generations: dict[str, Generation] = {}
        self._outbox: list[tuple[Mailbox, Notice]] = []
        self._stopping = False
        self._n_steps = 0
        self._n_agreed = 0  # times that the books were checked and right

    def run(self) -> None:
        """Serve until Stop. Every request that is left gets EngineUnavailable, also when the loop itself fails."""
        reason = "the server is shutting down"
        try:
            while not self._stopping:
                self.step()
        except BaseException as error:
            reason = f"the engine failed: {error}"
            raise
        finally:
            for generation in self._generations.values():
                self._post(generation, Failed(error=EngineUnavailable(reason)))
            self._outbox += self._slots.fail_all(EngineUnavailable(reason))
            self._outbox += self.embeddings.fail_all(EngineUnavailable(reason))
            self._flush()
            self._forget_all()
            self.close()
            if self._debug:
                log.info("the KV books agreed with the library's in %d checks", self._n_agreed)

    def close(self) -> None:
        """End the threads that compute masks, and what drafts; ``run`` does so at its end."""
        self._masks.close()
        self._speculation.close()

    def step(self) -> None:
        """One turn; waits for a command when there is nothing to compute."""
        self._backend.clear_abort()
        self.embeddings.clear_abort()
        self._drain()
        if self._stopping:
            return
        if self._debug:
            self._n_steps += 1
            if self._n_steps % CHECKED_STEPS == 0:
                self.check_books()
        self._outbox += self._slots.work()
        plan = self._plan()
        recalling = self._host is not None and any(sequence.is_recalling for sequence in self.scheduler.running)
        if not plan.runs and plan.media is None and not self.embeddings.pending and not recalling:
            self._flush()
            self._wait(plan.wake_at)
            return
        self.prefilling = self._abortable(plan)
        # The events of the last step go out now and not earlier: from here on the thread needs no Python for a while,
        # so the loop that writes them does not compete with it for the interpreter.
        self._flush()
        # A Cancel that came before `prefilling` was set could not know that it should abort: look once more.
        if self.commands.empty() or not self.prefilling:
            if plan.media is not None:
                self._compute_media(plan.media)
            elif plan.runs:
                self._compute(plan)
        self.prefilling = frozenset()
        if self.embeddings.pending:
            self._gather()
            self._embed()

    def _abortable(self, plan: StepPlan) -> frozenset[str]:
        """Whose leaving is worth an abort: a step that may be long, of which the others lose nothing."""
        if not self.scheduler.limits.can_reuse and len(self.scheduler.running) > 1:
            return frozenset()
        if plan.media is not None:
            return frozenset((plan.media.sequence.request.id,))
        return frozenset(p.sequence.request.id for p in plan.runs if len(p.run.tokens) >= ABORT_WORTH)

    def _gather(self) -> None:
        """Where only texts are to be computed: wait a moment for those of clients that were just answered."""
        while not (self._stopping or self.scheduler.running or self.scheduler.waiting):
            patience = self.embeddings.patience()
            if patience <= 0:
                return
            try:
                self._obey(self.commands.get(timeout=patience))
            except queue.Empty:
                return

    def _embed(self) -> None:
        """One batch of texts: all that fit when nothing else runs, else what the generation's step left of its time."""
        self._drain()
        if self._stopping or not self.embeddings.pending:
            return
        left = self._target / 2 - (self._cost.decode or 0.0)
        budget = self.embeddings.budget(left) if self.scheduler.running else None
        # As above: a command that came before `computing` was set could not know that it should abort.
        self._outbox += self.embeddings.step(budget, self.commands.empty, self.stats)
        self._update_gauges()

    # --- commands ---

    def _drain(self) -> None:
        while not self.commands.empty():
            self._obey(self.commands.get())

    def _wait(self, wake_at: float | None) -> None:
        self._update_gauges()
        self._speculation.idle()
        if self._debug and not self.scheduler.running:
            self.check_books()
        untidy = wake_at is None and not self._is_tidy
        timeout = QUIET if untidy else None if wake_at is None else max(0.0, wake_at - self._clock())
        try:
            self._obey(self.commands.get(timeout=timeout))
        except queue.Empty:
            if untidy:
                self._tidy()
                self._is_tidy = True

    def _obey(self, command: Command) -> None:
        self._is_tidy = False
        match command:
            case Submit():
                self._submit(command)
            case SaveSlot() | RestoreSlot() | EraseSlot():
                self._slots.add(command)
            case Cancel(request_id):
                self._slots.withdraw(request_id)
                generation = self._generations.get(request_id)
                if generation is not None:
                    log.debug("cancelled after %d tokens", generation.sequence.n_generated, extra=generation.tag)
                    self._forget(generation)
            case Embed() | CancelEmbed():
                self._outbox += self.embeddings.obey(command)
            case Resume():
                pass
            case Stop():
                self._stopping = True
            case _:
                raise AssertionError(f"not a command: {command!r}")

    def _submit(self, command: Submit) -> None:
        request, mailbox = command.request, command.mailbox
        try:
            sampler = self._backend.create_sampler(request.sampling)
            try:
                sampler.accept([t for t in request.prompt if t >= 0] if request.media else request.prompt)
                steering = steering_for(request, self.scheduler.limits.n_vocab)
                sequence = self.scheduler.submit(request, self._clock())
            except BaseException:
                sampler.close()
                raise
        except EngineError as error:
            self._outbox.append((mailbox, Failed(error=error)))
            return
        generation = self._generations[request.id] = Generation(sequence, mailbox, sampler, steering)
        if request.score_prompt:
            begin_scores(generation, self._backend.vocab)
        if steering is not None:
            self._masks.add(sequence, steering)

    # --- a step ---

    def _plan(self) -> StepPlan:
        blocked = {key for key, generation in self._generations.items() if generation.mailbox.full()}
        limits = self.scheduler.limits
        # Texts that wait for their vectors get a batch after this step: both share the time that a step may take.
        target = self._target / 2 if self.embeddings.pending else self._target
        target *= stretch(self.scheduler.n_prefilling, self.scheduler.n_decoding)
        prefill_limit = self._cost.prefill_limit(target, LEAST_PREFILL, limits.n_batch)
        if self._host is not None:
            self._copy(self._host, blocked)
        if self._copies is not None and isinstance(self.scheduler.cache, StreamCache):
            price = self._copies.price(self._cost.prefill_token)
            self.scheduler.cache.copy_price = COPY_PRICE if price is None else price
        idle_age = self._rent.idle_age(self.scheduler.cells_active, self.scheduler.cache.returns.share)
        if idle_age is not None:
            self.scheduler.idle_age = idle_age
        plan = self.scheduler.plan(self._clock(), prefill_limit, blocked)
        if plan.preempted:
            self.stats.preemptions_total += len(plan.preempted)
            log.debug("KV cache full: preempted %d", len(plan.preempted))
        return self._speculation.extend(plan, self.scheduler, self._generations, self._backend.vocab, self._masks)

    def _copy(self, host: HostMemory | Checkpoints, blocked: set[str]) -> None:
        """What this step copies between the KV cache and host memory."""
        books = self.scheduler.books
        host.begin_step(budget(books, self._target), self._cost.prefill_token)
        self.scheduler.admit(self._clock(), blocked)
        recall(books, host, self._target)
        if isinstance(host, HostMemory):
            prepare(books, host, self._rent)

    def _compute(self, plan: StepPlan) -> None:
        began, n_cells = self._clock(), self.scheduler.cells_used
        if self._masks:
            self._masks.start(planned.sequence for planned in plan.runs if planned.run.logits)
        try:
            self._use(plan.adapters)
            status = self._backend.decode([planned.run for planned in plan.runs])
        except NativeError as error:
            self._decode_failed(plan, error)
            return
        match status:
            case DecodeStatus.OK:
                self._decoded(plan)
                # Sampling and publishing count too: it is the whole step that must meet the target.
                self._measured(plan, n_cells, self._clock() - began)
            case DecodeStatus.ABORTED:
                self._aborted(plan)
            case DecodeStatus.NO_ROOM:
                if plan.n_drafted:
                    self._speculation.pause()  # nobody is to give way for a guess
                else:
                    self._no_room([planned.sequence for planned in plan.runs])
            case _:
                raise AssertionError(f"not a status: {status!r}")

    def _measured(self, plan: StepPlan, n_cells: int, seconds: float) -> None:
        if not plan.n_drafted and not plan.n_scored:  # else these cost more than others do
            n_decode, n_prefill = plan.n_decode, plan.n_prefill
            self._cost.measured(n_decode, n_prefill, seconds)
            self._rent.measured(n_decode + n_prefill, n_cells + n_decode + n_prefill, seconds)
            if self._foreign is not None:
                self._foreign.measured(plan, self.scheduler.cells_active, self._rent.rent, seconds)
        self._speculation.measured(plan, seconds, self._cost.prefill_token)

    def _compute_media(self, planned: PlannedMedia) -> None:
        """Encode and decode one image or sound: the others wait for as long as that takes, and go first afterwards."""
        sequence, span = planned.sequence, planned.span
        assert sequence.seq is not None, "only running sequences are planned"
        generation = self._generations[sequence.request.id]
        try:
            self._use(sequence.adapters)
            status = self._backend.decode_media(sequence.seq, span.start, span.chunk)
        except NativeError as error:
            log.error("decode failed: %s", error, extra=generation.tag)
            sequence.shifted = True  # see _decode_failed
            self._fail(generation, error)
            return
        self.stats.media_encoded_total = self._backend.n_encoded
        if status is DecodeStatus.ABORTED and not self.scheduler.limits.can_cut:
            self.scheduler.start_over()  # see _aborted
        elif status is not DecodeStatus.OK:
            if status is DecodeStatus.NO_ROOM:
                self._no_room([sequence])
            if not self.scheduler.limits.can_reuse and sequence.status is Status.RUNNING:
                # A recurrent state is gone, and of a window what the medium's first part pushed out.
                self.scheduler.books.restart(sequence)
        else:
            self.scheduler.computed(sequence, span.chunk.n_pos)
            self.stats.decode_total += 1
            self.stats.busy_slots_total += 1
            self.stats.media_total += 1
            self.stats.prompt_tokens_total += span.chunk.n_cells
            self._update_gauges()
            if sequence.request.report_progress:
                self._post(generation, generation.progress_event(self._clock()))

    def _use(self, adapters: AdapterSet) -> None:
        """Let the backend decode with these. Raises NativeError."""
        if adapters != self._adapters:
            self._adapters = None
            self._backend.set_adapters(adapters)
            self._adapters = adapters

    def _decoded(self, plan: StepPlan) -> None:
        index = -1
        computed_prompt = 0
        self.scheduler.decoded(plan)
        for planned in plan.runs:
            sequence, run = planned.sequence, planned.run
            index += len(run.tokens)
            was_prefilling = run.start < sequence.n_prefill
            if was_prefilling:
                computed_prompt += run.n_own
            generation = self._generations[sequence.request.id]
            if run.scored:
                score(generation, run, index)
            if run.logits and sequence.request.max_tokens == 0:
                self._finish(generation, FinishReason.LIMIT)  # only the prompt was to be computed
            elif run.logits:
                self._sample(generation, index - run.n_drafted, run.tokens[run.n_own :])
            elif was_prefilling and sequence.request.report_progress:
                self._post(generation, generation.progress_event(self._clock()))
        self.stats.decode_total += 1
        self.stats.busy_slots_total += len(plan.runs)
        self.stats.prompt_tokens_total += computed_prompt
        self._update_gauges()

    def _sample(self, generation: Generation, index: int, draft: Row[int]) -> None:
        """Find the next tokens from the logits at ``index`` and behind it, and say so."""
        sequence = generation.sequence
        first = sequence.n_generated == 0
        found = self._next_tokens.find(generation, index, draft)
        self._speculation.observe(sequence, found.tokens)
        if first and found.tokens:
            if sequence.request.report_progress:
                self._post(generation, generation.progress_event(self._clock()))
            self.stats.prompt_seconds_total += generation.prompt_seconds
            self.stats.prompt_cached_tokens_total += sequence.n_cached
        if found.error is not None:
            self._fail(generation, found.error)
        elif found.reason is not None:
            self._finish(generation, found.reason)
        elif (event := generation.tokens_event()) is not None:
            self._post(generation, event)

    def _aborted(self, plan: StepPlan) -> None:
        """Whole ubatches are computed: ask the library how far each sequence came.

        Where nothing can be cut the library could not take the aborted one back either. It has the tokens, and states
        that are half computed; it may even have been moving those of sequences that were not in the batch.
        """
        if not self.scheduler.limits.can_cut:
            self.scheduler.start_over()
            return
        for planned in plan.runs:
            sequence, run = planned.sequence, planned.run
            if sequence.is_scoring:  # there may be no logits of what was computed
                self.scheduler.books.restart(sequence)
                continue
            _, last = self._backend.span(run.seq)
            done = max(0, min(len(run.tokens), last + 1 - run.start))
            self.scheduler.computed(sequence, min(done, run.n_own))
            if done > run.n_own:
                self.scheduler.checked(sequence, 0, run.n_drafted)
            if sequence.n_pending == 0:
                self.scheduler.step_back(sequence)

    def _no_room(self, sequences: list[Sequence]) -> None:
        hopeless = self.scheduler.no_room(sequences)
        if hopeless is not None:
            generation = self._generations[hopeless.request.id]
            self._fail(generation, NativeError("the KV cache has no room for this request"))

    def _decode_failed(self, plan: StepPlan, error: NativeError) -> None:
        log.error("decode failed: %s", error)
        for planned in plan.runs:
            planned.sequence.shifted = True  # what it computed in this step is unknown: nothing of it may be shared
            self._fail(self._generations[planned.sequence.request.id], error)

    # --- ends ---

    def _finish(self, generation: Generation, reason: FinishReason) -> None:
        self._post(generation, generation.finished_event(reason))
        self._forget(generation)

    def _fail(self, generation: Generation, error: EngineError) -> None:
        self._post(generation, Failed(error=error))
        self._forget(generation)

    def _forget(self, generation: Generation) -> None:
        self.stats.tokens_predicted_total += generation.sequence.n_generated
        self.stats.tokens_predicted_seconds_total += generation.predicted_seconds
        self.scheduler.end(generation.sequence)
        generation.sampler.close()
        self._masks.remove(generation.sequence)
        self._speculation.forget(generation.sequence)
        del self._generations[generation.sequence.request.id]

    def _forget_all(self) -> None:
        """At the end; goes on where the backend, which may be what failed, refuses to tidy up."""
        for generation in list(self._generations.values()):
            try:
                self._forget(generation)
            except Exception:
                log.debug("the backend refused at the end", exc_info=True)
                generation.sampler.close()

    def _post(self, generation: Generation, event: Event) -> None:
        self._outbox.append((generation.mailbox, event))

    def _flush(self) -> None:
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._publish(outbox)

    # --- figures ---

    def _update_gauges(self) -> None:
        scheduler, stats = self.scheduler, self.stats
        stats.kv_cells_used, stats.kv_cells_active = scheduler.usage
        if self._host is not None:
            self._host.count(stats)
        stats.requests_processing = len(scheduler.running) + self.embeddings.n_requests
        stats.requests_deferred = len(scheduler.waiting)

    def check_books(self) -> None:
        """Compare the books with the library's. Raises AssertionError where they differ."""
        self.scheduler.check_integrity()
        if self._host is not None:
            self._host.check_integrity()
        spans, is_whole = self.scheduler.spans(), self.scheduler.limits.can_reuse
        for seq in range(self.scheduler.limits.n_seqs):
            length = spans.get(seq, 0)
            expected = (0, length - 1) if length else (-1, -1)
            actual = self._backend.span(seq)
            if not is_whole and length:  # a window's first cells may be gone, and a recurrent state is but one
                expected = (actual[0], length - 1)
            assert actual == expected, f"sequence {seq}: the library holds {actual}, the books say {expected}"
        self._n_agreed += 1
