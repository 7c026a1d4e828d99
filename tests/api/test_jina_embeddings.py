"""Jina's fields of POST /v1/embeddings over a fake engine."""

import base64
import math
import struct

import numpy as np
import pytest

from engine.native.options import Pooling
from tests.api.conftest import Client
from tests.api.test_embeddings import PATH, make_client

RAW = (3.0, -1.0, 0.0, 2.0, -5.0, 1e-9, 4.0, 7.0, 1.0, -2.0)
BITS = [1, 0, 0, 1, 0, 1, 1, 1, 1, 0]


@pytest.fixture
def client() -> Client:
    client = make_client(n_embd=len(RAW))
    client.services.text.vector_of = lambda tokens: RAW
    return client


async def ask(client: Client, **fields: object) -> object:
    reply = await client.post(PATH, {"input": "a", **fields})
    assert reply.status == 200, reply.body
    return reply.json["data"][0]["embedding"]


async def test_bits_as_clients_of_jina_read_them(client: Client) -> None:
    unsigned = await ask(client, embedding_type="ubinary")
    assert unsigned == [0b10010111, 0b10000000]
    assert np.unpackbits(np.array(unsigned, np.uint8), count=len(BITS)).tolist() == BITS
    signed = await ask(client, embedding_type="binary")
    assert signed == [0b10010111 - 128, 0]
    assert np.unpackbits((np.array(signed) + 128).astype(np.uint8), count=len(BITS)).tolist() == BITS
    assert await ask(client, embedding_type="ubinary", dimensions=3) == [0b10000000]


async def test_floats_and_base64(client: Client) -> None:
    plain = await ask(client)
    assert await ask(client, embedding_type="float") == plain
    coded = await ask(client, embedding_type="base64")
    assert struct.unpack(f"<{len(RAW)}f", base64.b64decode(coded)) == pytest.approx(plain)


@pytest.mark.parametrize(
    "fields",
    [
        {"embedding_type": ["ubinary"]},
        {"embedding_type": ["ubinary", "ubinary"]},
        {"encoding_type": "ubinary"},
        {"embedding_type": "ubinary", "encoding_type": ["ubinary"]},
        {"embedding_type": "ubinary", "encoding_format": None},
        {"embedding_type": "ubinary", "normalized": False, "late_chunking": False, "task": None},
    ],
)
async def test_what_means_the_same(client: Client, fields: dict[str, object]) -> None:
    assert await ask(client, **fields) == [0b10010111, 0b10000000]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"embedding_type": "int8"}, "embedding_type"),
        ({"embedding_type": ["float", "int8"]}, "embedding_type[1]"),
        ({"embedding_type": 1}, "embedding_type"),
        ({"embedding_type": []}, "embedding_type"),
        ({"embedding_type": ["float", "binary"]}, "embedding_type"),
        ({"embedding_type": "binary", "encoding_format": "float"}, "embedding_type"),
        ({"embedding_type": "float", "encoding_format": "base64"}, "embedding_type"),
        ({"embedding_type": "binary", "encoding_type": "ubinary"}, "encoding_type"),
        ({"encoding_format": "binary"}, "encoding_format"),
        ({"normalized": "no"}, "normalized"),
        ({"late_chunking": True}, "late_chunking"),
        ({"task": "retrieval.query"}, "task"),
    ],
)
async def test_what_cannot_be_is_refused(client: Client, fields: dict[str, object], param: str) -> None:
    reply = await client.post(PATH, {"input": "a", **fields})
    assert (reply.status, reply.error["param"]) == (400, param)
    assert reply.error["message"].startswith(f"{param}: ")
    assert client.services.text.embedded == []


async def test_two_fields_that_disagree_are_both_named(client: Client) -> None:
    reply = await client.post(PATH, {"input": "a", "embedding_type": "binary", "encoding_format": "float"})
    assert reply.error["message"] == "embedding_type: it says binary, encoding_format says float"


async def test_vectors_as_the_model_gives_them(client: Client) -> None:
    assert await ask(client, normalized=False) == pytest.approx(RAW)
    assert await ask(client, normalized=False, dimensions=2) == pytest.approx(RAW[:2])
    assert await ask(client, normalized=True) == await ask(client)
    assert math.hypot(*(await ask(client))) == pytest.approx(1)


async def test_without_pooling() -> None:
    client = make_client(pooling=Pooling.NONE)
    client.services.text.vector_of = lambda tokens: [(3.0 * token, -4.0) for token in tokens]
    given = {"input": [[1, 2]]}
    assert await ask(client, **given) == [[3.0, -4.0], [6.0, -4.0]]
    assert await ask(client, **given, normalized=False) == [[3.0, -4.0], [6.0, -4.0]]
    first, second = await ask(client, **given, normalized=True)
    assert first == pytest.approx([0.6, -0.8])
    assert math.hypot(*second) == pytest.approx(1)
    assert await ask(client, **given, embedding_type="ubinary") == [[128], [128]]
    assert await ask(client, **given, embedding_type="binary") == [[0], [0]]
