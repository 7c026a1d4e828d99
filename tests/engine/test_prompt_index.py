"""The index of running prompts finds all whom looking at each would find, and in the same order."""

from hypothesis import given
from hypothesis import strategies as st

from engine.text.prompt_index import LEAST_COMMON, PromptIndex
from engine.text.requests import GenerationRequest, SamplingParams
from engine.text.sequence import Sequence
from engine.text.tokens import Tokens, common_prefix, row

# Prompts that part at a few places, mostly behind another than a multiple of what is looked for.
prompts = st.lists(st.integers(0, 1), min_size=1, max_size=8).map(lambda bits: row(b for b in bits for _ in range(11)))


def sequence(number: int, prompt: Tokens, n_past: int) -> Sequence:
    request = GenerationRequest(id=str(number), prompt=prompt, sampling=SamplingParams(), max_tokens=1)
    found = Sequence.of(request, number, 0.0)
    found.admission, found.n_past = number, n_past
    return found


def near(running: list[Sequence], tokens: Tokens, held: int) -> list[Sequence]:
    """Whom one has to wait for, without an index."""
    return [
        other
        for other in running
        if other.n_past <= held and min(other.n_prefill, common_prefix(other.tokens, tokens)) >= held + LEAST_COMMON
    ]


@given(st.lists(st.tuples(prompts, st.floats(0, 1), st.floats(0, 1)), max_size=12), prompts, st.integers(0, 60))
def test_all_who_have_enough_in_common_are_found_wherever_they_have_come_to(
    made: list[tuple[Tokens, float, float]], tokens: Tokens, held: int
) -> None:
    index, running = PromptIndex(), []
    for number, (prompt, before, _) in enumerate(made):
        running.append(sequence(number, prompt, int(before * len(prompt))))
        index.file(running[-1])
    index.check_integrity(running)
    for other, (_, before, after) in zip(running, made, strict=True):
        other.n_past = int(max(before, after) * len(other.tokens))
        index.file(other)
    index.check_integrity(running)
    found = index.near(tokens, held)
    assert [other.admission for other in found] == sorted({other.admission for other in found})
    worth = near(running, tokens, held)
    assert [other for other in found if other in worth] == worth
    for other in found:
        assert other.n_past <= held
        assert other.tokens[held + LEAST_COMMON - 1] == tokens[held + LEAST_COMMON - 1]
    for other in running:
        index.remove(other)
    index.check_integrity([])
    assert index.near(tokens, held) == []


def test_who_parts_from_a_prompt_where_it_goes_on_is_not_looked_at() -> None:
    index = PromptIndex()
    common = [7] * 20
    others = [sequence(n, row(common + [n] * 40), len(common)) for n in range(5)]
    for other in others:
        index.file(other)
    assert index.near(row(common + [3] * 40), len(common)) == [others[3]]


def test_who_was_admitted_first_comes_first_wherever_it_has_come_to() -> None:
    index, prompt = PromptIndex(), row(range(40))
    others = [sequence(n, prompt, 0) for n in range(2)]
    for other in others:
        index.file(other)
    others[0].n_past = 8
    index.file(others[0])
    assert index.near(prompt, 10) == others
