"""Finds out, in a child process, whether the library's fast weight formats work on this machine.

On some processors the default build dies of a signal at the first decode of several tokens with a quantised model. A
child decodes a tiny one the way the server will; if that kills it, the server loads without those formats. The verdict
is remembered for the library's build and the processor, so that later starts do not pay for it.
"""

import hashlib
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import numpy as np

from engine.errors import EngineError
from engine.native import library
from engine.native.context import Context
from engine.native.model import Model
from engine.native.options import ContextOptions, ModelOptions
from engine.native.probe_model import N_VOCAB, write_probe
from engine.native.trial import Memory, file_identity, module_command, no_core_dump, run_child

_PROMPT: Final = 64  # tokens: enough for the code paths that take several at once
_WRONG_RESULT: Final = 3  # the child's exit status
_WORKS: Final = "works"  # how a good verdict is remembered; else it is the reason
_OFF: Final = "the library's repacked and AMX weight formats are off"


@attrs.frozen
class Verdict:
    """Whether to load with ``ModelOptions.extra_buffers``; the reason is given when it was wished for and refused."""

    extra_buffers: bool
    reason: str | None = None


def check(extra_buffers: bool, cache_dir: Path | None = None, *, command: Sequence[str] | None = None) -> Verdict:
    """Whether extra buffers, if wished for, can be used. Blocks for about a second on the first start.

    ``cache_dir`` None: the user's cache directory. ``command`` replaces the child; it gets the model's path appended.
    """
    if not extra_buffers:
        return Verdict(extra_buffers=False)
    memory, name = Memory(cache_dir), f"preflight-{_fingerprint()}"
    remembered = memory.recall(name)
    if remembered is not None:
        return Verdict(extra_buffers=True) if remembered == _WORKS else Verdict(extra_buffers=False, reason=remembered)
    reason, certain = _try(command or module_command("engine.native.preflight"))
    if certain:
        memory.remember(name, reason or _WORKS)
    return Verdict(extra_buffers=reason is None, reason=reason)


def _try(command: Sequence[str]) -> tuple[str | None, bool]:
    """Why extra buffers cannot be used, None if they can; and whether that holds for the next start too."""
    with tempfile.TemporaryDirectory(prefix="llama-box-") as directory:
        model = Path(directory) / "probe.gguf"
        write_probe(model)
        outcome = run_child(command, str(model))
    if outcome.status == 0:
        return None, True
    if outcome.status == _WRONG_RESULT:
        return f"{_OFF}: they compute nonsense on this processor", True
    if outcome.killed_by:
        # SIGKILL comes from outside, for example when memory runs out.
        return f"{_OFF}: they crash on this processor ({outcome.killed_by})", outcome.killed_by != "SIGKILL"
    return f"{_OFF}: they could not be tried ({outcome.complaint or outcome.status})", False


def _fingerprint() -> str:
    """Changes with the library's build and the processor."""
    digest = hashlib.sha256()
    parts = [library.package_version(), _processor()]
    parts += [file_identity(path) for path in sorted(library.library_path().glob("*ggml-cpu*"))]
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:32]


def _processor() -> str:
    """What the processor is and can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.partition(":")[0].strip() in wanted))


def decode_probe(path: str) -> bool:
    """Decode a prompt and single tokens with extra buffers; whether the results are numbers. May kill the process."""
    model = Model(ModelOptions(path=path))
    try:
        context = Context(model, ContextOptions(n_ctx=0, n_threads=2, n_threads_batch=2))
        batch = context.new_batch()
        start, finite = 0, True
        for length in (_PROMPT, 1, 1):
            batch.clear()
            tokens = [(7 * position) % N_VOCAB for position in range(start, start + length)]
            index = batch.add_run(0, start, tokens, logits=True)
            finite = context.decode(batch) == 0 and finite and bool(np.isfinite(context.logits_row(index)).all())
            start += length
        return finite
    finally:
        model.close()


def main(path: str) -> int:
    """The child: exit status 0 works, 3 computes nonsense, 1 could not be tried."""
    no_core_dump()
    try:
        return 0 if decode_probe(path) else _WRONG_RESULT
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
