"""URLs of clients: which addresses are public, and that nothing else is ever connected to."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trustme

from engine.errors import InvalidRequest
from llamabox.media import fetch
from llamabox.media.addresses import is_public
from llamabox.media.fetch import MOST_BYTES, Fetcher

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::", "::127.0.0.1",
        "2001:0:7f00:1::", "no address", "",
    ],
)  # fmt: skip
def test_other_addresses(address: str) -> None:
    assert not is_public(address)


@asynccontextmanager
async def serving(
    answer: Callable[[bytes], bytes], context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on loopback: its port, and the heads of the requests that it got."""
    seen: list[bytes] = []

    async def handle(stream: trio.abc.Stream) -> None:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                part = await stream.receive_some()
                if not part:
                    return
                head += part
            seen.append(head)
            await stream.send_all(answer(head))
            await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0, )  # fmt: skip
        yield listeners[0].socket.getsockname()[1], seen
        nursery.cancel_scope.cancel()


def names(**known: str | Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver; several answers to one name are given one look-up after the other."""
    left = {name: [answers] if isinstance(answers, str) else list(answers) for name, answers in known.items()}

    async def resolve(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        answers = left.get(host.split(".")[0])
        if not answers:
            raise OSError("unknown name")
        return [answers.pop(0) if len(answers) > 1 else answers[0]]

    return resolve


async def test_a_body_is_fetched() -> None:
    async with serving(lambda _: OK) as (port, seen):
        fetcher = Fetcher(allow_private=True)
        assert await fetcher.fetch(f"http://127.0.0.1:{port}/a%20b?c=d#e") == b"hello"
    assert seen[0].startswith(b"GET /a%20b?c=d HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}\r\n".encode() in seen[0].lower()


async def test_private_addresses_are_not_connected_to() -> None:
    async with serving(lambda _: OK) as (port, seen):
        for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            with pytest.raises(InvalidRequest, match="no public address"):
                await Fetcher().fetch(f"http://{host}:{port}/")
    assert seen == []


async def test_a_name_is_looked_up_once_so_its_second_answer_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: what was looked at is what is connected to."""
    async with serving(lambda _: OK) as (port, seen):
        connected: list[str] = []

        async def connect(self: object, host: str, *rest: object) -> object:
            connected.append(host)
            raise fetch.httpcore.ConnectError("nobody is there")

        monkeypatch.setattr(fetch.httpcore.TrioBackend, "connect_tcp", connect)
        fetcher = Fetcher(resolve=names(evil=["93.184.216.34", "127.0.0.1"]))
        with pytest.raises(InvalidRequest, match="could not be fetched"):
            await fetcher.fetch(f"http://evil.example:{port}/")
        assert connected == ["93.184.216.34"]
        with pytest.raises(InvalidRequest, match="no public address"):
            await fetcher.fetch(f"http://evil.example:{port}/")
    assert connected == ["93.184.216.34"]
    assert seen == []


async def test_each_redirect_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(head: bytes) -> bytes:
        return b"HTTP/1.1 302 Found\r\nLocation: http://inner.example/secret\r\nContent-Length: 0\r\n\r\n"

    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    async with serving(answer) as (port, seen):
        fetcher = Fetcher(resolve=names(outer="127.0.0.1", inner="127.0.0.2"))
        with pytest.raises(InvalidRequest, match=r"inner\.example is no public address"):
            await fetcher.fetch(f"http://outer.example:{port}/")
    assert len(seen) == 1


@pytest.mark.parametrize(("hops", "arrives"), [(3, True), (4, False)])
async def test_redirects_are_followed_up_to_three(hops: int, arrives: bool) -> None:
    def answer(head: bytes) -> bytes:
        number = int(head.split()[1][1:])
        return (
            OK if number == hops else f"HTTP/1.1 307 X\r\nLocation: /{number + 1}\r\nContent-Length: 0\r\n\r\n".encode()
        )

    async with serving(answer) as (port, _):
        fetcher = Fetcher(allow_private=True)
        if arrives:
            assert await fetcher.fetch(f"http://127.0.0.1:{port}/0") == b"hello"
            return
        with pytest.raises(InvalidRequest, match="redirects"):
            await fetcher.fetch(f"http://127.0.0.1:{port}/0")


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/", "http://u:p@x/", "data:,x", "http://[::1", "//["]
)
async def test_redirects_lead_to_http_only(location: str) -> None:
    def answer(_: bytes) -> bytes:
        return f"HTTP/1.1 301 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()

    async with serving(answer) as (port, _):
        with pytest.raises(InvalidRequest, match="is no"):
            await Fetcher(allow_private=True).fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", "could not be fetched"),
        (b"no http\r\n\r\n", "could not be fetched"),
        (b"", "could not be fetched"),
        (f"HTTP/1.1 200 OK\r\nContent-Length: {MOST_BYTES + 1}\r\n\r\n".encode(), "larger than 32 MiB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "larger|could not"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MOST_BYTES + 1), "larger than 32 MiB"),
    ],
    ids=["404", "short", "no http", "nothing", "length", "long length", "stream"],
)
async def test_bad_answers(answer: bytes, reason: str) -> None:
    async with serving(lambda _: answer) as (port, _):
        with pytest.raises(InvalidRequest, match=reason):
            await Fetcher(allow_private=True).fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "http://u@h/", "http://h:99999/", "http://h:0/", "http://[::1/", "http://h/a b"]
)
async def test_bad_urls(url: str) -> None:
    with pytest.raises(InvalidRequest, match="is no"):
        await Fetcher(allow_private=True).fetch(url)


async def test_names_that_nobody_knows() -> None:
    with pytest.raises(InvalidRequest, match="cannot be resolved"):
        await Fetcher(resolve=names()).fetch("http://nobody.example/")


async def test_the_certificate_must_be_the_hosts() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("good.example").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    resolver = names(good="127.0.0.1", other="127.0.0.1")
    async with serving(lambda _: OK, context) as (port, seen):
        fetcher = Fetcher(allow_private=True, resolve=resolver, ssl_context=trusting)
        assert await fetcher.fetch(f"https://good.example:{port}/") == b"hello"
        for bad in (
            (fetcher, f"https://other.example:{port}/"),
            (Fetcher(allow_private=True, resolve=resolver), f"https://good.example:{port}/"),
        ):
            with pytest.raises(InvalidRequest, match="could not be fetched"):
                await bad[0].fetch(bad[1])
    assert len(seen) == 1


async def test_a_server_that_says_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        await trio.sleep_forever()
        return []

    began = trio.current_time()
    with pytest.raises(InvalidRequest, match="took too long"):
        await Fetcher(resolve=never).fetch("http://slow.example/")
    assert trio.current_time() - began == fetch.CONNECT_TIMEOUT


async def test_cancelled_while_it_waits() -> None:
    asked = trio.Event()

    async def never(host: str, port: int) -> Sequence[str]:
        asked.set()
        await trio.sleep_forever()
        return []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Fetcher(resolve=never).fetch, "http://slow.example/")
        await asked.wait()
        nursery.cancel_scope.cancel()
