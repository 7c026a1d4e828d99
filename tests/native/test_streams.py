"""A KV cache with a stream of cells for each sequence: copies of beginnings, saved states, and what is refused."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import NativeError
from engine.native.options import FlashAttention
from engine.native.seq_state import from_streams, parse, to_streams
from engine.native.stream_cells import StreamCopier
from engine.text.backend import DecodeStatus, Run
from engine.text.llama_backend import LlamaBackend
from tests.native.conftest import MakeBackend

PROMPT = list(range(300, 340))
CLOSE = 0.02  # other batch sizes round otherwise; different prompts differ by more than 1
FLASH = pytest.mark.parametrize("flash", [FlashAttention.ON, FlashAttention.OFF])


def compute(backend: LlamaBackend, seq: int, start: int, tokens: list[int]) -> NDArray[np.float32]:
    """The logits behind the tokens."""
    assert backend.decode([Run(seq, start, tokens, True)]) is DecodeStatus.OK
    return backend._context.logits_row(len(tokens) - 1).copy()


def streams(make_backend: MakeBackend, **options: object) -> LlamaBackend:
    return make_backend(kv_unified=False, n_ctx=1024, n_seq_max=4, n_slots=4, copies_cells=True, **options)


def test_each_slot_has_a_stream(make_backend: MakeBackend) -> None:
    info = streams(make_backend).info
    assert not info.kv_unified
    assert (info.n_ctx, info.n_ctx_slot) == (1024, 256)
    assert streams(make_backend).n_seqs == 4, "no sequence is kept back"


@FLASH
@pytest.mark.parametrize("target", [0, 1, 3])
def test_a_copied_beginning_gives_the_same_logits(
    make_backend: MakeBackend, flash: FlashAttention, target: int
) -> None:
    backend = streams(make_backend, flash_attention=flash)
    whole = compute(backend, 2, 0, PROMPT)
    for length in (25, 40, 1):
        backend.copy(2, target, 0, length)
        assert backend.span(target) == (0, length - 1)
        backend.remove(target, min(length, 39), None)
        rest = compute(backend, target, min(length, 39), PROMPT[min(length, 39) :])
        np.testing.assert_allclose(rest, whole, atol=CLOSE)
        backend.remove(target, 0, None)
    assert backend.span(2) == (0, 39)


@FLASH
@pytest.mark.parametrize("other", [0, 25, 60])
def test_two_that_change_streams_keep_what_they_hold(
    make_backend: MakeBackend, flash: FlashAttention, other: int
) -> None:
    backend = streams(make_backend, flash_attention=flash)
    theirs = [400 + i for i in range(61)]
    whole, neighbour = compute(backend, 2, 0, PROMPT), compute(backend, 1, 0, PROMPT[::-1])
    if other:
        compute(backend, 0, 0, theirs[:other])
    for a, b in ((2, 0), (0, 3), (2, 3)):
        backend.exchange(a, b)
        assert backend.span(2) == (0, 39)
        assert backend.span(0) == ((0, other - 1) if other else (-1, -1))
        assert backend.span(3) == (-1, -1)
    assert list(backend._context.memory.numbers) == [3, 1, 2, 0]
    again = [(2, PROMPT, whole), (1, PROMPT[::-1], neighbour)]
    for seq, prompt, logits in again:
        backend.remove(seq, 39, None)
        np.testing.assert_allclose(compute(backend, seq, 39, prompt[39:]), logits, atol=CLOSE)
    if other:
        more = compute(backend, 0, other, theirs[other:])
        np.testing.assert_allclose(more, compute(backend, 3, 0, theirs), atol=CLOSE)


def test_nobody_changes_streams_while_positions_are_to_be_moved(make_backend: MakeBackend) -> None:
    expected, other = streams(make_backend), streams(make_backend)
    for backend in (expected, other):
        compute(backend, 0, 0, PROMPT)
        backend.remove(0, 4, 14)
        backend.shift(0, 14, None, -10)
    assert not other.exchange(0, 1)
    first = [compute(backend, 0, 30, [340]) for backend in (expected, other)]
    assert other.exchange(0, 1)
    second = [compute(backend, 0, 31, [341]) for backend in (expected, other)]
    for one, same in (first, second):
        np.testing.assert_allclose(same, one, atol=CLOSE)


def test_copies_and_states_are_those_of_the_sequence_wherever_it_is(make_backend: MakeBackend) -> None:
    backend = streams(make_backend)
    whole = compute(backend, 0, 0, PROMPT)
    backend.exchange(0, 2)
    backend.exchange(1, 3)
    backend.copy(0, 1, 0, 40)
    state = backend.save_state(1)
    backend.remove(0, 0, None)
    backend.exchange(0, 3)
    backend.restore_state(2, state)
    backend.remove(2, 39, None)
    np.testing.assert_allclose(compute(backend, 2, 39, PROMPT[39:]), whole, atol=CLOSE)
    assert [backend.span(seq)[1] for seq in range(4)] == [-1, 39, 39, -1]
    backend.shift(1, 10, None, 5)
    assert backend.span(1) == (0, 44)


@pytest.mark.parametrize("n_rows", [3, 8])
def test_batches_go_to_the_streams_that_their_sequences_have(make_backend: MakeBackend, n_rows: int) -> None:
    """Rows and runs are put into a batch in two ways."""
    backend = make_backend(kv_unified=False, n_ctx=2048, n_seq_max=8, n_slots=8)
    alone = [compute(backend, seq, 0, PROMPT[: 20 + seq]) for seq in range(8)]
    for seq in range(8):
        backend.remove(seq, 19 + seq, None)
    for a, b in ((0, 7), (1, 3), (7, 2)):
        backend.exchange(a, b)
    order = sorted(range(n_rows), key=lambda seq: backend._context.memory.numbers[seq])
    assert backend.decode([Run(seq, 19 + seq, [PROMPT[19 + seq]], True) for seq in order]) is DecodeStatus.OK
    for index, seq in enumerate(order):
        np.testing.assert_allclose(backend._context.logits_row(index), alone[seq], atol=CLOSE)


def test_a_copy_is_of_what_is_there_now(make_backend: MakeBackend) -> None:
    """The library's own copy is made with the next decode: what changes before that would be lost, or lose."""
    backend = streams(make_backend)
    whole = compute(backend, 0, 0, PROMPT)
    backend.copy(0, 1, 0, 40)
    state = backend.save_state(1)
    backend.remove(0, 0, None)
    backend.remove(1, 0, None)
    backend.restore_state(3, state)
    backend.remove(3, 39, None)
    np.testing.assert_allclose(compute(backend, 3, 39, PROMPT[39:]), whole, atol=CLOSE)


