"""The application over an image engine without a model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from engine.image.loop import ImageLoop, StartedImages
from engine.image_bridge import open_image_engine
from tests.api.conftest import Client, make_services
from tests.images.fake_backend import INFO, FakeImageBackend

BODY = {"prompt": "a cat", "size": "256x256", "steps": 3, "sample_steps": 3, "seed": 7, "upscale_repeats": 0}


@asynccontextmanager
async def serving(backend: FakeImageBackend | None = None, **server: Any) -> AsyncIterator[Client]:
    backend = backend or FakeImageBackend(attrs.evolve(INFO, max_width=512, max_height=512))
    async with open_image_engine(
        lambda publish: StartedImages(backend, ImageLoop(backend, publish)), preview_buffer=100
    ) as engine:
        services = make_services(metrics=True, **server)
        services.images = engine
        services.image_ids = ("flux",)
        services.metrics.use_images(engine.stats)
        yield Client(services)
