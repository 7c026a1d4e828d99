"""What has come of a file that is still on its way."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs


@attrs.frozen
class Partial:
    """The file at ``path``, and with ``notes`` beside it what the server named the content by when it began.

    Used under the lock of its target only.
    """

    path: Path
    notes: bool = True

    @property
    def size(self) -> int:
        """Bytes that have come."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def validator(self) -> str | None:
        """What the content was named by; None: nothing is known."""
        try:
            noted = json.loads(self._notes.read_bytes())
        except (OSError, ValueError):
            return None
        validator = noted.get("validator") if isinstance(noted, dict) else None
        return validator if isinstance(validator, str) else None

    @property
    def _notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def begin(self, validator: str | None) -> None:
        """An empty file of this content."""
        # The notes first go, then come last: at no moment do they stand beside bytes of another content.
        self._notes.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        if self.notes and validator is not None:
            self._notes.write_text(json.dumps({"validator": validator}), encoding="utf-8")

    @contextmanager
    def append(self) -> Iterator[io.FileIO]:
        """The file, to be written behind its end: unbuffered, so that its size is what was written."""
        with self.path.open("ab", buffering=0) as file:
            yield file

    def sync(self) -> None:
        """Have what came on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Nothing has come."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
