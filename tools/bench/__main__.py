"""``python -m tools.bench COMMAND``; without one it prints the commands that there are."""

import sys
from collections.abc import Callable, Sequence

from tools.bench import (
    agreement,
    chat_layer,
    compare,
    embed,
    http_path,
    images,
    kv_modes,
    overhead,
    peer,
    quick,
    random_model,
    sampling,
    simulate,
    soak,
    speculation,
    structured,
)

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "peer": peer.main,
    "compare": compare.main,
    "quick": quick.main,
    "soak": soak.main,
    "overhead": overhead.main,
    "sampling": sampling.main,
    "json": structured.main,
    "chat": chat_layer.main,
    "embed": embed.main,
    "speculation": speculation.main,
    "agreement": agreement.main,
    "http": http_path.main,
    "images": images.main,
    "simulate": simulate.main,
    "kv": kv_modes.main,
    "random-model": random_model.main,
}


def main(argv: Sequence[str]) -> int:
    """Run the command named first. Returns the exit status."""
    if not argv or argv[0] not in COMMANDS:
        print(f"usage: python -m tools.bench {{{','.join(COMMANDS)}}} [--help]", file=sys.stderr)
        return 2
    return COMMANDS[argv[0]](argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
