"""What a step costs on this machine, learned while running: sizes the prefill share of a mixed batch."""

import attrs

# Weight of the newest measurement; about the last ten steps count.
_ALPHA = 0.2

# A step's time may grow by this factor where more requests wait for their first token than streams run.
MOST_STRETCH = 4.0


def stretch(n_prefilling: int, n_decoding: int) -> float:
    """By how much a step may take longer: who waits for a first token counts as much as who waits for the next one.

    Larger steps read prompts faster, as they pay for the streams' tokens and for the weights less often.
    """
    return min(MOST_STRETCH, max(1.0, n_prefilling / max(1, n_decoding)))


@attrs.define
class StepCost:
    """Seconds per pure decode step and per prefill token, as moving averages. None: nothing measured yet."""

    decode: float | None = None
    prefill_token: float | None = None

    def measured(self, n_decode: int, n_prefill: int, seconds: float) -> None:
        """A step with so many decode rows and prefill tokens took so long."""
        if n_prefill == 0:
            self.decode = _average(self.decode, seconds)
        else:
            rest = seconds - (self.decode or 0.0) * (n_decode > 0)
            self.prefill_token = _average(self.prefill_token, max(rest, 0.0) / n_prefill)

    def prefill_limit(self, target: float, least: int, most: int) -> int:
        """Prefill tokens that keep a step with running streams under ``target`` seconds, within [least, most]."""
        if not self.prefill_token:
            return least
        room = (target - (self.decode or 0.0)) / self.prefill_token
        return max(least, min(most, int(room)))


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _ALPHA * (new - old)
