"""What each available option is seen by: one line an option. A probe gives different values with and without it."""

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any
from unittest import mock

import attrs
import trio

from api import listen
from api.app import create_app
from api.http import ApiApp
from api.server import HttpServer, _config, _Connection
from cli.serve import _model_ids
from engine.native import context, model
from engine.native.library import start
from engine.native.preflight import Verdict
from engine.text import start as starting
from engine.text.requests import GenerationRequest
from llamabox import logs
from llamabox.chat.ask import ChatAsk
from llamabox.interpreters import pool_size
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
    return lambda settings: getattr(context._params(start(), settings.engine.context, "model"), field)


def in_model(read: Callable[[Any], Any]) -> Probe:
    """Something of llama_model_params."""

    def probe(settings: Settings) -> Any:
        params, keep_alive = model._params(start(), settings.engine.model, None)
        seen = read(params)
        del keep_alive
        return seen

    return probe


def _overrides(params: Any) -> list[tuple[bytes, bool]]:
    array = params.kv_overrides
    return [(array[0].key, array[0].value.val_bool)] if array else []


# --- the engine as it starts, on the tiny model ---


def started(read: Callable[[Any, Any], Any], *, slots: int | None = None) -> Probe:
    """Something of (backend, scheduler limits); ``slots`` where their number matters."""

    def probe(settings: Settings) -> Any:
        options = settings.engine if slots is None else attrs.evolve(settings.engine, n_parallel=slots)
        with (
            mock.patch.object(starting.preflight, "check", lambda extra_buffers: Verdict(extra_buffers)),
            mock.patch.object(starting, "check_metadata"),
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


def told_backend(name: str) -> Probe:
    """An argument with which the backend is made."""

    def probe(settings: Settings) -> Any:
        with (
            mock.patch.object(starting.preflight, "check", lambda extra_buffers: Verdict(extra_buffers)),
            mock.patch.object(starting, "check_metadata"),
            mock.patch.object(starting, "check_projector", create=True),
            mock.patch.object(starting, "LlamaBackend", side_effect=ZeroDivisionError) as made,
            contextlib.suppress(ZeroDivisionError),
        ):
            starting.start_text_engine(settings.engine, lambda events: None)
        return made.call_args.kwargs[name]

    return probe


def embedding(settings: Settings) -> Any:
    """What the embedding side is told, None where there is to be none."""
    with (
        mock.patch.object(starting.preflight, "check", lambda extra_buffers: Verdict(extra_buffers)),
        mock.patch.object(starting, "check_metadata"),
        mock.patch.object(starting, "EngineLoop"),
        mock.patch.object(starting, "open_embedder", side_effect=ZeroDivisionError) as asked,
        contextlib.suppress(ZeroDivisionError),
    ):
        starting.start_text_engine(settings.engine, lambda events: None).backend.close()
    return asked.call_args.args[-1] if asked.called else None


def media(read: Callable[[Any, Any], Any]) -> Probe:
    """Something of (the loader of media, the arguments of what fetches them)."""

    def probe(settings: Settings) -> Any:
        serve = import_module("cli.serve")
        with mock.patch.object(serve, "Fetcher") as fetcher:
            return read(serve._media_loader(mock.Mock(), settings), fetcher.call_args.kwargs)

    return probe


def in_embedder(field: str) -> Probe:
    """A field of llama_context_params of the context that embeds."""

    def probe(settings: Settings) -> Any:
        embedder = import_module("engine.embedding.llama_embedder")
        loaded = model.Model(settings.engine.model)
        try:
            base, options = settings.engine.context, settings.engine.embedding
            made = embedder._context_options(loaded.facts(), base, options, splittable=True)
            return getattr(context._params(start(), made, "model"), field)
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
            mock.patch.object(module, "choose_device", side_effect=lambda number: number),
            mock.patch.object(module.Path, "mkdir"),
            mock.patch.object(module.os, "access", return_value=True),
        ):
            return read(module._options(settings.rpc_server))

    return probe


def numa(settings: Settings) -> Any:
    """The strategy that the library is told before anything is loaded."""
    with (
        mock.patch.object(starting.library, "init_numa") as told,
        mock.patch.object(starting.preflight, "check", side_effect=ZeroDivisionError),
        contextlib.suppress(ZeroDivisionError),
    ):
        starting.start_text_engine(settings.engine, lambda events: None)
    return told.call_args


