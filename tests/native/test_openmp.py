"""A team of OpenMP threads that does nothing."""

import os
import subprocess
import sys

import pytest

from engine.native.threads import uses_openmp

# Prints the number of threads before, with and after the team, and again for a second team.
_PROGRAM = """
import os
from engine.native import library
from engine.native.openmp import IdleTeam
library.start()
count = lambda: len(os.listdir("/proc/self/task"))
team = IdleTeam(3)
team.stop()
counts = [count()]
for _ in range(2):
    team.start()
    team.start()
    while len(counts) % 2 and count() < counts[0] + 3:
        pass
    counts.append(count())
    team.stop()
    while count() > counts[0]:
        pass
    counts.append(count())
print(*(number - counts[0] for number in counts), team.exists)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_team_comes_and_goes() -> None:
    """Three threads, one of them Python's; all of them end, and there can be another team."""
    if not uses_openmp():
        pytest.skip("the library was built without OpenMP")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=os.environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["0", "3", "0", "3", "0", "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp")
def test_without_the_library() -> None:
    """Nothing is loaded for its sake."""
    program = "from engine.native.openmp import IdleTeam\ntry: IdleTeam(3).start()\nexcept OSError: print('refused')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "refused\n"
