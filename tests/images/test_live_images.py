"""The image engine on the real library and the tiny model."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import cycle

import attrs
import pytest
import trio

from engine.bridge import open_text_engine
from engine.errors import InvalidRequest
from engine.image.events import ImageDone, ImageEvent, ImagePreview, ImageProgress, ImageQueued, ImagesFinished
from engine.image.options import ImageEngineOptions
from engine.image.prompt_rules import MOST_BYTES, clean_prompt
from engine.image.requests import AnyRequest, UpscaleRequest
from engine.image.start import start_image_engine
from engine.image_bridge import BridgedImageEngine, open_image_engine
from engine.native.options import ContextOptions, ModelOptions
from engine.native.sd.image import LoraUse, Mask, RgbImage
from engine.native.sd.options import ImageModelOptions, Preview, Sampler, Schedule, UpscalerOptions
from engine.text.options import EngineOptions
from engine.text.requests import GenerationRequest, SamplingParams
from engine.text.start import start_text_engine
from tests.images.asking import SIDE, ask, gradient
from tests.models.tiny_sd import VERSION, TinySd


def options(tiny: TinySd, **changes: object) -> ImageEngineOptions:
    model = ImageModelOptions(model=str(tiny.model), taesd=str(tiny.taesd), loras=(str(tiny.lora),), n_threads=1)
    defaults = {"upscaler": UpscalerOptions(path=str(tiny.upscaler_x2)), "trial": False, "niceness": 0}
    return ImageEngineOptions(model=model, **(defaults | changes))


@asynccontextmanager
async def running(tiny: TinySd, **changes: object) -> AsyncIterator[BridgedImageEngine]:
    """The real engine. Who reads late loses no previews: how late the tests read is for the machine to say."""
    chosen = options(tiny, **changes)
    async with open_image_engine(lambda publish: start_image_engine(chosen, publish), preview_buffer=100) as engine:
        yield engine


async def make(engine: BridgedImageEngine, request: AnyRequest) -> list[ImageEvent]:
    with trio.fail_after(100):
        async with engine.generate(request) as events:
            seen = [event async for event in events]
    assert isinstance(seen[-1], ImagesFinished), seen[-1]
    return seen


async def image(engine: BridgedImageEngine, name: str = "a", **fields: object) -> RgbImage:
    (done,) = (event for event in await make(engine, ask(name, **fields)) if isinstance(event, ImageDone))
    return done.image


async def test_the_same_seed_gives_the_same_image_and_others_others(tiny_sd: TinySd) -> None:
    async with running(tiny_sd) as engine:
        info = engine.info
        assert (info.version, info.upscale_factor, info.can_abort) == (VERSION, 2, True)
        first = await image(engine)
        assert (first.width, first.height) == (SIDE, SIDE)
        seen = await make(engine, ask("b", n=2))
        done = [event for event in seen if isinstance(event, ImageDone)]
        assert [event.seed for event in done] == [7, 8]
        assert done[0].image == first != done[1].image
        progress = [(event.index, event.step, event.steps) for event in seen if isinstance(event, ImageProgress)]
        assert progress == [(index, step, 3) for index in range(2) for step in range(4)]
        assert await image(engine, prompt="a dog") != first
        assert await image(engine, negative_prompt="a dog", cfg_scale=4.0) != first
        stats = engine.stats()
        assert (stats.images_total, stats.generate_steps_total) == (5, 15)
        assert stats.generate_seconds_total > stats.process_seconds_total > 0


async def test_editing_starts_from_the_image_and_the_mask_says_where(tiny_sd: TinySd) -> None:
    left = Mask(width=2, height=1, data=b"\xff\x00")
    async with running(tiny_sd) as engine:
        plain = await image(engine)
        seen = await make(engine, ask("b", init_image=gradient(), strength=0.5))
        assert max(event.step for event in seen if isinstance(event, ImageProgress)) == 2, "floor(3 * 0.5) + 1"
        (edited,) = (event.image for event in seen if isinstance(event, ImageDone))
        assert edited != plain
        # An image of another size is scaled.
        assert await image(engine, init_image=gradient(SIDE // 2, SIDE // 2), strength=0.5) not in (plain, edited)
        masked = await image(engine, init_image=gradient(), mask=left, strength=0.5)
        assert masked not in (plain, edited)
        assert await image(engine) == plain


async def test_a_lora_changes_the_image_and_leaves_no_trace(tiny_sd: TinySd) -> None:
    async with running(tiny_sd) as engine:
        plain = await image(engine)
        use = LoraUse(path=str(tiny_sd.lora))
        strong = await image(engine, loras=(use,))
        weak = await image(engine, loras=(attrs.evolve(use, scale=0.1),))
        assert len({plain.data, strong.data, weak.data}) == 3
        assert await image(engine) == plain
        with pytest.raises(InvalidRequest):
            await image(engine, loras=(LoraUse(path=str(tiny_sd.model)),))


@pytest.mark.parametrize(("preview", "side"), [(Preview.FAST, SIDE // 8), (Preview.FULL, SIDE)])
async def test_previews_show_each_step_and_do_not_change_the_image(
    tiny_sd: TinySd, preview: Preview, side: int
) -> None:
    async with running(tiny_sd) as engine:
        plain = await image(engine)
        async with engine.generate(ask("b", preview=preview)) as events:
            seen = [event async for event in events]
        shown = [event for event in seen if isinstance(event, ImagePreview)]
        assert [event.step for event in shown] == [1, 2, 3]
        assert {(event.frame.width, event.frame.height) for event in shown} == {(side, side)}
        (done,) = (event for event in seen if isinstance(event, ImageDone))
        assert done.image == plain


async def test_images_are_upscaled(tiny_sd: TinySd) -> None:
    async with running(tiny_sd) as engine:
        larger = await image(engine, upscale_repeats=1)
        assert (larger.width, larger.height) == (2 * SIDE, 2 * SIDE)
        small = gradient(16, 8)
        seen = await make(engine, UpscaleRequest(id="u", image=small, repeats=2))
        (done,) = (event for event in seen if isinstance(event, ImageDone))
        assert (done.image.width, done.image.height) == (64, 32)


@pytest.mark.parametrize(("sampler", "step"), [(Sampler.EULER, 0), (Sampler.HEUN, 1), (Sampler.DPM2, 3)])
async def test_cancelled_within_an_image_the_next_is_byte_identical(
    tiny_sd: TinySd, step: int, sampler: Sampler
) -> None:
    async with running(tiny_sd) as engine:
        plain = await image(engine)
        async with engine.generate(ask("b", n=4, sampler=sampler)) as events:
            async for event in events:
                if isinstance(event, ImageProgress) and event.step == step:
                    break
        assert await image(engine) == plain
        assert engine.stats().images_total == 2, "the cancelled one never came to its end"


async def test_cancelled_while_the_prompt_is_encoded_the_process_lives(tiny_sd: TinySd) -> None:
    """The dangerous moment: the abort is asked for before it is armed."""
    async with running(tiny_sd) as engine:
        plain = await image(engine)
        async with engine.generate(ask("b", prompt="word " * 1600)):
            while engine.current() is None:
                await trio.lowlevel.checkpoint()
        assert await image(engine) == plain


async def test_two_requests_wait_for_each_other_and_get_their_own_images(tiny_sd: TinySd) -> None:
    seen: dict[int, list[ImageEvent]] = {}

    async def run(seed: int) -> None:
        seen[seed] = await make(engine, ask(str(seed), seed=seed))

    async with running(tiny_sd) as engine:
        alone = {seed: await image(engine, seed=seed) for seed in (1, 2)}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, 1)
            nursery.start_soon(run, 2)
        for seed, events in seen.items():
            (done,) = (event for event in events if isinstance(event, ImageDone))
            assert done.image == alone[seed]
        assert sum(isinstance(event, ImageQueued) for events in seen.values() for event in events) <= 1


async def test_the_longest_prompts_and_the_strangest_characters_do_no_harm(tiny_sd: TinySd) -> None:
    odd = clean_prompt("\U000e0041\U0010ffff \N{GRINNING FACE} \u200b\ufeff ((a:1.1) [b] BREAK \\(c\\)")
    long = "a" * (MOST_BYTES - len(odd.encode()) - 1)
    async with running(tiny_sd) as engine:
        for prompt in (f"{long} {odd}", "(" * MOST_BYTES, "\N{GRINNING FACE}" * 2000):
            await image(engine, prompt=prompt, steps=1)


async def test_every_sampler_and_schedule_makes_an_image(tiny_sd: TinySd) -> None:
    schedules = cycle((Schedule.DISCRETE, Schedule.GITS, Schedule.DEFAULT, Schedule.KARRAS, Schedule.EXPONENTIAL))
    async with running(tiny_sd) as engine:
        for sampler, schedule in zip(Sampler, schedules, strict=False):
            await image(engine, sampler=sampler, schedule=schedule, steps=2)


async def test_text_and_images_are_made_in_one_process_at_the_same_time(tiny_sd: TinySd, tiny_model: object) -> None:
    text_options = EngineOptions(
        model=ModelOptions(path=str(tiny_model)), context=ContextOptions(n_ctx=512, n_batch=64), warmup=False
    )
    request = GenerationRequest(id="t", prompt=list(b"hello"), max_tokens=60, sampling=SamplingParams(temperature=0.0))
    texts: list[str] = []
    images: list[RgbImage] = []

    async def write() -> None:
        async with text.generate(request) as events:
            texts.append("".join([event.text async for event in events]))

    async def paint() -> None:
        images.append(await image(engine))

    start: Callable[..., object] = lambda publish: start_text_engine(text_options, publish)  # noqa: E731
    async with running(tiny_sd, niceness=10) as engine, open_text_engine(start) as text:
        await write()
        await paint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(paint)
    assert texts[0] == texts[1] != ""
    assert images[0] == images[1]
