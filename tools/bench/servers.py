"""Start, watch and stop the servers under test. Only processes started here are ever signalled."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import trio

from tools.bench.load import Address, LoadError, connection, encode_request, exchange
from tools.bench.wire import ProtocolError

HOST = "127.0.0.1"
POLL_SECONDS = 0.025  # each look costs a millisecond of processor time that the start needs
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen(kw_only=True)
class ServerSpec:
    """How one of the two servers is started; the port is added."""

    name: str  # "ours" or "theirs"
    command: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Common:
    """What both servers are given alike."""

    model: str
    parallel: int = 9  # slots: eight streams and one newcomer
    context: int = 9 * 4096  # tokens, shared by the slots
    threads: int = 2
    extra: tuple[str, ...] = ()

    def flags(self) -> tuple[str, ...]:
        """Flags that both command lines have by the same name."""
        shape = ("-np", str(self.parallel), "-c", str(self.context), "-t", str(self.threads))
        return ("-m", self.model, *shape, "--host", HOST, "--slots", "--metrics", *self.extra)


def has_amx() -> bool:
    """Whether this processor has AMX tiles."""
    try:
        return "amx_tile" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def our_spec(common: Common, command: str | None = None, extra: Sequence[str] = ()) -> ServerSpec:
    """llama-box of this virtual environment, or ``command`` (a shell-like line) in its place."""
    executable = shlex.split(command) if command else [str(Path(sys.executable).with_name("llama-box"))]
    return ServerSpec(name="ours", command=(*executable, *common.flags(), *extra))


def their_spec(common: Common, peer: Path, extra: Sequence[str] = (), *, repack: bool) -> ServerSpec:
    """llama-server; ``repack`` False where a plain build of it crashes (AMX)."""
    flags = ("--no-webui", *(() if repack else ("--no-repack",)))
    return ServerSpec(name="theirs", command=(str(peer), *common.flags(), *flags, *extra))


@attrs.frozen
class Memory:
    """Resident memory of a server and its children, in MB (10^6 bytes), by what backs it."""

    private: float  # anonymous and shared memory: what the model file does not explain
    file: float  # pages of mapped files, the model's among them


@attrs.define
class Server:
    """A running server."""

    spec: ServerSpec
    address: Address
    log: Path
    ready_seconds: float  # from start to the first 200 of /health
    process: trio.Process

    @property
    def alive(self) -> bool:
        """Whether the process is still there."""
        return self.process.poll() is None

    def memory(self) -> Memory:
        """What it holds now."""
        totals = {"RssAnon": 0, "RssShmem": 0, "RssFile": 0}
        for pid in family(self.process.pid):
            for name, kilobytes in rss(Path(f"/proc/{pid}/status").read_text()).items():
                totals[name] += kilobytes
        return Memory((totals["RssAnon"] + totals["RssShmem"]) * 1024 / 1e6, totals["RssFile"] * 1024 / 1e6)

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        return sum(cpu_ticks(Path(f"/proc/{pid}/stat").read_text()) for pid in family(self.process.pid)) / CLOCK_TICKS

    def open_files(self) -> int:
        """Number of its file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    async def stop(self, seconds: float = 20.0) -> int:
        """SIGINT, wait, SIGKILL if it takes longer than ``seconds``; never cancelled half-way. Returns the status."""
        with trio.CancelScope(shield=True):
            if self.alive:
                self.process.send_signal(signal.SIGINT)
            with trio.move_on_after(seconds):
                await self.process.wait()
            if self.alive:
                self.process.kill()
            status: int = await self.process.wait()
        return status


def family(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def rss(status: str) -> dict[str, int]:
    """RssAnon, RssShmem and RssFile in KiB of a /proc/PID/status text."""
    fields = (line.split() for line in status.splitlines() if line.startswith(("RssAnon:", "RssShmem:", "RssFile:")))
    return {name.rstrip(":"): int(kilobytes) for name, kilobytes, _ in fields}


def cpu_ticks(stat: str) -> int:
    """User plus system time of a /proc/PID/stat text."""
    after_name = stat.rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """As users have it: a second start finds the byte code of the first."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


async def start(spec: ServerSpec, seconds: float = 180.0) -> Server:
    """Start it and wait until it is ready. Raises LoadError with the end of its log when it does not get there."""
    address = Address(HOST, free_port())
    handle, log = tempfile.mkstemp(prefix=f"bench-{spec.name}-", suffix=".log")
    began = trio.current_time()
    try:
        process = await trio.lowlevel.open_process(
            [*spec.command, "--port", str(address.port)], stdout=handle, stderr=subprocess.STDOUT, env=environment()
        )
    finally:
        os.close(handle)
    server = Server(spec, address, Path(log), 0.0, process)
    try:
        with trio.move_on_after(seconds):
            while server.alive:
                if await healthy(address):
                    server.ready_seconds = trio.current_time() - began
                    return server
                await trio.sleep(POLL_SECONDS)
    except BaseException:
        await server.stop()
        raise
    status = await server.stop()
    tail = "\n".join(server.log.read_text(errors="replace").splitlines()[-15:])
    msg = f"{shlex.join(spec.command)}: not ready (exit status {status}); end of its log:\n{tail}"
    raise LoadError(msg)


async def healthy(address: Address) -> bool:
    """Whether /health answers 200."""
    try:
        async with connection(address) as stream:
            status, _ = await exchange(stream, encode_request("GET", "/health", address))
    except (OSError, trio.BrokenResourceError, ProtocolError):
        return False
    return status == 200
