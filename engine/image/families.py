"""Kinds of image models by the library's names of them, and what each kind is usually asked for."""

import enum
from typing import Final

import attrs

from engine.native.sd.options import Sampler


class Family(enum.Enum):
    """Kinds of models that differ in their defaults or in what they can do."""

    SD1 = "SD1"
    SD2 = "SD2"
    SDXL = "SDXL"
    SD3 = "SD3"
    FLUX = "FLUX"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class ImageDefaults:
    """What an image gets where its request says nothing. ``size``: pixels of a side."""

    sampler: Sampler
    steps: int
    cfg_scale: float
    strength: float = 0.75
    size: int = 1024
    guidance: float = 3.5


@attrs.frozen(kw_only=True)
class Kind:
    """What the engine knows of a model by its name."""

    family: Family = Family.OTHER
    is_inpaint: bool = False  # trained to fill masks
    is_transformer: bool = True  # a DiT, not a UNet: skip-layer guidance works, AYS schedules do not
    takes_control: bool = False  # takes a control image without a ControlNet
    defaults: ImageDefaults


_SD: Final = ImageDefaults(sampler=Sampler.EULER_A, steps=20, cfg_scale=9.0, size=512)
_SD_INPAINT: Final = attrs.evolve(_SD, steps=50, strength=1.0)
_XL: Final = ImageDefaults(sampler=Sampler.EULER, steps=25, cfg_scale=5.0)
_FLUX: Final = ImageDefaults(sampler=Sampler.EULER, steps=20, cfg_scale=1.0)
_SD3: Final = ImageDefaults(sampler=Sampler.EULER, steps=20, cfg_scale=4.5)
_OTHER: Final = ImageDefaults(sampler=Sampler.EULER_A, steps=20, cfg_scale=4.5)


def _unet(family: Family, defaults: ImageDefaults, *, inpaint: bool = False) -> Kind:
    return Kind(family=family, is_inpaint=inpaint, is_transformer=False, defaults=defaults)


_FILL: Final = attrs.evolve(_FLUX, steps=50, cfg_scale=3.5, strength=1.0)
_KINDS: Final[dict[str, Kind]] = {
    "SD 1.x": _unet(Family.SD1, _SD),
    "SD 1.x Inpaint": _unet(Family.SD1, _SD_INPAINT, inpaint=True),
    "Instruct-Pix2Pix": _unet(Family.SD1, _SD),
    "SD 1.x Tiny UNet": _unet(Family.SD1, _SD),
    "SDXS (512-DS)": _unet(Family.SD1, _SD),
    "SD 2.x": _unet(Family.SD2, _SD),
    "SD 2.x Inpaint": _unet(Family.SD2, _SD_INPAINT, inpaint=True),
    "SD 2.x Tiny UNet": _unet(Family.SD2, _SD),
    "SDXS (09)": _unet(Family.SD2, _SD),
    "SDXL": _unet(Family.SDXL, _XL),
    "SDXL Inpaint": _unet(Family.SDXL, attrs.evolve(_XL, steps=50, strength=1.0), inpaint=True),
    "SDXL Instruct-Pix2Pix": _unet(Family.SDXL, _XL),
    "SDXL (Vega)": _unet(Family.SDXL, _XL),
    "SDXL (SSD1B)": _unet(Family.SDXL, _XL),
    "SD3.x": Kind(family=Family.SD3, defaults=_SD3),
    "Flux": Kind(family=Family.FLUX, defaults=_FLUX),
    "Flux Fill": Kind(family=Family.FLUX, is_inpaint=True, defaults=_FILL),
    "Flux Control": Kind(family=Family.FLUX, takes_control=True, defaults=_FLUX),
    "Flex.2": Kind(family=Family.FLUX, is_inpaint=True, takes_control=True, defaults=_FLUX),
}
_UNKNOWN: Final = Kind(defaults=_OTHER)


def kind_of(version: str) -> Kind:
    """What is known of a model that the library calls ``version``."""
    return _KINDS.get(version, _UNKNOWN)
