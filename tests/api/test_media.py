"""Media parts of the three chat APIs and of native prompts, as far as the API layer decides."""

from typing import Any

import attrs
import pytest

from api.anthropic.ask import messages_ask
from api.anthropic.shapes import MessagesFields
from api.ask import chat_ask
from api.decode import parse
from api.errors import ApiError
from api.modalities import TEXT_ONLY, Modalities
from api.responses.ask import responses_ask
from api.responses.shapes import ResponsesFields
from api.shapes import ChatFields
from llamabox.settings import GenerationDefaults
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine

SEES = Modalities(vision=True)
HEARS = Modalities(audio=True)
URL = "data:image/png;base64,AAAA"


def body(value: object) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


def chat(content: object, modalities: Modalities = SEES, role: str = "user") -> list[dict[str, Any]]:
    fields = parse(
        body({"messages": [{"role": role, "content": content}, {"role": "user", "content": "x"}]}), ChatFields
    )
    return list(chat_ask(fields, GenerationDefaults(), modalities).ask.messages)  # type: ignore[arg-type]


def responses(content: object, modalities: Modalities = SEES) -> list[dict[str, Any]]:
    fields = parse(body({"input": [{"role": "user", "content": content}]}), ResponsesFields)
    return list(responses_ask(fields, GenerationDefaults(), modalities).ask.messages)  # type: ignore[arg-type]


def messages(content: object, modalities: Modalities = SEES) -> list[dict[str, Any]]:
    fields = parse(body({"messages": [{"role": "user", "content": content}], "max_tokens": 1}), MessagesFields)
    return list(messages_ask(fields, GenerationDefaults(), modalities).ask.messages)  # type: ignore[arg-type]


def part(url: str, where: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, "_where": where}


def test_chat_parts_stay_as_they_are() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": URL}}]
    assert chat(content)[0]["content"] == content


def test_responses_parts() -> None:
    content = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": URL, "detail": "auto"}]
    wanted = [{"type": "text", "text": "a"}, part(URL, "input[0].content[1]")]
    assert responses(content)[0]["content"] == wanted
    sound = [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]
    (heard,) = responses(sound, HEARS)[0]["content"]
    assert (heard["type"], heard["input_audio"]) == ("input_audio", {"data": "AAAA"})


def test_messages_blocks() -> None:
    data = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    url = {"type": "image", "source": {"type": "url", "url": "https://example.com/x"}}
    content = messages([{"type": "text", "text": "a"}, data, url])[0]["content"]
    assert content[1:] == [
        part(URL, "messages[0].content[1]"),
        part("https://example.com/x", "messages[0].content[2]"),
    ]


def test_results_of_tools_may_hold_images() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "u"}}
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [image], "is_error": True}
    fields = parse(
        body(
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": [use]},
                    {"role": "user", "content": [result]},
                ],
                "max_tokens": 1,
            }
        ),
        MessagesFields,
    )
    *_, told = messages_ask(fields, GenerationDefaults(), SEES).ask.messages
    where = "messages[2].content[0].content[0]"
    assert told["content"] == [{"type": "text", "text": "Error:"}, part("u", where)]
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image", "image_url": "u"}]}
    asked = parse(body({"input": [{"role": "user", "content": "q"}, call, output]}), ResponsesFields)
    *_, told = responses_ask(asked, GenerationDefaults(), SEES).ask.messages
    assert told["content"] == [part("u", "input[2].output[0]")]


@pytest.mark.parametrize("modalities", [TEXT_ONLY, HEARS])
def test_images_for_a_model_that_sees_nothing(modalities: Modalities) -> None:
    asks = (
        lambda: chat([{"type": "image_url", "image_url": {"url": URL}}], modalities),
        lambda: responses([{"type": "input_image", "image_url": URL}], modalities),
        lambda: messages([{"type": "image", "source": {"type": "url", "url": "u"}}], modalities),
    )
    for ask in asks:
        with pytest.raises(ApiError, match="no such modality"):
            ask()


@pytest.mark.parametrize("kind", ["input_audio", "input_video", "video_url"])
def test_other_media_than_images(kind: str) -> None:
    with pytest.raises(ApiError, match="no such modality"):
        chat([{"type": kind, kind: {}}])


def test_an_assistant_has_said_text() -> None:
    with pytest.raises(ApiError, match="assistant said is text"):
        chat([{"type": "image_url", "image_url": {"url": URL}}], role="assistant")


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"type": "base64", "media_type": "image/tiff", "data": "AAAA"}, ".source"),
        ({"type": "base64", "data": "AAAA"}, ".source"),
        ({"type": "url"}, ".source"),
        ({"type": "file", "file_id": "x"}, ".source.type"),
    ],
)
def test_sources_that_are_none(source: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiError) as raised:
        messages([{"type": "image", "source": source}])
    assert raised.value.param == f"messages[0].content[0]{field}"


def test_stored_files_are_unknown() -> None:
    with pytest.raises(ApiError, match="no files are kept"):
        responses([{"type": "input_image", "file_id": "x"}])


async def test_props_and_models_tell_what_the_model_takes(client: Client, engine: FakeEngine) -> None:
    engine.info = attrs.evolve(engine.info, vision=True)
    assert (await client.get("/props")).json["modalities"] == {"vision": True, "audio": False}
    meta = (await client.get("/v1/models")).json["data"][0]["meta"]
    assert (meta["support_vision"], meta["support_audio"]) == (True, False)
