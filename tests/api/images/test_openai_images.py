"""OpenAI's own events of an image stream."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.images.openai_render import partial_steps
from engine.native.sd.options import Preview
from tests.api.conftest import Reply
from tests.api.images.pictures import EDITS, GENERATIONS, opened, png, post_form
from tests.api.images.serving import BODY, serving
from tests.images.fake_backend import FakeImageBackend, picture

ASKED = BODY | {"stream": True, "sample_steps": 8}


@given(steps=st.integers(1, 200), pictures=st.integers(0, 3))
def test_partial_images_are_spread_over_the_steps(steps: int, pictures: int) -> None:
    due = sorted(partial_steps(steps, pictures))
    assert len(due) == min(pictures, steps - 1)
    edges = [0, *due, steps]
    gaps = [end - start for start, end in itertools.pairwise(edges)]
    assert max(gaps) - min(gaps) <= 1


def openai_events(reply: Reply) -> list[Any]:
    """What the stream says; each event's name stands in the line above it as well. A failure has no name."""
    assert reply.status == 200, reply.body
    events = []
    for text in reply.body.decode().split("\n\n")[:-1]:
        above, data = text.split("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert above == f"event: {event['type']}" if "type" in event else above.startswith("error: ")
        events.append(event)
    return events


def names(events: list[Any]) -> list[str | None]:
    return [event.get("type") for event in events]


async def test_partial_images_and_one_that_is_complete() -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        events = openai_events(await client.post(GENERATIONS, ASKED | {"partial_images": 3, "n": 2}))
    assert names(events) == [*["image_generation.partial_image"] * 3, "image_generation.completed"] * 2
    assert [(event["index"], event.get("partial_image_index")) for event in events] == [
        (index, place) for index in (0, 1) for place in (0, 1, 2, None)
    ]
    assert [opened(event["b64_json"]).getpixel((0, 0))[0] for event in events[:3]] == [2, 4, 6]
    for event, made in zip(events[3::4], backend.made, strict=True):
        assert opened(event["b64_json"]).tobytes() == picture(made).data
        assert (event["size"], event["output_format"], event["background"]) == ("256x256", "png", "opaque")
        assert event["usage"]["total_tokens"] == 0
    assert events[3]["usage"]["time_to_process_ms"] < events[7]["usage"]["time_to_process_ms"]
    assert backend.made[0].preview is Preview.FAST


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        (None, Preview.FAST),
        ({"preview": True}, Preview.FULL),
        ({"preview": True, "preview_faster": True}, Preview.FAST),
    ],
)
async def test_the_kind_of_the_pictures_can_be_chosen(options: dict[str, bool] | None, mode: Preview) -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        reply = await client.post(GENERATIONS, ASKED | {"partial_images": 1, "stream_options": options})
    assert len(openai_events(reply)) == 2
    assert backend.made[0].preview is mode


async def test_none_are_made_where_none_are_asked_for() -> None:
    backend = FakeImageBackend()
    async with serving(backend) as client:
        reply = await client.post(GENERATIONS, ASKED | {"partial_images": 0, "stream_options": {"preview": True}})
    assert names(openai_events(reply)) == ["image_generation.completed"]
    assert backend.made[0].preview is Preview.NONE


async def test_figures_are_left_out_where_they_are_not_wanted() -> None:
    async with serving() as client:
        options = {"include_usage": False}
        reply = await client.post(GENERATIONS, ASKED | {"partial_images": 0, "stream_options": options})
    assert ["usage" in event for event in openai_events(reply)] == [False]


async def test_an_edit_has_events_of_its_own() -> None:
    async with serving() as client:
        fields = {"prompt": "a dog", "size": "256x256", "sample_steps": "4", "stream": "true", "partial_images": "1"}
        reply = await post_form(client, fields, {"image": png(256, 256)}, EDITS)
    assert names(openai_events(reply)) == ["image_edit.partial_image", "image_edit.completed"]
