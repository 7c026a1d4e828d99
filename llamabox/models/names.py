"""What the names of GGUF files tell: parts of a split model, quantisations, projectors. Pure."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final

import attrs

_SPLIT: Final = re.compile(r"(?P<stem>.+)-(?P<part>[0-9]{5})-of-(?P<count>[0-9]{5})(?P<end>\.gguf)", re.IGNORECASE)
# The bits of a quantisation: 4 of Q4_K_M, 16 of BF16.
_BITS: Final = re.compile(r"[-._](?:[A-Za-z]+-)?[A-Za-z]{1,6}([0-9]{1,2})[A-Za-z0-9_]*$")
_DEFAULT_QUANTS: Final = ("Q4_K_M", "Q8_0")
_PROJECTOR: Final = "mmproj"
# Files beside a model that are none by themselves: projectors, calibration data, drafting heads.
_NO_MODELS: Final = (_PROJECTOR, "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
_BEST_PROJECTOR: Final = "f16"
_BEST_BITS: Final = 16


@attrs.frozen
class SplitName:
    """The name of part ``part`` (from 1) of a model in ``count`` parts."""

    stem: str
    part: int
    count: int
    end: str = ".gguf"

    def name(self, part: int) -> str:
        """The name of that part."""
        return f"{self.stem}-{part:05}-of-{self.count:05}{self.end}"

    @property
    def names(self) -> list[str]:
        """The names of all parts, in order."""
        return [self.name(part) for part in range(1, self.count + 1)]


def split_name(name: str) -> SplitName | None:
    """The parts of a split file's name (a path or not); None for every other name."""
    match = _SPLIT.fullmatch(name)
    if match is None or not 1 <= int(match["part"]) <= int(match["count"]):
        return None
    return SplitName(match["stem"], int(match["part"]), int(match["count"]), match["end"])


def parts_of(name: str) -> list[str]:
    """All files that make up the model whose first file this is."""
    split = split_name(name)
    return [name] if split is None else split.names


def is_model(path: str) -> bool:
    """Whether a file of a repository is what a model can be loaded from: a GGUF file, the first part of a split one."""
    name = PurePosixPath(path).name.lower()
    split = split_name(name)
    return (
        name.endswith(".gguf") and not any(word in name for word in _NO_MODELS) and (split is None or split.part == 1)
    )


def choose_model(files: Iterable[str], quant: str | None) -> str | None:
    """The file with the quantisation; without one Q4_K_M, else Q8_0, else the first. None: there is none."""
    models = [path for path in files if is_model(path)]
    for word in _DEFAULT_QUANTS if quant is None else (quant,):
        pattern = re.compile(rf"(?:^|[^A-Za-z0-9]){re.escape(word)}[.-]", re.IGNORECASE)
        for path in models:
            if pattern.search(path):
                return path
    return models[0] if models and quant is None else None


def choose_projector(files: Iterable[str], model: str) -> str | None:
    """The projector for the model: of those in its directory or nearest above it f16, else the nearest to 16 bits."""
    directory = PurePosixPath(model).parent.parts

    def fits(path: str) -> bool:
        where = PurePosixPath(path)
        return (
            where.name.lower().endswith(".gguf")
            and _PROJECTOR in where.name.lower()
            and directory[: len(where.parent.parts)] == where.parent.parts
        )

    def rank(path: str) -> tuple[int, bool, int, str]:
        where = PurePosixPath(path)
        is_best = re.search(rf"(?:^|[^A-Za-z0-9]){_BEST_PROJECTOR}$", where.stem, re.IGNORECASE) is not None
        return -len(where.parent.parts), not is_best, abs(_bits(where.stem) - _BEST_BITS), path

    return min(filter(fits, files), key=rank, default=None)


def listed(files: Iterable[str], most: int = 20) -> str:
    """The models among the files, for a message."""
    models = [path for path in files if is_model(path)]
    more = f" and {len(models) - most} more" if len(models) > most else ""
    return ", ".join(models[:most]) + more if models else "none"


def missing_parts(name: str, files: Sequence[str]) -> list[str]:
    """Which parts of the model are not among the files."""
    return [part for part in parts_of(name) if part not in files]


def _bits(stem: str) -> int:
    match = _BITS.search(stem)
    return int(match[1]) if match else 0
