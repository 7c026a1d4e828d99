"""What the multimodal library makes of one image or sound: its list of chunks, freed when nobody needs it."""

import ctypes
import weakref
from collections.abc import Iterator
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.errors import NativeError
from engine.text.media import LARGEST, MediaChunk, MediaItem

_TEXT: Final = 0  # mtmd_input_chunk_type
_IMAGE: Final = 1


class ChunkList:
    """A native list of chunks. The chunks live as long as this object."""

    def __init__(self, mtmd: Any) -> None:
        self.handle: Any = mtmd.mtmd_input_chunks_init()
        weakref.finalize(self, mtmd.mtmd_input_chunks_free, self.handle)


@attrs.frozen(eq=False)
class NativeChunk:
    """One chunk of a list."""

    handle: Any
    owner: ChunkList  # keeps the handle valid
    is_image: bool


def media_item(mtmd: Any, chunks: ChunkList, keys: Iterator[bytes], *, mrope: bool) -> MediaItem:
    """The chunks as parts of a prompt. Raises NativeError where they make no sense."""
    item: list[list[int] | MediaChunk] = []
    for index in range(mtmd.mtmd_input_chunks_size(chunks.handle)):
        handle = mtmd.mtmd_input_chunks_get(chunks.handle, index)
        kind: int = mtmd.mtmd_input_chunk_get_type(handle)
        if kind == _TEXT:
            count = ctypes.c_size_t()
            tokens = mtmd.mtmd_input_chunk_get_tokens_text(handle, ctypes.byref(count))
            item.append(tokens[: count.value])
            continue
        n_pos: int = mtmd.mtmd_input_chunk_get_n_pos(handle)
        n_cells: int = mtmd.mtmd_input_chunk_get_n_tokens(handle)
        if not 1 <= n_pos <= n_cells <= LARGEST:
            raise NativeError(f"the projector makes {n_cells} tokens at {n_pos} positions of it")
        native = NativeChunk(handle, chunks, kind == _IMAGE)
        flat = mrope and n_cells > 1 and not positions(mtmd, native, 0, n_cells, mrope=True)[0].any()
        item.append(MediaChunk(next(keys), n_pos, n_cells, bool(flat), native))
    return item


def positions(mtmd: Any, chunk: NativeChunk, start: int, count: int, *, mrope: bool) -> NDArray[np.int32]:
    """Positions of the chunk's ``count`` tokens from ``start`` on: int32[1, count], with M-RoPE int32[4, count]."""
    line = np.arange(start, start + count, dtype=np.int32)
    if not mrope:
        return line[np.newaxis]
    if not chunk.is_image:
        return np.repeat(line[np.newaxis], 4, axis=0)
    grid = (mtmd.mtmd_decoder_pos * count)()
    mtmd.mtmd_helper_image_get_decoder_pos(mtmd.mtmd_input_chunk_get_tokens_image(chunk.handle), start, grid)
    time, x, y, z = np.frombuffer(grid, np.uint32).reshape(count, 4).astype(np.int32).T
    return np.ascontiguousarray(np.stack((time, y, x, z)))
