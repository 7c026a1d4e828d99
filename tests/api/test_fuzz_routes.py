"""Whatever the body of a route beside those that generate text: an answer in shape, never a 500."""

from collections.abc import Callable
from pathlib import Path

import attrs
import hypothesis
import msgspec
import pytest
import trio
from hypothesis import strategies as st

from api.embedding.shapes import EmbeddingFields, NativeEmbeddingFields, RerankFields
from api.images.fields import EditFields, GenerationFields, ImageFields, ImageStreamOptions
from api.routes.slot_files import SlotFileFields
from api.shapes import InfillFields
from engine.embedding.requests import RankFormat
from engine.native.options import AdapterOptions, ModelOptions, Pooling, Scaled
from engine.text.options import EngineOptions
from tests.api.conftest import Client, Reply, make_services
from tests.api.fake_engine import FakeEngine
from tests.api.images.pictures import EDITS, png, post_form, url
from tests.api.images.serving import BODY, serving
from tests.api.test_embeddings import make_client
from tests.api.test_fuzz import KEYS, SCALARS, VALUES
from tests.api.test_infill import HoleVocab, infill_info
from tests.embedding.fake_embedder import make_info as make_embedding_info

IMAGES = "/v1/images/generations"


def ranking() -> Client:
    form = RankFormat(template=None, before=(1,), between=(2, 3), after=(4,))
    info = make_embedding_info(pooling=Pooling.RANK, n_embd=1, n_vocab=258, max_tokens=20, rank=form)
    return Client(make_services(FakeEngine(embedding=info, vector_of=lambda tokens: (float(len(tokens)),))))


def infilling() -> Client:
    return Client(make_services(FakeEngine(info=infill_info(), vocab=HoleVocab()), infill=True))


def saving() -> Client:
    return Client(make_services(FakeEngine(), slots=True, slot_save_path=str(Path("absent"))))


ROUTES: dict[str, tuple[Callable[[], Client], type, dict[str, object]]] = {
    "/v1/embeddings": (make_client, EmbeddingFields, {"input": "hi"}),
    "/embedding": (make_client, NativeEmbeddingFields, {"content": "hi"}),
    "/v1/rerank": (ranking, RerankFields, {"query": "a", "documents": ["b"]}),
    "/infill": (infilling, InfillFields, {"input_prefix": "a", "input_suffix": "b"}),
    "/slots/0?action=save": (saving, SlotFileFields, {"filename": "a"}),
    "/slots/0?action=restore": (saving, SlotFileFields, {"filename": "a"}),
    "/slots/0?action=erase": (saving, SlotFileFields, {}),
}


def bodies(shape: type, good: dict[str, object]) -> st.SearchStrategy[dict[str, object]]:
    """A body that is right but for a few fields."""
    names = [field.name for field in attrs.fields(shape)]
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=4).map(lambda wrong: {**good, **wrong})


@pytest.mark.parametrize("path", ROUTES)
def test_no_field_value_is_a_server_error(path: str) -> None:
    make, shape, good = ROUTES[path]
    client = make()

    @hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
    @hypothesis.given(bodies(shape, good) | VALUES)
    def run(body: object) -> None:
        check(trio.run(client.post, path, msgspec.json.encode(body)))

    run()


@hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
@hypothesis.given(st.lists(st.dictionaries(st.sampled_from(["id", "scale"]), SCALARS), max_size=3) | VALUES)
def test_no_set_of_adapters_is_a_server_error(body: object) -> None:
    files = (Scaled("a.gguf"), Scaled("b.gguf"))
    options = AdapterOptions(loras=files, apply_loras=False)
    services = make_services(FakeEngine(info=infill_info(loras=tuple(file.path for file in files))))
    engine = EngineOptions(model=ModelOptions(path="a.gguf"), adapters=options)
    services.settings = attrs.evolve(services.settings, engine=engine)
    check(trio.run(Client(services).post, "/lora-adapters", msgspec.json.encode(body)))


@pytest.mark.parametrize(("path", "shape"), [(IMAGES, GenerationFields), (EDITS, EditFields)])
def test_no_image_request_is_a_server_error(path: str, shape: type) -> None:
    @hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
    @hypothesis.given(bodies(shape, BODY | ({"image": url(png())} if shape is EditFields else {})) | VALUES)
    def run(body: object) -> None:
        async def ask() -> Reply:
            async with serving() as client:
                return await client.post(path, msgspec.json.encode(body))

        check(trio.run(ask))

    run()


FORM_NAMES = [
    *(field.name for field in attrs.fields(ImageFields)),
    *(f"stream_options_{field.name}" for field in attrs.fields(ImageStreamOptions)),
]
FORM_VALUES = st.one_of(
    st.sampled_from(["", "null", "true", "0", "1", "-1", "5", "[1]", "{}", '[{"id":0}]', "1e400", "NaN", "256x256"]),
    VALUES.map(lambda value: msgspec.json.encode(value).decode()),
)


@hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
@hypothesis.given(st.dictionaries(st.sampled_from(FORM_NAMES) | KEYS.filter(str.isidentifier), FORM_VALUES, max_size=4))
def test_no_form_is_a_server_error(wrong: dict[str, str]) -> None:
    async def ask() -> Reply:
        async with serving() as client:
            fields = {name: str(value) for name, value in BODY.items()}
            return await post_form(client, fields | wrong, {"image": png()})

    check(trio.run(ask))


def check(reply: Reply) -> None:
    assert reply.status in {200, 400, 404, 501}, reply.body
    if reply.status != 200:
        assert reply.error["message"]
