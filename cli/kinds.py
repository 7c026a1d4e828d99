"""Kinds of option values: what text each accepts, and what it becomes.

``parse`` raises ValueError for text that the kind does not accept; the caller names the option and adds ``accepts``.
"""

import enum
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

INT32_MAX: Final = 2**31 - 1
TRUE_WORDS: Final = ("1", "true", "on", "yes")
FALSE_WORDS: Final = ("0", "false", "off", "no")


class Kind(ABC):
    """How the text of a value is read. ``arity``: how many values follow the flag."""

    arity: int = 1

    @property
    @abstractmethod
    def accepts(self) -> str:
        """What is accepted, to follow the word "expected"."""

    @abstractmethod
    def parse(self, text: str, *more: str) -> Any:
        """The value; ValueError when the text is not accepted."""


@attrs.frozen(kw_only=True)
class Switch(Kind):
    """A flag without a value; in the environment a boolean word."""

    on: Any = True
    off: Any = False
    arity = 0

    @property
    def accepts(self) -> str:
        return f"one of {', '.join(TRUE_WORDS)} or {', '.join(FALSE_WORDS)}"

    def parse(self, text: str, *more: str) -> Any:
        word = text.strip().lower()
        if word in TRUE_WORDS:
            return self.on
        if word in FALSE_WORDS:
            return self.off
        raise ValueError(text)


def _limits(low: float | None, high: float | None, also: tuple[float, ...], *, exclusive: bool = False) -> str:
    bounds = ""
    if exclusive:
        bounds = f" above {low}"
    elif low is not None and high is not None:
        bounds = f" from {low} to {high}"
    elif low is not None:
        bounds = f" of at least {low}"
    return bounds + "".join(f", or {value}" for value in also)


@attrs.frozen(kw_only=True)
class Whole(Kind):
    """A whole number in ``minimum``..``maximum``, or one of ``also``. The number ``none`` becomes None."""

    minimum: int = -INT32_MAX
    maximum: int = INT32_MAX
    also: tuple[int, ...] = ()
    none: int | None = None

    @property
    def accepts(self) -> str:
        low = None if self.minimum == -INT32_MAX else self.minimum
        high = None if self.maximum == INT32_MAX else self.maximum
        return "a whole number" + _limits(low, high, self.also)

    def parse(self, text: str, *more: str) -> int | None:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            raise ValueError(text)
        value = int(text)
        if value not in self.also and not self.minimum <= value <= self.maximum:
            raise ValueError(text)
        return None if value == self.none else value


@attrs.frozen(kw_only=True)
class Real(Kind):
    """A finite number: at least ``minimum`` or above ``above``, at most ``maximum``; or one of ``also``.

    The number ``none`` becomes None.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    also: tuple[float, ...] = ()
    none: float | None = None

    @property
    def accepts(self) -> str:
        if self.above is not None:
            return "a number" + _limits(self.above, None, self.also, exclusive=True)
        return "a number" + _limits(self.minimum, self.maximum, self.also)

    def parse(self, text: str, *more: str) -> float | None:
        value = parse_finite(text)
        if value == self.none:
            return None
        if value not in self.also and not self._within(value):
            raise ValueError(text)
        return value

    def _within(self, value: float) -> bool:
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
        )


def parse_finite(text: str) -> float:
    """A finite decimal number; ValueError for anything else, infinities and NaN included."""
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


@attrs.frozen
class Words(Kind):
    """One of the given words, in any case. ``synonyms`` are accepted without being advertised."""

    words: Mapping[str, Any]
    synonyms: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def accepts(self) -> str:
        return f"one of {', '.join(self.words)}"

    def parse(self, text: str, *more: str) -> Any:
        word = text.strip().lower()
        known = {**self.synonyms, **self.words}
        if word not in known:
            raise ValueError(text)
        return known[word]


def on_off_auto(on: Any, off: Any, auto: Any) -> Words:
    """The words on, off and auto, boolean words included."""
    synonyms = dict.fromkeys(TRUE_WORDS, on) | dict.fromkeys(FALSE_WORDS, off)
    return Words({"on": on, "off": off, "auto": auto}, synonyms)


def choice(*words: str) -> Words:
    """One of the words, as text."""
    return Words({word: word for word in words})


def members(enumeration: type[enum.Enum], *, but: tuple[enum.Enum, ...] = ()) -> Words:
    """One of an enumeration's values."""
    return Words({member.value: member for member in enumeration if member not in but})


@attrs.frozen
class Form(Kind):
    """Text that a function reads; it raises ValueError for what it does not accept."""

    accepts: str = attrs.field()
    function: Callable[[str], Any] = attrs.field()

    def parse(self, text: str, *more: str) -> Any:
        return self.function(text)


@attrs.frozen
class Pair(Kind):
    """Two values after one flag; a tuple."""

    first: Kind
    second: Kind
    arity = 2

    @property
    def accepts(self) -> str:
        return f"two values: {self.first.accepts} and {self.second.accepts}"

    def parse(self, text: str, *more: str) -> tuple[Any, Any]:
        (second,) = more
        return self.first.parse(text), self.second.parse(second)


@attrs.frozen
class Pairs(Pair):
    """The same for repeatable options: a tuple of one pair."""

    def parse(self, text: str, *more: str) -> tuple[Any, ...]:
        return (Pair.parse(self, text, *more),)


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text


def split_names(text: str) -> tuple[str, ...]:
    """The names between the commas; ValueError when one is empty."""
    return tuple(_not_empty(name).strip() for name in text.split(","))


def text(what: str = "text") -> Form:
    """Any text that is not empty."""
    return Form(what, _not_empty)


def texts(what: str = "text") -> Form:
    """Any text that is not empty, as a tuple of one: for repeatable options."""
    return Form(what, lambda value: (_not_empty(value),))


def names(what: str) -> Form:
    """Names by comma, as a tuple."""
    return Form(what, split_names)


@attrs.frozen
class TextFile:
    """The value of an option that names a file with the text that is meant."""

    path: str


FILE: Final = text("a file")
TEXT_FILE: Final = Form("a file", lambda value: TextFile(_not_empty(value)))
FILES: Final = texts("a file")
SHARE: Final = Real(minimum=0, maximum=1)
POSITIVE: Final = Real(above=0)
NOT_NEGATIVE: Final = Real(minimum=0)
