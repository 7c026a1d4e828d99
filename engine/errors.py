"""What an engine can refuse or fail with. Every error crosses from the thread to the loop as a value."""

import attrs


class EngineError(Exception):
    """Base of everything that the engine raises on purpose."""


@attrs.frozen(slots=False)
class InvalidRequest(EngineError):
    """The request itself is wrong; ``param`` names the field if one is to blame.

    ``others``: those that it does not go with, one of which could be changed instead.
    """

    message: str
    param: str | None = None
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


@attrs.frozen(slots=False)
class ContextExceeded(EngineError):
    """The prompt does not fit into the context of a slot (both in tokens).

    ``at_least``: it was not counted to its end.
    """

    n_prompt_tokens: int
    n_ctx: int
    at_least: bool = False

    def __str__(self) -> str:
        size = f"{'at least ' if self.at_least else ''}{self.n_prompt_tokens} tokens"
        return f"the request has {size} and does not fit the context of {self.n_ctx} tokens"


class ModelLoadError(EngineError):
    """The model could not be loaded; the text says why and names the file."""


class StorageError(EngineError):
    """A file of the server's own could not be written; the text names it and says why."""


class EngineUnavailable(EngineError):
    """The engine is shutting down or has died; the request was not, or not completely, served."""


class RpcError(EngineError):
    """An RPC server cannot be used; the text names the endpoint and says why."""


class NativeError(EngineError):
    """A native call answered with an error that no input of the request explains."""
