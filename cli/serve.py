"""The composition root: puts server, interpreter pool, engine and HTTP layer together and runs them."""

import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

import attrs
import trio

from api.listen import address_of
from cli.build import with_files
from cli.contention import watch_processors
from cli.early_load import EarlyLoad
from cli.last_words import LastWords
from cli.report import report_images, report_text
from cli.text_defaults import check_text_defaults
from cli.workers import UNREACHABLE
from engine.bridge import BridgedEngine, open_text_engine
from engine.errors import EngineError, ModelLoadError, RpcError
from engine.native.abort import abort_guard
from engine.native.rpc_probe import parse_endpoint
from engine.text.load import load_model
from engine.text.loop import Publish, Started
from engine.text.start import start_text_engine
from llamabox.chat.errors import TEMPLATE_ERRORS, TemplateError
from llamabox.interpreters import InterpreterPool, open_interpreter_pool, pool_size
from llamabox.metrics import Metrics
from llamabox.models.errors import ModelFileError
from llamabox.prompts import create_prompt_builder
from llamabox.services import Phase, Prompts, Services
from llamabox.settings import Settings
from llamabox.subinterpreter import SubInterpreterError
from llamabox.unprompted import Unprompted

if TYPE_CHECKING:
    from api.server import HttpServer
    from engine.image.loop import Publish as ImagePublish
    from engine.image.loop import StartedImages
    from engine.image_bridge import BridgedImageEngine
    from llamabox.media.loader import MediaLoader
    from llamabox.models.source import ModelFiles

log = logging.getLogger("cli.serve")

FAILURE: Final = 1


def serve(settings: Settings, sockets: list[socket.socket], load: EarlyLoad | None, began: float) -> tuple[int, bool]:
    """Serve on bound sockets until SIGINT or SIGTERM.

    ``load``: the text model's, if it has begun; ``began``: when the program did, for the log. The process's exit
    status, and whether an interpreter is stuck, so that Python could not be finalized.
    """
    server = _Run(settings, load, began)
    return trio.run(server.serve, sockets), server.stuck


