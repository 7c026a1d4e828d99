"""From option values to the settings of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from cli.cores import physical_cores
from cli.errors import UsageError
from cli.escapes import unescape
from cli.experts import with_expert_overrides
from cli.files import check_directory, check_readable, check_tls, read_keys, read_text
from cli.ignored import ignored_without_text
from cli.images import check_images_only, image_settings
from cli.kinds import TextFile
from cli.parse import Given
from cli.processors import resolve_placement
from engine.embedding.options import EmbeddingOptions
from engine.native.options import AdapterOptions, ContextOptions, ModelOptions, Pooling
from engine.text.options import EngineOptions
from llamabox.chat.builtin import BUILTIN_NAMES, builtin
from llamabox.chat.errors import TemplateError
from llamabox.chat.template import ChatTemplate
from llamabox.models import demo
from llamabox.models.address import ModelUrl
from llamabox.models.errors import ModelFileError
from llamabox.models.local import check_parts
from llamabox.models.names import split_name
from llamabox.settings import ChatSettings, GenerationDefaults, ServerSettings, Settings

if TYPE_CHECKING:
    from llamabox.models.source import ModelFiles

_NO_BREAKERS: Final = "none"
_THREADS: Final = ("engine.context.n_threads", "engine.context.n_threads_batch")
_BREAKERS: Final = "defaults.sampling.dry_sequence_breakers"


def build_settings(values: Mapping[str, Given]) -> Settings:
    """The settings that the values ask for. UsageError when values or the files that they name do not fit together.

    Without a model file the model's path is "": it is fetched from ``source`` later, see ``with_files``.
    """
    settings = given_settings(values)
    settings = attrs.evolve(
        settings,
        engine=with_expert_overrides(_engine(settings, values), values),
        server=_server(settings.server, values),
        defaults=_defaults(settings, values),
        chat=_chat(settings.chat, values),
        images=image_settings(settings, values),
    )
    _check_media(settings)
    if not settings.has_text:  # the file makes images
        check_images_only(values)
        model = attrs.evolve(settings.engine.model, path="")
        engine = attrs.evolve(settings.engine, model=model)
        return attrs.evolve(settings, engine=engine, ignored=ignored_without_text(values))
    return _with_model(settings, values)


def with_files(settings: Settings, files: "ModelFiles") -> Settings:
    """The settings once the model's files are on this machine."""
    engine = settings.engine
    model = attrs.evolve(engine.model, path=str(files.model))
    media = engine.media if files.projector is None else attrs.evolve(engine.media, path=str(files.projector))
    return attrs.evolve(settings, engine=attrs.evolve(engine, model=model, media=media))


def _check_media(settings: Settings) -> None:
    if settings.engine.media.path:
        check_readable(settings.engine.media.path, "--mmproj")
    directory = settings.media.directory
    if directory is not None and not Path(directory).is_dir():
        raise UsageError(f"--media-path: {directory} is no directory")


def given_settings(values: Mapping[str, Given]) -> Settings:
    """The values in their places, before anything is checked or completed. UsageError for unreadable text files."""
    settings = Settings(engine=EngineOptions(model=ModelOptions(path="")))
    for given in values.values():
        # "As many as there are" is resolved later; the other values of the context are taken as they are.
        if given.option.setting is not None and given.option.setting not in _THREADS:
            value = read_text(given.value, given.spelling) if isinstance(given.value, TextFile) else given.value
            settings = _with(settings, given.option.setting.split("."), value)
    return settings


def _with(node: Any, path: list[str], value: Any) -> Any:
    """``node`` with the attribute at ``path`` replaced."""
    head, *rest = path
    return attrs.evolve(node, **{head: _with(getattr(node, head), rest, value) if rest else value})


def _engine(settings: Settings, values: Mapping[str, Given]) -> EngineOptions:
    _check_adapters(settings.engine.adapters, values)
    _check_embedding(settings.engine.embedding, values)
    return attrs.evolve(
        settings.engine,
        context=_context(settings.engine.context, values),
        measure_rate=settings.server.tokens_per_second < 0,
    )


def _check_embedding(embedding: EmbeddingOptions, values: Mapping[str, Given]) -> None:
    """UsageError for options that would do nothing or contradict each other."""
    pooling, attention = (values.get(f"engine.embedding.{name}") for name in ("pooling", "attention"))
    for given in filter(None, (pooling, attention)):
        if not embedding.enabled:
            raise UsageError(f"{given.spelling}: needs --embeddings or --rerank")
    if pooling and embedding.rerank and embedding.pooling is not Pooling.RANK:
        raise UsageError(f"{pooling.spelling}: --rerank needs rank")


def _context(context: ContextOptions, values: Mapping[str, Given]) -> ContextOptions:
    threads, threads_batch = (values[key].value if key in values else None for key in _THREADS)
    n_threads = threads or physical_cores(processors=context.placement.processors)
    n_ubatch = context.n_ubatch
    if n_ubatch > context.n_batch:
        if given := values.get("engine.context.n_ubatch"):
            raise UsageError(f"{given.spelling}: {n_ubatch} is more than the batch size {context.n_batch}")
        n_ubatch = context.n_batch
    context = attrs.evolve(context, n_threads=n_threads, n_threads_batch=threads_batch or n_threads, n_ubatch=n_ubatch)
    return resolve_placement(context, values)


