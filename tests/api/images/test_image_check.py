"""Who is told what: a client of a field that it sent, the operator of a flag."""

from typing import Any

import attrs
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from api.errors import ApiError
from api.images.check import check_defaults, check_sent
from api.images.fields import SCHEDULE, STEPS, ImageFields
from api.images.job import image_request
from engine.errors import ModelLoadError
from engine.image.families import kind_of
from engine.image.info import ImageModelInfo
from engine.image.names import SCHEDULES
from engine.native.sd.options import Schedule
from llamabox.settings import ImageSettings
from tests.api.images.pictures import GENERATIONS
from tests.api.images.serving import BODY, serving
from tests.images.fake_backend import INFO, FakeImageBackend


def info_of(version: str, **changes: Any) -> ImageModelInfo:
    return attrs.evolve(INFO, version=version, kind=kind_of(version), **changes)


SD1, SDXL, FLUX = (info_of(version) for version in ("SD 1.x", "SDXL", "Flux"))


@pytest.mark.parametrize(
    ("flags", "fields", "param"),
    [
        *[({}, {name: schedule, "sample_steps": 1}, name) for name in SCHEDULE for schedule in ("gits", "karras")],
        *[({"schedule": schedule}, {name: 1}, name) for name in STEPS for schedule in (Schedule.GITS, Schedule.KARRAS)],
        *[({"steps": 1}, {name: "exponential"}, name) for name in SCHEDULE],
        ({"schedule": Schedule.KARRAS}, {"sampler": "euler", "sample_steps": 1}, "sample_steps"),
        ({"schedule": Schedule.KARRAS}, {"schedule": None, "sampling_steps": 1}, "sampling_steps"),
        ({"schedule": Schedule.KARRAS}, {"scheduler": "", "sampling_steps": 1}, "sampling_steps"),
        ({}, {"schedule_method": "", "scheduler": "gits", "sample_steps": 1}, "scheduler"),
        ({"upscale_repeats": 4}, {"size": "1024x1024"}, "size"),
        ({}, {"upscale_repeats": 5}, "upscale_repeats"),
        ({}, {"upscale_repeats": 4, "size": "1024x1024"}, "upscale_repeats"),
        ({"steps": 999}, {"quality": "hd"}, "quality"),
        ({"steps": 5}, {"quality": "high", "sample_steps": 1000}, "quality"),
        ({}, {"control_canny": True}, "control_canny"),
        ({"control_canny": True}, {"control_canny": True}, "control_canny"),
        ({}, {"slg_scale": 1}, "slg_scale"),
        ({"slg_scale": 0.0, "slg_layers": (7, 8)}, {"slg_scale": 1}, "slg_scale"),
    ],
)
async def test_a_client_is_told_of_a_field_that_it_sent(
    flags: dict[str, Any], fields: dict[str, Any], param: str
) -> None:
    backend = FakeImageBackend(SD1)
    settings = ImageSettings(**flags)
    check_defaults(settings, SD1)
    async with serving(backend) as client:
        client.services.settings = attrs.evolve(client.services.settings, images=settings)
        reply = await client.post(GENERATIONS, {"prompt": "a cat"} | fields)
    assert (reply.status, reply.error["param"]) == (400, param), reply.body
    assert backend.made == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"slg_scale": 1, "slg_start": 0.2}, "slg_start"),
        ({"slg_scale": 1, "slg_end": 0.01}, "slg_end"),
        ({"slg_scale": 1, "slg_start": 0.6, "slg_end": 0.5}, "slg_start"),
        ({"slg_scale": 1, "slg_start": 0, "slg_end": 0}, "slg_start"),
        ({"slg_start": 0.6, "slg_end": 0.5}, None),  # of what is off nothing is asked
    ],
)
async def test_guidance_that_would_end_before_it_begins_is_refused(fields: dict[str, Any], param: str | None) -> None:
    async with serving() as client:
        reply = await client.post(GENERATIONS, BODY | fields)
    assert (reply.status, reply.status != 200 and reply.error["param"]) == (400 if param else 200, param or False)


