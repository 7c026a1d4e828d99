"""Services over a fake engine, and a client of the application."""

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec
import pytest
from werkzeug.datastructures import Headers

from api.app import create_app
from api.http import ApiApp
from engine.native.options import ModelOptions
from engine.text.options import EngineOptions
from llamabox.metrics import Metrics
from llamabox.services import Phase, Services
from llamabox.settings import ServerSettings, Settings
from tests.api.asgi import exchange
from tests.api.fake_engine import FakeEngine
from tests.api.fake_prompts import FakePrompts


def make_services(engine: FakeEngine | None = None, *, ready: bool = True, **server: Any) -> Services:
    """Services as the composition root would fill them; ``server`` are ServerSettings."""
    engine = engine or FakeEngine()
    settings = Settings(
        engine=EngineOptions(model=ModelOptions(path="/models/tiny.gguf")), server=ServerSettings(**server)
    )
    aliases = server.get("aliases") or ("tiny.gguf",)
    services = Services(settings=settings, metrics=Metrics(engine.stats), model_ids=aliases)
    if ready:
        services.text = engine
        services.prompts = FakePrompts()
        services.enter(Phase.READY)
    return services


@attrs.frozen
class Reply:
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, whose shape every error has."""
        error = self.json["error"]
        assert error["code"] == self.status
        assert {"message", "type", "param"} <= error.keys()
        return error

    @property
    def events(self) -> list[Any]:
        """The data of a stream: JSON decoded, "[DONE]" as it is. Every event is a single data line."""
        assert self.headers["Content-Type"].startswith("text/event-stream")
        assert self.body.endswith(b"\n\n")
        events = [event for event in self.body.decode().split("\n\n")[:-1] if not event.startswith(":")]
        assert all(event.startswith("data: ") and "\n" not in event for event in events), events
        return [e[6:] if e == "data: [DONE]" else msgspec.json.decode(e[6:]) for e in events]


@attrs.frozen
class Client:
    services: Services
    app: ApiApp = attrs.field(init=False)

    @app.default
    def _create(self) -> ApiApp:
        return create_app(self.services)

    async def send(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        start, *parts = await exchange(self.app, method, path, data, headers)
        given = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return Reply(start["status"], Headers(given), b"".join(part["body"] for part in parts))

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.send("GET", path, headers=headers)

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        return await self.send("POST", path, body, headers)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def client(engine: FakeEngine) -> Client:
    return Client(make_services(engine, metrics=True, slots=True))
