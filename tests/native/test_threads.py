"""The teams of threads that compute: where they run and how urgently, as the system sees it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest

from cli.processors import this_host
from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import ContextOptions, ModelOptions, Placement
from engine.native.threads import ROUNDS, unbind, uses_openmp
from tests.live.process import environment

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no threads")

AVAILABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
needs_two = pytest.mark.skipif(len(AVAILABLE) < 2, reason="needs two processors")


@attrs.frozen
class Team:
    """What the system says of the threads of a decode: the calling one, and those that it started."""

    processors: list[set[int]]
    policies: set[int]


def decode(
    model_path: Path, lengths: list[int], *, generating: Placement, prompts: Placement, threads: int
) -> list[Team]:
    """The team after each decode of so many tokens. On a thread of its own, which takes its team with it."""
    teams: list[Team] = []

    def body() -> None:
        model = Model(ModelOptions(path=str(model_path)))
        try:
            options = ContextOptions(
                n_ctx=256, n_threads=threads, n_threads_batch=threads, placement=generating, placement_batch=prompts
            )
            before = tasks()
            context = Context(model, options)
            batch = context.new_batch()
            start = 0
            for length in lengths:
                batch.clear()
                batch.add_run(0, start, [5] * length, logits=True)
                assert context.decode(batch) == 0
                start += length
                team = [threading.get_native_id(), *sorted(tasks() - before)]
                teams.append(Team([os.sched_getaffinity(t) for t in team], {os.sched_getscheduler(t) for t in team}))
        finally:
            model.close()

    run_in_thread(body)
    return teams


def tasks() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


def run_in_thread(body: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@needs_two
def test_each_team_runs_where_it_is_told(tiny_model: Path) -> None:
    first, second = Placement(processors=(AVAILABLE[0],)), Placement(processors=(AVAILABLE[1],))
    teams = decode(tiny_model, [4, 1, 4], generating=first, prompts=second, threads=2)
    wanted = [{AVAILABLE[1]}, {AVAILABLE[0]}, {AVAILABLE[1]}]
    assert [team.processors for team in teams] == [[place, place] for place in wanted]


@needs_two
def test_a_team_of_one_runs_there_too(tiny_model: Path) -> None:
    first, second = Placement(processors=(AVAILABLE[0],)), Placement(processors=tuple(AVAILABLE[:2]), strict=True)
    teams = decode(tiny_model, [1, 4], generating=first, prompts=second, threads=1)
    assert [team.processors for team in teams] == [[{AVAILABLE[0]}], [{AVAILABLE[0]}]]


@needs_two
def test_a_team_of_one_computes_images_where_it_computes_prompts(tiny_model: Path) -> None:
    first, second = Placement(processors=(AVAILABLE[0],)), Placement(processors=(AVAILABLE[1],))
    places: list[set[int]] = []

    def body() -> None:
        model = Model(ModelOptions(path=str(tiny_model)))
        try:
            options = ContextOptions(n_ctx=256, n_threads=1, n_threads_batch=1, placement=first, placement_batch=second)
            context = Context(model, options)
            batch = context.new_batch()
            batch.add_run(0, 0, [5], logits=True)
            assert context.decode(batch) == 0
            places.append(os.sched_getaffinity(0))
            rows = np.zeros((4, model.facts().n_embd), np.float32)
            assert context.decode_embeddings(0, rows, np.arange(1, 5, dtype=np.int32)[np.newaxis], causal=True) == 0
            places.append(os.sched_getaffinity(0))
        finally:
            model.close()

    run_in_thread(body)
    assert places == [{AVAILABLE[0]}, {AVAILABLE[1]}]


@needs_two
def test_strict_means_one_processor_each(tiny_model: Path) -> None:
    strict = Placement(processors=tuple(AVAILABLE[:2]), strict=True)
    (team,) = decode(tiny_model, [4], generating=strict, prompts=strict, threads=2)
    assert team.processors == [{AVAILABLE[0]}, {AVAILABLE[1]}]


def test_priority_is_real_time_or_refused(tiny_model: Path) -> None:
    reason = this_host().real_time()
    if reason is not None:
        assert "CAP_SYS_NICE" in reason
        return
    urgent = Placement(priority=1)
    for threads in (1, 2):
        (team,) = decode(tiny_model, [4], generating=urgent, prompts=urgent, threads=threads)
        assert team.policies == {os.SCHED_FIFO}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@needs_two
def test_threads_of_a_bound_thread_can_be_given_back() -> None:
    freed: list[set[int]] = []

    def free() -> None:
        unbind()
        freed.append(os.sched_getaffinity(0))

    def bound() -> None:
        os.sched_setaffinity(0, AVAILABLE[:1])
        run_in_thread(free)

    run_in_thread(bound)
    assert freed == [set(AVAILABLE)]


def test_polling_is_openmps_spin_count() -> None:
    if not uses_openmp():
        pytest.skip("this build has pools of its own")
    command = [str(Path(sys.executable).with_name("llama-box")), "--poll", "3", "--list-devices"]
    told = environment(OMP_DISPLAY_ENV="verbose", GOMP_SPINCOUNT="5", OMP_WAIT_POLICY="active")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=told)
    assert f"GOMP_SPINCOUNT = '{3 * ROUNDS}'" in done.stderr
