"""The projector and what the context does with its embeddings, on tiny models."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineUnavailable, InvalidRequest, ModelLoadError
from engine.native.model import Model
from engine.native.mtmd import Projector
from engine.native.options import ContextOptions, MediaOptions, ModelOptions
from engine.native.projector_check import check_projector
from engine.text.backend import DecodeStatus, Run
from engine.text.llama_backend import LlamaBackend
from engine.text.media import MediaChunk, MediaItem
from tests.models.pictures import picture, wave
from tests.models.tiny_llm import write_tiny_llm
from tests.models.tiny_mmproj import N_SOUND_TOKENS, N_TOKENS, write_tiny_audio_mmproj, write_tiny_mmproj

type Make = Callable[..., LlamaBackend]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes backends with a projector: ``kind`` janus_pro, audio, qwen2vl_merger."""
    backends: list[LlamaBackend] = []

    def start(kind: str = "janus_pro", *, n_cached: int = 16, recurrent: bool = False, **options: int) -> LlamaBackend:
        llm = tmp_path / f"llm-{kind}.gguf"
        write_tiny_llm(llm, mrope=kind == "qwen2vl_merger", recurrent=recurrent)
        file = tmp_path / f"{kind}.gguf"
        file = write_tiny_audio_mmproj(file) if kind == "audio" else write_tiny_mmproj(file, kind=kind)
        context = ContextOptions(**({"n_ctx": 512, "n_batch": 64, "n_ubatch": 32, "n_seq_max": 4} | options))
        media = MediaOptions(path=str(file), n_cached=n_cached)
        backends.append(LlamaBackend(ModelOptions(path=str(llm), n_gpu_layers=0), context, media=media))
        return backends[-1]

    yield start
    for backend in backends:
        backend.close()


def image(backend: LlamaBackend, seed: int = 0, size: tuple[int, int] = (50, 40)) -> MediaItem:
    assert backend.media is not None
    return backend.media.image(*size, picture(seed, size).tobytes())


def only_chunk(item: MediaItem) -> MediaChunk:
    (chunk,) = (part for part in item if isinstance(part, MediaChunk))
    return chunk


def logits_behind(backend: LlamaBackend, seq: int, chunk: MediaChunk) -> np.ndarray:
    """Text, the chunk, text: the logits of the last token."""
    assert backend.decode([Run(seq, 0, [1, 300], False)]) is DecodeStatus.OK
    assert backend.decode_media(seq, 2, chunk) is DecodeStatus.OK
    assert backend.decode([Run(seq, 2 + chunk.n_pos, [301, 302], True)]) is DecodeStatus.OK
    return backend._context.logits_row(1).copy()


def test_an_image_becomes_a_chunk_that_the_model_sees(make: Make) -> None:
    backend = make()
    assert (backend.info.vision, backend.info.audio) == (True, False)
    first, other = only_chunk(image(backend)), only_chunk(image(backend, 1))
    assert (first.n_pos, first.n_cells, first.flat) == (N_TOKENS, N_TOKENS, False)
    assert first.key == only_chunk(image(backend)).key != other.key
    seen = logits_behind(backend, 0, first)
    assert not np.allclose(seen, logits_behind(backend, 1, other))
    assert np.array_equal(seen, logits_behind(backend, 2, first))
    assert backend.n_encoded == 2
    assert backend.span(0) == (0, N_TOKENS + 3)


@pytest.mark.parametrize("n_batch", [4, 16, 64])
def test_a_chunk_may_be_larger_than_a_batch(make: Make, n_batch: int) -> None:
    whole, split = make(n_batch=64), make(n_batch=n_batch, n_ubatch=min(n_batch, 32))
    wanted = logits_behind(whole, 0, only_chunk(image(whole)))
    assert logits_behind(split, 0, only_chunk(image(split))) == pytest.approx(wanted, abs=1e-3)


def test_encodings_are_kept_up_to_a_number_and_the_oldest_go(make: Make) -> None:
    backend = make(n_cached=2)
    chunks = [only_chunk(image(backend, seed)) for seed in range(3)]
    for index, encoded in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):
        assert backend.media is not None
        assert backend.media.embeddings(chunks[index]).shape == (N_TOKENS, 64)
        assert backend.n_encoded == encoded


def test_nothing_is_kept_with_a_cache_of_none(make: Make) -> None:
    backend = make(n_cached=0)
    chunk = only_chunk(image(backend))
    assert backend.media is not None
    first = backend.media.embeddings(chunk)
    assert np.array_equal(first, backend.media.embeddings(chunk))
    assert backend.n_encoded == 2


def test_without_room_or_after_an_abort_nothing_is_left(make: Make) -> None:
    backend = make(n_ctx=256, n_batch=8, n_ubatch=8)
    chunk = only_chunk(image(backend))
    cells = backend.info.n_ctx
    for start in range(0, cells - 10, 8):
        backend.decode([Run(1, start, [300] * min(8, cells - 10 - start), False)])
    assert backend.decode_media(0, 0, chunk) is DecodeStatus.NO_ROOM
    assert backend.span(0) == (-1, -1)
    backend.remove(1, 0, None)
    backend.abort()
    assert backend.decode_media(0, 0, chunk) is DecodeStatus.ABORTED
    assert backend.span(0) == (-1, -1)
    backend.clear_abort()
    assert backend.decode_media(0, 0, chunk) is DecodeStatus.OK


