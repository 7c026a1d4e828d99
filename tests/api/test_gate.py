"""What stands before the routes, and what every response wears."""

import logging

import msgspec
import pytest

from api.app import create_app
from llamabox.services import Phase
from tests.api.asgi import exchange
from tests.api.conftest import Client, make_services

HI = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


async def test_common_headers(client: Client) -> None:
    replies = [await client.get(path) for path in ("/health", "/nowhere", "/v1/chat/completions")]
    assert [reply.status for reply in replies] == [200, 404, 405]
    for reply in replies:
        assert reply.headers["Server"] == "llama-box/0.1.0"
        assert len(reply.headers["X-Request-ID"]) == 32


async def test_a_slash_too_many_is_no_route(client: Client) -> None:
    reply = await client.get("/v1//models")
    assert (reply.status, reply.error["type"]) == (404, "not_found_error")


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2:3_4", True), ("", False), ("a b", False), ("x" * 129, False)])
async def test_request_id(client: Client, given: str, kept: bool) -> None:
    reply = await client.send("GET", "/health", headers={"X-Request-ID": given})
    assert (reply.headers["X-Request-ID"] == given) is kept


async def test_equal_request_ids_do_not_meet_in_the_engine(client: Client, engine) -> None:
    for _ in range(2):
        await client.post(CHAT, HI, {"X-Request-ID": "same"})
    assert len({request.id for request in engine.opened}) == 2


async def test_unknown_routes_and_methods(client: Client) -> None:
    assert (await client.get("/nowhere")).error["type"] == "not_found_error"
    reply = await client.get(CHAT)
    assert reply.error["type"] == "invalid_request_error"
    assert "POST" in reply.headers["Allow"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer two", 200),
        ("bearer one", 200),
        ("Bearer on", 401),
        ("Bearer onee", 401),
        ("Bearer", 401),
        ("Basic one", 401),
        ("Bearer \xfc", 401),
    ],
)
async def test_keys(header: str | None, status: int) -> None:
    client = Client(make_services(api_keys=("one", "two")))
    headers = {} if header is None else {"Authorization": header}
    reply = await client.post(CHAT, HI, headers)
    assert reply.status == status
    if status == 401:
        assert (reply.error["message"], reply.error["type"]) == ("Invalid API Key", "authentication_error")
    assert (await client.send("GET", "/nowhere", headers=headers)).status == (404 if status == 200 else 401)


async def test_free_routes() -> None:
    client = Client(make_services(api_keys=("one",)))
    assert (await client.get("/health")).status == 200
    assert (await client.get("/v1/health")).status == 200
    assert (await client.send("OPTIONS", CHAT)).status == 200


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics", "/nowhere"])
async def test_loading(path: str) -> None:
    client = Client(make_services(ready=False, metrics=True))
    reply = await client.get(path)
    assert reply.status == 503
    assert reply.error == {"code": 503, "message": "Loading model", "type": "unavailable_error", "param": None}


async def test_stopping_and_failed() -> None:
    for phase in (Phase.FAILED, Phase.STOPPING):
        services = make_services()
        services.enter(phase)
        assert (await Client(services).post(CHAT, HI)).error["type"] == "unavailable_error"


def test_phases_have_an_order() -> None:
    services = make_services()
    services.enter(Phase.STOPPING)
    with pytest.raises(RuntimeError, match="no way from stopping to ready"):
        services.enter(Phase.READY)


async def test_body_limit() -> None:
    client = Client(make_services(max_body=100))
    reply = await client.post(CHAT, b"x" * 101)
    assert (reply.status, reply.error["type"]) == (413, "invalid_request_error")
    assert (await client.post(CHAT, HI)).status == 200


async def test_no_cors_unless_asked_for(client: Client) -> None:
    reply = await client.send("GET", "/health", headers={"Origin": "https://a"})
    assert not [name for name, _ in reply.headers.items() if name.lower().startswith("access-control")]


