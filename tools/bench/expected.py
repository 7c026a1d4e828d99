"""What figures a quick bench should give, and its verdict about those that it got. Pure.

Every figure is a ratio that is better when it is larger.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import attrs

STORED: Final = Path(__file__).with_name("quick.toml")


@attrs.frozen(kw_only=True)
class Expected:
    """``expected`` as it was measured; lower by more than the share ``tolerance`` is a regression."""

    key: str
    what: str
    expected: float
    tolerance: float
    peer: bool  # whether llama-server is needed for it

    @classmethod
    def of(cls, key: str, entry: Mapping[str, object]) -> Self:
        """From an entry of the file. Raises ValueError for one that says nothing."""
        match entry:
            case {"what": str(what), "expected": float(value), "tolerance": float(share), **rest} if (
                value > 0 and 0 < share < 1 and rest.keys() <= {"peer"}
            ):
                return cls(key=key, what=what, expected=value, tolerance=share, peer=rest.get("peer") is True)
        raise ValueError(f"{key}: what, expected (more than 0), tolerance (0 to 1) and perhaps peer are wanted")

    @property
    def least(self) -> float:
        """What is still in range."""
        return self.expected * (1 - self.tolerance)

    @property
    def most(self) -> float:
        """Beyond this the stored figure is out of date."""
        return self.expected * (1 + self.tolerance)


def read(path: Path = STORED) -> list[Expected]:
    """All figures of the file, in order. Raises ValueError, OSError."""
    return [Expected.of(key, entry) for key, entry in tomllib.loads(path.read_text(encoding="utf-8")).items()]


@attrs.frozen
class Verdict:
    """``regressions`` and ``missing`` are sentences that name the figure; ``better`` too, but it is no fault."""

    table: str
    regressions: list[str]
    missing: list[str]
    better: list[str]

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "REGRESSION" if self.regressions else "INCOMPLETE" if self.missing else "good"

    @property
    def status(self) -> int:
        """The exit status: 0 when everything is in range, 1 for a regression, 2 when something was not measured."""
        return 1 if self.regressions else 2 if self.missing else 0


def judge(
    wanted: Sequence[Expected], figures: Mapping[str, float], failures: Mapping[str, str], *, peer: bool
) -> Verdict:
    """The verdict. ``failures``: why a figure is missing; without a ``peer`` those that need it are left out."""
    lines = ["| figure | is | expected | least | |", "|---|---|---|---|---|"]
    regressions: list[str] = []
    missing: list[str] = []
    better: list[str] = []
    for one in wanted:
        if one.peer and not peer:
            continue
        figure = figures.get(one.key)
        if figure is None:
            missing.append(f"{one.key} ({one.what}): not measured: {failures.get(one.key, 'nobody measures it')}")
            word, shown = "missing", "-"
        else:
            shown = f"{figure:.3f}"
            word = "ok"
            said = f"{one.key} ({one.what}): {figure:.3f}, expected {one.expected:g}"
            if figure < one.least:
                word = "REGRESSION"
                regressions.append(f"{said}, at least {one.least:.3f}")
            elif figure > one.most:
                word = "better"
                better.append(said)
        lines.append(f"| {one.key}: {one.what} | {shown} | {one.expected:g} | {one.least:.3f} | {word} |")
    return Verdict("\n".join(lines), regressions, missing, better)
