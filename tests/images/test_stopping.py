"""What stops a running image or upscaling: it believes nothing that it finds in memory, and leaves nothing behind."""

import ctypes

import pytest

from engine.native.sd import abort as aborting
from engine.native.sd import library
from engine.native.sd.abort import AbortHook, NativeCancel, canceller_for, hook_for
from engine.native.sd.context import ImageContext
from engine.native.sd.memory import read_pointer
from engine.native.sd.options import UpscalerOptions
from engine.native.sd.step_hook import layout, step_hook_for
from engine.native.sd.upscaler import Upscaler
from tests.images.asking import gradient, model_options, params
from tests.models.tiny_sd import TinySd


def test_memory_that_is_none_is_no_pointer() -> None:
    assert read_pointer(0) is None
    assert read_pointer(8) is None
    assert read_pointer(2**63 - 8) is None
    cell = ctypes.c_void_p(0x1234)
    assert read_pointer(ctypes.addressof(cell)) == 0x1234


def test_an_object_without_a_processors_backend_gets_no_hook() -> None:
    lib = library.native(library.load())
    words = (ctypes.c_void_p * 8)()
    owner = ctypes.c_void_p(ctypes.addressof(words))
    assert hook_for(lib, ctypes.addressof(owner)) is None
    words[0] = ctypes.addressof(words)
    assert hook_for(lib, ctypes.addressof(owner)) is None
    words[0] = 0x10
    assert hook_for(lib, ctypes.addressof(owner)) is None


def test_a_processors_backend_gets_one() -> None:
    lib = library.native(library.load())
    backend = lib.ggml_backend_cpu_init()
    inner = ctypes.c_void_p(backend)
    owner = ctypes.c_void_p(ctypes.addressof(inner))
    hook = canceller_for(lib, ctypes.addressof(owner))
    assert isinstance(hook, AbortHook)
    hook.arm()
    hook.abort()
    hook.clear()
    hook.disarm()
    lib.ggml_backend_free(backend)


@pytest.fixture
def no_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends get the hook of other devices."""
    monkeypatch.setattr(aborting, "processor_hook_for", lambda lib, owner: None)


@pytest.mark.usefixtures("no_processor")
def test_on_other_devices_an_image_is_stopped_between_two_steps(tiny_sd: TinySd) -> None:
    context = ImageContext(model_options(tiny_sd))
    assert context.can_abort
    wanted, told = params(steps=4), []

    def stop_at_two(step: int, steps: int) -> None:
        told.append((step, steps))
        if step == 2:
            context.abort()

    whole = context.generate(wanted, lambda step, steps: None, lambda step, frame: None)
    assert context.generate(wanted, stop_at_two, lambda step, frame: None) is None
    assert told == [(0, 4), (1, 4), (2, 4)]
    context.abort()  # once an image is over, and before the next one
    assert context.generate(wanted, lambda step, steps: None, lambda step, frame: None) is None
    context.clear_abort()
    again = context.generate(wanted, lambda step, steps: None, lambda step, frame: None)
    assert whole is not None
    assert again is not None
    assert again.image == whole.image
    context.close()


def test_an_upscaling_is_stopped(tiny_sd: TinySd) -> None:
    check_upscaling(tiny_sd)


@pytest.mark.usefixtures("no_processor")
def test_on_other_devices_an_upscaling_is_stopped_too(tiny_sd: TinySd) -> None:
    check_upscaling(tiny_sd)


def check_upscaling(tiny_sd: TinySd) -> None:
    upscaler = Upscaler(UpscalerOptions(path=str(tiny_sd.upscaler_x2)))
    larger = upscaler.upscale(gradient(16, 8))
    assert larger is not None
    upscaler.abort()
    assert upscaler.upscale(gradient(16, 8)) is None
    upscaler.clear_abort()
    assert upscaler.upscale(gradient(16, 8)) == larger
    upscaler.close()


def test_a_library_that_tells_less_has_no_such_hook() -> None:
    class Library:
        """Has no functions at all."""

    assert layout(Library()) is None
    assert step_hook_for(Library(), 0) is None


def test_a_library_that_can_cancel_is_asked_to() -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        @staticmethod
        def sd_cancel_generation(context: int, mode: int) -> None:
            asked.append((context, mode))

    cancel = canceller_for(Library, 77)
    assert isinstance(cancel, NativeCancel)
    cancel.arm()
    cancel.abort()
    cancel.clear()
    cancel.disarm()
    assert asked == [(77, 0), (77, 2)]