@pytest.mark.parametrize("kind", ["janus_pro", "qwen2vl_merger"])
def test_what_stands_before_the_chunk_survives_an_abort_and_a_lack_of_room(make: Make, kind: str) -> None:
    backend = make(kind, n_ctx=256, n_batch=8, n_ubatch=8)
    chunk = only_chunk(image(backend, 0, (96, 48)))
    backend.decode([Run(0, 0, [1, 300, 301], False)])
    backend.abort()
    assert backend.decode_media(0, 3, chunk) is DecodeStatus.ABORTED
    backend.clear_abort()
    assert backend.span(0) == (0, 2)
    cells = backend.info.n_ctx - 3
    for start in range(0, cells - 10, 8):
        backend.decode([Run(1, start, [300] * min(8, cells - 10 - start), False)])
    assert backend.decode_media(0, 3, chunk) is DecodeStatus.NO_ROOM
    assert backend.span(0) == (0, 2)
    backend.remove(1, 0, None)
    assert backend.decode_media(0, 3, chunk) is DecodeStatus.OK


def test_an_abort_takes_all_of_a_recurrent_sequence(make: Make) -> None:
    """Its state has passed the chunk's beginning, and cannot go back."""
    backend = make(recurrent=True, n_ctx=256, n_batch=8, n_ubatch=8)
    chunk = only_chunk(image(backend))
    wanted = logits_behind(backend, 1, chunk)
    backend.decode([Run(0, 0, [1, 300], False)])
    backend.abort()
    assert backend.decode_media(0, 2, chunk) is DecodeStatus.ABORTED
    backend.clear_abort()
    assert backend.span(0) == (-1, -1)
    assert np.allclose(logits_behind(backend, 0, chunk), wanted, atol=1e-4)  # cells elsewhere: summed in another order


def test_an_image_with_m_rope_takes_fewer_positions_than_cells(make: Make) -> None:
    backend = make("qwen2vl_merger", n_batch=8, n_ubatch=8)
    wide, high = only_chunk(image(backend, 0, (96, 48))), only_chunk(image(backend, 0, (48, 96)))
    assert (wide.n_pos, wide.n_cells, wide.flat) == (6, 18, True)
    assert (high.n_pos, high.n_cells) == (6, 18)
    assert backend.media is not None
    time, y, x, z = backend.media.positions(wide, 5)
    assert set(time) == {5}
    assert list(y) == [5 + n // 6 for n in range(18)]
    assert list(x) == [5 + n % 6 for n in range(18)]
    assert set(z) == {0}
    logits = logits_behind(backend, 0, wide)
    assert np.isfinite(logits).all()
    assert backend.span(0) == (0, 9)
    backend.copy(0, 1, 0, 8)  # the text and the image
    backend.decode([Run(1, 8, [301, 302], True)])
    assert backend._context.logits_row(1) == pytest.approx(logits, abs=1e-3)
    backend.remove(0, 2, None)
    assert backend.span(0) == (0, 1)


@pytest.mark.parametrize("kind", ["janus_pro", "qwen2vl_merger", "audio"])
def test_the_model_sees_what_the_librarys_own_helper_shows_it(make: Make, kind: str) -> None:
    backend = make(kind)
    media, context = backend.media, backend._context
    assert media is not None
    item = media.sound(wave(1.0)) if kind == "audio" else image(backend, 0, (96, 48))
    chunk = only_chunk(item)
    ours = logits_behind(backend, 0, chunk)
    backend.decode([Run(1, 0, [1, 300], False)])
    end = ctypes.c_int32()
    status = media._mtmd.mtmd_helper_eval_chunk_single(
        media._handle, context.handle, chunk.native.handle, 2, 1, 64, False, ctypes.byref(end)
    )
    assert (status, end.value) == (0, 2 + chunk.n_pos)
    backend.decode([Run(1, end.value, [301, 302], True)])
    assert context.logits_row(1) == pytest.approx(ours, abs=1e-4)


def test_sound(make: Make) -> None:
    backend = make("audio")
    assert (backend.info.vision, backend.info.audio) == (False, True)
    assert backend.media is not None
    assert backend.media.sample_rate == 16_000
    chunk = only_chunk(backend.media.sound(wave(1.0)))
    assert chunk.n_cells == N_SOUND_TOKENS
    other = only_chunk(backend.media.sound(wave(1.0, pitch=2_000.0)))
    assert not np.allclose(logits_behind(backend, 0, chunk), logits_behind(backend, 1, other))
    chunks = [part for part in backend.media.sound(wave(31.0)) if isinstance(part, MediaChunk)]
    assert len({chunk.key for chunk in chunks}) == len(chunks) == 2


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(0, 0, 0), (4, 4, 47), (4, 4, 49), (-1, 4, 12), (70_000, 70_000, 3), (201, 1, 603)],
)
def test_images_that_would_do_harm_are_refused(make: Make, width: int, height: int, size: int) -> None:
    media = make().media
    assert media is not None
    with pytest.raises(InvalidRequest):
        media.image(width, height, bytes(size))