class _Run:
    """One run of the server, from the bound sockets to the end."""

    def __init__(self, settings: Settings, load: EarlyLoad | None, began: float) -> None:
        self._settings = settings
        self._load = load
        self._began = began
        self._stop = trio.Event()  # first signal, or a failure: end gracefully
        self._hurry = trio.Event()  # second signal: end at once
        self._serving = trio.Event()  # the HTTP side answers
        self._engine_ended = trio.Event()
        self._stop_loading = threading.Event()
        self._status = 0
        self._engine: BridgedEngine | None = None
        self._images: BridgedImageEngine | None = None
        self._native_end = trio.Event()  # native code can go on no further: the process is about to end
        self._native_reason = ""
        self._last_words = LastWords(
            [parse_endpoint(text) for text in settings.engine.model.rpc_servers], self._announce_native_end
        )
        self._trio_token: trio.lowlevel.TrioToken | None = None
        self.stuck = False  # an interpreter never ended its job

    async def serve(self, sockets: list[socket.socket]) -> int:
        self._trio_token = trio.lowlevel.current_trio_token()
        tls = self._settings.server.ssl_key_file is not None
        services = Services(
            settings=self._settings,
            metrics=Metrics(),
            model_ids=_model_ids(self._settings),
            image_ids=_image_ids(self._settings),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals)
            nursery.start_soon(self._watch_native)
            for sock in sockets:
                log.info("listening on %s", address_of(sock, tls=tls))
            nursery.start_soon(self._guard_engine, services)
            server = await trio.to_thread.run_sync(_make_server, services, sockets)
            await nursery.start(server.run)
            self._serving.set()
            await self._engine_ended.wait()
            server.stop()
            await server.ended.wait()
            self._last_words.told()
            if self._native_end.is_set():
                await trio.sleep_forever()  # the native thread ends the process, with its own status
            nursery.cancel_scope.cancel()
        log.info("stopped")
        return self._status

    async def _guard_engine(self, services: Services) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_processors, services)
                await self._run_engines(services)
                nursery.cancel_scope.cancel()
        except* (EngineError, TemplateError, SubInterpreterError, ModelFileError) as group:
            self._fail(services, group)
        finally:
            if services.phase is not Phase.STOPPING:
                services.enter(Phase.STOPPING)
            self._engine_ended.set()

    async def _run_engines(self, services: Services) -> None:
        """The image engine around the text engine, as far as there are models for them."""
        if not self._settings.images.running:
            await self._run_engine(services)
            return
        async with self._open_images() as engine:
            await self._check_image_defaults(engine)
            services.images = engine
            services.metrics.use_images(engine.stats)
            report_images(engine)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_engine, engine)
                if self._settings.has_text:
                    await self._run_engine(services)
                else:
                    await self._run_without_text(services)
                nursery.cancel_scope.cancel()

    async def _check_image_defaults(self, engine: "BridgedImageEngine") -> None:
        await self._serving.wait()  # what it needs is imported by another thread until then
        from api.images.check import check_defaults

        check_defaults(self._settings.images, engine.info)

    @asynccontextmanager
    async def _open_images(self) -> "AsyncIterator[BridgedImageEngine]":
        """The image engine, with an eye on the RPC server that holds a part of it."""
        from engine.image_bridge import open_image_engine

        buffer = self._settings.images.engine.preview_buffer
        async with open_image_engine(self._start_images, preview_buffer=buffer) as engine:
            self._images = engine
            if not self._settings.images.engine.model.rpc_servers:  # then they are the text model's, if there are any
                yield engine
                return
            async with self._watched():
                yield engine

    def _start_images(self, publish: "ImagePublish") -> "StartedImages":
        from engine.image.start import start_image_engine
        from engine.native.sd.abort_guard import image_abort_guard

        with suppress(ImportError):  # a library that hides its ggml
            image_abort_guard.install(self._last_words.aborted)
        return start_image_engine(self._settings.images.engine, publish, self._may_go_on)

    async def _run_without_text(self, services: Services) -> None:
        await self._serving.wait()
        if not self._stop.is_set():
            services.enter(Phase.READY)
            log.info("ready after %.1f s", monotonic() - self._began)
            await self._stop.wait()
        services.enter(Phase.STOPPING)
        await self._grace(services)

    async def _run_engine(self, services: Services) -> None:
        """Load the model while the interpreters start, serve, and end when asked to."""
        if not await self._fetch_model():
            return
        services.settings = self._settings
        send, receive = trio.open_memory_channel[InterpreterPool](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hold_pool, send)
            async with self._open_engine() as engine:
                pool = await receive.receive()
                services.prompts = await _prompts(engine, pool, self._settings)
                services.text = engine
                services.metrics.use_engine(engine.stats)
                await self._serving.wait()
                await check_text_defaults(self._settings.defaults, engine, services.prompts)
                if not self._stop.is_set():
                    services.enter(Phase.READY)
                    report_text(engine, self._settings)
                    log.info("ready after %.1f s", monotonic() - self._began)
                    engine.grammars.prepare()  # not before: it takes a core for most of a second
                    await self._until_stopped(engine)
                services.enter(Phase.STOPPING)
                await self._grace(services)
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def _open_engine(self) -> AsyncIterator[BridgedEngine]:
        """The text engine, with an eye on the RPC servers that hold a part of it."""
        async with open_text_engine(self._start_engine, event_buffer=self._settings.engine.event_buffer) as engine:
            self._engine = engine
            async with self._watched():
                yield engine

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """An eye on the RPC servers, from a model's load until it is about to be freed."""
        await trio.to_thread.run_sync(self._last_words.watch_servers)
        try:
            yield
        finally:
            self._last_words.close()

    def _start_engine(self, publish: Publish) -> Started:
        abort_guard.install(self._last_words.aborted)
        load = load_model if self._load is None else self._load.take
        return start_text_engine(self._settings.engine, publish, self._may_load, load=load)

    def _announce_native_end(self, reason: str) -> None:
        """Called by a native thread."""
        self._native_reason = reason
        assert self._trio_token is not None, "no native code runs before the loop does"
        try:
            self._trio_token.run_sync_soon(self._native_end.set)
        except trio.RunFinishedError:
            self._last_words.told()

    async def _watch_native(self) -> None:
        """Native code is at its end: requests get an error, the connections end; the native thread does the rest."""
        await self._native_end.wait()
        if self._engine is not None:
            self._engine.thread_ended(self._native_reason)
        if self._images is not None:
            self._images.thread_ended(self._native_reason)
        self._engine_ended.set()

    async def _fetch_model(self) -> bool:
        """Have the model's files on this machine; every route answers 503 meanwhile. False: asked to stop before."""
        if self._settings.engine.model.path:
            return True
        from llamabox.models.source import fetch_model  # it brings HTTP clients along

        files: ModelFiles | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_stopped, nursery.cancel_scope)
            source = attrs.evolve(self._settings.source, projector=not self._settings.engine.media.path)
            files = await fetch_model(source)
            nursery.cancel_scope.cancel()
        if files is None:
            return False
        self._settings = with_files(self._settings, files)
        return True

    async def _cancel_when_stopped(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    async def _hold_pool(self, send: trio.MemorySendChannel[InterpreterPool]) -> None:
        # Not before: starting it takes both cores of a small machine, which the load and the imports need first.
        await self._serving.wait()
        size = pool_size(self._settings.server.prepare_threads)
        warm = ("llamabox.chat.worker:warm_up",)
        async with open_interpreter_pool(size, warm=warm, known=TEMPLATE_ERRORS) as pool:
            await send.send(pool)
            try:
                await trio.sleep_forever()
            finally:
                self.stuck = pool.stuck > 0

    async def _until_stopped(self, engine: BridgedEngine) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_engine, engine)
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    def _may_load(self, share: float) -> bool:
        return self._may_go_on()

    def _may_go_on(self) -> bool:
        return not self._stop_loading.is_set()

    async def _watch_signals(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self._stop.is_set():
                    log.warning("%s again: stopping at once", signal.Signals(number).name)
                    self._hurry.set()
                else:
                    log.info("%s: stopping", signal.Signals(number).name)
                    self._stop_loading.set()
                    self._stop.set()

    async def _watch_processors(self, services: Services) -> None:
        settings, processors = self._settings, getattr(os, "sched_getaffinity", lambda _: ())(0)
        text = settings.engine.context.n_threads if settings.has_text else 0
        images = settings.images.engine.model.n_threads if settings.images.running else 0
        await watch_processors(max(text, images), processors, lambda: bool(services.running))

    async def _watch_engine(self, engine: "BridgedEngine | BridgedImageEngine") -> None:
        await engine.died.wait()
        self._status = FAILURE
        self._stop.set()

    async def _grace(self, services: Services) -> None:
        """Let running requests finish, for a while."""
        if not services.running:
            return
        grace = self._settings.server.grace
        log.info("waiting up to %g s for %d running requests", grace, len(services.running))
        with trio.move_on_after(grace):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_running, services, nursery.cancel_scope)
                await self._hurry.wait()
                nursery.cancel_scope.cancel()

    async def _watch_running(self, services: Services, scope: trio.CancelScope) -> None:
        await services.running.wait_until_none()
        scope.cancel()

    def _fail(self, services: Services, group: BaseExceptionGroup[Exception]) -> None:
        if group.subgroup(ModelLoadError) and self._stop_loading.is_set():
            return  # asked to stop while loading
        log.error("%s", _first(group))
        self._status = UNREACHABLE if group.subgroup(RpcError) else FAILURE
        if services.phase is not Phase.STOPPING:
            services.enter(Phase.FAILED)


