"""Whether other programs want the processors."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.native.contention import Contention, Reading, used_ticks

STAT = """cpu  100 20 30 4000 50 6 7 8 9 10
cpu0 40 10 10 2000 20 3 3 4 9 0
cpu1 60 10 20 2000 30 3 4 4 0 10
cpu10 1000 0 0 0 0 0 0 0 0 0
intr 12345 0 1
ctxt 99
"""


def test_ticks_of_our_processors() -> None:
    """Idle and waiting times do not count, nor guests twice, nor other processors; what a hypervisor took does."""
    assert used_ticks(STAT, {0}) == 40 + 10 + 10 + 3 + 3 + 4
    assert used_ticks(STAT, {0, 1}) == used_ticks(STAT, {0}) + 60 + 10 + 20 + 3 + 4 + 4
    assert used_ticks(STAT, {2}) == 0


def test_what_others_used() -> None:
    """Processors on average; never less than none, for the clocks tick differently."""
    before = Reading(at=10.0, all=100.0, own=50.0)
    assert Reading(at=12.0, all=103.0, own=52.0).others(before) == pytest.approx(0.5)
    assert Reading(at=12.0, all=101.0, own=52.0).others(before) == 0.0
    assert before.others(before) == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat")
def test_this_process_is_not_another() -> None:
    """What this process uses is taken off: both grow when it works."""
    processors = os.sched_getaffinity(0)
    before = Reading.take(processors)
    while Reading.take(processors).own < before.own + 0.05:
        pass
    now = Reading.take(processors)
    assert now.all >= before.all
    assert now.at > before.at


def test_found_and_gone() -> None:
    """Found at once; gone after three readings in a row without any."""
    contention = Contention(spare=0)
    answers = [contention.judge(others) for others in (0.02, 0.15, 0.3, 0.01, 0.01, 0.15, 0.01, 0.01, 0.01, 0.01)]
    assert answers == [False, False, True, True, True, True, True, True, False, False]


def test_spare_processors_are_for_others() -> None:
    """They may use what our threads leave to them."""
    contention = Contention(spare=2)
    assert not contention.judge(2.15)
    assert contention.judge(2.25)


@given(st.lists(st.floats(0, 8), max_size=30), st.integers(0, 4))
def test_between_the_limits_nothing_changes(readings: list[float], spare: int) -> None:
    """A reading between the two limits leaves the judgement as it is, whatever came before."""
    contention = Contention(spare)
    for reading in readings:
        contention.judge(reading)
    assert contention.judge(spare + 0.15) is contention.found
    found = contention.found
    assert [contention.judge(spare + 0.15) for _ in range(5)] == [found] * 5
