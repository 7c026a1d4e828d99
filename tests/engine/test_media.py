"""Images and sound in the engine: cells, sharing, turns, cancellation."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ContextExceeded, InvalidRequest, NativeError
from engine.text import media
from engine.text.adapters import AdapterSet
from engine.text.backend import DecodeStatus
from engine.text.events import FinishReason, PrefillProgress, Tokens
from engine.text.media import LARGEST, MediaChunk, MediaSpan, chunk_keys, item_cells, spans_fit
from engine.text.media_cells import last_position, weight, whole
from engine.text.prefix_cache import PrefixCache
from engine.text.requests import GenerationRequest
from engine.text.tokens import row
from tests.engine.driver import Box, Driver
from tests.engine.fake_backend import FakeBackend, FakeKv, continuation


def chunk(name: str, n_pos: int = 5, n_cells: int | None = None, *, flat: bool = False) -> MediaChunk:
    return MediaChunk(next(chunk_keys("image", (1, 1), name.encode())), n_pos, n_cells or n_pos, flat)


def request(request_id: str, *parts: str | MediaChunk, **fields: object) -> GenerationRequest:
    tokens: list[int] = []
    media: list[MediaSpan] = []
    for part in parts:
        if isinstance(part, str):
            tokens += part.encode()
        else:
            media.append(MediaSpan(len(tokens), part))
            tokens += part.tokens()
    return GenerationRequest(id=request_id, prompt=tokens, media=tuple(media), **({"max_tokens": 4} | fields))


def expected(wanted: GenerationRequest) -> list[int]:
    return continuation(wanted.prompt, wanted.max_tokens or 0, wanted.adapters)


def finish(driver: Driver, *requests: GenerationRequest) -> list[Box]:
    boxes = [driver.submit(one) for one in requests]
    driver.finish()
    driver.check_idle()
    return boxes


# --- pseudo-tokens ---


def test_pseudo_tokens_are_negative_unique_and_made_of_the_content() -> None:
    one, same, other = chunk("a"), chunk("a"), chunk("b")
    assert one.tokens() == same.tokens()
    assert len(set(one.tokens() + other.tokens())) == 10
    assert max(one.tokens()) < 0
    assert not set(one.tokens()) & set(chunk("a", 5, 9).tokens())


def test_the_largest_pseudo_tokens_have_64_bits_and_say_what_they_are() -> None:
    one = MediaChunk(b"k" * 16, 3, LARGEST, flat=True)
    object.__setattr__(one, "number", (1 << 30) - 1)
    tokens = one.tokens()
    assert -(1 << 63) <= min(tokens) < max(tokens) < 0
    assert weight(tokens) == LARGEST
    assert [whole(tokens, n) for n in range(4)] == [0, 0, 0, 3]
    assert last_position(tokens[-1], 10) == 7


def test_a_medium_that_was_forgotten_is_another_one_and_its_prompts_stay_right() -> None:
    before = request("r", "ab", one := chunk("a"), "c")
    media._number.cache_clear()
    assert chunk("a").tokens() != one.tokens()
    assert spans_fit(before.prompt, before.media)


def test_chunks_of_one_medium_have_keys_of_their_own() -> None:
    keys = chunk_keys("image", (2, 3), b"pixels")
    first, second = next(keys), next(keys)
    assert first != second
    assert first == next(chunk_keys("image", (2, 3), b"pixels"))
    assert first != next(chunk_keys("image", (3, 2), b"pixels"))
    assert first != next(chunk_keys("sound", (2, 3), b"pixels"))


@given(st.lists(st.integers(0, 300) | st.tuples(st.integers(1, 6), st.integers(0, 9)), max_size=8), st.data())
def test_weights_and_cuts(parts: list[int | tuple[int, int]], data: st.DataObject) -> None:
    tokens = row()
    borders, cells = [0], 0
    for n, part in enumerate(parts):
        one = [part] if isinstance(part, int) else chunk(str(n), part[0], sum(part)).tokens()
        cells += 1 if isinstance(part, int) else sum(part)
        tokens.extend(one)
        borders.append(len(tokens))
    assert weight(tokens) == cells
    length = data.draw(st.integers(0, len(tokens)))
    cut = whole(tokens, length)
    assert cut == max(border for border in borders if border <= length)
    assert weight(tokens[:cut]) + weight(tokens[cut:]) == cells


def test_the_last_position_of_an_image_with_m_rope_is_its_first() -> None:
    assert last_position(chunk("a", 4, 12, flat=True).tokens()[-1], 5) == 1
    assert last_position(chunk("a", 4).tokens()[-1], 5) == 4
    assert last_position(2, 2) == 1


def test_cells_of_an_item() -> None:
    assert item_cells([[1, 2], chunk("a", 4, 12), [3]]) == 15


def test_spans_must_fit_the_prompt() -> None:
    good = request("r", "ab", chunk("a"), "c", chunk("b"), "d")
    assert spans_fit(good.prompt, good.media)
    assert not spans_fit(good.prompt, good.media[:1])
    assert not spans_fit(good.prompt, good.media[::-1])
    assert not spans_fit(good.prompt[:-1], good.media)
    assert not spans_fit([0, *good.prompt], good.media)


# --- validation ---


def test_prompts_with_media_are_checked() -> None:
    driver = Driver(FakeBackend(n_cells=40, n_slots=1))
    with pytest.raises(InvalidRequest, match="text must follow"):
        driver.scheduler.validate(request("r", "ab", chunk("a")))
    with pytest.raises(InvalidRequest, match="not in the vocabulary"):
        driver.scheduler.validate(GenerationRequest(id="r", prompt=chunk("a").tokens()))
    with pytest.raises(InvalidRequest, match="not in the vocabulary"):
        driver.scheduler.validate(
            GenerationRequest(id="r", prompt=[*chunk("a").tokens(), 300], media=(MediaSpan(0, chunk("a")),))
        )
    with pytest.raises(ContextExceeded) as raised:
        driver.scheduler.validate(request("r", "ab", chunk("a", 5, 39), "c"))
    assert raised.value.n_prompt_tokens == 42
    driver.loop.close()


# --- computing ---


def test_a_medium_is_computed_in_a_step_of_its_own() -> None:
    driver = Driver()
    wanted = request("r", "abc", chunk("x", 5, 12), "de", report_progress=True)
    box = driver.submit(wanted)
    seen: list[tuple[int, int]] = []
    driver.backend.before_decode = lambda runs: seen.append((len(runs[0].tokens), min(runs[0].tokens)))
    driver.finish()
    driver.check_idle()
    assert [size for size, _ in seen[:3]] == [3, 5, 2]
    assert [lowest < 0 for _, lowest in seen[:3]] == [False, True, False]
    assert box.tokens == expected(wanted)
    end = box.finished()
    assert (end.timings.prompt_n, end.timings.cache_n) == (17, 0)
    assert [e.processed for e in box.events if isinstance(e, PrefillProgress)] == [3, 15, 17]
    assert driver.backend.samplers[0].seen[:5] == list(b"abcde")
    assert driver.loop.stats.prompt_tokens_total == 17


def test_equal_media_share_their_cells_and_others_do_not() -> None:
    driver = Driver()
    first = request("1", "abc", chunk("x", 5, 12), "de")
    second = request("2", "abc", chunk("x", 5, 12), "fg")
    third = request("3", "abc", chunk("y", 5, 12), "de")
    for wanted, cached in ((first, 0), (second, 15), (third, 3)):
        (box,) = finish(driver, wanted)
        assert box.tokens == expected(wanted)
        assert box.finished().timings.cache_n == cached
    assert driver.backend.n_encoded == 2


@pytest.mark.parametrize("n_pos", [20, 4])
def test_one_that_comes_while_the_image_is_computed_waits_for_it(n_pos: int) -> None:
    driver = Driver()
    image = chunk("x", n_pos, 20)
    first, second = request("1", "abc", image, "de"), request("2", "abc", image, "fg")
    boxes = finish(driver, first, second)
    assert [box.tokens for box in boxes] == [expected(first), expected(second)]
    assert driver.backend.n_encoded == 1


def test_streams_go_on_between_two_images() -> None:
    driver = Driver()
    stream = driver.ask("s", "hello", 30)
    driver.step()
    wanted = request("r", chunk("x"), chunk("y"), chunk("z"), "end")
    box = driver.submit(wanted)
    counts = []
    while not box.terminals:
        before = len(stream.tokens)
        driver.step()
        counts.append(len(stream.tokens) - before)
    assert 0 in counts
    assert all(any(pair) for pair in pairwise(counts)), "never two steps without the stream"
    driver.finish()
    assert stream.tokens == continuation(list(b"hello"), 30)
    assert box.tokens == expected(wanted)


def test_a_medium_that_needs_room_takes_what_is_idle_and_then_the_youngest() -> None:
    driver = Driver(FakeBackend(n_cells=64, n_slots=2, n_ctx_slot=60))
    finish(driver, request("old", "qqqq", chunk("old", 3, 20), "r"))
    first = request("1", "abc", chunk("x", 4, 20), "d", max_tokens=10)
    second = request("2", "xyz", chunk("y", 4, 20), "z", max_tokens=10)
    boxes = finish(driver, first, second)
    assert [box.tokens for box in boxes] == [expected(first), expected(second)]


def test_eviction_takes_a_medium_as_a_whole() -> None:
    kv = FakeKv(100)
    cache = PrefixCache(4, kv)
    tokens = row([1, 2, *chunk("x", 5, 9).tokens(), 3])
    seq = cache.attach(tokens, 0)
    cache.extend(seq, tokens)
    cache.release(seq)
    assert cache.cells == 12
    assert cache.evict(2) == 10
    assert cache.match(tokens) == 2
    assert cache.cells == 2
    cache.check_integrity()


def test_a_full_context_ends_the_generation_instead_of_dropping_the_image() -> None:
    driver = Driver(FakeBackend(n_cells=32, n_slots=1))
    wanted = request("r", "ab", chunk("x", 4, 12), "c", max_tokens=None)
    (box,) = finish(driver, wanted)
    end = box.finished()
    assert (end.reason, end.truncated) == (FinishReason.LIMIT, True)
    assert box.tokens == continuation(wanted.prompt, 32 - 15 + 1)


def test_what_may_not_be_cached_leaves_nothing() -> None:
    driver = Driver()
    (box,) = finish(driver, request("r", "ab", chunk("x", 4, 12), "c", cache_prompt=False))
    assert box.finished().timings.prompt_n == 15
    assert driver.backend.kv.used == 0


@pytest.mark.parametrize("step", range(8))
def test_cancelled_at_each_step(step: int) -> None:
    driver = Driver()
    box = driver.submit(request("r", "ab", chunk("x", 5, 9), "c", chunk("y"), "d"))
    other = driver.ask("s", "hello", 12)
    for _ in range(step):
        driver.step()
    driver.cancel("r")
    driver.finish()
    driver.check_idle()
    assert all(isinstance(event, Tokens) for event in box.events) or box.terminals
    assert other.tokens == continuation(list(b"hello"), 12)


def test_cancelled_while_it_is_encoded() -> None:
    driver = Driver()
    box = driver.submit(request("r", "ab", chunk("x"), "c"))

    def cancel_and_abort(_: MediaChunk) -> DecodeStatus:
        assert "r" in driver.loop.prefilling
        driver.cancel("r")
        return DecodeStatus.ABORTED

    driver.backend.media_script = cancel_and_abort
    driver.finish()
    driver.check_idle()
    assert box.events == []


def test_an_abort_for_somebody_else_computes_it_again() -> None:
    driver = Driver()
    answers = iter([DecodeStatus.ABORTED, None])
    driver.backend.media_script = lambda _: next(answers)
    wanted = request("r", "ab", chunk("x"), "c")
    (box,) = finish(driver, wanted)
    assert box.tokens == expected(wanted)


def test_a_failing_projector_fails_its_request_alone() -> None:
    driver = Driver()
    driver.backend.media_script = lambda _: NativeError("the projector is ill")
    box, other = driver.submit(request("r", "ab", chunk("x"), "c")), driver.ask("s", "hello", 6)
    driver.finish()
    driver.check_idle()
    assert str(box.failed().error) == "the projector is ill"
    assert other.tokens == continuation(list(b"hello"), 6)


def test_no_room_in_the_library_makes_room_and_tries_again() -> None:
    driver = Driver()
    finish(driver, request("old", "abcdef", max_tokens=2))
    answers = iter([DecodeStatus.NO_ROOM, None])
    driver.backend.media_script = lambda _: next(answers)
    wanted = request("r", "xy", chunk("x"), "c")
    (box,) = finish(driver, wanted)
    assert box.tokens == expected(wanted)
    driver.backend.media_script = lambda _: DecodeStatus.NO_ROOM
    failing = driver.submit(request("f", "uv", chunk("y"), "c"))
    driver.finish()
    assert "no room" in str(failing.failed().error)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(st.sampled_from(["a", "bc", "x", "y", "z"]), min_size=1, max_size=5),
            st.sampled_from([(), (), ((0, 1.0),)]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([70, 90, 150]),
    st.booleans(),
)
def test_any_schedule_gives_what_each_would_get_alone(
    schedule: list[tuple[int, list[str], AdapterSet]], n_cells: int, kv_unified: bool
) -> None:
    driver = Driver(FakeBackend(n_cells=n_cells, n_slots=3, n_ctx_slot=64, n_batch=8, kv_unified=kv_unified))
    media = {"x": chunk("x", 3, 10), "y": chunk("y", 6), "z": chunk("z", 1, 4)}
    boxes: list[tuple[Box, GenerationRequest]] = []
    for n, (pause, parts, adapters) in enumerate(schedule):
        driver.steps(pause if driver.busy else 0)
        wanted = request(str(n), *(media.get(part, part) for part in parts), "e", max_tokens=6, adapters=adapters)
        boxes.append((driver.submit(wanted), wanted))
    driver.finish()
    driver.check_idle()
    for box, wanted in boxes:
        assert box.tokens == expected(wanted)