# --- HTTP, over the fake engine ---


def _services(settings: Settings, engine: FakeEngine | None = None) -> Services:
    engine = engine or FakeEngine()
    services = Services(settings=settings, metrics=Metrics(engine.stats), model_ids=_model_ids(settings))
    services.text, services.prompts = engine, FakePrompts()
    services.enter(Phase.READY)
    return services


def get(path: str, read: Callable[[Reply], Any], **headers: str) -> Probe:
    """Something of the reply to a GET."""
    return lambda settings: read(trio.run(lambda: Client(_services(settings)).get(path, **headers)))


def post(path: str, body: Any, read: Callable[[Reply], Any]) -> Probe:
    """Something of the reply to a POST."""
    return lambda settings: read(trio.run(lambda: Client(_services(settings)).post(path, body)))


def opened(read: Callable[[GenerationRequest], Any], **headers: str) -> Probe:
    """Something of what the engine is asked for a prompt without any other field."""

    def probe(settings: Settings) -> Any:
        engine = FakeEngine()
        client = Client(_services(settings, engine))
        assert trio.run(lambda: client.post("/completion", {"prompt": "hi"}, headers)).status == 200
        return read(engine.opened[0])

    return probe


def sampling(field: str) -> Probe:
    """A sampling parameter of the same."""
    return opened(lambda request: getattr(request.sampling, field))


def chat_content(settings: Settings) -> Any:
    """The text of an answer that begins with reasoning."""
    client = Client(_services(settings, FakeEngine(say("<think>so</think>yes"))))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    reply = trio.run(lambda: client.post("/v1/chat/completions", body))
    return reply.json["choices"][0]["message"]["content"]


def application(read: Callable[[ApiApp], Any]) -> Probe:
    return lambda settings: read(create_app(_services(settings)))


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
    size = 0

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
    server = HttpServer(create_app(_services(settings)), [], settings.server)
    made = _Connection(server._settings.idle_timeout, None, server._config, server._context, {}, mock.Mock())
    return list(made._idle_limits)


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


CLI = "tests/cli/test_cli_main.py::"

