"""What holds of every conversation that is made to suit a template, whatever the template can do."""

import copy
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llamabox.chat.capabilities import Capabilities
from llamabox.chat.messages import suit, validate
from llamabox.chat.normalise.links import with_id_length

EXAMPLES = settings(max_examples=60, deadline=None)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Messages as clients send them, each text in them a word of its own."""
    count = iter(range(10_000))

    def word() -> str:
        return f"word{next(count)}."

    ids = st.sampled_from(["a", "call_1", "abcdefghi", "000000001", None])
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 8))):
        role = draw(st.sampled_from(["system", "developer", "user", "assistant", "assistant", "tool"]))
        content: Any = word()
        if draw(st.booleans()):
            content = [{"type": "text", "text": word()}, {"type": "text", "text": content}]
        message = {"role": role, "content": content}
        if role == "assistant":
            if draw(st.booleans()):
                message["content"] = None
            if draw(st.booleans()):
                message["reasoning_content"] = word()
            if draw(st.booleans()):
                message["tool_calls"] = [
                    {"id": draw(ids), "function": {"name": word(), "arguments": f'{{"key": "{word()}"}}'}}
                    for _ in range(draw(st.integers(1, 3)))
                ]
        elif role == "tool":
            message["tool_call_id"] = draw(ids)
        messages.append(message)
    return messages


capabilities = st.builds(
    Capabilities,
    string_content=st.booleans(),
    list_content=st.just(True),
    system_role=st.booleans(),
    developer_role=st.booleans(),
    alternation=st.booleans(),
    late_system=st.booleans(),
    thinking_parts=st.just(True),
    reasoning_beside_text_and_calls=st.booleans(),
    reasoning_field=st.sampled_from(["reasoning_content", "thinking", None]),
    calls_shown=st.booleans(),
    results_shown=st.booleans(),
    parallel_calls=st.booleans(),
    object_arguments=st.booleans(),
    string_arguments=st.booleans(),
    id_length=st.sampled_from([None, 9]),
)


def words(value: Any) -> list[str]:
    """The words in JSON-like data."""
    if isinstance(value, dict):
        return [word for item in value.values() for word in words(item)]
    if isinstance(value, list):
        return [word for item in value for word in words(item)]
    if isinstance(value, str):
        return [part.split(".")[0] for part in value.split("word")[1:]]
    return []


@EXAMPLES
@given(conversations(), capabilities)
def test_nothing_is_lost_and_nothing_said_twice(messages: list[dict[str, Any]], able: Capabilities) -> None:
    before = copy.deepcopy(messages)
    valid = validate(messages)
    kept = copy.deepcopy(valid)
    suited = suit(valid, able)
    # A result has the name of its call as well.
    said = [{key: item for key, item in message.items() if key != "name"} for message in valid]
    shown = [{key: item for key, item in message.items() if key != "name"} for message in suited]
    if able.results_shown:
        assert sorted(words(shown)) == sorted(words(said)) == sorted(words(messages))
    else:
        assert set(words(shown)) == set(words(messages))
    assert (messages, valid) == (before, kept)


@EXAMPLES
@given(conversations(), capabilities)
def test_what_the_template_refuses_is_not_there(messages: list[dict[str, Any]], able: Capabilities) -> None:
    suited = suit(validate(messages), able)
    roles = [message["role"] for message in suited]
    if not able.developer_role:
        assert "developer" not in roles
    if not able.system_role:
        assert not {"system", "developer"} & set(roles)
    elif not able.late_system:
        assert not {"system", "developer"} & set(roles[1:])
    if not able.results_shown:
        assert "tool" not in roles
    for message in suited:
        assert able.calls_shown or "tool_calls" not in message
        assert able.parallel_calls or len(message.get("tool_calls", ())) <= 1
        assert able.string_content or isinstance(message["content"], list)
    if able.alternation:
        for first, second in pairwise(suited):
            if first["role"] == second["role"]:
                assert first["role"] == "tool" or "tool_calls" in first or "tool_calls" in second


@EXAMPLES
@given(conversations())
def test_without_tools_turns_alternate(messages: list[dict[str, Any]]) -> None:
    able = Capabilities(system_role=False, alternation=True, calls_shown=False, results_shown=False)
    roles = [message["role"] for message in suit(validate(messages), able)]
    assert all(first != second for first, second in pairwise(roles))


def ids(messages: list[dict[str, Any]]) -> list[str]:
    calls = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    return calls + [message["tool_call_id"] for message in messages if "tool_call_id" in message]


@EXAMPLES
@given(conversations(), conversations())
def test_ids_are_renamed_consistently(messages: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    valid = validate(messages)
    renamed = with_id_length(valid, 9)
    pairs = set(zip(ids(valid), ids(renamed), strict=True))
    assert len({old for old, _ in pairs}) == len({new for _, new in pairs}) == len(pairs)
    assert all(len(new) == 9 and new.isalnum() for _, new in pairs)
    assert all(old == new for old, new in pairs if old in ("abcdefghi", "000000001"))
    if "000000001" not in ids(validate(more)):
        grown = validate(messages + more)
        assert with_id_length(grown, 9)[: len(messages)] == with_id_length(grown[: len(messages)], 9)


@EXAMPLES
@given(conversations())
def test_a_template_that_takes_everything_gets_what_was_said(messages: list[dict[str, Any]]) -> None:
    valid = validate(messages)
    assert suit(valid, Capabilities(developer_role=True)) == valid
    assert validate(valid) == valid
