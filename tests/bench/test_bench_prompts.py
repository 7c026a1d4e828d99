"""Prompts differ from their first token on wherever a cache must not help, and only there."""

from tools.bench.prompts import Message, Prompts, nonce

BASE = Prompts(seed=1, scenario="b", round=0)


def begin(messages: list[Message]) -> str:
    return messages[0]["content"][:8]


def test_a_nonce_is_eight_digits_and_depends_on_every_part() -> None:
    seen = {nonce(*parts) for parts in [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1), (1, "a", 0, "x")]}
    assert len(seen) == 5
    assert all(len(text) == 8 and text.isdigit() for text in seen)
    assert nonce(1, "a", 0) == nonce(1, "a", 0)


def test_questions_of_clients_rounds_scenarios_and_seeds_begin_differently() -> None:
    others = [
        Prompts(seed=2, scenario="b", round=0),
        Prompts(seed=1, scenario="f", round=0),
        Prompts(seed=1, scenario="b", round=1),
    ]
    begins = [begin(BASE.question(client)) for client in range(8)] + [begin(other.question(0)) for other in others]
    assert len(set(begins)) == len(begins)


def test_both_servers_get_the_same_prompts() -> None:
    again = Prompts(seed=1, scenario="b", round=0)
    assert BASE.question(3) == again.question(3)
    assert BASE.shared(3, 100) == again.shared(3, 100)
    assert BASE.long(50) == again.long(50)


def test_clients_share_the_system_prompt_and_nothing_else() -> None:
    first, second = BASE.shared(0, 100), BASE.shared(1, 100)
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_a_shared_prompt_is_new_in_every_round() -> None:
    assert begin(BASE.shared(0, 100)) != begin(Prompts(seed=1, scenario="b", round=1).shared(0, 100))


def test_text_has_the_asked_number_of_tokens() -> None:
    assert len(BASE.text(300, "x").split()) == 300
    assert len(Prompts(seed=1, scenario="b", round=0, tokens_per_word=2.5).text(300, "x").split()) == 120


def test_visitors_have_nothing_in_common() -> None:
    first, second = (BASE.visitor(number, 100)[0]["content"] for number in (0, 1))
    assert first[:8] != second[:8]
    assert len(first.split()) == len(second.split()) == 102
    assert BASE.visitor(1, 100) == BASE.visitor(1, 100)
