"""The binding: loading, refusing, the callbacks, the trial."""

import ctypes
import logging
import math
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ModelLoadError, RpcError
from engine.native.sd import library, trial
from engine.native.sd.callbacks import CallbackRouter, explain, strip_place
from engine.native.sd.context import ImageContext
from engine.native.sd.image import LoraUse, Mask, RgbImage
from engine.native.sd.layout import layout_fault, written_bytes
from engine.native.sd.options import ImageModelOptions, Preview, UpscalerOptions
from engine.native.sd.thread_count import thread_count_of
from engine.native.sd.upscaler import Upscaler, canny
from tests.images.asking import gradient, model_options, params
from tests.models.tiny_sd import VERSION, TinySd, lora_tensors, write_safetensors, write_tiny_sd


def test_the_fixture_is_deterministic(tiny_sd: TinySd, tmp_path: Path) -> None:
    again = write_tiny_sd(tmp_path)
    assert again.model.read_bytes() == tiny_sd.model.read_bytes()
    assert again.lora.read_bytes() == tiny_sd.lora.read_bytes()


def test_the_library_is_the_one_that_the_package_was_made_for() -> None:
    module = library.load()
    assert layout_fault(module, library.native(module)) is None
    assert library.DISTRIBUTION in library.version()


def test_another_layout_is_noticed() -> None:
    module = library.load()
    lib = library.native(module)

    class Shorter(ctypes.Structure):
        _fields_ = module.sd_ctx_params_t._fields_[:-3]

    class Module:
        sd_ctx_params_t = Shorter
        sd_img_gen_params_t = module.sd_img_gen_params_t

    fault = layout_fault(Module, lib)
    assert fault is not None
    assert "different versions" in fault
    size = ctypes.sizeof(module.sd_ctx_params_t)
    assert size - 8 < len(written_bytes(lib.sd_ctx_params_init, size + 100)) <= size


def test_a_library_without_the_functions_is_refused() -> None:
    fault = layout_fault(library.load(), ctypes.CDLL(None))
    assert fault is not None
    assert "does not export" in fault


def test_loading_and_closing(tiny_sd: TinySd) -> None:
    context = ImageContext(model_options(tiny_sd))
    assert context.version == VERSION
    assert context.can_abort
    context.close()
    context.close()


def test_a_context_belongs_to_its_thread(tiny_sd: TinySd) -> None:
    context = ImageContext(model_options(tiny_sd))
    errors: list[BaseException] = []

    def close() -> None:
        try:
            context.close()
        except AssertionError as error:
            errors.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert len(errors) == 1
    context.close()


@pytest.mark.parametrize("n_threads", [0, -1, 513])
def test_thread_counts_that_kill_are_refused(tiny_sd: TinySd, n_threads: int) -> None:
    with pytest.raises(ModelLoadError, match="threads"):
        ImageContext(model_options(tiny_sd, n_threads=n_threads))
    with pytest.raises(ModelLoadError, match="threads"):
        Upscaler(UpscalerOptions(path=str(tiny_sd.upscaler_x2), n_threads=n_threads))


def test_files_that_are_no_image_model_are_refused_with_the_reason(tiny_sd: TinySd, tiny_model: Path) -> None:
    for path in (str(tiny_sd.taesd), str(tiny_model)):
        with pytest.raises(ModelLoadError, match="cannot load") as caught:
            ImageContext(ImageModelOptions(model=path))
        assert path in str(caught.value)
    with pytest.raises(ModelLoadError, match="it is a LoRA"):
        ImageContext(ImageModelOptions(model=str(tiny_sd.lora)))
    with pytest.raises(ModelLoadError, match="no image model"):
        ImageContext(ImageModelOptions())
    with pytest.raises(ModelLoadError, match="cannot load"):
        Upscaler(UpscalerOptions(path=str(tiny_sd.taesd)))


@pytest.mark.parametrize("factor", [2, 4])
def test_upscalers_know_their_factor(tiny_sd: TinySd, factor: int) -> None:
    path = tiny_sd.upscaler_x2 if factor == 2 else tiny_sd.upscaler_x4
    upscaler = Upscaler(UpscalerOptions(path=str(path)))
    assert upscaler.factor == factor
    larger = upscaler.upscale(gradient(16, 8))
    assert larger is not None
    assert (larger.width, larger.height) == (16 * factor, 8 * factor)
    upscaler.close()
    upscaler.close()


