"""llama-box that compares its KV books with the library's, again and again: ``python -m tools.bench.soaking.checked``.

Takes llama-box's options. A difference ends the server with status 1; how often they agreed is logged at its end.
"""

import os
import sys
from collections.abc import Sequence

import attrs

from cli.build import build_settings
from cli.parse import read_arguments, read_environment
from cli.start import run


def main(arguments: Sequence[str]) -> int:
    """Serve; the exit status. Raises UsageError."""
    settings = build_settings(read_environment(os.environ) | read_arguments(arguments))
    return run(attrs.evolve(settings, engine=attrs.evolve(settings.engine, debug=True)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
