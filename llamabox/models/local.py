"""A split model on this machine."""

from pathlib import Path

from llamabox.models.errors import ModelFileError
from llamabox.models.names import split_name


def check_parts(path: str) -> None:
    """Nothing where the path is that of a whole model, or of the first part of one that is there in full.

    Raises ModelFileError for another part, naming the first, and for missing ones, naming them.
    """
    split = split_name(path)
    if split is None:
        return
    if split.part != 1:
        raise ModelFileError(f"{path} is part {split.part} of {split.count}: give the first, {split.name(1)}")
    missing = [name for name in split.names if not Path(name).is_file()]
    if missing:
        names = ", ".join(Path(name).name for name in missing)
        raise ModelFileError(f"{path} is part 1 of {split.count}, and {names} missing beside it")