@pytest.mark.parametrize(("origins", "allowed"), [(("https://a",), True), (("*",), True), (("https://b",), False)])
async def test_cors(origins: tuple[str, ...], allowed: bool) -> None:
    client = Client(make_services(cors_origins=origins, api_keys=("one",)))
    headers = {"Origin": "https://a", "Access-Control-Request-Method": "POST"}
    reply = await client.send("OPTIONS", CHAT, headers=headers)
    assert reply.headers.get("Access-Control-Allow-Origin") == ("https://a" if allowed else None)
    methods = reply.headers.get("Access-Control-Allow-Methods")
    assert methods == ("GET, POST, DELETE, OPTIONS" if allowed else None)
    reply = await client.send("GET", "/health", headers=headers)
    assert reply.headers.get("Access-Control-Allow-Origin") == ("https://a" if allowed else None)
    assert reply.headers["Vary"] == "Origin"


async def test_access_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "api.access")
    await client.post(CHAT, {**HI, "stream": True}, {"X-Request-ID": "me"})
    (record,) = [record for record in caplog.records if record.name == "api.access"]
    facts = {
        name: getattr(record, name) for name in ("method", "route", "status", "prompt_tokens", "completion_tokens")
    }
    assert facts == {"method": "POST", "route": CHAT, "status": 200, "prompt_tokens": 20, "completion_tokens": 11}
    assert record.duration_ms >= 0


@pytest.mark.parametrize(
    ("cap", "measured", "header", "status", "rate"),
    [
        (10, None, None, 200, 0),
        (10, None, "0", 200, 0),
        (10, None, "-3", 200, 0),
        (10, None, "2.5", 200, 2.5),
        (10, None, "10", 200, 10),
        (10, None, "10.1", 410, None),
        (10, None, "inf", 410, None),
        (10, None, "nan", 400, None),
        (10, None, "fast", 400, None),
        (0, None, "fast", 200, 0),
        (0, 20, "5", 200, 0),
        (-1, 20, "15", 200, 15),
        (-1, 20, "25", 410, None),
        (-1, None, "25", 200, 0),
    ],
)
async def test_rate_header(
    cap: float, measured: float | None, header: str | None, status: int, rate: float | None
) -> None:
    services = make_services(tokens_per_second=cap)
    services.text.measured_rate = measured
    headers = {} if header is None else {"X-Request-Tokens-Per-Second": header}
    reply = await Client(services).post(CHAT, HI, headers)
    assert reply.status == status
    assert [request.tokens_per_second for request in services.text.opened] == ([] if rate is None else [rate])


async def test_choices_share_the_rate() -> None:
    services = make_services(tokens_per_second=10)
    await Client(services).post(CHAT, {**HI, "n": 4}, {"X-Request-Tokens-Per-Second": "8"})
    assert [request.tokens_per_second for request in services.text.opened] == [2] * 4


async def test_a_stream_tells_its_rate_in_a_trailer_where_there_are_trailers() -> None:
    services = make_services()
    for extensions in ({}, {"http.response.trailers": {}}):
        body = msgspec.json.encode({**HI, "stream": True})
        sent = await exchange(create_app(services), "POST", CHAT, body, extensions=extensions)
        trailers = [message["headers"] for message in sent if message["type"] == "http.response.trailers"]
        assert trailers == ([[(b"x-response-tokens-per-second", b"100.000")]] if extensions else [])
        assert sent[0].get("trailers", False) is bool(extensions)


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 415), ("br, gzip", 415), ("identity", 200), ("", 200)])
async def test_a_compressed_body_is_refused_as_such(client: Client, encoding: str, status: int) -> None:
    reply = await client.post(CHAT, HI, {"Content-Encoding": encoding})
    assert reply.status == status
    if status == 415:
        assert reply.error["type"] == "invalid_request_error"
        assert encoding in reply.error["message"]
    else:
        assert "choices" in reply.json
