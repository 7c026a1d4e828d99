"""Prompts that no cache has seen: a number that is different every time comes first."""

import hashlib
import random

import attrs

# Common words are one token each in most vocabularies; ``tokens_per_word`` corrects for those where they are not.
_COMMON = """
time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother
area money story fact month lot right study book eye job word business issue side kind head house service friend
father power hour game line end member law car city community name president team minute idea body information
back parent face others level office door health person art war history party result change morning reason
research girl guy moment air teacher force education foot boy age policy music market sense nation plan college
interest death experience effect use class control field development role effort rate heart drug show leader
light voice wife police mind price report decision son view relationship town road arm difference value building
action season society tax director position player record paper space ground form event matter center couple site
"""
WORDS = tuple(_COMMON.split())

Message = dict[str, str]


def nonce(*parts: object) -> str:
    """Eight digits that depend on all the parts and, as digits, take the same number of tokens each time."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"{int.from_bytes(digest[:8]) % 100_000_000:08d}"


@attrs.frozen(kw_only=True)
class Prompts:
    """The prompts of one scenario in one round: the same for both servers, different from any other round's."""

    seed: int
    scenario: str
    round: int
    tokens_per_word: float = 1.0

    def text(self, tokens: int, *parts: object) -> str:
        """About ``tokens`` tokens of words, the same for the same parts."""
        rng = random.Random(self._nonce("text", *parts))  # noqa: S311 - not a secret
        return " ".join(rng.choices(WORDS, k=max(1, round(tokens / self.tokens_per_word))))

    def question(self, client: int) -> list[Message]:
        """A short conversation of its own for every client."""
        return [
            {"role": "system", "content": f"{self._nonce('own', client)}. You are a helpful assistant."},
            {"role": "user", "content": f"Write a long story with these words: {self.text(12, 'question', client)}."},
        ]

    def shared(self, client: int, tokens: int) -> list[Message]:
        """A question of its own after a system prompt of about ``tokens`` tokens that all clients have in common."""
        return [
            {"role": "system", "content": f"{self._nonce('shared')}. {self.text(tokens, 'shared')}"},
            {"role": "user", "content": f"Write about: {self.text(8, 'shared question', client)}."},
        ]

    def long(self, tokens: int) -> list[Message]:
        """A user message of about ``tokens`` tokens."""
        return [{"role": "user", "content": f"{self._nonce('long')}. Summarize: {self.text(tokens, 'long')}"}]

    def visitor(self, number: int, tokens: int) -> list[Message]:
        """A conversation of about ``tokens`` tokens with nothing in common with any other."""
        text = self.text(tokens, "visitor", number)
        return [{"role": "user", "content": f"{self._nonce('visitor', number)}. Summarize: {text}"}]

    def opening(self) -> Message:
        """The system message of a conversation."""
        return {"role": "system", "content": f"{self._nonce('talk')}. You are a helpful assistant. Answer at length."}

    def turn(self, number: int) -> Message:
        """What the user says in a turn of the conversation."""
        return {"role": "user", "content": f"Turn {number}. What about {self.text(24, 'turn', number)}?"}

    def _nonce(self, *parts: object) -> str:
        return nonce(self.seed, self.scenario, self.round, *parts)
