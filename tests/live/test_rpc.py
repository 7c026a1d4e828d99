"""One model over several machines: llama-box with RPC servers of its own, which answer, are not there, and die."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.live.network import Machines, NoNetworkError, network
from tests.live.process import launch, serving
from tests.live.test_process import ENDLESS, run
from tests.live.workers import LOOPBACK, LOST, Client, Worker, check_loss, client, free_port, worker

CHAT = {"messages": [{"role": "user", "content": "Tell me of the sea"}], "max_tokens": 24, "temperature": 0}


def text_of(url: str) -> str:
    answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=60)
    content: str = answer.json()["choices"][0]["message"]["content"]
    assert content
    return content


@pytest.fixture(scope="module")
def local_text(tiny_model: Path) -> str:
    with serving("-m", str(tiny_model), "-c", "512") as (_, url):
        return text_of(url)


@pytest.fixture
def two_workers() -> Iterator[tuple[Worker, Worker]]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(worker()) for _ in range(2))
        yield first, second


def client_of(tiny_model: Path, endpoints: str, *more: str) -> Client:
    """A server whose model all the RPC servers hold."""
    return client("-m", str(tiny_model), "-c", "4096", "--rpc", endpoints, *more, holding=r"(\d) of \1")


def test_a_model_over_two_servers_says_the_same(
    tiny_model: Path, local_text: str, two_workers: tuple[Worker, Worker]
) -> None:
    first, second = two_workers
    endpoints = f"{first.endpoint},{second.endpoint}"
    listed = run("--rpc", endpoints, "--list-devices")
    assert listed.returncode == 0
    devices = listed.stdout.splitlines()
    assert [line.split(" (")[0] for line in devices[:2]] == [f"RPC0: {first.endpoint}", f"RPC1: {second.endpoint}"]
    assert devices[2].startswith("CPU: ")

    with client_of(tiny_model, endpoints, "-ts", "1,2", "-ot", "1.ffn_up=CPU", "-v") as (server, url):
        assert text_of(url) == local_text
        # Idle now; a server that is told to end does so cleanly, and whom it served notices.
        second.process.signal(signal.SIGTERM)
        assert second.process.wait() == 0, second.process.log
        assert server.wait() == LOST, server.log
    for each in two_workers:
        assert f"RPC0[{each.endpoint}] model buffer size" in server.log
    assert re.search(r"tensor blk\.1\.ffn_up\.weight .* buffer type overridden to CPU", server.log)
    assert f"RPC server {second.endpoint} is gone" in server.log
    assert "Traceback" not in server.log, server.log
    first.process.signal(signal.SIGTERM)
    assert first.process.wait() == 0, first.process.log


@pytest.fixture
def machines() -> Iterator[Machines]:
    with ExitStack() as stack:
        try:
            made = stack.enter_context(network())
        except NoNetworkError as error:
            pytest.skip(str(error))
        yield made


def test_one_model_over_two_machines(tiny_model: Path, tmp_path: Path, machines: Machines, local_text: str) -> None:
    client, others = machines
    path = tmp_path / "box.sock"  # reached from outside the namespace
    with ExitStack() as stack:
        for namespace, _ in others:
            servant = launch("--rpc-server-port", "50052", prefix=("ip", "netns", "exec", namespace))
            stack.callback(servant.end)
            servant.wait_for("ANYBODY WHO REACHES 0.0.0.0:50052 CAN USE THIS PROCESS")
            servant.wait_for("listening on 0.0.0.0:50052")
        endpoints = ",".join(f"{address}:50052" for _, address in others)
        server = launch(
            "-m", str(tiny_model), "-c", "512", "--rpc", endpoints, "-ts", "1,1", "--host", str(path),
            prefix=("ip", "netns", "exec", client),
        )  # fmt: skip
        stack.callback(server.end)
        server.wait_for("2 of 2 RPC servers hold a part of the model")
        server.wait_for("ready after")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://box", timeout=60) as here:
            answer = here.post("/v1/chat/completions", json=CHAT).json()
        assert answer["choices"][0]["message"]["content"] == local_text
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.log


def test_without_a_server_it_does_not_start(tiny_model: Path) -> None:
    endpoint = f"{LOOPBACK}:{free_port()}"
    answer = run("-m", str(tiny_model), "--rpc", endpoint)
    assert answer.returncode == LOST
    assert answer.stderr == f"llama-box: --rpc: RPC server {endpoint}: cannot connect: Connection refused\n"


def test_a_server_that_dies_ends_the_process(tiny_model: Path) -> None:
    """With a message, an exit status of its own, and an error event for each stream."""
    with worker() as servant, client_of(tiny_model, servant.endpoint) as (server, url):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=ENDLESS, timeout=60) as reply:
            lines = reply.iter_lines()
            text = next(lines)
            servant.process.signal(signal.SIGKILL)
            text += "\n".join(lines)
        check_loss(server, servant, text)