PROBES: Mapping[str, Probe | Shown] = {
    "--help": Shown(CLI + "test_help_names_every_flag_variable_and_default"),
    "--version": Shown(CLI + "test_version_names_the_packages"),
    "--system-info": Shown(CLI + "test_devices_are_listed"),
    "--list-devices": Shown(CLI + "test_devices_are_listed"),
    "--list-buffer-types": Shown(CLI + "test_devices_are_listed"),
    "--verbose": logged(lambda text: "small" in text),
    "--verbosity": logged(lambda text: "small" in text),
    "--log-colors": logged(lambda text: "\x1b" in text),
    "--log-format": logged(lambda text: text.startswith("{")),
    "--host": bound,
    "--port": bound,
    "--timeout": application(lambda app: app.config["BODY_TIMEOUT"]),
    "--threads-http": lambda settings: pool_size(settings.server.prepare_threads),
    "--conn-idle": idle_limit,
    "--conn-keepalive": lambda settings: _config(settings.server).keep_alive_timeout,
    "--api-key": get("/props", lambda reply: reply.status),
    "--api-key-file": Shown("tests/cli/test_cli_build.py::test_keys_come_from_a_file_too"),
    "--ssl-key-file": lambda settings: _config(settings.server).create_ssl_context() is None,
    "--ssl-cert-file": lambda settings: _config(settings.server).create_ssl_context() is None,
    "--cors-origins": get("/props", lambda reply: [*reply.headers], Origin="https://page.example"),
    "--metrics": get("/metrics", lambda reply: reply.status),
    "--slots": get("/slots", lambda reply: reply.status),
    "--model": started(lambda backend, limits: backend.info.path),
    "--alias": get("/v1/models", lambda reply: [entry["id"] for entry in reply.json["data"]]),
    "--seed": sampling("seed"),
    "--flash-attn": in_context("flash_attn_type"),
    "--no-flash-attn": in_context("flash_attn_type"),
    "--swa-full": in_context("swa_full"),
    "--kv-unified": started(lambda backend, limits: limits.n_ctx_slot, slots=2),
    "--gpu-layers": in_model(lambda params: params.n_gpu_layers),
    "--tensor-split": in_model(lambda params: params.tensor_split[:2] if params.tensor_split else None),
    "--warmup": started(lambda backend, limits: backend.warmed),
    "--device": in_model(lambda params: params.devices),
    "--split-mode": in_model(lambda params: params.split_mode),
    "--main-gpu": in_model(lambda params: params.main_gpu),
    "--override-kv": in_model(_overrides),
    "--no-kv-offload": in_context("offload_kqv"),
    "--no-repack": in_model(lambda params: params.use_extra_bufts),
    "--mlock": in_model(lambda params: params.load_mode),
    "--mmap": in_model(lambda params: params.load_mode),
    "--numa": numa,
    "--threads": in_context("n_threads"),
    "--threads-batch": in_context("n_threads_batch"),
    "--ctx-size": in_context("n_ctx"),
    "--context-shift": started(lambda backend, limits: limits.can_shift),
    "--predict": opened(lambda request: request.max_tokens),
    "--batch-size": in_context("n_batch"),
    "--ubatch-size": in_context("n_ubatch"),
    "--keep": opened(lambda request: request.n_keep),
    "--parallel": started(lambda backend, limits: limits.n_slots),
    "--no-cont-batching": started(lambda backend, limits: limits.continuous_batching),
    "--no-cache-prompt": opened(lambda request: request.cache_prompt),
    "--cache-type-k": in_context("type_k"),
    "--cache-type-v": in_context("type_v"),
    "--defrag-thold": Shown("tests/options/test_walk.py::test_an_option_without_effect_says_so"),
    "--tokens-per-second": opened(lambda request: request.tokens_per_second, **{"X-Request-Tokens-Per-Second": "5"}),
    "--rope-scaling": in_context("rope_scaling_type"),
    "--rope-scale": in_context("rope_freq_scale"),
    "--rope-freq-base": in_context("rope_freq_base"),
    "--rope-freq-scale": in_context("rope_freq_scale"),
    "--yarn-orig-ctx": in_context("yarn_orig_ctx"),
    "--yarn-ext-factor": in_context("yarn_ext_factor"),
    "--yarn-attn-factor": in_context("yarn_attn_factor"),
    "--yarn-beta-fast": in_context("yarn_beta_fast"),
    "--yarn-beta-slow": in_context("yarn_beta_slow"),
    "--samplers": sampling("samplers"),
    "--sampling-seq": sampling("samplers"),
    "--temp": sampling("temperature"),
    "--top-k": sampling("top_k"),
    "--top-p": sampling("top_p"),
    "--min-p": sampling("min_p"),
    "--top-nsigma": sampling("top_n_sigma"),
    "--typical": sampling("typical_p"),
    "--xtc-probability": sampling("xtc_probability"),
    "--xtc-threshold": sampling("xtc_threshold"),
    "--repeat-last-n": sampling("repeat_last_n"),
    "--repeat-penalty": sampling("repeat_penalty"),
    "--presence-penalty": sampling("presence_penalty"),
    "--frequency-penalty": sampling("frequency_penalty"),
    "--dry-multiplier": sampling("dry_multiplier"),
    "--dry-base": sampling("dry_base"),
    "--dry-allowed-length": sampling("dry_allowed_length"),
    "--dry-penalty-last-n": sampling("dry_penalty_last_n"),
    "--dry-sequence-breaker": sampling("dry_sequence_breakers"),
    "--dynatemp-range": sampling("dynatemp_range"),
    "--dynatemp-exp": sampling("dynatemp_exponent"),
    "--mirostat": sampling("mirostat"),
    "--mirostat-lr": sampling("mirostat_eta"),
    "--mirostat-ent": sampling("mirostat_tau"),
    "--logit-bias": sampling("logit_bias"),
    "--escape": Shown("tests/cli/test_cli_build.py::test_available_options_reach_the_settings"),
    "--reverse-prompt": opened(lambda request: request.stop),
    "--special": opened(lambda request: request.special),
    "--jinja": prompted(lambda plan: plan.text),
    "--chat-template": prompted(lambda plan: plan.text),
    "--chat-template-file": prompted(lambda plan: plan.text),
    "--chat-template-kwargs": prompted(lambda plan: plan.text),
    "--grammar": opened(lambda request: request.grammar),
    "--grammar-file": opened(lambda request: request.grammar),
    "--json-schema": opened(lambda request: request.grammar),
    "--enable-reasoning": prompted(lambda plan: plan.text),
    "--reasoning-in-content": chat_content,
    "--reasoning-budget": prompted(lambda plan: plan.thinking),
    "--embeddings": embedding,
    "--rerank": embedding,
    "--pooling": in_embedder("pooling_type"),
    "--attention": in_embedder("attention_type"),
    "--infill": post("/infill", {"input_prefix": "x", "input_suffix": "y"}, lambda reply: b"--infill" in reply.body),
    "--lora": told_backend("adapters"),
    "--lora-scaled": told_backend("adapters"),
    "--lora-init-without-apply": lambda settings: _services(settings).adapters,
    "--control-vector": told_backend("adapters"),
    "--control-vector-scaled": told_backend("adapters"),
    "--control-vector-layer-range": told_backend("adapters"),
    "--slot-save-path": post("/slots/0?action=erase", None, lambda reply: reply.status == 501),
    "--slot-prompt-similarity": started(lambda backend, limits: limits.slot_similarity),
    "--rpc": Shown("tests/live/test_rpc.py::test_a_model_over_two_servers_says_the_same"),
    "--override-tensor": in_model(lambda params: bool(params.tensor_buft_overrides)),
    "--cpu-moe": in_model(lambda params: bool(params.tensor_buft_overrides)),
    "--n-cpu-moe": in_model(lambda params: bool(params.tensor_buft_overrides)),
    "--cpu-mask": in_team("placement", lambda params: params.cpumask[:8]),
    "--cpu-range": in_team("placement", lambda params: params.cpumask[:8]),
    "--cpu-strict": in_team("placement", lambda params: params.strict_cpu),
    "--prio": in_team("placement", lambda params: params.prio),
    "--poll": in_team("placement", lambda params: params.poll),
    "--cpu-mask-batch": in_team("placement_batch", lambda params: params.cpumask[:8]),
    "--cpu-range-batch": in_team("placement_batch", lambda params: params.cpumask[:8]),
    "--cpu-strict-batch": in_team("placement_batch", lambda params: params.strict_cpu),
    "--prio-batch": in_team("placement_batch", lambda params: params.prio),
    "--poll-batch": Shown("tests/cli/test_cli_processors.py::test_polling_is_one_number_for_openmp"),
    "--rpc-server-host": serving_devices(lambda options: options.address),
    "--rpc-server-port": serving_devices(lambda options: options.port),
    "--rpc-server-main-gpu": serving_devices(lambda options: options.device),
    "--rpc-server-reserve-memory": Shown("tests/cli/test_cli_placement.py::test_memory_cannot_be_reserved"),
    "--rpc-server-threads": serving_devices(lambda options: options.threads),
    "--rpc-server-cache": serving_devices(lambda options: options.cache_dir),
    "--rpc-server-cache-dir": serving_devices(lambda options: options.cache_dir),
    "--model-url": Shown("tests/models_files/test_url.py::test_it_is_fetched_once"),
    "--hf-repo": Shown("tests/models_files/test_hub.py::test_the_usual_quantisation_is_fetched_into_the_hubs_cache"),
    "--hf-file": Shown("tests/models_files/test_hub.py::test_the_choice"),
    "--hf-token": Shown("tests/models_files/test_hub.py::test_the_token_is_sent"),
    "--spm-infill": Shown("tests/api/test_infill.py::test_without_file_tokens_files_are_snippets"),
    "--allow-private-urls": media(lambda loader, fetching: fetching["allow_private"]),
    "--media-path": media(lambda loader, fetching: loader.sources.directory),
    "--mmproj": told_backend("media"),
    "--visual-max-image-size": media(lambda loader, fetching: loader.longest),
    "--max-projected-cache": told_backend("media"),
}  # fmt: skip
