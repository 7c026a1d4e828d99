"""Deltas as if what was read had come in one piece."""

from collections.abc import Iterable

from llamabox.chat.deltas import CallArguments, Content, Delta, Reasoning


def joined(deltas: Iterable[Delta]) -> list[Delta]:
    """Neighbours of a kind become one."""
    found: list[Delta] = []
    for delta in deltas:
        match found[-1] if found else None, delta:
            case (Content(before), Content(text)) | (Reasoning(before), Reasoning(text)):
                found[-1] = type(delta)(before + text)
            case CallArguments(index, before), CallArguments(same, text) if index == same:
                found[-1] = CallArguments(index, before + text)
            case _:
                found.append(delta)
    return found
