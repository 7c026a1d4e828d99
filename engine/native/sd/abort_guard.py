"""What happens instead of a bare SIGABRT when the image library gives up."""

from typing import Final

from engine.native.abort import AbortGuard
from engine.native.sd import library

image_abort_guard: Final = AbortGuard(library.ggml_function)
"""The image library has a ggml of its own, and so a callback of its own."""
