"""Ways of seeing what an option does: a probe of the settings gives different values with and without it."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from unittest import mock

import attrs
import trio

from api import listen
from api.app import create_app
from api.connection import Connection
from api.http import ApiApp
from api.server import HttpServer
from cli.serve import _model_ids
from engine.native import context_params, model
from engine.native.library import start
from engine.native.preflight import Verdict
from engine.text import load as loading
from engine.text import start as starting
from engine.text.requests import GenerationRequest
from llamabox import logs
from llamabox.chat.ask import ChatAsk
from llamabox.metrics import Metrics
from llamabox.prompts import create_prompt_builder
from llamabox.services import Phase, Services
from llamabox.settings import Settings
from tests.api.conftest import Client, Reply
from tests.api.fake_engine import FakeEngine, say
from tests.api.fake_prompts import FakePrompts
from tests.chat.test_prompts import CharVocab, info

type Probe = Callable[[Settings], Any]


@attrs.frozen
class Shown:
    """No probe: this test shows it."""

    test: str


# --- the native parameters, as they are built for the library ---


def in_context(field: str) -> Probe:
    """A field of llama_context_params."""
    return lambda settings: getattr(context_params.native_params(start(), settings.engine.context, "model"), field)


def in_model(read: Callable[[Any], Any]) -> Probe:
    """Something of llama_model_params."""

    def probe(settings: Settings) -> Any:
        params, keep_alive = model._params(start(), settings.engine.model, None)
        seen = read(params)
        del keep_alive
        return seen

    return probe


def in_draft_model(read: Callable[[Any], Any]) -> Probe:
    """The same of the draft model."""

    def probe(settings: Settings) -> Any:
        params, keep_alive = model._params(start(), settings.engine.speculation.model, None)
        seen = read(params)
        del keep_alive
        return seen

    return probe


def overrides_of(params: Any) -> list[tuple[bytes, bool]]:
    array = params.kv_overrides
    return [(array[0].key, array[0].value.val_bool)] if array else []


# --- the engine as it starts, on the tiny model ---


def started(read: Callable[[Any, Any], Any], *, slots: int | None = None) -> Probe:
    """Something of (backend, scheduler limits); ``slots`` where their number matters."""

    def probe(settings: Settings) -> Any:
        options = settings.engine if slots is None else attrs.evolve(settings.engine, n_parallel=slots)
        with (
            mock.patch.object(loading.preflight, "check", lambda extra_buffers: Verdict(extra_buffers)),
            mock.patch.object(loading, "check_metadata"),
            mock.patch.object(starting, "EngineLoop") as loop,
            mock.patch.object(starting.LlamaBackend, "warmup", autospec=True) as warmup,
        ):
            made = starting.start_text_engine(options, lambda events: None)
            try:
                made.backend.warmed = warmup.called
                return read(made.backend, loop.call_args.args[1].limits)
            finally:
                made.backend.close()

    return probe


def drafting(read: Callable[[Any], Any]) -> Probe:
    """Something of the speculation that the loop is given."""

    def probe(settings: Settings) -> Any:
        with (
            mock.patch.object(loading.preflight, "check", lambda extra_buffers: Verdict(extra_buffers)),
            mock.patch.object(starting, "EngineLoop") as loop,
        ):
            made = starting.start_text_engine(settings.engine, lambda events: None)
            speculation = loop.call_args.kwargs["speculation"]
            try:
                return read(speculation)
            finally:
                speculation.close()
                made.backend.close()

    return probe


def told_backend(name: str) -> Probe:
    """An argument with which the backend is made."""

    def probe(settings: Settings) -> Any:
        with (
            mock.patch.object(loading.preflight, "check", lambda extra_buffers: Verdict(extra_buffers)),
            mock.patch.object(loading, "check_metadata"),
            mock.patch.object(loading, "check_projector"),
            mock.patch.object(starting, "LlamaBackend", side_effect=ZeroDivisionError) as made,
            contextlib.suppress(ZeroDivisionError),
        ):
            starting.start_text_engine(settings.engine, lambda events: None)
        return made.call_args.kwargs[name]

    return probe


def embedding(settings: Settings) -> Any:
    """What the embedding side is told, None where there is to be none."""
    with (
        mock.patch.object(loading.preflight, "check", lambda extra_buffers: Verdict(extra_buffers)),
        mock.patch.object(loading, "check_metadata"),
        mock.patch.object(starting, "EngineLoop"),
        mock.patch.object(starting, "open_embedders", side_effect=ZeroDivisionError) as asked,
        contextlib.suppress(ZeroDivisionError),
    ):
        starting.start_text_engine(settings.engine, lambda events: None).backend.close()
    return asked.call_args.args[-1] if asked.called else None


def media(read: Callable[[Any, Any], Any]) -> Probe:
    """Something of (the loader of media, the arguments of what fetches them)."""

    def probe(settings: Settings) -> Any:
        serve = import_module("cli.serve")
        with mock.patch("llamabox.media.fetch.Fetcher") as fetcher:
            return read(serve._media_loader(mock.Mock(), settings), fetcher.call_args.kwargs)

    return probe


def in_embedder(field: str) -> Probe:
    """A field of llama_context_params of the context that embeds."""

    def probe(settings: Settings) -> Any:
        embedder = import_module("engine.embedding.llama_embedder")
        loaded = model.Model(settings.engine.model)
        try:
            base, options = settings.engine.context, settings.engine.embedding
            made = embedder._context_options(loaded.facts(), base, options, splittable=True, longest=1)
            return getattr(context_params.native_params(start(), made, "model"), field)
        finally:
            loaded.close()

    return probe


def in_team(which: str, read: Callable[[Any], Any]) -> Probe:
    """Something of ggml_threadpool_params of a team of threads."""

    def probe(settings: Settings) -> Any:
        threads = import_module("engine.native.threads")
        return read(threads._params(getattr(settings.engine.context, which), 1)._obj)

    return probe


def serving_devices(read: Callable[[Any], Any]) -> Probe:
    """Something of what the server of devices is told."""

    def probe(settings: Settings) -> Any:
        module = import_module("cli.rpc_server")
        with (
            mock.patch.object(module, "choose_device", side_effect=lambda number, found: number),
            mock.patch.object(module.Path, "mkdir"),
            mock.patch.object(module.os, "access", return_value=True),
        ):
            return read(module._options(settings.rpc_server, []))

    return probe


def numa(settings: Settings) -> Any:
    """The strategy that the library is told before anything is loaded."""
    with (
        mock.patch.object(loading.library, "init_numa") as told,
        mock.patch.object(loading.preflight, "check", side_effect=ZeroDivisionError),
        contextlib.suppress(ZeroDivisionError),
    ):
        starting.start_text_engine(settings.engine, lambda events: None)
    return told.call_args


# --- HTTP, over the fake engine ---


def services_of(settings: Settings, engine: FakeEngine | None = None) -> Services:
    engine = engine or FakeEngine()
    services = Services(settings=settings, metrics=Metrics(engine.stats), model_ids=_model_ids(settings))
    services.text, services.prompts = engine, FakePrompts()
    services.enter(Phase.READY)
    return services


def get(path: str, read: Callable[[Reply], Any], **headers: str) -> Probe:
    """Something of the reply to a GET."""
    return lambda settings: read(trio.run(lambda: Client(services_of(settings)).get(path, **headers)))


def post(path: str, body: Any, read: Callable[[Reply], Any]) -> Probe:
    """Something of the reply to a POST."""
    return lambda settings: read(trio.run(lambda: Client(services_of(settings)).post(path, body)))


def opened(read: Callable[[GenerationRequest], Any], **headers: str) -> Probe:
    """Something of what the engine is asked for a prompt without any other field."""

    def probe(settings: Settings) -> Any:
        engine = FakeEngine()
        client = Client(services_of(settings, engine))
        assert trio.run(lambda: client.post("/completion", {"prompt": "hi"}, headers)).status == 200
        return read(engine.opened[0])

    return probe


def sampling(field: str) -> Probe:
    """A sampling parameter of the same."""
    return opened(lambda request: getattr(request.sampling, field))


def chat_content(settings: Settings) -> Any:
    """The text of an answer that begins with reasoning."""
    client = Client(services_of(settings, FakeEngine(say("<think>so</think>yes"))))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    reply = trio.run(lambda: client.post("/v1/chat/completions", body))
    return reply.json["choices"][0]["message"]["content"]


def application(read: Callable[[ApiApp], Any]) -> Probe:
    return lambda settings: read(create_app(services_of(settings)))


# --- prompts, with the jobs of the pool done here ---

_TEMPLATE = """\
{{ mood or "calm" }}{% for m in messages %}{% set thought = m.reasoning_content %}
{%- if thought and m.role == 'assistant' %}<think>{{ thought }}</think>{% endif %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""


class _Inline:
    async def prepare(self, target: str, *args: Any, time_limit: float = 0) -> None:
        """There are no other interpreters."""

    async def run(self, target: str, *args: Any, time_limit: float = 0) -> Any:
        module, name = target.split(":")
        return getattr(import_module(module), name)(*args)


def prompted(read: Callable[[Any], Any]) -> Probe:
    """Something of the plan of a chat."""

    def probe(settings: Settings) -> Any:
        async def planned() -> Any:
            builder = await create_prompt_builder(info(_TEMPLATE), CharVocab(), _Inline(), settings.chat)
            return await builder.plan(ChatAsk(messages=[{"role": "user", "content": "hi"}]))

        return read(trio.run(planned))

    return probe


# --- listening and logging ---


def bound(settings: Settings) -> Any:
    """What is listened on."""
    with mock.patch.object(listen, "_bind_tcp") as tcp, mock.patch.object(listen, "_bind_unix") as unix:
        listen.bind_sockets(settings.server)
    return tcp.call_args_list, unix.call_args_list


def idle_limit(settings: Settings) -> Any:
    """How long a connection may wait for its first request."""
    server = HttpServer(create_app(services_of(settings)), [], settings.server)
    made = Connection(server._settings.idle_timeout, None, server._config, server._context, mock.Mock())
    return next(made._idle._limits)


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Loggers as they were."""
    loggers = [logging.getLogger(name) for name in (None, *logs.LOGGERS)]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    try:
        yield
    finally:
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers


def logged(read: Callable[[str], Any]) -> Probe:
    """Something of the lines that are written."""

    def probe(settings: Settings) -> Any:
        stream = io.StringIO()
        with _restored():
            logs.configure(settings.log, stream)
            logging.getLogger("api").debug("small")
            logging.getLogger("api").info("large")
        return read(stream.getvalue())

    return probe
