"""The images benchmark's own arithmetic."""

import pytest

from tools.bench.image_client import Made, busy_ticks, inside
from tools.bench.images import library_rows


def test_what_a_reply_tells_of_the_librarys_call() -> None:
    usage = {"time_to_process_ms": 250.0, "time_per_generation_ms": 100.0, "generation_per_second": 10.0}

    assert inside(usage, 20) == 2.25


def test_idle_waiting_and_stolen_time_are_nobodys_work() -> None:
    stat = "cpu  100 20 30 4000 500 6 7 8000 90000 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"

    assert busy_ticks(stat) == 100 + 20 + 30 + 6 + 7


def test_ratios_are_taken_within_pairs_and_of_the_medians(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(Made(2.0, 1.6), Made(1.0, 1.0)), (Made(3.0, 2.4), Made(3.0, 3.0)), (Made(6.0, 4.8), Made(2.0, 2.0))]

    library_rows(pairs, dropped=4)

    rows = {
        cells[1]: [cell for cell in cells[2:] if cell] for cells in map(_cells, capsys.readouterr().out.splitlines())
    }
    assert "**2.000**" in rows["the bare library, s (3 pairs, 4 dropped)"]
    assert rows["ours / the bare library, in pairs"][:5] == ["1.000", "1.500", "**2.000**", "2.500", "3.000"]
    assert rows["the same, of the medians"] == ["**1.500**", "≤ 1.02"]
    assert "**1.250**" in rows["ours / its own call of the library"]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]