@pytest.mark.parametrize(
    ("flags", "info", "message"),
    [
        ({"schedule": Schedule.AYS}, FLUX, "--image-schedule-method: the ays schedule works with SD1 and SDXL models"),
        ({"schedule": Schedule.GITS, "steps": 1}, SD1, "--image-schedule-method: the gits schedule needs at least 2"),
        ({"schedule": Schedule.KARRAS, "steps": 1}, FLUX, "--image-schedule-method: the karras schedule needs"),
        ({"slg_scale": 2.0}, SD1, "--image-slg-scale: skip-layer guidance does not work with SD 1.x models"),
        ({"slg_scale": 2.0, "slg_layers": (7,) * 257}, FLUX, "--image-slg-skip-layer: skip-layer guidance takes"),
        ({"slg_scale": 1.0, "slg_start": 0.5}, FLUX, "--image-slg-start: skip-layer guidance would last no time"),
        ({"upscale_repeats": 5}, SD1, "--image-upscale-repeats: an image of 512x512, upscaled 5 times by 2, would"),
        ({"upscale_repeats": 4}, SDXL, "--image-upscale-repeats: an image of 1024x1024, upscaled 4 times by 2"),
    ],
)  # fmt: skip
def test_the_operator_is_told_of_the_flag(flags: dict[str, Any], info: ImageModelInfo, message: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        check_defaults(ImageSettings(**flags), info)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("flags", "info"),
    [
        ({}, FLUX),
        ({"schedule": Schedule.AYS}, SD1),
        ({"schedule": Schedule.GITS, "steps": 2}, SD1),
        ({"slg_scale": 2.0}, FLUX),
        ({"upscale_repeats": 4}, SD1),
        ({"upscale_repeats": 4}, attrs.evolve(SDXL, max_width=512, max_height=512)),
        ({"upscale_repeats": 8}, attrs.evolve(SD1, upscale_factor=0)),
        ({"control_canny": True}, SD1),
    ],
)
def test_what_suits_the_model_passes(flags: dict[str, Any], info: ImageModelInfo) -> None:
    check_defaults(ImageSettings(**flags), info)


SCHEDULES_AT_RISK = ("discrete", "karras", "gits", "ays")
FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "schedule": st.sampled_from([SCHEDULES[name] for name in SCHEDULES_AT_RISK]),
        "steps": st.sampled_from([1, 2, 999, 1000]),
        "slg_scale": st.sampled_from([0.0, 1.0]),
        "upscale_repeats": st.integers(1, 8),
    },
)
SENT = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from((None, "", *SCHEDULES_AT_RISK)) for name in SCHEDULE},
        **{name: st.sampled_from([None, 1, 2, 1000]) for name in STEPS},
        "quality": st.sampled_from([None, "hd"]),
        "size": st.sampled_from([None, "auto", "256x256", "1024x1024"]),
        "slg_scale": st.sampled_from([None, 0.0, 1.0]),
        "slg_start": st.sampled_from([None, 0.0, 0.5]),
        "slg_end": st.sampled_from([None, 0.0, 0.5, 1.0]),
        "control_canny": st.sampled_from([None, False, True]),
        "upscale_repeats": st.none() | st.integers(0, 8),
        "seed": st.sampled_from([None, 7, 2**63 - 1]),
        "n": st.sampled_from([None, 1, 4]),
    },
)


def blamed(fields: ImageFields, settings: ImageSettings, info: ImageModelInfo) -> str | None:
    """The field that the request is refused for; None: it is not."""
    try:
        check_sent(image_request("a", fields, settings, info), fields, info)
    except ApiError as error:
        return error.param
    return None


@given(flags=FLAGS, sent=SENT, info=st.sampled_from([SD1, SDXL, FLUX, info_of("SD 2.x", max_width=512)]))
def test_no_flag_is_blamed_on_a_field_that_nobody_sent(
    flags: dict[str, Any], sent: dict[str, Any], info: ImageModelInfo
) -> None:
    settings = ImageSettings(**flags)
    try:
        check_defaults(settings, info)
    except ModelLoadError:
        reject()
    param = blamed(ImageFields(prompt="a cat", **sent), settings, info)
    assert param is None or sent.get(param) not in {None, ""}
