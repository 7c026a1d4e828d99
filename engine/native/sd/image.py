"""Pictures as the library takes them, and what one picture is to be."""

import attrs

from engine.native.sd.options import Preview, Sampler, Schedule


@attrs.frozen(kw_only=True, repr=False)
class Pixels:
    """Raw rows without padding, ``channels`` bytes a pixel."""

    width: int
    height: int
    data: bytes
    channels: int

    def __attrs_post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"an image of {self.width}x{self.height} pixels")
        if len(self.data) != self.width * self.height * self.channels:
            raise ValueError(f"{len(self.data)} bytes are not {self.width}x{self.height}x{self.channels}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.width}x{self.height})"


@attrs.frozen(kw_only=True, repr=False)
class RgbImage(Pixels):
    """Three bytes a pixel: red, green, blue."""

    channels: int = attrs.field(default=3, init=False)

    @property
    def is_one_colour(self) -> bool:
        """Whether all pixels are the same."""
        return self.data == self.data[:3] * (self.width * self.height)


@attrs.frozen(kw_only=True, repr=False)
class Mask(Pixels):
    """One byte a pixel: 255 is repainted, 0 stays."""

    channels: int = attrs.field(default=1, init=False)


@attrs.frozen(kw_only=True)
class LoraUse:
    """A LoRA file and how strongly it counts."""

    path: str
    scale: float = 1.0


@attrs.frozen(kw_only=True)
class ImageParams:
    """One picture. Sizes in pixels; ranges are checked in ``engine.image.rules``."""

    prompt: str
    negative_prompt: str = ""  # has an effect where cfg_scale is not 1
    width: int = 512
    height: int = 512
    seed: int = 0
    sampler: Sampler = Sampler.EULER_A
    schedule: Schedule = Schedule.DISCRETE
    steps: int = 20
    cfg_scale: float = 4.5  # 1: off
    guidance: float = 3.5  # distilled guidance (Flux)
    slg_scale: float = 0.0  # skip-layer guidance, 0: off
    slg_layers: tuple[int, ...] = (7, 8, 9)
    slg_start: float = 0.01  # share of the steps
    slg_end: float = 0.2
    strength: float = 0.75  # how much of ``init_image`` is repainted
    init_image: RgbImage | None = None  # is scaled to the size
    mask: Mask | None = None  # where ``init_image`` is repainted; None: everywhere
    control_image: RgbImage | None = None
    control_strength: float = 0.9
    loras: tuple[LoraUse, ...] = ()
    preview: Preview = Preview.NONE
    vae_tiling: bool = False  # decode in tiles: less memory
