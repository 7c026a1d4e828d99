"""How the engine starts: its limits, its priority, what it refuses."""

import os
import sys
import threading
from typing import Any

import pytest

from engine.errors import ModelLoadError
from engine.image.names import SAMPLERS, SCHEDULES
from engine.image.options import ImageEngineOptions
from engine.image.sd_backend import SdBackend
from engine.image.start import check_sizes, stand_back, start_image_engine
from engine.native.sd.image import ImageParams
from engine.native.sd.options import ImageModelOptions, Sampler, Schedule
from tests.models.tiny_sd import TinySd

MODEL = ImageModelOptions(model="absent.safetensors")


@pytest.mark.parametrize(
    "fields", [{"max_width": 0}, {"max_width": 100}, {"max_height": -64}, {"max_height": 65}, {"max_batch": 0}]
)
def test_limits_that_no_image_could_keep_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ModelLoadError):
        check_sizes(ImageEngineOptions(model=MODEL, **fields))


def test_limits_that_make_sense_pass() -> None:
    check_sizes(ImageEngineOptions(model=MODEL, max_width=64, max_height=8192, max_batch=1))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelLoadError, match=r"absent\.safetensors"):
        start_image_engine(ImageEngineOptions(model=MODEL), lambda batch: None)


@pytest.mark.parametrize("agreed", [0, 1])
def test_a_start_that_is_stopped_goes_no_further(tiny_sd: TinySd, agreed: int) -> None:
    """Before the model is loaded, and after."""
    answers = [True] * agreed + [False]
    options = ImageEngineOptions(
        model=ImageModelOptions(model=str(tiny_sd.model), taesd=str(tiny_sd.taesd)), niceness=0, trial=False
    )
    with pytest.raises(ModelLoadError, match="stopped"):
        start_image_engine(options, lambda batch: None, lambda: answers.pop(0))
    assert not answers


@pytest.mark.parametrize("niceness", [-1, 20])
def test_a_niceness_that_there_is_none_of_is_refused(niceness: int) -> None:
    with pytest.raises(ModelLoadError, match="niceness"):
        stand_back(niceness)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a niceness is a thread's own on Linux only")
def test_only_the_calling_thread_stands_back_and_those_that_it_starts() -> None:
    seen: dict[str, int] = {}

    def look(name: str) -> None:
        seen[name] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def body() -> None:
        stand_back(19)
        look("image")
        helper = threading.Thread(target=look, args=("helper",))
        helper.start()
        helper.join()

    look("before")
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    look("after")
    assert seen["image"] == seen["helper"] == 19
    assert seen["before"] == seen["after"]


def test_a_warm_engine_has_made_an_image(tiny_sd: TinySd, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int, int]] = []
    generate = SdBackend.generate

    def count(self: SdBackend, params: ImageParams, *functions: Any) -> Any:
        made.append((params.width, params.height, params.steps))
        return generate(self, params, *functions)

    monkeypatch.setattr(SdBackend, "generate", count)
    model = ImageModelOptions(model=str(tiny_sd.model), taesd=str(tiny_sd.taesd))
    options = ImageEngineOptions(model=model, niceness=0, trial=False, warmup=True)
    start_image_engine(options, lambda batch: None).backend.close()
    assert made == [(64, 64, 2)]


def test_every_sampler_and_schedule_has_a_name() -> None:
    assert set(SAMPLERS.values()) == set(Sampler)
    assert set(SCHEDULES.values()) == set(Schedule)
