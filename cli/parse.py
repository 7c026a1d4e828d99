"""From arguments and environment variables to option values: a flag beats a variable, the last flag wins."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from cli.errors import UsageError
from cli.kinds import Switch
from cli.option import Option
from cli.options import OPTIONS


@attrs.frozen
class Given:
    """A value that somebody gave. ``spelling`` is the flag or variable as it was written."""

    option: Option
    value: Any
    spelling: str


type Values = dict[str, Given]  # by Option.key


def _by_flag() -> dict[str, Option]:
    return {flag: option for option in OPTIONS for flag in (*option.flags, *option.off)}


FLAGS: Final = _by_flag()


def read_arguments(arguments: Sequence[str]) -> Values:
    """The values that the command line gives; UsageError names the flag that is wrong."""
    values: Values = {}
    rest = list(arguments)
    while rest:
        flag, equals, attached = rest.pop(0).partition("=")
        option = FLAGS.get(flag)
        if option is None:
            raise UsageError(_unknown(flag))
        texts = [attached] if equals else []
        _add(values, Given(option, _value(option, flag, texts, rest), flag))
    return values


def read_environment(environment: Mapping[str, str], options: Iterable[Option] = OPTIONS) -> Values:
    """The values that variables give. An empty variable counts as not set."""
    values: Values = {}
    for option in options:
        name = next((name for name in option.env if environment.get(name)), None)
        if name is None or (_is_foreign(name) and not environment[name].strip()):
            continue
        spelling = f"{name} ({option.name})"
        values[option.key] = Given(option, _parse(option, spelling, [environment[name]]), spelling)
    return values


def _is_foreign(name: str) -> bool:
    """Whether the variable (HF_TOKEN) is there for other programs too, so that its value is no reason to refuse."""
    return not name.startswith("LLAMA_")


def _unknown(flag: str) -> str:
    if not flag.startswith("-"):
        return f"unexpected argument {flag!r}: every value belongs to a flag"

    def likeness(known: str) -> tuple[float, bool]:
        # Of equally near ones the one whose letters were only swapped.
        return difflib.SequenceMatcher(None, flag, known).ratio(), sorted(flag) == sorted(known)

    nearest = difflib.get_close_matches(flag, FLAGS, n=3)
    return f"{flag}: unknown option; " + (f"did you mean {max(nearest, key=likeness)}?" if nearest else "see --help")


def _value(option: Option, flag: str, texts: list[str], rest: list[str]) -> Any:
    """The value of ``flag``; ``texts`` was attached to it by ``=``, ``rest`` follows and is consumed as needed."""
    kind = option.kind
    if isinstance(kind, Switch):
        if texts:
            raise UsageError(f"{flag}: takes no value")
        return kind.off if flag in option.off else kind.on
    if option.if_alone is not None and not texts and (not rest or rest[0].startswith("-")):
        return _parse(option, flag, [option.if_alone])
    while len(texts) < kind.arity:
        if not rest or rest[0].partition("=")[0] in FLAGS:
            raise UsageError(f"{flag}: value missing; expected {kind.accepts}")
        texts.append(rest.pop(0))
    return _parse(option, flag, texts)


def _parse(option: Option, spelling: str, texts: list[str]) -> Any:
    try:
        return option.kind.parse(*texts)
    except (ValueError, OverflowError):
        shown = " ".join(repr(text) for text in texts)
        raise UsageError(f"{spelling}: {shown} is not accepted; expected {option.kind.accepts}") from None


def _add(values: Values, given: Given) -> None:
    before = values.get(given.option.key)
    if given.option.repeat and before is not None:
        given = attrs.evolve(given, value=(*before.value, *given.value))
    values[given.option.key] = given
