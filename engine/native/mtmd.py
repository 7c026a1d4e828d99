"""The projector of a model: images and sounds to chunks for a prompt, chunks to embeddings."""

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Buffer, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineUnavailable, InvalidRequest, ModelLoadError, NativeError
from engine.native import library
from engine.native.log import explain, native_log
from engine.native.media_chunks import ChunkList, media_item, positions
from engine.native.model import Model
from engine.native.options import MediaOptions
from engine.text.media import MediaChunk, MediaItem, chunk_keys

MOST_PIXELS: Final = 64_000_000
# Beyond that the library's scaling gives sides of nothing, or of more than it takes.
MOST_RATIO: Final = 200
_LEAST_SOUND: Final = 10  # an n-th of a second: the spectrum needs some windows


class Projector:
    """A loaded projector; satisfies ``engine.text.media.MediaReader``.

    ``image``, ``sound`` and ``mp3`` may be used by any thread, ``embeddings`` by the engine's alone.
    """

    def __init__(self, model: Model, options: MediaOptions, *, n_threads: int, use_gpu: bool, n_ubatch: int) -> None:
        """Load it. Raises ModelLoadError, e.g. for the projector of another model."""
        self._mtmd = mtmd = library.start_mtmd()
        params = mtmd.mtmd_context_params_default()
        params.use_gpu = use_gpu
        params.print_timings = False
        params.n_threads = n_threads
        with native_log.collect_errors() as errors:
            handle = mtmd.mtmd_init_from_file(options.path.encode(), model.handle, params)
        if not handle:
            raise ModelLoadError(f"cannot use the projector {options.path} with {model.path}: {explain(errors)}")
        self._handle: Any = handle
        self._n_embd: int = model.lib.llama_model_n_embd_inp(model.handle)
        self._n_ubatch = n_ubatch
        self._users = 0  # threads that prepare media right now
        self._changed = threading.Condition()
        self._cache: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._n_cached = options.n_cached
        self.n_encoded = 0
        self.vision = bool(mtmd.mtmd_support_vision(handle))
        self.audio = bool(mtmd.mtmd_support_audio(handle))
        self.sample_rate: int = max(0, mtmd.mtmd_get_audio_sample_rate(handle))
        self.mrope = bool(mtmd.mtmd_decode_use_mrope(handle))
        model.register(self)

    # --- any thread ---

    def image(self, width: int, height: int, rgb: Buffer) -> MediaItem:
        """See MediaReader.image."""
        if not self.vision:
            raise InvalidRequest("the model takes no images")
        pixels = np.frombuffer(rgb, np.uint8)
        if min(width, height) < 1 or width * height > MOST_PIXELS or pixels.size != width * height * 3:
            raise InvalidRequest(f"{pixels.size} bytes are no image of {width} x {height}")
        if max(width, height) > MOST_RATIO * min(width, height):
            raise InvalidRequest(f"an image of {width} x {height}: one side is over {MOST_RATIO} times the other")
        data = ctypes.cast(pixels.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
        with self._in_use():
            bitmap = self._mtmd.mtmd_bitmap_init(width, height, data)
            return self._item(bitmap, chunk_keys("image", (width, height), pixels))

    def sound(self, samples: Buffer) -> MediaItem:
        """See MediaReader.sound."""
        if not self.audio:
            raise InvalidRequest("the model takes no sound")
        wave = np.frombuffer(samples, np.float32)
        if wave.size * _LEAST_SOUND < self.sample_rate or wave.size < 2:
            raise InvalidRequest(f"a sound must last at least {1 / _LEAST_SOUND:g} s")
        if not np.isfinite(wave).all():
            raise InvalidRequest("the sound has samples that are no numbers")
        data = ctypes.cast(wave.ctypes.data, ctypes.POINTER(ctypes.c_float))
        with self._in_use():
            bitmap = self._mtmd.mtmd_bitmap_init_from_audio(wave.size, data)
            return self._item(bitmap, chunk_keys("sound", (wave.size,), wave))

    def mp3(self, data: bytes) -> Buffer:
        """See MediaReader.mp3. How long the stream is must have been checked: all of it is decoded."""
        if not self.audio:
            raise InvalidRequest("the model takes no sound")
        # Anything else would be tried as an image or a video.
        if len(data) < 12 or not (data.startswith(b"ID3") or (data[0] == 0xFF and data[1] & 0xE0 == 0xE0)):
            raise InvalidRequest("this is no MP3 stream")
        mtmd, buffer = self._mtmd, (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        with self._in_use() as handle, native_log.collect_errors():
            bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(handle, buffer, len(data), False)
            if not bitmap:
                raise InvalidRequest("the MP3 stream cannot be decoded")
            try:
                size = mtmd.mtmd_bitmap_get_n_bytes(bitmap)
                return ctypes.string_at(mtmd.mtmd_bitmap_get_data(bitmap), size) if size else b""
            finally:
                mtmd.mtmd_bitmap_free(bitmap)

    def _item(self, bitmap: Any, keys: Iterator[bytes]) -> MediaItem:
        """What the prompt gets for ``bitmap``, which is freed."""
        mtmd, chunks = self._mtmd, ChunkList(self._mtmd)
        part = mtmd.mtmd_input_part(text=None, bitmap=bitmap)
        parts = (ctypes.POINTER(mtmd.mtmd_input_part) * 1)(ctypes.pointer(part))
        try:
            with native_log.collect_errors() as errors:
                status = mtmd.mtmd_tokenize_from_parts(self._handle, chunks.handle, parts, 1, False)
        finally:
            mtmd.mtmd_bitmap_free(bitmap)
        if status != 0:
            raise InvalidRequest(f"the projector refuses it: {explain(errors)}")
        item = media_item(mtmd, chunks, keys, mrope=self.mrope)
        for part in item:
            if isinstance(part, MediaChunk) and self._is_non_causal(part) and part.n_cells > self._n_ubatch:
                raise InvalidRequest(
                    f"it takes {part.n_cells} tokens, which this model computes at once: more than the "
                    f"{self._n_ubatch} of --ubatch-size"
                )
        return item

    def _is_non_causal(self, chunk: MediaChunk) -> bool:
        return bool(self._mtmd.mtmd_decode_use_non_causal(self._handle, chunk.native.handle))

    @contextmanager
    def _in_use(self) -> Iterator[Any]:
        """The native pointer, which ``close`` leaves alone meanwhile."""
        with self._changed:
            if self._handle is None:
                raise EngineUnavailable("the server is shutting down")
            self._users += 1
        try:
            yield self._handle
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    # --- the engine's thread ---

    def embeddings(self, chunk: MediaChunk) -> NDArray[np.float32]:
        """What the model sees of a chunk: float32[n_cells, n_embd], from the cache or encoded now.

        Raises NativeError. Cannot be interrupted.
        """
        kept = self._cache.get(chunk.key)
        if kept is not None:
            self._cache.move_to_end(chunk.key)
            return kept
        mtmd = self._mtmd
        with self._in_use() as handle, native_log.collect_errors() as errors:
            if mtmd.mtmd_encode_chunk(handle, chunk.native.handle) != 0:
                raise NativeError(f"an image or sound could not be encoded: {explain(errors)}")
            output = mtmd.mtmd_get_output_embd(handle)
            result = np.ctypeslib.as_array(output, (chunk.n_cells, self._n_embd)).copy()
        self.n_encoded += 1
        self._cache[chunk.key] = result
        while len(self._cache) > self._n_cached:
            self._cache.popitem(last=False)
        return result

    def positions(self, chunk: MediaChunk, start: int) -> NDArray[np.int32]:
        """Positions of the chunk's tokens: int32[1, n_cells], or int32[4, n_cells] with M-RoPE."""
        return positions(self._mtmd, chunk.native, start, chunk.n_cells, mrope=self.mrope)

    def is_causal(self, chunk: MediaChunk) -> bool:
        """Whether a token of the chunk sees only those before it."""
        return not self._is_non_causal(chunk)

    def close(self) -> None:
        """Wait for the threads that prepare media, and free it. Idempotent."""
        with self._changed:
            handle, self._handle = self._handle, None
            self._changed.wait_for(lambda: self._users == 0)
        if handle is not None:
            self._mtmd.mtmd_free(handle)
        self._cache.clear()
