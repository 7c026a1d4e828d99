"""From media parts to items: sources, limits, blame."""

import base64
from pathlib import Path
from typing import Any

import attrs
import pytest

from engine.errors import ContextExceeded, InvalidRequest
from engine.text.media import MediaChunk, item_cells
from llamabox.media.fetch import MOST_BYTES, Fetcher
from llamabox.media.loader import MediaLoader
from llamabox.media.parts import media_part, source_of
from llamabox.media.sources import Sources
from tests.media.reader import FakeReader
from tests.models.pictures import data_url, png, wav, wave


@attrs.define
class FakeFetcher(Fetcher):
    """Has one file."""

    data: bytes = b""
    urls: list[str] = attrs.field(factory=list)

    async def fetch(self, url: str) -> bytes:
        self.urls.append(url)
        return self.data


def loader(reader: FakeReader | None = None, directory: Path | None = None, **fields: Any) -> MediaLoader:
    sources = Sources(fetcher=FakeFetcher(data=png(size=(4, 3))), directory=directory)
    return MediaLoader(reader=reader or FakeReader(), sources=sources, **({"n_ctx": 1_000} | fields))


def image(source: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": source}}


def message(*parts: object) -> dict[str, Any]:
    return {"role": "user", "content": [*parts]}


async def test_media_come_in_the_order_of_the_messages() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(wave())).decode(), "format": "wav"}}
    first, second = image(data_url(png(size=(5, 4)))), image("https://example.com/x.png")
    messages = [message("text", first, sound), {"role": "user", "content": "plain"}, message(second)]
    items = await loader().load(messages)
    assert [item_cells(item) for item in items] == [22, 7, 14]


async def test_what_comes_twice_is_prepared_once() -> None:
    reader = FakeReader()
    one = image(data_url(png(size=(5, 4))))
    first, second = await loader(reader).load([message(one), message(one)])
    assert first is second
    assert reader.images == [(5, 4)]


async def test_equal_pixels_have_equal_keys_wherever_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(png(size=(4, 3)))
    sources = (
        data_url(png(size=(4, 3))),
        base64.b64encode(png(size=(4, 3))).decode(),
        "file://a%20b.png",
        "file:///a%20b.png",
        "file://localhost/a%20b.png",
        f"file://LOCALHOST{tmp_path}/a%20b.png",
        "http://x/y",
    )
    items = await loader(directory=tmp_path).load([message(*map(image, sources))])
    chunks = [part for item in items for part in item if isinstance(part, MediaChunk)]
    assert len({chunk.key for chunk in chunks}) == 1
    assert len(chunks) == len(sources)


async def test_large_images_are_scaled() -> None:
    reader = FakeReader()
    await loader(reader, longest=224, n_ctx=100_000).load([message(image(data_url(png(size=(448, 100)))))])
    assert reader.images == [(224, 50)]


async def test_too_many_are_noticed_before_all_are_prepared() -> None:
    reader = FakeReader()
    images = [image(data_url(png(seed, (10, 10)))) for seed in range(50)]
    with pytest.raises(ContextExceeded) as raised:
        await loader(reader, n_ctx=250).load([message(*images)])
    assert raised.value.n_prompt_tokens == 306
    assert "at least 306 tokens" in str(raised.value), "nobody counted the others"
    assert len(reader.images) == 3


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("data:image/png,plain", "must hold base64"),
        ("data:image/png;base64,", "no data"),
        ("data:image/png;base64,#", "no base64"),
        ("ftp://x/y", "of the kind ftp"),
        ("javascript:alert(1)", "of the kind javascript"),
        ("no base64!", "no base64"),
        ("file:///etc/passwd", "no such file"),
        ("file://localhost/etc/passwd", "no such file"),
        ("file://localhost/../x.png", "no such file"),
        ("file://../x.png", "no such file"),
        ("file:link.png", "no such file"),
        ("file://fifo", "no such file"),
        ("file://large", "larger than 32 MiB"),
        ("file://\0", "cannot be read"),
        (data_url(b"nonsense"), "no image"),
        (data_url(png(size=(13, 4))), "unlucky"),
    ],
)
async def test_bad_sources_are_blamed_by_place(tmp_path: Path, source: str, reason: str) -> None:
    import os

    directory = tmp_path / "media"
    directory.mkdir()
    (tmp_path / "x.png").write_bytes(png())
    (directory / "link.png").symlink_to(tmp_path / "x.png")
    os.mkfifo(directory / "fifo")
    with (directory / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InvalidRequest, match=reason) as raised:
        await loader(directory=directory).load([message("x"), message("x", image(source))])
    assert raised.value.param == "messages[1].content[1]"
    assert str(raised.value).startswith("messages[1].content[1]: ")


async def test_files_need_a_directory() -> None:
    with pytest.raises(InvalidRequest, match="--media-path"):
        await loader().load([message(image("file://x.png"))])


async def test_the_place_of_another_api_is_blamed() -> None:
    with pytest.raises(InvalidRequest) as raised:
        await loader().load([message(media_part("image_url", "#", "input[3].content[0]"))])
    assert raised.value.param == "input[3].content[0]"


@pytest.mark.parametrize(("vision", "kind"), [(True, "input_audio"), (False, "image_url")])
async def test_only_what_the_model_takes(vision: bool, kind: str) -> None:
    part = media_part(kind, base64.b64encode(png() if kind == "image_url" else wav(wave())).decode(), "here")
    with pytest.raises(InvalidRequest, match="takes no"):
        await loader(FakeReader(vision=vision, audio=not vision)).load([message(part)])


async def test_data_of_an_unknown_kind() -> None:
    texts = [base64.b64encode(data).decode() for data in (png(size=(4, 3)), wav(wave()))]
    items = await loader().load_data(texts, "prompt.multimodal_data")
    assert [item_cells(item) for item in items] == [14, 7]
    with pytest.raises(InvalidRequest) as raised:
        await loader().load_data([texts[0], "AAAA"], "prompt.multimodal_data")
    assert raised.value.param == "prompt.multimodal_data[1]"


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ({"type": "image_url", "image_url": {"url": "a", "detail": "low"}}, "a"),
        ({"type": "image_url", "image_url": "a"}, "a"),
        ({"type": "input_audio", "input_audio": {"data": "a", "format": "mp3"}}, "a"),
        ({"type": "input_audio", "input_audio": {"url": "a"}}, "a"),
    ],
)
def test_sources_of_parts(part: dict[str, Any], source: str) -> None:
    assert source_of(part, "here") == source


@pytest.mark.parametrize("given", [None, 5, {}, {"url": 5}, {"url": ""}, "", []])
def test_parts_without_a_source(given: object) -> None:
    with pytest.raises(InvalidRequest) as raised:
        source_of({"type": "image_url", "image_url": given}, "here")
    assert raised.value.param == "here.image_url"