@pytest.mark.parametrize("size", [(1, 1), (200, 1), (1, 200), (3, 2), (300, 200)])
@pytest.mark.parametrize("kind", ["janus_pro", "qwen2vl_merger"])
def test_odd_sizes_are_fine(make: Make, kind: str, size: tuple[int, int]) -> None:
    backend = make(kind, n_ctx=4096)
    assert backend.decode_media(0, 0, only_chunk(image(backend, 0, size))) is DecodeStatus.OK


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.zeros(1), np.zeros(1_599), np.full(16_000, np.nan), np.full(16_000, np.inf)], ids=str
)
def test_sounds_that_would_do_harm_are_refused(make: Make, samples: np.ndarray) -> None:
    media = make("audio").media
    assert media is not None
    with pytest.raises(InvalidRequest):
        media.sound(samples.astype(np.float32))


@pytest.mark.parametrize(
    "data", [b"", b"ID3", b"RIFF0000WAVEfmt ", b"\xff\xfb\x90\0" + bytes(30), b"\x89PNG\r\n\x1a\n" + bytes(99)]
)
def test_what_is_no_mp3_is_refused(make: Make, data: bytes) -> None:
    media = make("audio").media
    assert media is not None
    with pytest.raises(InvalidRequest):
        media.mp3(data)


def test_the_other_modality_is_refused(make: Make) -> None:
    vision, audio = make().media, make("audio").media
    assert vision is not None
    assert audio is not None
    with pytest.raises(InvalidRequest, match="no sound"):
        vision.sound(wave())
    with pytest.raises(InvalidRequest, match="no images"):
        audio.image(4, 4, bytes(48))
    with pytest.raises(InvalidRequest, match="no sound"):
        vision.mp3(b"ID3" + bytes(20))


def test_a_closed_projector_refuses(make: Make) -> None:
    backend = make()
    chunk = only_chunk(image(backend))
    backend.close()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        image(backend)
    assert backend.media is not None
    with pytest.raises(EngineUnavailable):
        backend.media.embeddings(chunk)


def test_embeddings_of_the_wrong_shape_never_reach_the_library(make: Make) -> None:
    context = make()._context
    rows, line = np.zeros((4, 64), np.float32), np.arange(4, dtype=np.int32)[np.newaxis]
    for bad_rows, bad_line in ((rows[:, :5], line), (rows[:0], line[:, :0]), (rows, line[:, :3]), (rows, line - 1)):
        with pytest.raises(ValueError, match="shape"):
            context.decode_embeddings(0, bad_rows, bad_line, causal=True)
    with pytest.raises(ValueError, match="out of range"):
        context.decode_embeddings(9, rows, line, causal=True)
    many = np.zeros((40, 64), np.float32)
    with pytest.raises(ValueError, match="shape"):
        context.decode_embeddings(0, many, np.arange(40, dtype=np.int32)[np.newaxis], causal=False)
    assert context.decode_embeddings(0, rows, line, causal=False) == 0


def test_the_projector_of_another_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    wrong = write_tiny_mmproj(tmp_path / "wrong.gguf", n_embd_text=48)
    model = Model(ModelOptions(path=str(tiny_model), n_gpu_layers=0))
    with pytest.raises(ModelLoadError, match=r"wrong\.gguf.*mismatch between text model \(n_embd = 64\) and mmproj"):
        Projector(model, MediaOptions(path=str(wrong)), n_threads=1, use_gpu=False, n_ubatch=32)
    model.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"no projector at all", "not a GGUF"),
        (b"GGUF" + bytes(8), "truncated"),
        (b"GGUF" + b"\xff" * 60, "version 4294967295 of the format is unknown"),
        (b"GGUF\3\0\0\0" + bytes(8) + b"\x09" + bytes(7), "truncated"),
    ],
)
def test_files_that_are_no_projector(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=reason):
        check_projector(str(path), tmp_path)


def test_a_text_model_is_no_projector(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="of the kind 'llama'"):
        check_projector(str(tiny_model), tmp_path)


def test_projectors_that_depend_on_places_are_refused(tmp_path: Path) -> None:
    path = write_tiny_mmproj(tmp_path / "x.gguf", kind="hunyuanvl")
    with pytest.raises(ModelLoadError, match="hunyuanvl are not supported"):
        check_projector(str(path), tmp_path)


def test_a_projector_that_kills_is_named_before_it_does(tmp_path: Path) -> None:
    path = write_tiny_mmproj(tmp_path / "x.gguf")
    with pytest.raises(ModelLoadError, match=r"makes the library abort: .*SIGABRT"):
        check_projector(str(path), tmp_path, command=("sh", "-c", "kill -ABRT $$"))
    check_projector(str(path), tmp_path)
    check_projector(str(path), tmp_path, command=("sh", "-c", "kill -ABRT $$"))  # remembered
