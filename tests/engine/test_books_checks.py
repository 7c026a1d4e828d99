"""With ``debug`` the loop compares its books with the library's, while it works and when it is idle."""

import logging

import pytest

from engine.text.commands import Stop
from engine.text.loop import CHECKED_STEPS
from tests.engine.driver import Driver


def unchecked(host_bytes: int = 0) -> Driver:
    driver = Driver(host_bytes=host_bytes)
    driver.check = lambda: None  # type: ignore[method-assign]  # what the loop does by itself is to be seen
    return driver


def test_a_difference_is_found_while_requests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = unchecked()
    driver.ask("a", "hello", max_tokens=2 * CHECKED_STEPS)
    driver.steps(3)
    monkeypatch.setattr(driver.backend, "span", lambda seq: (0, 1000))
    with pytest.raises(AssertionError, match="the library holds"):
        driver.steps(CHECKED_STEPS)


def test_a_difference_is_found_when_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = unchecked()
    driver.ask("a", "hello", max_tokens=2)
    driver.finish()
    monkeypatch.setattr(driver.backend, "span", lambda seq: (0, 1000))
    with pytest.raises(AssertionError, match="the library holds"):
        driver.step()


def test_a_fault_in_host_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = unchecked(host_bytes=10_000)

    def broken() -> None:
        raise AssertionError("an empty tree")

    assert driver.host is not None
    monkeypatch.setattr(driver.host.cache, "check_integrity", broken)
    with pytest.raises(AssertionError, match="an empty tree"):
        driver.step()


def test_how_often_they_agreed_is_logged_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "engine.text")
    driver = unchecked()
    driver.ask("a", "hello", max_tokens=CHECKED_STEPS)
    driver.finish()
    driver.step()  # idle
    driver.loop.commands.put(Stop())
    driver.loop.run()
    assert caplog.messages[-1] == "the KV books agreed with the library's in 2 checks"
