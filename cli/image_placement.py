"""Where an image model lies: --rpc and --tensor-split choose a device. Asks the library when something was named."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cli.errors import UsageError
from cli.parse import Given

SERVERS: Final = "engine.model.rpc_servers"
SPLIT: Final = "engine.model.tensor_split"


def makes_images_only(values: Mapping[str, Given]) -> bool:
    """Whether the only model makes images."""
    images = values.get("images.enabled")
    return images is not None and bool(images.value) and "images.model" not in values


def image_device(values: Mapping[str, Given]) -> int | None:
    """The number of the device that --tensor-split chooses, None: the first. UsageError when it names several."""
    split = values.get(SPLIT)
    if split is None:
        return None
    chosen = [number for number, share in enumerate(split.value) if share]
    if len(chosen) > 1:
        raise UsageError(
            f"{split.spelling}: {len(chosen)} devices: the image library of this release computes on one, the number "
            "that is not 0 chooses it; text encoder, VAE and ControlNet can stay on this machine's processor "
            "(--image-no-text-encoder-model-offload, --image-no-vae-model-offload, "
            "--image-no-control-net-model-offload)"
        )
    return chosen[0]


def check_image_placement(values: Mapping[str, Given], known: Callable[[Sequence[str]], Sequence[str]]) -> None:
    """UsageError when --tensor-split has more numbers than there are devices.

    ``known`` names the devices for images, those of the given servers first.
    """
    split, servers = values.get(SPLIT), values.get(SERVERS)
    if split is None:
        return
    image_device(values)
    names = known(servers.value if servers else ())
    # Without a device the processor counts as one.
    if len(split.value) > max(len(names), 1):
        there = ", ".join(names) or "none but the processor"
        raise UsageError(f"{split.spelling}: {len(split.value)} numbers for {len(names)} devices ({there})")


def known_image_devices(servers: Sequence[str]) -> list[str]:
    """Asks the image library; the servers have been connected to before."""
    from engine.native.rpc_probe import parse_endpoint
    from engine.native.sd.rpc import candidates

    return [device.name for device in candidates([parse_endpoint(server) for server in servers])]
