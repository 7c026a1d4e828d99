"""Processors, priority and polling of the engine's threads: read, completed, checked against the machine."""

import os
from pathlib import Path

import attrs
import pytest

from cli.build import build_settings, given_settings
from cli.errors import UsageError
from cli.parse import read_arguments
from cli.processors import Host, polling, resolve_placement
from engine.native.options import ContextOptions, Placement

FOUR = Host(available=frozenset(range(4)), real_time=lambda: None, own_polling=lambda: False)


def resolve(arguments: str, host: Host = FOUR, *, threads: int = 2) -> ContextOptions:
    values = read_arguments(arguments.split())
    context = given_settings(values).engine.context
    return resolve_placement(_with_threads(context, threads), values, host)


def _with_threads(context: ContextOptions, threads: int) -> ContextOptions:
    return attrs.evolve(context, n_threads=threads, n_threads_batch=threads)


@pytest.mark.parametrize(
    ("arguments", "generating", "prompts"),
    [
        ("-C 5", (0, 2), (0, 2)),
        ("-C 0xA -Cr 0-1", (0, 1, 3), (0, 1, 3)),
        ("-Cr 2-3 -Cb 1", (2, 3), (0,)),
        ("-Crb 1-2", (0, 1, 2, 3), (1, 2)),
        ("-Cr -1", (0, 1), (0, 1)),
        ("--cpu-strict 1", (0, 1, 2, 3), (0, 1, 2, 3)),
    ],
)
def test_processors(arguments: str, generating: tuple[int, ...], prompts: tuple[int, ...]):
    context = resolve(arguments)
    assert (context.placement.processors, context.placement_batch.processors) == (generating, prompts)


def test_the_other_values_reach_both_teams_unless_one_has_its_own():
    context = resolve("--prio 2 --prio-batch 1 --cpu-strict 1 --cpu-strict-batch 0 --poll 7")
    every = (0, 1, 2, 3)
    assert context.placement == Placement(processors=every, strict=True, priority=2, poll=7)
    assert context.placement_batch == Placement(processors=every, strict=False, priority=1, poll=7)


def test_nothing_given_changes_nothing():
    nobody = Host(available=None, real_time=lambda: pytest.fail("asked"), own_polling=lambda: pytest.fail("asked"))
    assert resolve("", nobody) == _with_threads(ContextOptions(), 2)


ONE_TEAM = "the two teams share threads, which do not come back from real time to 0"
ONE_SPIN = "all threads of this build (OpenMP) spin alike: give --poll the same value"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-C f0", "-C: not available to this process: 4-7 (available: 0-3)"),
        ("-Crb 3-5", "-Crb: not available to this process: 4-5 (available: 0-3)"),
        ("-C 3 --cpu-strict 1 -C 4", "--cpu-strict: 4 threads do not fit 3 processors, one each"),
        ("--prio 1 --prio-batch 0", f"--prio-batch: {ONE_TEAM}"),
        ("--prio-batch 1", f"--prio-batch: {ONE_TEAM}"),
        ("--poll 5 --poll-batch 6", f"--poll-batch: {ONE_SPIN}"),
        ("--poll-batch 6", f"--poll-batch: {ONE_SPIN}"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(arguments: str, message: str):
    with pytest.raises(UsageError) as caught:
        resolve(arguments, threads=4)
    assert str(caught.value) == message


def test_a_machine_that_cannot_says_so():
    mac = Host(available=None, real_time=lambda: "this system offers none to threads", own_polling=lambda: True)
    with pytest.raises(UsageError, match=r"^-C: this system cannot bind threads to processors$"):
        resolve("-C 1", mac)
    with pytest.raises(UsageError, match=r"^--prio: no real-time priority: this system offers none to threads$"):
        resolve("--prio 3", mac)
    context = resolve("--poll 5 --poll-batch 6", mac)
    assert (context.placement.poll, context.placement_batch.poll) == (5, 6)


@pytest.mark.parametrize("text", ["", "0", "0x", "g", "-1", "1" * 129])
def test_masks_are_hexadecimal_and_not_empty(text: str):
    with pytest.raises(UsageError, match="expected a hexadecimal mask with a bit set"):
        read_arguments(["-C", text])


@pytest.mark.parametrize("text", ["", "-", "3", "2-1", "0-512", "a-b", "1-2-3"])
def test_ranges_have_an_order_and_an_end(text: str):
    with pytest.raises(UsageError, match="expected FIRST-LAST"):
        read_arguments(["-Cr", text])


def test_an_open_range_ends_with_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    (given,) = read_arguments(["-Cr", "2-"]).values()
    assert given.value == (2, 3)


def test_the_default_number_of_threads_is_that_of_the_cores_in_the_mask(tmp_path: Path, monkeypatch):
    available = sorted(os.sched_getaffinity(0))
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    settings = build_settings(read_arguments(["-m", str(model), "-C", f"{1 << available[0]:x}"]))
    assert settings.engine.context.n_threads == 1


def test_polling_is_one_number_for_openmp():
    assert polling(read_arguments([])) is None
    assert polling(read_arguments(["--poll", "3"])) == 3
    assert polling(read_arguments(["--poll-batch", "0"])) == 0