def test_edges_are_found() -> None:
    side = 32
    half = RgbImage(width=side, height=side, data=(bytes(3 * side // 2) + b"\xff" * (3 * side // 2)) * side)
    before = half.data
    edges = canny(half)
    assert half.data == before
    row = edges.data[3 * side * 15 : 3 * side * 16 : 3]
    assert [x for x, value in enumerate(row) if value] == [13, 14, 16, 17], "both sides of the step, and nothing else"


@pytest.mark.parametrize(("width", "height", "size"), [(0, 1, 0), (1, 0, 0), (-1, -1, 3), (2, 2, 11), (2, 2, 13)])
def test_images_that_are_none_cannot_be_made(width: int, height: int, size: int) -> None:
    for kind in (RgbImage, Mask):
        with pytest.raises(ValueError, match=r"image|bytes"):
            kind(width=width, height=height, data=bytes(size))


# --- threads of a model on another machine ---


def test_a_remote_model_is_loaded_with_one_thread_and_computed_with_all(
    tiny_sd: TinySd, caplog: pytest.LogCaptureFixture
) -> None:
    """What is loaded with several threads is garbled on its way to a server: LoRAs, which each image loads, too."""
    caplog.set_level(logging.DEBUG, "stable-diffusion.cpp")
    lora = (LoraUse(path=str(tiny_sd.lora)),)

    def generate(context: ImageContext, loras: tuple[LoraUse, ...]) -> set[str]:
        """The thread counts that weights are loaded with meanwhile."""
        caplog.clear()
        context.generate(params(steps=1, loras=loras), lambda step, steps: None, lambda step, frame: None)
        return {word for word in ("using 1 threads", "using 3 threads") if word in caplog.text}

    context = ImageContext(model_options(tiny_sd, n_threads=3), remote=True)
    assert "using 1 threads for model loading" in caplog.text
    assert "using 3 threads" not in caplog.text
    generate(context, ())
    assert generate(context, lora) == {"using 1 threads"}
    generate(context, ())
    context._thread_count = None  # nobody changes the number any more: it is still the one for images without LoRAs
    assert generate(context, lora) == {"using 3 threads"}
    context.close()


def test_a_thread_count_is_believed_only_where_all_around_it_is_as_expected() -> None:
    words = (ctypes.c_uint64 * 11)(
        1, 2, 0, 3, 5, 0, 4, 5, 6, 7, struct.unpack("<Q", struct.pack("<If", 1, math.inf))[0]
    )
    inner = ctypes.c_void_p(ctypes.addressof(words))
    place = ctypes.addressof(inner)
    count = thread_count_of(place)
    assert count is not None
    count.set(8)
    assert words[10] & 0xFFFFFFFF == 8
    assert thread_count_of(place) is None, "it is not the one that the model was loaded with"
    count.set(1)
    for number, wrong in ((0, 0), (3, 0), (4, 1000), (4, 2 << 32), (6, 0), (9, 0), (10, 1)):
        kept, words[number] = words[number], wrong
        assert thread_count_of(place) is None
        words[number] = kept
    assert thread_count_of(place) is not None
    inner.value = 8
    assert thread_count_of(place) is None


# --- callbacks ---


class Ear:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def log_line(self, line: str) -> None:
        self.heard.append(line)

    def progress(self, step: int, steps: int) -> None:
        self.heard.append((step, steps))

    def preview(self, step: int, frame: RgbImage) -> None:
        self.heard.append((step, frame))


def test_each_thread_hears_its_own() -> None:
    router, mine, theirs = CallbackRouter(), Ear(), Ear()
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with router.calling(theirs) as call:
            inside.set()
            done.wait()
            router._progress(5, 9, 0.0, None)
            assert not call.alone

    thread = threading.Thread(target=other)
    with router.calling(mine) as call:
        assert call.alone
        thread.start()
        inside.wait()
        assert not call.alone, "a line may be the other call's now"
        router._progress(1, 2, 0.0, None)
        router._log(1, b"stable-diffusion.cpp:3168 - get_learned_condition completed\n", None)
        done.set()
        thread.join()
    router._progress(3, 4, 0.0, None)
    assert mine.heard == [(1, 2), "get_learned_condition completed"]
    assert theirs.heard == [(5, 9)]


def test_errors_of_a_call_are_collected_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stable-diffusion.cpp")
    router = CallbackRouter()
    with router.calling() as call:
        router._log(3, b"model.cpp:12   - no such tensor\n", None)
    router._log(3, b"model.cpp:13   - nobody asked\n", None)
    assert call.errors == ["no such tensor"]
    assert explain(call.errors) == "no such tensor"
    assert explain([]) == "the library gave no reason"
    assert [record.levelno for record in caplog.records] == [logging.DEBUG, logging.ERROR]


def test_a_listener_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Ear):
        def progress(self, step: int, steps: int) -> None:
            raise ZeroDivisionError

    router = CallbackRouter()
    with router.calling(Bad()):
        router._progress(1, 2, 0.0, None)
    assert "lost" in caplog.text


def test_the_preview_mode_is_the_most_that_anybody_wants() -> None:
    modes: list[int] = []

    class Module:
        sd_log_callback = sd_progress_callback = sd_preview_callback = staticmethod(lambda function: function)

        @staticmethod
        def sd_set_log_callback(*args: object) -> None: ...

        @staticmethod
        def sd_set_progress_callback(*args: object) -> None: ...

        @staticmethod
        def sd_set_preview_callback(callback: Callable[..., None] | None, mode: int, *rest: object) -> None:
            assert (callback is None) == (mode == 0)
            modes.append(mode)

    router = CallbackRouter()
    router.install(Module)

    def call(preview: Preview) -> None:
        with router.calling(None, preview):
            pass

    with router.calling(None, Preview.FULL):
        thread = threading.Thread(target=call, args=(Preview.FAST,))
        thread.start()
        thread.join()
    call(Preview.FAST)
    assert modes == [3, 3, 3, 0, 1, 0]


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("util.cpp:12   - a - b", "a - b"),
        ("plain - text", "plain - text"),
        ("a sentence: with a colon - and a dash", "a sentence: with a colon - and a dash"),
    ],
)
def test_where_a_line_was_logged_is_left_out(line: str, rest: str) -> None:
    assert strip_place(line) == rest