def test_no_other_part_is_copied(make_backend: MakeBackend) -> None:
    """The library would end the process."""
    backend = streams(make_backend)
    compute(backend, 0, 0, PROMPT)
    with pytest.raises(ValueError, match="beginning"):
        backend.copy(0, 1, 5, 20)
    with pytest.raises(NativeError, match="lacks positions"):
        backend.copy(0, 1, 0, 41)
    assert backend.span(1) == (-1, -1)


def test_a_stream_that_is_full_has_no_room(make_backend: MakeBackend) -> None:
    backend = streams(make_backend)
    tokens = [300 + i % 40 for i in range(256)]
    compute(backend, 0, 0, tokens)
    assert backend.decode([Run(0, 256, [300], True)]) is DecodeStatus.NO_ROOM
    assert backend.span(0) == (0, 255)
    compute(backend, 1, 0, tokens)


@FLASH
def test_states_go_from_one_kind_of_cache_to_the_other(make_backend: MakeBackend, flash: FlashAttention) -> None:
    own, shared = streams(make_backend, flash_attention=flash), make_backend(flash_attention=flash)
    whole = compute(own, 2, 0, PROMPT)
    shared.restore_state(1, own.save_state(2))
    own.restore_state(3, shared.save_state(1))
    for backend, seq in ((shared, 1), (own, 3)):
        backend.remove(seq, 39, None)
        np.testing.assert_allclose(compute(backend, seq, 39, PROMPT[39:]), whole, atol=CLOSE)
    assert own.identity == shared.identity, "a slot file is of use to both"


@FLASH
def test_parts_are_saved_and_appended(make_backend: MakeBackend, flash: FlashAttention) -> None:
    backend = streams(make_backend, flash_attention=flash)
    assert isinstance(backend.cells, StreamCopier)
    whole = compute(backend, 1, 0, PROMPT)
    parts = [backend.cells.save(1, p0, p1) for p0, p1 in ((0, 16), (16, 32), (32, 40))]
    backend.remove(1, 0, None)
    backend.cells.restore(2, 0, 16, parts[0])
    backend.cells.restore(2, 16, 32, parts[1])
    backend.cells.restore(2, 32, 39, parts[2])
    assert backend.span(2) == (0, 38)
    np.testing.assert_allclose(compute(backend, 2, 39, PROMPT[39:]), whole, atol=CLOSE)


def test_what_is_saved_is_what_is_there_now(make_backend: MakeBackend) -> None:
    """A copy of the whole is kept from one part to the next, and no longer than it is right."""
    backend = streams(make_backend)
    assert backend.cells is not None
    compute(backend, 0, 0, PROMPT)
    backend.cells.save(0, 0, 16)
    whole = compute(backend, 0, 40, [300, 301])
    backend.cells.save(0, 40, 42)  # more has been appended
    backend.remove(0, 30, None)
    with pytest.raises(NativeError, match="lacks positions"):
        backend.cells.save(0, 30, 40)
    other = [*PROMPT[:30], *PROMPT[:10]]
    right = compute(backend, 0, 30, PROMPT[:10])
    state = backend.cells.save(0, 0, 39)
    backend.cells.restore(1, 0, 39, state)
    again = compute(backend, 1, 39, other[39:])
    np.testing.assert_allclose(again, right, atol=CLOSE)
    assert not np.allclose(again, whole, atol=CLOSE)


