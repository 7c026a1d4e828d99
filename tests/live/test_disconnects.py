"""Clients that go away at random moments leave nothing behind."""

import json
import random
import re
from typing import Any

import httpx
import trio

N_CLIENTS = 200


async def figure(client: httpx.AsyncClient, name: str) -> float:
    text = (await client.get("/metrics")).text
    match = re.search(rf"^llamabox:{name} (\S+)$", text, re.MULTILINE)
    assert match, f"no {name} in /metrics"
    return float(match[1])


async def visit(url: str, body: dict[str, Any], chunks: int, patience: float) -> None:
    """Ask, read at most ``chunks`` pieces of the answer for at most ``patience`` seconds, and hang up."""
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = f"POST /completion HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(head + content)
        with trio.move_on_after(patience):
            for _ in range(chunks):
                data = await stream.receive_some()
                assert data, "the server hung up first"


async def test_two_hundred_disconnects(tiny_server: str) -> None:
    rng = random.Random(20)
    limiter = trio.CapacityLimiter(40)

    async def come_and_go(number: int) -> None:
        body = {
            "prompt": "the " * rng.randrange(1, 60) + str(number),
            "n_predict": 400,
            "stream": rng.random() < 0.7,
            "temperature": rng.choice([0, 1]),
            "ignore_eos": True,
        }
        async with limiter:
            await visit(tiny_server, body, rng.randrange(0, 30), rng.random() if not body["stream"] else 60)

    async with trio.open_nursery() as nursery:
        for number in range(N_CLIENTS):
            nursery.start_soon(come_and_go, number)

    async with httpx.AsyncClient(base_url=tiny_server, timeout=60) as client:
        # The server notices each lost connection by itself; requests of our own show that it has kept up.
        for _ in range(100):
            (await client.post("/completion", json={"prompt": "hello", "n_predict": 1})).raise_for_status()
            if await figure(client, "requests_processing") == 0 and await figure(client, "kv_cache_tokens") == 0:
                break
        assert await figure(client, "requests_processing") == 0
        assert await figure(client, "requests_deferred") == 0
        assert await figure(client, "kv_cache_tokens") == 0
        slots = (await client.get("/slots")).json()
        assert not any(slot["is_processing"] for slot in slots)
