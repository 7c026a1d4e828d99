"""How many physical cores this process may use."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

TOPOLOGY: Final = Path("/sys/devices/system/cpu")


def physical_cores(topology: Path = TOPOLOGY, processors: Collection[int] = ()) -> int:
    """Physical cores among ``processors``, else the affinity mask's; all of those where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return os.process_cpu_count() or 1
    processors = processors or os.sched_getaffinity(0)
    try:
        # Processors of one core name the same siblings.
        cores = {(topology / f"cpu{number}/topology/thread_siblings_list").read_text() for number in processors}
    except OSError:
        return len(processors)
    return len(cores)
