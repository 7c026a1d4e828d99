"""Build llama-server once, from the sources inside llama-cpp-python's source distribution of the installed version."""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import platformdirs

from tools.install import AMX_CURE, compiler_is_gcc, cpu_identity

PACKAGE = "llama-cpp-python"
DEFINES = {
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_RPC": "ON",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_UI": "OFF",
}


class PeerError(Exception):
    """The peer cannot be built; the message says what is missing."""


def definitions(cpu: str, *, gcc: bool, chosen: Sequence[str] = ()) -> dict[str, str]:
    """CMake definitions for a processor and compiler; ``chosen`` ("KEY=VALUE") wins."""
    cure = {"CMAKE_C_FLAGS": AMX_CURE, "CMAKE_CXX_FLAGS": AMX_CURE} if gcc and "amx_tile" in cpu else {}
    return DEFINES | cure | dict(split_definition(item) for item in chosen)


def split_definition(item: str) -> tuple[str, str]:
    """KEY=VALUE in two. Raises PeerError without a key."""
    key, separator, value = item.partition("=")
    if not key or not separator:
        msg = f"not KEY=VALUE: {item!r}"
        raise PeerError(msg)
    return key, value


def folder(cpu: str, defines: dict[str, str]) -> Path:
    """Where the build for this package version, processor and flags lives in the user's cache."""
    identity = "\n".join([cpu, *(f"{key}={value}" for key, value in sorted(defines.items()))])
    name = f"{version(PACKAGE)}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    return Path(platformdirs.user_cache_dir("llama-box")) / "peer" / name


def find() -> Path | None:
    """The path of llama-server where ``find_or_build`` would not have to build it."""
    cpu = cpu_identity()  # type: ignore[no-untyped-call]
    gcc = compiler_is_gcc()  # type: ignore[no-untyped-call]
    server = folder(cpu, definitions(cpu, gcc=gcc)) / "build" / "bin" / "llama-server"
    return server if server.exists() else None


def find_or_build(chosen: Sequence[str] = (), *, jobs: int | None = None) -> Path:
    """The path of llama-server, built unless it is there. Raises PeerError, or CalledProcessError of a build step."""
    cpu = cpu_identity()  # type: ignore[no-untyped-call]
    defines = definitions(cpu, gcc=compiler_is_gcc(), chosen=chosen)  # type: ignore[no-untyped-call]
    root = folder(cpu, defines)
    server = root / "build" / "bin" / "llama-server"
    if not server.exists():  # the linker writes it last
        print(f"peer: building {server} (about 12 minutes on two cores)", file=sys.stderr, flush=True)
        source = root / "llama.cpp"
        if not source.exists():
            unpack(download(root), source)
        build(source, root / "build", defines, jobs)
    return server


def download(root: Path) -> Path:
    """The source distribution, through pip: uv has no command that only downloads."""
    found = list(root.glob("*.tar.gz"))
    if not found:
        root.mkdir(parents=True, exist_ok=True)
        wanted = [f"{PACKAGE}=={version(PACKAGE)}", "--no-deps", "--no-binary", PACKAGE, "--dest", str(root)]
        run([*uv(), "run", "--no-project", "--with", "pip", "--", "python", "-m", "pip", "download", *wanted])
        found = list(root.glob("*.tar.gz"))
    if len(found) != 1:
        msg = f"expected one source distribution in {root}, found {len(found)}"
        raise PeerError(msg)
    return found[0]


def uv() -> list[str]:
    """How uv is started here."""
    if shutil.which("uv"):
        return ["uv"]
    if subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True, check=False).returncode == 0:
        return [sys.executable, "-m", "uv"]
    msg = "uv is missing: python3 -m pip install uv"
    raise PeerError(msg)


def unpack(archive: Path, source: Path) -> None:
    """Put the archive's llama.cpp at ``source``, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=source.parent) as scratch, tarfile.open(archive) as tar:
        top = tar.next()
        if top is None:
            msg = f"{archive} is empty"
            raise PeerError(msg)
        prefix = f"{top.name.split('/')[0]}/vendor/llama.cpp/"
        tar.extractall(scratch, [m for m in tar.getmembers() if m.name.startswith(prefix)], filter="data")
        unpacked = Path(scratch) / prefix
        if not unpacked.is_dir():
            msg = f"{archive} has no vendor/llama.cpp"
            raise PeerError(msg)
        unpacked.rename(source)


def build(source: Path, target: Path, defines: dict[str, str], jobs: int | None) -> None:
    """Configure and compile llama-server."""
    for tool in ("cmake", "ninja"):
        if not shutil.which(tool):
            msg = f"{tool} is missing: uv tool install {tool}"
            raise PeerError(msg)
    options = [f"-D{key}={value}" for key, value in defines.items()]
    run(["cmake", "-G", "Ninja", "-S", str(source), "-B", str(target), *options])
    run(["ninja", "-C", str(target), *(["-j", str(jobs)] if jobs else []), "llama-server"])


def run(command: Sequence[str]) -> None:
    """Run a step; its output goes to stderr, because stdout is for the path."""
    subprocess.run(command, check=True, stdout=sys.stderr)


def main(argv: Sequence[str]) -> int:
    """Print the path of llama-server, building it first if needed."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench peer", description=__doc__)
    parser.add_argument("--define", action="append", default=[], metavar="KEY=VALUE", help="a CMake definition")
    parser.add_argument("--jobs", type=int, help="parallel compilations, default: ninja's choice")
    args = parser.parse_args(argv)
    try:
        print(find_or_build(args.define, jobs=args.jobs))
    except (PeerError, subprocess.CalledProcessError) as error:
        print(f"peer: {error}", file=sys.stderr)
        return 1
    return 0
