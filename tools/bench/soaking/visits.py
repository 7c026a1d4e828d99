"""What the clients of a soak do: drawn at random, the same for the same seed. Pure."""

import enum
import random
from typing import Final

import attrs

GROUPS: Final = 6  # long prompts that many clients share, some of which have always left the KV cache


class Ask(enum.Enum):
    """What a client asks for."""

    FREE = "free text"
    COPY = "a copy of its own text, which lookup drafts"
    SCHEMA = "JSON by a schema"
    TOOLS = "a call of a tool"
    GRAMMAR = "text by a grammar"
    SEVERAL = "several choices"


class Leaving(enum.Enum):
    """When a client goes."""

    HALF_REQUEST = "with its request half sent"
    BEFORE_ANSWER = "after sending, at a random moment"
    MID_STREAM = "after some events of a stream"
    SLOWLY = "when it has everything, after reading slowly"
    AT_END = "when it has everything"


_ASKS: Final = (*[Ask.FREE] * 4, *[Ask.COPY] * 2, *[Ask.SCHEMA] * 2, Ask.TOOLS, Ask.GRAMMAR, *[Ask.SEVERAL] * 2)
_LEAVINGS: Final = (*[Leaving.AT_END] * 4, *Leaving)


@attrs.frozen(kw_only=True)
class Visit:
    """What one client does. Times in seconds from the beginning of its round."""

    name: str
    arrives: float
    ask: Ask
    leaving: Leaving
    stream: bool
    patience: float  # how long it waits before it goes (BEFORE_ANSWER), or does not read (SLOWLY)
    events: int  # how many it reads (MID_STREAM)
    prompt: int  # tokens
    tokens: int  # of the answer, at most
    group: int | None  # whose prompt it begins with; None: one of its own
    choices: int
    temperature: float
    seed: int


def plan(seed: int, number: int, rate: float, seconds: float) -> list[Visit]:
    """The visits of a round: a Poisson process of ``rate`` arrivals a second over so many seconds."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - not a secret
    visits: list[Visit] = []
    arrives = rng.expovariate(rate)
    while arrives < seconds:
        visits.append(_visit(rng, f"{number}.{len(visits)}", arrives))
        arrives += rng.expovariate(rate)
    return visits


def _visit(rng: random.Random, name: str, arrives: float) -> Visit:
    ask, leaving = rng.choice(_ASKS), rng.choice(_LEAVINGS)
    leaves_early = leaving in (Leaving.BEFORE_ANSWER, Leaving.MID_STREAM)
    return Visit(
        name=name,
        arrives=arrives,
        ask=ask,
        leaving=leaving,
        stream=leaving in (Leaving.MID_STREAM, Leaving.SLOWLY) or rng.random() < 0.5,
        patience=rng.expovariate(1.0),
        events=rng.randint(1, 24),
        prompt=rng.choice((10, 50, 150, 400)),
        tokens=256 if leaves_early else rng.randint(1, 48),
        group=rng.randrange(GROUPS) if rng.random() < 0.5 else None,
        choices=rng.choice((2, 3)) if ask is Ask.SEVERAL else 1,
        temperature=rng.choice((0.0, 0.7, 1.0)),
        seed=rng.randrange(1 << 31),
    )