# --- the trial ---


def test_a_lora_of_another_models_shapes_kills_the_child_and_not_us(tiny_sd: TinySd, tmp_path: Path) -> None:
    wrong = write_safetensors(tmp_path / "wrong.safetensors", lora_tensors(np.random.default_rng(1), width=64))
    with pytest.raises(ModelLoadError, match="kills the process") as caught:
        trial.check(model_options(tiny_sd, loras=(str(wrong),)), None, tmp_path)
    assert str(wrong) in str(caught.value)


def test_a_good_verdict_is_remembered(tiny_sd: TinySd, tmp_path: Path) -> None:
    options = model_options(tiny_sd, loras=(str(tiny_sd.lora),))
    upscaler = UpscalerOptions(path=str(tiny_sd.upscaler_x2))
    trial.check(options, upscaler, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    trial.check(options, upscaler, tmp_path, command=("false",))
    with pytest.raises(ModelLoadError, match="kills"):
        trial.check(options, None, tmp_path, command=("sh", "-c", "kill -SEGV $$"))
    trial.check(options, None, tmp_path, command=("false",))  # an error of the library's own is left to the load
    assert len(list(tmp_path.iterdir())) == 1


_ALONE = """
import os, signal, sys
from engine.native.sd import trial
def try_files(*_):
    if not {"numpy", "llama_cpp.llama_cpp"} <= sys.modules.keys():
        os.kill(os.getpid(), signal.SIGSEGV)
trial.try_files = try_files
sys.exit(trial.main(sys.argv[1]))
"""


def test_the_trial_has_the_servers_other_libraries_beside_the_image_library(tiny_sd: TinySd, tmp_path: Path) -> None:
    trial.check(model_options(tiny_sd), None, tmp_path, command=(sys.executable, "-c", _ALONE))


def test_a_server_that_fails_over_the_trial_is_not_the_files_fault(tiny_sd: TinySd, tmp_path: Path) -> None:
    options = model_options(tiny_sd, rpc_servers=("10.0.0.1:5",))
    dies = "echo 'x.cpp:1: Remote RPC server crashed or returned malformed response' >&2; kill -ABRT $$"
    with pytest.raises(RpcError, match=r"an RPC server \(10\.0\.0\.1:5\) failed while the model was tried: .*crashed"):
        trial.check(options, None, tmp_path, command=("sh", "-c", dies))
    with pytest.raises(ModelLoadError, match="kills"):
        trial.check(options, None, tmp_path, command=("sh", "-c", "kill -ABRT $$"))
    assert trial._options(trial._describe(options, None)) == (options, None)
