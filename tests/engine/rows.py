"""Lists where the engine's caches want rows of tokens: tests are shorter with them."""

from collections.abc import Callable
from functools import wraps
from inspect import getmembers, isfunction
from typing import Any

from engine.text.tokens import row


def lenient[T: type](kind: T) -> T:
    """The class, whose public methods take lists for rows."""

    def taking(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(self: object, *args: object, **named: object) -> Any:
            return method(self, *(row(arg) if isinstance(arg, list) else arg for arg in args), **named)

        return call

    public = {name: taking(method) for name, method in getmembers(kind, isfunction) if not name.startswith("_")}
    return type(kind.__name__, (kind,), public)  # type: ignore[return-value]
