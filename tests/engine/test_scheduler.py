"""The scheduler under random schedules: properties that hold whatever happens (design.md, invariants 6 to 9)."""

from hypothesis import given, settings

from tests.engine.driver import reference
from tests.engine.schedules import Play, Schedule, schedules


def play(schedule: Schedule) -> Play:
    game = Play(schedule)
    game.play()
    return game


def check_texts(game: Play) -> None:
    """No token lost, doubled or computed on a wrong context."""
    for guest in game.schedule.guests:
        key = guest.request.id
        expected = reference(guest.request, game.scheduler.limits)
        generated = game.generated[key]
        if key in game.cancelled:
            assert generated == expected.tokens[: len(generated)]
        else:
            assert generated == expected.tokens
            truncated = game.sequences[key].truncated
            # Forced tokens may be the last ones: then the context need not be shifted for them.
            assert truncated == expected.truncated or (any(guest.forced) and not truncated)


@settings(max_examples=200)
@given(schedules(events=False))
def test_everybody_gets_the_text_that_he_would_get_alone(schedule: Schedule) -> None:
    check_texts(play(schedule))


@settings(max_examples=300)
@given(schedules())
def test_cancelled_paused_and_paced_ones_disturb_nobody(schedule: Schedule) -> None:
    game = play(schedule)
    check_texts(game)
    assert game.scheduler.cells_active == 0
    game.scheduler.cache.clear()
    assert not game.backend.kv.cells, "cells that nobody will ever free"


@settings(max_examples=40)
@given(schedules())
def test_the_same_calls_give_the_same_plans(schedule: Schedule) -> None:
    assert play(schedule).trace == play(schedule).trace