def _make_server(services: Services, sockets: list[socket.socket]) -> "HttpServer":
    """The HTTP side. Its libraries take a second to import, which passes while the engine loads the model."""
    from api.app import create_app
    from api.server import HttpServer

    return HttpServer(create_app(services), sockets, services.settings.server)


async def _prompts(engine: BridgedEngine, pool: InterpreterPool, settings: Settings) -> Prompts:
    if engine.info.no_generation is not None:
        return Unprompted(engine.vocab, engine.info.no_generation)
    media = _media_loader(engine, settings)
    return await create_prompt_builder(engine.info, engine.vocab, pool, settings.chat, media)


def _media_loader(engine: BridgedEngine, settings: Settings) -> "MediaLoader | None":
    if engine.media is None:
        return None
    # Imported late: a server of text alone needs neither an HTTP client nor an image library.
    from llamabox.media.fetch import Fetcher
    from llamabox.media.loader import MediaLoader
    from llamabox.media.sources import Sources

    media = settings.media
    sources = Sources(
        fetcher=Fetcher(allow_private=media.allow_private_urls),
        directory=Path(media.directory) if media.directory is not None else None,
    )
    return MediaLoader(reader=engine.media, sources=sources, n_ctx=engine.info.n_ctx_slot, longest=media.longest)


def _first(error: BaseException) -> BaseException:
    """The first error in a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _model_ids(settings: Settings) -> tuple[str, ...]:
    if not settings.has_text:
        return _image_ids(settings)
    return settings.server.aliases or (Path(settings.engine.model.path).stem,)


def _image_ids(settings: Settings) -> tuple[str, ...]:
    """Aliases are the text model's where there is one."""
    if settings.server.aliases and not settings.has_text:
        return settings.server.aliases
    path = settings.images.engine.model.model
    return (Path(path).stem,) if path is not None else ()