def test_a_part_that_does_not_fit_changes_nothing(make_backend: MakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = streams(make_backend)
    assert backend.cells is not None
    whole = compute(backend, 0, 0, PROMPT)
    state = backend.cells.save(0, 16, 32)
    backend.copy(0, 1, 0, 20)
    with pytest.raises(NativeError, match="lacks positions"):
        backend.cells.restore(1, 20, 40, state)
    with pytest.raises(NativeError, match="cannot be used"):
        backend.cells.restore(1, 20, 24, state[:-1])
    restore, broken = backend._context.memory.restore_state, [True]

    def fail_once(seq: int, what: bytearray) -> None:
        restore(seq, what[:-8] if broken.pop() else what)

    broken.insert(0, False)
    monkeypatch.setattr(backend._context.memory, "restore_state", fail_once)
    with pytest.raises(NativeError, match="cannot be restored"):
        backend.cells.restore(1, 20, 24, state)
    monkeypatch.undo()
    assert backend.span(1) == (0, 19)
    np.testing.assert_allclose(compute(backend, 1, 20, PROMPT[20:]), whole, atol=CLOSE)


# --- the layout ---


KEYS = 16 + 36 + 8 + 2 * (12 + 12)  # where the keys of three cells end


def made(positions: list[int], *, by_element: bool = False, n_layers: int = 2) -> bytearray:
    """A state as the library lays it out, in which each byte tells its position."""

    def number(value: int) -> bytes:
        return value.to_bytes(4, "little")

    out = number(0xAF143CD8) + number(7) + number(1) + number(len(positions))
    out += b"".join(number(p) + number(1) + number(7) for p in positions)
    out += number(by_element) + number(n_layers)
    for layer in range(n_layers):
        out += number(1) + number(4) + number(0) + b"".join(bytes([layer, p, p, p]) for p in positions)
    for layer in range(n_layers):
        if by_element:
            out += number(1) + number(2) + number(3)
            out += b"".join(bytes([row + layer, p]) for row in range(3) for p in positions)
        else:
            out += number(1) + number(2) + number(0) + b"".join(bytes([layer, p]) for p in positions)
    return bytearray(out)


@given(st.permutations(range(7)), st.integers(0, 7), st.integers(0, 7), st.booleans())
def test_a_cut_has_what_belongs_to_its_positions(order: list[int], a: int, b: int, by_element: bool) -> None:
    p0, p1 = min(a, b), max(a, b)
    cut = parse(made(order, by_element=by_element)).cut(p0, p1).to_bytes()
    assert cut == made([p for p in order if p0 <= p < p1], by_element=by_element)


@given(st.permutations(range(6)), st.integers(1, 5), st.booleans())
def test_parts_join_to_what_they_were_cut_from(order: list[int], at: int, by_element: bool) -> None:
    whole = parse(made(order, by_element=by_element))
    joined = whole.cut(0, at).joined(whole.cut(at, 6)).to_bytes()
    wanted = [p for p in order if p < at] + [p for p in order if p >= at]
    assert joined == made(wanted, by_element=by_element)


@given(st.integers(0, 4), st.integers(0, 4))
def test_streams_are_taken_off_and_put_around(seq: int, more: int) -> None:
    n_streams = seq + 1 + more
    plain = made([0, 1, 2])
    streamed = bytearray(plain)
    streamed[8:12] = n_streams.to_bytes(4, "little")
    streamed[12:12] = bytes(4 * seq)
    streamed += bytes(4 * more)
    assert from_streams(streamed, seq, n_streams) == plain
    assert from_streams(to_streams(plain, n_streams), 0, n_streams) == plain


@given(st.data())
def test_any_other_bytes_are_refused(data: st.DataObject) -> None:
    state = made([0, 1, 2], by_element=data.draw(st.booleans()))
    kept = data.draw(st.integers(0, len(state) - 1))
    assume(kept != KEYS)  # that is a whole state of another model
    with pytest.raises(ValueError, match="state"):
        parse(state[:kept])
    with pytest.raises(ValueError, match="longer"):
        parse(state + b"\0")
    with pytest.raises(ValueError, match="streams"):
        from_streams(state, 0, 2)


def test_a_state_without_values_is_one_whose_keys_are_enough() -> None:
    keys = made([0, 1, 2])[:KEYS]
    assert parse(keys).cut(1, 3).to_bytes() == made([1, 2])[: 16 + 24 + 8 + 2 * (12 + 8)]
