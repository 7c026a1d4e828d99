"""How much one rendering may do. Templates come with model files: they are not trusted to end."""

import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from llamabox.chat.errors import TemplateError, TemplateLimitError

MAX_DEPTH: Final = 200  # of nested lists and dicts in the input
MAX_NESTED: Final = MAX_DEPTH - 10  # of one part of a request: the input has levels of its own around it
_CLOCK_EVERY: Final = 256  # steps


@attrs.frozen(kw_only=True)
class Limits:
    """Steps are loop rounds, calls and filters; characters are counted wherever text or a list is made."""

    steps: int = 2_000_000
    chars: int = 256 * 1024 * 1024
    output: int = 64 * 1024 * 1024
    seconds: float = 5.0


@attrs.define(eq=False)
class Budget:
    """What is left of the limits during one rendering. Raises TemplateLimitError when something runs out."""

    limits: Limits = attrs.field(factory=Limits)
    clock: Callable[[], float] = time.monotonic
    _steps: int = 0
    _chars: int = 0
    _deadline: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._deadline = self.clock() + self.limits.seconds

    def step(self, chars: int = 0) -> None:
        """Count one step, and the characters that it makes."""
        self._steps += 1
        if self._steps > self.limits.steps:
            raise TemplateLimitError(f"the template takes more than {self.limits.steps} steps")
        if self._steps % _CLOCK_EVERY == 0 and self.clock() > self._deadline:
            raise TemplateLimitError(f"the template takes longer than {self.limits.seconds:g} s")
        if chars:
            self.spend(chars)

    def spend(self, chars: int) -> None:
        """Count characters (or list elements) BEFORE they are made."""
        self._chars += chars
        if self._chars > self.limits.chars:
            raise TemplateLimitError(f"the template makes more than {self.limits.chars} characters")

    def weigh(self, value: Any) -> None:
        """Count the text that ``value`` becomes: containers may share parts, and so be far longer than they look."""
        if isinstance(value, str):
            self.step(len(value))
            return
        self.step(8)
        if isinstance(value, dict):
            for key, item in value.items():
                self.weigh(key)
                self.weigh(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self.weigh(item)


def copy_plain(value: Any, depth: int = 0) -> Any:
    """A deep copy of JSON-like data, which a template may then change. Raises TemplateError on anything else."""
    if depth > MAX_DEPTH:
        raise TemplateError(f"the input is nested more than {MAX_DEPTH} levels deep")
    if value is None or isinstance(value, (str, int, float)):
        return value
    depth += 1
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TemplateError("the keys of an object must be strings")
        # Text, which is nearly all, needs neither a copy nor a call.
        return {key: item if type(item) is str else copy_plain(item, depth) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [item if type(item) is str else copy_plain(item, depth) for item in value]
    raise TemplateError(f"a template takes JSON values, not {type(value).__name__}")


def is_deeper(value: Any, most: int) -> bool:
    """Whether lists and dicts are nested in ``value`` more than ``most`` levels deep."""
    level = [value]
    for _ in range(most + 1):
        containers = [item for item in level if isinstance(item, dict | list | tuple)]
        if not containers:
            return False
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
    return True
