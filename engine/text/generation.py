"""What the engine thread keeps for one request beside its place in the schedule: sampler, steering, text, clock."""

from collections import deque

import attrs

from engine.text.backend import Sampler
from engine.text.commands import Mailbox
from engine.text.detokenizer import Detokenizer
from engine.text.events import Finished, FinishReason, PrefillProgress, Timings, Tokens
from engine.text.indentation import IndentationGuard
from engine.text.requests import TokenInfo
from engine.text.sequence import Sequence
from engine.text.steering import Steering


@attrs.define  # and not frozen: one is made for each token, in half of the time
class _Held:
    """A token whose text is not out yet: it ends at character ``end`` of the whole text."""

    token: int
    info: TokenInfo | None
    end: int


class Generation:
    """Turns sampled tokens into events and decides when the generation ends by itself."""

    def __init__(
        self, sequence: Sequence, mailbox: Mailbox, sampler: Sampler, steering: Steering | None = None
    ) -> None:
        self.sequence = sequence
        self.mailbox = mailbox
        self.sampler = sampler
        self.steering = steering  # None: the request goes its own way
        request = sequence.request
        self._detokenizer = Detokenizer(request.stop)
        self._indentation = IndentationGuard(request.n_indent)
        self._held: deque[_Held] = deque()
        self._n_told = 0  # characters of the tokens that are in an event
        self._text = ""  # may be sent, is not yet in an event
        self._stopping_word = ""
        self._first_at: float | None = None
        self._last_at = 0.0
        self._has_new_line = False
        self._outdented = False
        self._draft_n = self._draft_n_accepted = 0
        self._n_prompt = sequence.n_prompt
        self._prompt_infos: list[TokenInfo] = []  # those of the prompt's first tokens
        self.n_scored = 0  # tokens of the prompt whose probability is known, or not asked for

    @property
    def prompt_seconds(self) -> float:
        """From admission to the first token; 0 before that."""
        admitted = self.sequence.admitted_at
        return 0.0 if self._first_at is None or admitted is None else self._first_at - admitted

    @property
    def tag(self) -> dict[str, str]:
        """What marks its log lines."""
        return {"request_id": self.sequence.request.id}

    @property
    def predicted_seconds(self) -> float:
        """From the first token to the newest."""
        return 0.0 if self._first_at is None else self._last_at - self._first_at

    def take(self, token: int, info: TokenInfo | None, piece: bytes, end: bool, now: float) -> FinishReason | None:
        """Account for a sampled or forced token (``end``: it ends the generation). Returns why it is over, if it is.

        To be called after ``Scheduler.append``.
        """
        if self._first_at is None:
            self._first_at = now
        self._last_at = now
        if end:
            if self.sequence.request.score_prompt:  # who evaluates counts on an entry for what was generated
                self._held.append(_Held(token, info, self._detokenizer.n_in))
            return FinishReason.EOS
        fed = self._detokenizer.feed(piece)
        self._held.append(_Held(token, info, self._detokenizer.n_in))
        text, self._outdented = self._indentation.feed(fed.text)
        self._text += text
        self._has_new_line = self._has_new_line or "\n" in text
        if self._outdented or (fed.stop is None and (self.sequence.n_remaining == 0 or self._out_of_time(text))):
            return FinishReason.LIMIT
        if fed.stop is not None:
            self._stopping_word = fed.stop
            return FinishReason.WORD
        return None

    def count_draft(self, n_drafted: int, n_accepted: int) -> None:
        """So many drafted tokens were checked, and so many of them were right."""
        self._draft_n += n_drafted
        self._draft_n_accepted += n_accepted

    def score(self, info: TokenInfo) -> None:
        """The prompt's next token is as probable as that."""
        self._prompt_infos.append(info)
        self.n_scored += 1

    def tokens_event(self) -> Tokens | None:
        """The text that may be sent since the last event; None while there is none."""
        if not self._text:
            return None
        held = self._pop_sent()
        text, self._text = self._text, ""
        return Tokens(
            text=text,
            tokens=tuple([h.token for h in held]),
            slot=self.sequence.slot or 0,
            timings=self.timings(),
            infos=tuple([h.info for h in held if h.info is not None]),
            prompt_infos=self._pop_scores(),
        )

    def finished_event(self, reason: FinishReason) -> Finished:
        """The terminal event. To be called while the sequence still has its slot."""
        if reason is not FinishReason.WORD and not self._outdented:
            self._text += self._indentation.feed(self._detokenizer.finish())[0]
            held = list(self._held)
        else:
            held = self._pop_sent()
            if self._stopping_word and self._held and self._n_told < self._detokenizer.n_out:
                # The stop string begins inside this token.
                held.append(self._held.popleft())
        return Finished(
            reason=reason,
            stopping_word=self._stopping_word,
            text=self._text,
            tokens=tuple(h.token for h in held),
            slot=self.sequence.slot or 0,
            timings=self.timings(),
            truncated=self.sequence.truncated,
            infos=tuple(h.info for h in held if h.info is not None),
            prompt_infos=self._pop_scores(),
        )

    def progress_event(self, now: float) -> PrefillProgress:
        sequence = self.sequence
        began = sequence.admitted_at if sequence.admitted_at is not None else now
        return PrefillProgress(
            total=sequence.n_prompt,
            cache=sequence.n_cached,
            processed=sequence.cells(min(sequence.n_past, len(sequence.request.prompt))),
            time_ms=(now - began) * 1e3,
        )

    def timings(self) -> Timings:
        sequence = self.sequence
        admitted = sequence.admitted_at if sequence.admitted_at is not None else sequence.submitted_at
        return Timings(
            cache_n=sequence.n_cached,
            prompt_n=self._n_prompt - sequence.n_cached,
            prompt_ms=self.prompt_seconds * 1e3,
            queue_ms=(admitted - sequence.submitted_at) * 1e3,
            predicted_n=sequence.n_generated,
            predicted_ms=self.predicted_seconds * 1e3,
            draft_n=self._draft_n,
            draft_n_accepted=self._draft_n_accepted,
        )

    def _pop_scores(self) -> tuple[TokenInfo, ...]:
        if not self._prompt_infos:
            return ()
        scores, self._prompt_infos = self._prompt_infos, []
        return tuple(scores)

    def _pop_sent(self) -> list[_Held]:
        """The held tokens whose text is out completely."""
        sent: list[_Held] = []
        while self._held and self._held[0].end <= self._detokenizer.n_out:
            sent.append(self._held.popleft())
            self._n_told = sent[-1].end
        return sent

    def _out_of_time(self, text: str) -> bool:
        limit = self.sequence.request.t_max_predict_ms
        return limit > 0 and self._has_new_line and "\n" in text and self.predicted_seconds * 1e3 > limit
