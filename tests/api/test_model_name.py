"""The model's name in a request: any one will do for a single model, but not of any length."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api.gate import MAX_MODEL_NAME
from engine.native.options import Pooling
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine
from tests.api.images.pictures import EDITS, GENERATIONS, VARIATIONS, png, post_form, url
from tests.api.images.serving import BODY, serving
from tests.api.test_infill import HoleVocab, infill_info
from tests.embedding.fake_embedder import make_info

MESSAGES = {"messages": [{"role": "user", "content": "hi"}]}
TEXT = [
    ("/v1/chat/completions", MESSAGES),
    ("/v1/completions", {"prompt": "hi"}),
    ("/completion", {"prompt": "hi"}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    ("/v1/messages", {**MESSAGES, "max_tokens": 2}),
    ("/v1/responses", {"input": "hi"}),
]
EMBEDDING = [("/v1/embeddings", {"input": "hi"})]
RANKING = [("/v1/rerank", {"query": "a", "documents": ["b"]})]
IMAGES = [(GENERATIONS, BODY), (EDITS, {**BODY, "image": url(png())}), (VARIATIONS, {**BODY, "image": url(png())})]
LONGEST = "名" * MAX_MODEL_NAME


@asynccontextmanager
async def client_for(path: str) -> AsyncIterator[Client]:
    """Of a server that has the route."""
    if "images" in path:
        async with serving() as client:
            yield client
        return
    ranking = make_info(pooling=Pooling.RANK, n_embd=1, n_vocab=258, max_tokens=20)
    plain = make_info(n_embd=2, n_vocab=258, max_tokens=20)
    engine = FakeEngine(info=infill_info(), embedding=ranking if "rerank" in path else plain, vocab=HoleVocab())
    yield Client(make_services(engine, infill=True))


@pytest.mark.parametrize(("path", "body"), TEXT + EMBEDDING + RANKING + IMAGES)
async def test_a_name_of_any_length_is_not_echoed(path: str, body: dict[str, Any]) -> None:
    async with client_for(path) as client:
        reply = await client.post(path, {**body, "model": LONGEST})
        assert reply.status == 200, reply.body
        reply = await client.post(path, {**body, "model": LONGEST + "a"})
        assert reply.status == 400
        assert reply.json["error"]["message"].startswith("model: ")
        assert f"at most {MAX_MODEL_NAME}" in reply.json["error"]["message"]
        assert len(reply.body) < 500


async def test_nor_is_one_of_a_form() -> None:
    async with serving() as client:
        fields = {name: str(value) for name, value in BODY.items()}
        reply = await post_form(client, fields | {"model": LONGEST + "a"}, {"image": png()})
        assert (reply.status, reply.error["param"]) == (400, "model")


async def test_names_that_the_server_was_given_are_its_own() -> None:
    long = "m" * (MAX_MODEL_NAME + 1)
    for aliases in ((long,), ("a", long)):
        client = Client(make_services(aliases=aliases))
        reply = await client.post("/v1/completions", {"prompt": "hi", "model": long})
        assert reply.json["model"] == long
        reply = await client.post("/v1/completions", {"prompt": "hi", "model": long + "m"})
        assert (reply.status, reply.error["param"]) == (400, "model")
