"""The nginx configuration: events pass one by one, sessions keep their replica, the other one steps in."""

import socket
import threading
from pathlib import Path

import httpx

from tests.deploy.nginx import nginx
from tests.live.process import serving
from tests.live.test_rpc import CHAT
from tests.live.workers import LOOPBACK

SESSIONS = [f"session-{number}" for number in range(24)]


def test_each_event_arrives_before_the_next_is_sent(tmp_path: Path) -> None:
    """The replica waits for the client to have an event before it sends the next: buffering would stop both."""
    n_events = 5
    arrived = [threading.Event() for _ in range(n_events)]

    with socket.create_server((LOOPBACK, 0)) as replica:

        def play() -> None:
            connection, _ = replica.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                for number, event in enumerate(arrived):
                    connection.sendall(b"data: %d\n\n" % number)
                    assert event.wait(60)

        thread = threading.Thread(target=play)
        with nginx(tmp_path, [f"{LOOPBACK}:{replica.getsockname()[1]}"] * 2) as url:
            thread.start()
            with httpx.stream("POST", f"{url}/v1/chat/completions", json={}, timeout=60) as reply:
                events = (line for line in reply.iter_lines() if line)
                for number, event in enumerate(arrived):
                    assert next(events) == f"data: {number}"
                    event.set()
                assert list(events) == []
            thread.join()


def replica_of(url: str, session: str) -> str:
    answer = httpx.get(f"{url}/v1/models", headers={"X-Session-ID": session}, timeout=60)
    name: str = answer.json()["data"][0]["id"]
    return name


def test_sessions_stay_and_survive_a_replica(tiny_model: Path, tmp_path: Path) -> None:
    model = ("-m", str(tiny_model), "-c", "512")
    with serving(*model, "-a", "second") as (_, second):
        with serving(*model, "-a", "first") as (_, first), nginx(tmp_path, [bare(first), bare(second)]) as url:
            homes = {session: replica_of(url, session) for session in SESSIONS}
            assert set(homes.values()) == {"first", "second"}
            assert {session: replica_of(url, session) for session in SESSIONS} == homes
            nobody = {httpx.get(f"{url}/v1/models", timeout=60).json()["data"][0]["id"] for _ in range(8)}
            assert len(nobody) == 1  # one address, one replica
        # The first one has ended, and nginx with it; now it meets a replica that is down from the start.
        with nginx(tmp_path, [bare(first), bare(second)]) as url:
            lost = next(session for session, home in homes.items() if home == "first")
            answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers={"X-Session-ID": lost}, timeout=60)
            assert answer.status_code == 200
            assert answer.json()["choices"][0]["message"]["content"]
            assert {replica_of(url, session) for session in SESSIONS} == {"second"}


def bare(url: str) -> str:
    return url.removeprefix("http://")


def test_a_replica_that_is_not_ready_is_passed_over(tmp_path: Path) -> None:
    """503 is what a replica says while it loads or ends: the request goes on to the other one, POST too."""
    answers = {"loading": b"503 Service Unavailable", "ready": b"200 OK"}
    with socket.create_server((LOOPBACK, 0)) as loading, socket.create_server((LOOPBACK, 0)) as ready:
        heard: list[tuple[str, bytes]] = []
        stop = threading.Event()

        def play(name: str, listening: socket.socket) -> None:
            while True:
                connection, _ = listening.accept()
                with connection:
                    if stop.is_set():
                        return
                    request = connection.recv(65536)
                    heard.append((name, request))
                    connection.sendall(
                        b"HTTP/1.1 " + answers[name] + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )

        players = [threading.Thread(target=play, args=each) for each in (("loading", loading), ("ready", ready))]
        for player in players:
            player.start()
        addresses = [f"{LOOPBACK}:{each.getsockname()[1]}" for each in (loading, ready)]
        try:
            with nginx(tmp_path, addresses) as url:
                for session in SESSIONS:
                    reply = httpx.post(f"{url}/completion", json={"prompt": session}, headers={"X-Session-ID": session})
                    assert reply.status_code == 200
        finally:
            stop.set()
            for address in addresses:
                host, port = address.split(":")
                socket.create_connection((host, int(port))).close()
            for player in players:
                player.join()
    assert {name for name, _ in heard} == {"loading", "ready"}
    (again,) = [request for name, request in heard if name == "loading"][:1]
    assert again.split(b"\r\n\r\n")[1] in [request.split(b"\r\n\r\n")[1] for name, request in heard if name == "ready"]
