"""Tells files apart that are too large to be hashed at each start."""

import hashlib
from typing import Final

from engine.native.gguf_file import parts

SIZE: Final = 32  # bytes of a fingerprint
_SAMPLES: Final = 64
_SAMPLE: Final = 64 * 1024  # bytes


def fingerprint(path: str) -> bytes:
    """Hash of the size and of samples spread over the whole file, its head included; all parts of a split model count.

    Two fine-tunes of one model differ nearly everywhere, so they differ in the samples too. Raises OSError.
    """
    digest = hashlib.blake2b(digest_size=SIZE)
    for part in parts(path):
        size = part.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with part.open("rb") as file:
            for offset in sorted({max(0, size - _SAMPLE) * i // (_SAMPLES - 1) for i in range(_SAMPLES)}):
                file.seek(offset)
                digest.update(file.read(_SAMPLE))
    return digest.digest()
