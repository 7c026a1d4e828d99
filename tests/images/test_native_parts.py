"""The binding: tiles, flash attention, ControlNets."""

import logging

import pytest

from engine.errors import ModelLoadError
from engine.image.families import _KINDS
from engine.native.sd.context import ImageContext, takes_control_net
from engine.native.sd.image import RgbImage
from engine.native.sd.options import ImageModelOptions
from tests.images.asking import gradient, params
from tests.models.tiny_sd import VERSION, TinySd

WIDE = 320  # pixels: wider than a tile


def make(tiny: TinySd, *pictures: dict[str, object], **options: object) -> list[RgbImage]:
    """Images of one context."""
    context = ImageContext(ImageModelOptions(model=str(tiny.model), taesd=str(tiny.taesd), **options))
    try:
        made = [
            context.generate(params(steps=1, **fields), lambda step, steps: None, lambda step, frame: None)
            for fields in pictures
        ]
    finally:
        context.close()
    return [generated.image for generated in made if generated is not None]


def distance(one: RgbImage, other: RgbImage) -> int:
    return max(abs(a - b) for a, b in zip(one.data, other.data, strict=True))


def test_a_large_picture_is_decoded_and_encoded_in_tiles(tiny_sd: TinySd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stable-diffusion.cpp")

    def tiles() -> list[str]:
        return [message for message in caplog.messages if message.startswith("VAE Tile size")]

    wide = {"width": WIDE, "init_image": gradient(WIDE), "strength": 1.0}
    (plain,) = make(tiny_sd, wide)
    assert tiles() == []
    tiled, small = make(tiny_sd, {**wide, "vae_tiling": True}, {"vae_tiling": True})
    assert [message.split(": ")[1] for message in tiles()] == ["40x8", "32x8", "8x8"], "latents: in, out; out"
    assert plain != tiled
    assert distance(plain, tiled) < 64, "the seams are no other picture"
    assert make(tiny_sd, {}) == [small], "what fits in one tile is what it was"


def test_flash_attention_computes_the_same_by_another_way(tiny_sd: TinySd) -> None:
    (plain,), (flash,) = make(tiny_sd, {}), make(tiny_sd, {}, flash_attention=True)
    assert 0 < distance(plain, flash) < 8


def test_a_control_net_beside_a_model_that_looks_at_none_is_refused(tiny_sd: TinySd) -> None:
    control_net = str(tiny_sd.upscaler_x2)
    with pytest.raises(ModelLoadError) as caught:
        make(tiny_sd, control_net=control_net)
    assert str(caught.value) == (
        f"cannot use {control_net}: a ControlNet works with SD 1.x, SD 2.x and SDXL models, "
        f"{tiny_sd.model} is {VERSION}"
    )


def test_which_models_look_at_a_control_net() -> None:
    """Those with a UNet."""
    assert {version for version in _KINDS if takes_control_net(version)} == {
        version for version, kind in _KINDS.items() if not kind.is_transformer
    }
    assert not any(takes_control_net(version) for version in (VERSION, "Qwen Image", "SD3.x", "SVD", ""))
