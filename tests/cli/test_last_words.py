"""The end on behalf of native threads: logged, announced, with a status that says whose fault it was."""

import logging
import os
import socket

import pytest

from cli.last_words import ABORTED, LastWords
from cli.workers import UNREACHABLE
from engine.native.rpc_probe import Endpoint


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses that the process would have ended with."""
    found: list[int] = []
    monkeypatch.setattr(os, "_exit", found.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    return found


def test_an_abort_of_the_library_has_its_own_status(statuses: list[int], caplog: pytest.LogCaptureFixture) -> None:
    announced: list[str] = []
    words = LastWords([], announced.append)
    words.told()
    words.aborted("ggml.c:7: boom")
    words.aborted("ggml.c:8: and again")
    assert (statuses, announced) == ([ABORTED], ["the native library gave up: ggml.c:7: boom"])
    assert caplog.messages == announced


def test_a_server_that_is_gone_is_named(statuses: list[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as alive, socket.create_server(("127.0.0.1", 0)) as other:
        there, gone = (Endpoint("127.0.0.1", each.getsockname()[1]) for each in (alive, other))
        other.close()
        announced: list[str] = []
        words = LastWords([there, gone], announced.append)
        words.told()
        words.aborted("ggml-rpc.cpp:500: Remote RPC server crashed or returned malformed response")
    assert statuses == [UNREACHABLE]
    assert announced == [f"RPC server {gone} is gone, and the part of the model that it held is lost"]


def test_a_server_that_is_there_again_is_one_of_several(statuses: list[int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as alive:
        there = Endpoint("127.0.0.1", alive.getsockname()[1])
        announced: list[str] = []
        words = LastWords([there], announced.append)
        words.told()
        words.aborted("ggml-rpc.cpp:500: Remote RPC server crashed")
        assert announced == [f"an RPC server failed ({there}): ggml-rpc.cpp:500: Remote RPC server crashed"]
    assert statuses == [UNREACHABLE]


def test_other_aborts_are_not_the_servers_fault(statuses: list[int]) -> None:
    words = LastWords([Endpoint("127.0.0.1", 1)], lambda _: None)
    words.told()
    words.aborted("llama-context.cpp:1: GGML_ASSERT(n_tokens > 0) failed")
    assert statuses == [ABORTED]
