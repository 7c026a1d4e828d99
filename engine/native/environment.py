"""What must be set before any native library, numpy included, is loaded: variables, and how the heap behaves."""

import os
from typing import Final

from engine.native.heap import return_large_blocks

# A variable that the user has set wins.
DEFAULTS: Final = {
    # Else every native abort starts a debugger to print a backtrace.
    "GGML_NO_BACKTRACE": "1",
    # numpy's BLAS would start a thread pool that competes with the engine's own for the cores.
    "OPENBLAS_NUM_THREADS": "1",
    # How long OpenMP's threads spin at a barrier before they sleep (its own default: 300,000 rounds). Measured on two
    # cores with Qwen 0.5B: 1,000 costs 10% of the tokens on an idle machine, where each hand-over to the event loop
    # sends the other thread to sleep; with another process on one core 1,000 gives 63 ms a token, this 220 ms. On
    # machines that are shared, set it lower.
    "GOMP_SPINCOUNT": "100000",
}


def prepare_environment() -> None:
    """Set the defaults; too late once the libraries are loaded. Idempotent."""
    # libgomp ignores the spin count when a wait policy is given, so a policy of the user's stays in force.
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    return_large_blocks()


def chose_spinning() -> bool:
    """Whether it is our value by which OpenMP's threads spin, and not the user's."""
    return os.environ.get("GOMP_SPINCOUNT") == DEFAULTS["GOMP_SPINCOUNT"] and "OMP_WAIT_POLICY" not in os.environ