def _check_adapters(adapters: AdapterOptions, values: Mapping[str, Given]) -> None:
    for key, files in (("loras", adapters.loras), ("control_vectors", adapters.control_vectors)):
        for file in files:
            check_readable(file.path, values[f"engine.adapters.{key}"].option.name)
    first, last = adapters.control_layers or (1, 1)
    if first > last:
        raise UsageError(f"--control-vector-layer-range: {first} is behind {last}")
    if adapters.control_layers and not adapters.control_vectors:
        raise UsageError("--control-vector-layer-range: needs --control-vector")


def _server(server: ServerSettings, values: Mapping[str, Given]) -> ServerSettings:
    _check_tls_pair(server, values)
    if server.slot_save_path is not None:
        check_directory(server.slot_save_path, "--slot-save-path")
    if key_file := values.get("--api-key-file"):
        server = attrs.evolve(server, api_keys=(*server.api_keys, *read_keys(key_file.value, key_file.spelling)))
    return server


def _check_tls_pair(server: ServerSettings, values: Mapping[str, Given]) -> None:
    key, certificate = values.get("server.ssl_key_file"), values.get("server.ssl_cert_file")
    if key and certificate:
        check_tls(key=key.value, certificate=certificate.value)
    elif key or certificate:
        only = key or certificate
        assert only is not None, "one of the two was given"
        other = "--ssl-cert-file" if key else "--ssl-key-file"
        raise UsageError(f"{only.spelling}: needs {other} too")


def _defaults(settings: Settings, values: Mapping[str, Given]) -> GenerationDefaults:
    """The defaults with the escape sequences in texts resolved (unless --no-escape) and dropped breakers gone."""
    if (grammar := values.get("defaults.grammar")) and (schema := values.get("defaults.json_schema")):
        raise UsageError(f"{schema.spelling}: not together with {grammar.spelling}")
    escape = values.get("--escape")
    defaults = settings.defaults
    if escape is None or escape.value:
        if stop := values.get("defaults.stop"):
            defaults = attrs.evolve(defaults, stop=_unescaped(stop))
        if breakers := values.get(_BREAKERS):
            defaults = _with(defaults, ["sampling", "dry_sequence_breakers"], _unescaped(breakers))
    if _BREAKERS in values:
        kept = tuple(_after_last(_NO_BREAKERS, defaults.sampling.dry_sequence_breakers))
        defaults = _with(defaults, ["sampling", "dry_sequence_breakers"], kept)
    return defaults


def _chat(chat: ChatSettings, values: Mapping[str, Given]) -> ChatSettings:
    """The chat settings with a built-in template in place of its name. The operator's template is compiled here."""
    given = values.get("chat.template")
    if given is None or chat.template is None:
        return chat
    from_file = isinstance(given.value, TextFile)
    source = None if from_file else builtin(chat.template.strip())
    if source is None:
        known = ", ".join(BUILTIN_NAMES)
        if not from_file and "{" not in chat.template:
            raise UsageError(f"{given.spelling}: {chat.template!r} is neither Jinja text nor one of {known}")
        if not chat.jinja:
            raise UsageError(f"{given.spelling}: with --no-jinja it must be one of {known}")
        source = chat.template
    try:
        ChatTemplate(source)
    except TemplateError as error:
        raise UsageError(f"{given.spelling}: {error}") from None
    return attrs.evolve(chat, template=source)


def _unescaped(given: Given) -> tuple[str, ...]:
    try:
        return tuple(unescape(text) for text in given.value)
    except ValueError as error:
        raise UsageError(f"{given.spelling}: {error}") from None


def _after_last(word: str, texts: Sequence[str]) -> Sequence[str]:
    """What follows the last ``word``; everything where it does not occur."""
    return texts[len(texts) - list(reversed(texts)).index(word) :] if word in texts else texts


def _with_model(settings: Settings, values: Mapping[str, Given]) -> Settings:
    """The settings with a model file that can be read, or a source that it can be fetched from, and its name."""
    _check_source(values)
    source = settings.source
    if settings.engine.model.path:
        check_readable(settings.engine.model.path, "--model")
        _check_parts(settings.engine.model.path)
        return settings
    if source.hf_repo is not None:
        alias = source.hf_repo
    elif source.url is not None:
        alias = _stem(ModelUrl.parse(source.url).name)
    else:
        alias = demo.ALIAS
        _check_demo()
    return settings if settings.server.aliases else _with(settings, ["server", "aliases"], (alias,))


def _check_source(values: Mapping[str, Given]) -> None:
    """At most one model, and a repository for what belongs to one."""
    sources = [values[key] for key in ("engine.model.path", "source.url", "source.hf_repo") if key in values]
    if len(sources) > 1:
        raise UsageError(f"{sources[1].spelling}: not together with {sources[0].spelling}")
    if "source.hf_repo" not in values:
        for key in ("source.hf_file", "source.hf_token"):
            # HF_TOKEN is there for other programs too.
            if (given := values.get(key)) and not given.spelling.startswith("HF_TOKEN"):
                raise UsageError(f"{given.spelling}: needs --hf-repo too")
    if (url := values.get("source.url")) and (split := split_name(ModelUrl.parse(url.value).name)) and split.part != 1:
        raise UsageError(f"{url.spelling}: part {split.part} of {split.count}: give the first, {split.name(1)}")


def _check_parts(path: str) -> None:
    try:
        check_parts(path)
    except ModelFileError as error:
        raise UsageError(f"--model: {error}") from None


def _check_demo() -> None:
    try:
        demo.check()
    except ModelFileError as error:
        raise UsageError(str(error)) from None


def _stem(name: str) -> str:
    """A model file's name without its ending, and without the number of its part."""
    split = split_name(name)
    return name.removesuffix(".gguf") if split is None else split.stem
