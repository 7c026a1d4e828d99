"""What a model's output turns out to be, piece by piece. The pieces of a kind, joined in order, are the whole."""

import attrs


@attrs.frozen
class Content:
    """Text of the answer."""

    text: str


@attrs.frozen
class Reasoning:
    """Text of the reasoning before the answer."""

    text: str


@attrs.frozen
class CallStarted:
    """The ``index``-th tool call begins; its name is complete."""

    index: int
    id: str
    name: str


@attrs.frozen
class CallArguments:
    """More of the arguments of call ``index``: they grow to the text of a JSON object."""

    index: int
    text: str


type Delta = Content | Reasoning | CallStarted | CallArguments
