"""How an image model is to be loaded, and the names of what the library can do."""

import enum

import attrs

MOST_THREADS = 512  # the library dies of more


class Sampler(enum.Enum):
    """Sampling methods; the values are the library's own numbers."""

    EULER = 0
    EULER_A = 1
    HEUN = 2
    DPM2 = 3
    DPMPP2S_A = 4
    DPMPP2M = 5
    DPMPP2MV2 = 6
    IPNDM = 7
    IPNDM_V = 8
    LCM = 9
    DDIM_TRAILING = 10
    TCD = 11


class Schedule(enum.Enum):
    """Noise schedules; the values are the library's own numbers. DEFAULT: the library's choice for the sampler."""

    DISCRETE = 0
    KARRAS = 1
    EXPONENTIAL = 2
    AYS = 3
    GITS = 4
    DEFAULT = 11


class Preview(enum.Enum):
    """Pictures of the steps: FAST projects the latent (an eighth of the size), FULL decodes it (costs a decode)."""

    NONE = 0
    FAST = 1
    FULL = 3


class WeightType(enum.Enum):
    """Types that weights can be converted to while loading: ggml's numbers, without those that kill the process."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    BF16 = 30


class LoraMode(enum.Enum):
    """When LoRA weights are applied. AT_RUNTIME leaves the model's own weights as they are."""

    AUTO = 0
    IMMEDIATELY = 1
    AT_RUNTIME = 2


@attrs.frozen(kw_only=True)
class ImageModelOptions:
    """The files of a model and where its parts live. None: not given, or contained in ``model``.

    What is kept "on the CPU" is on this machine's, whichever device computes.
    ``taesd`` is used as the VAE unless ``vae`` is given, then for previews.
    """

    model: str | None = None
    diffusion_model: str | None = None
    clip_l: str | None = None
    clip_g: str | None = None
    t5xxl: str | None = None
    llm: str | None = None
    vae: str | None = None
    taesd: str | None = None
    control_net: str | None = None
    rpc_servers: tuple[str, ...] = ()  # HOST:PORT of other machines, whose devices come before this machine's
    device: int | None = None  # the number of the one that computes; None: the first
    loras: tuple[str, ...] = ()  # the files that requests may use
    lora_mode: LoraMode = LoraMode.AT_RUNTIME
    n_threads: int = 1
    weight_type: WeightType | None = None  # None: the file's
    keep_text_encoder_on_cpu: bool = False
    keep_vae_on_cpu: bool = False
    keep_control_net_on_cpu: bool = False
    offload_params_to_cpu: bool = False  # weights in main memory, moved to the device when they are needed
    flash_attention: bool = False
    use_mmap: bool = False

    def parts(self) -> tuple[tuple[str, str], ...]:
        """(what it is, path) of every file given, LoRAs excepted."""
        named = (
            ("model", self.model),
            ("diffusion model", self.diffusion_model),
            ("CLIP-L text encoder", self.clip_l),
            ("CLIP-G text encoder", self.clip_g),
            ("T5-XXL text encoder", self.t5xxl),
            ("LLM text encoder", self.llm),
            ("VAE", self.vae),
            ("TAESD", self.taesd),
            ("ControlNet", self.control_net),
        )
        return tuple((name, path) for name, path in named if path is not None)


@attrs.frozen(kw_only=True)
class UpscalerOptions:
    """An ESRGAN model. Larger images are computed in tiles of ``tile_size`` pixels."""

    path: str
    n_threads: int = 1
    offload_params_to_cpu: bool = False
    tile_size: int = 128
