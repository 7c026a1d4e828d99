"""Everything that a run is configured with, as the composition root hands it out."""

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from engine.image.options import ImageEngineOptions
from engine.native.sd.options import ImageModelOptions, Sampler, Schedule
from engine.text.options import EngineOptions
from engine.text.requests import SamplingParams


class LogFormat(enum.Enum):
    TEXT = "text"
    JSON = "json"


@attrs.frozen(kw_only=True)
class LogSettings:
    verbosity: int = 0  # 0: info and above, 1 and more: debug
    format: LogFormat = LogFormat.TEXT
    colors: bool | None = None  # None: on a terminal


@attrs.frozen(kw_only=True)
class ServerSettings:
    """How the server listens and whom it lets in. Durations in seconds, sizes in bytes."""

    hosts: tuple[str, ...] = ("127.0.0.1",)  # addresses, or paths that end in .sock
    port: int = 8080  # 0: any free port
    timeout: float = 600.0  # read and write
    prepare_threads: int = -1  # --threads-http: interpreters that prepare requests, -1: cores
    idle_timeout: float = 60.0  # --conn-idle
    keepalive_timeout: float = 15.0  # --conn-keepalive
    grace: float = 10.0  # how long running streams may go on after SIGTERM
    api_keys: tuple[str, ...] = ()
    ssl_key_file: str | None = None
    ssl_cert_file: str | None = None
    ui: bool = True  # the page at /
    metrics: bool = False
    slots: bool = False
    slot_save_path: str | None = None  # directory of slot files
    infill: bool = False
    aliases: tuple[str, ...] = ()  # model ids; empty: the model file's name
    cors_origins: tuple[str, ...] = ()
    max_body: int = 64 * 1024 * 1024
    tokens_per_second: float = 0.0  # cap; 0: header ignored, -1: measured at start


@attrs.frozen(kw_only=True)
class GenerationDefaults:
    """What a request gets where it says nothing."""

    sampling: SamplingParams = attrs.field(factory=SamplingParams)
    n_predict: int = -1  # -1 unlimited, -2 until the context is full; caps a request's value when > 0
    n_keep: int = 0
    stop: tuple[str, ...] = ()  # --reverse-prompt
    special: bool = False
    spm_infill: bool = False  # infill prompts: suffix, prefix, middle instead of prefix, suffix, middle
    cache_prompt: bool = True
    grammar: str | None = None  # GBNF; at most one of the two
    json_schema: str | None = None  # JSON text


@attrs.frozen(kw_only=True)
class ChatSettings:
    """How conversations become prompts, and what becomes of the reasoning."""

    template: str | None = None  # Jinja text; None: the model's own
    jinja: bool = True  # False: the built-in template that is nearest to the model's own
    variables: Mapping[str, Any] = attrs.field(factory=dict)  # more of them for the template
    enable_thinking: bool = True
    reasoning_in_content: bool = False
    reasoning_budget: int = -1  # tokens, -1: no limit


@attrs.frozen(kw_only=True)
class MediaSettings:
    """Where the images and sounds of prompts may come from, and how large images are taken."""

    directory: str | None = None  # --media-path
    allow_private_urls: bool = False
    longest: int = 0  # --visual-max-image-size: pixels of the longer side, 0: any


@attrs.frozen(kw_only=True)
class RpcServerSettings:
    """How this machine's devices are served to other machines. Nothing is while ``port`` is 0."""

    host: str = "0.0.0.0"  # noqa: S104  # the contract's default; a warning is logged
    port: int = 0
    main_gpu: int = 0  # the device's number among those that --list-devices shows after the CPU; negative: the CPU
    threads: int | None = None  # None: physical cores
    cache: bool = False  # keep large tensors in files
    cache_dir: str | None = None  # None: the user's cache directory


@attrs.frozen(kw_only=True)
class ModelSource:
    """Where the model comes from if not from a file: ``url`` or ``hf_repo``, at most one; neither: the demo model."""

    url: str | None = attrs.field(default=None, repr=False)  # may contain credentials
    hf_repo: str | None = None  # user/model[:quant]
    hf_file: str | None = None  # of that repository; None: chosen by quantisation
    hf_token: str | None = attrs.field(default=None, repr=False)
    projector: bool = False  # fetch the repository's projector as well


@attrs.frozen(kw_only=True)
class ImageSettings:
    """The image model and what an image gets where its request says nothing. None: the model's usual value."""

    enabled: bool = False  # --images: the model of --model makes images
    model: str | None = None  # --image-model: beside the text model
    engine: ImageEngineOptions = attrs.field(factory=lambda: ImageEngineOptions(model=ImageModelOptions()))
    upscale_model: str | None = None
    upscale_repeats: int = 1  # with an upscaler
    seed: int | None = None  # None: random
    sampler: Sampler | None = None
    schedule: Schedule = Schedule.DISCRETE
    steps: int | None = None
    cfg_scale: float | None = None
    guidance: float | None = None
    strength: float | None = None
    slg_scale: float = 0.0
    slg_layers: tuple[int, ...] = (7, 8, 9)
    slg_start: float = 0.01
    slg_end: float = 0.2
    control_strength: float = 0.9
    control_canny: bool = False
    vae_tiling: bool = False

    @property
    def running(self) -> bool:
        """Whether there is an image model."""
        return self.engine.model.model is not None


@attrs.frozen(kw_only=True)
class Settings:
    """One run of the server."""

    engine: EngineOptions  # its model path "": to be fetched from the source
    source: ModelSource = attrs.field(factory=ModelSource)
    server: ServerSettings = attrs.field(factory=ServerSettings)
    defaults: GenerationDefaults = attrs.field(factory=GenerationDefaults)
    chat: ChatSettings = attrs.field(factory=ChatSettings)
    media: MediaSettings = attrs.field(factory=MediaSettings)
    log: LogSettings = attrs.field(factory=LogSettings)
    rpc_server: RpcServerSettings = attrs.field(factory=RpcServerSettings)
    images: ImageSettings = attrs.field(factory=ImageSettings)
    ignored: tuple[str, ...] = ()  # flags that have no effect on the models that there are

    @property
    def has_text(self) -> bool:
        """Whether there is a text model: not where the one model makes images."""
        return not self.images.enabled or self.images.model is not None
