"""The process as a whole: start, refusals, listening, signals, the end."""

import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
import trustme

from tests.live.process import environment, launch, serving

CHAT = {"messages": [{"role": "user", "content": "Tell me"}], "max_tokens": 8, "temperature": 0}
ENDLESS = {"messages": [{"role": "user", "content": "Tell me"}], "temperature": 0, "ignore_eos": True, "stream": True}


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("llama-box")
    return subprocess.run(
        [str(script), *arguments], capture_output=True, text=True, timeout=60, check=False, env=env or environment()
    )


def test_version_and_help() -> None:
    version = run("--version")
    assert version.returncode == 0
    assert "llama-box 0." in version.stdout
    assert "llama-cpp-python" in version.stdout
    shown = run("--help")
    assert shown.returncode == 0
    assert "--ctx-size" in shown.stdout
    assert "LLAMA_ARG_CTX_SIZE" in shown.stdout


def test_wrong_flag_names_the_right_one() -> None:
    answer = run("--ctx-sise", "12")
    assert answer.returncode == 2
    assert "--ctx-sise" in answer.stderr
    assert "--ctx-size" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "empty"), (b"PK\x03\x04 not a model at all, padded" * 4, "GGUF")],
    ids=["missing", "empty", "foreign"],
)
def test_bad_model_file(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)
    answer = run("-m", str(path), "--port", "0")
    assert answer.returncode in (1, 2)
    assert "broken.gguf" in answer.stderr
    assert reason in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("--grammar", "root ::= (", "the grammar is no valid GBNF"),
        ("--json-schema", '{"type": "nonsense"}', "the grammar cannot be used: JSON schema: Invalid type: nonsense"),
        ("--json-schema", '{"$ref": "#/nowhere"}', "the grammar cannot be used: JSON schema"),
        ("--logit-bias", "2000000000+1", "token 2000000000 is not in the vocabulary"),
        ("--temp", "1e39", "temperature must be a finite number"),
    ],
)
def test_a_flag_that_every_request_would_fail_by_ends_the_start(
    tiny_model: Path, flag: str, value: str, reason: str
) -> None:
    answer = run("-m", str(tiny_model), "--port", "0", flag, value)
    assert answer.returncode == 1
    assert f" {flag}: " in answer.stderr
    assert reason in answer.stderr
    assert "Traceback" not in answer.stderr


def test_truncated_model_file(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "truncated.gguf"
    path.write_bytes(tiny_model.read_bytes()[:100_000])
    answer = run("-m", str(path), "--port", "0")
    assert answer.returncode == 1
    assert "truncated.gguf" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_port_in_use(tiny_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = run("-m", str(tiny_model), "--port", str(port))
    assert answer.returncode == 1
    assert f"127.0.0.1:{port}" in answer.stderr
    assert "in use" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_unreadable_key_file(tiny_model: Path, tmp_path: Path) -> None:
    answer = run("-m", str(tiny_model), "--api-key-file", str(tmp_path / "nokeys"))
    assert answer.returncode == 2
    assert "nokeys" in answer.stderr


def test_api_keys_from_a_file(tiny_model: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# team\nalpha\nbeta\n")
    with serving("-m", str(tiny_model), "--api-key-file", str(keys)) as (_, url):
        assert httpx.get(f"{url}/health").status_code == 200
        refused = httpx.post(f"{url}/v1/chat/completions", json=CHAT)
        assert refused.status_code == 401
        assert refused.json()["error"]["message"] == "Invalid API Key"
        allowed = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers={"Authorization": "Bearer beta"})
        assert allowed.status_code == 200


def test_unix_socket_and_a_second_host(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "box.sock"
    with serving("-m", str(tiny_model), "--host", f"127.0.0.1,{path}") as (_, url):
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://box/health").json() == {"status": "ok"}
        assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    assert not path.exists()


def test_tls(tiny_model: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    key, chain = tmp_path / "key.pem", tmp_path / "cert.pem"
    certificate.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    arguments = ("-m", str(tiny_model), "--ssl-key-file", str(key), "--ssl-cert-file", str(chain))
    with serving(*arguments) as (_, url):
        assert url.startswith("https://")
        assert httpx.get(f"{url}/health", verify=context).json() == {"status": "ok"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_idle(tiny_model: Path, number: signal.Signals) -> None:
    server = launch("--port", "0", "-m", str(tiny_model))
    server.wait_for("ready after")
    server.signal(number)
    assert server.wait() == 0
    assert "Traceback" not in server.log


def test_interrupt_under_eight_streams(tiny_model: Path) -> None:
    """A second signal ends running streams at once: each with an error event, none with [DONE]."""
    server = launch("--port", "0", "-m", str(tiny_model), "-np", "8", "-c", "32768")
    ended: list[str] = []
    started = threading.Barrier(9)
    try:
        url = server.wait_for(r"listening on (\S+)")[1]
        server.wait_for("ready after")

        def stream() -> None:
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=ENDLESS, timeout=60) as reply:
                lines = reply.iter_lines()
                first = next(lines)
                started.wait(timeout=60)
                ended.append("\n".join([first, *lines]))

        threads = [threading.Thread(target=stream) for _ in range(8)]
        for thread in threads:
            thread.start()
        started.wait(timeout=60)
        server.signal(signal.SIGINT)
        server.wait_for("waiting up to")
        server.signal(signal.SIGINT)
        for thread in threads:
            thread.join()
        assert server.wait() == 0, server.log
    finally:
        server.end()
    assert len(ended) == 8
    for text in ended:
        assert "error: " in text[-2000:]
        assert "shutting down" in text[-2000:]
        assert "[DONE]" not in text
    assert "Traceback" not in server.log, server.log
    assert "Exception" not in server.log, server.log


def test_running_streams_may_finish(tiny_model: Path) -> None:
    """One signal: what runs goes on to its end, new requests are refused."""
    with serving("-m", str(tiny_model), "-c", "4096") as (server, url):
        body = ENDLESS | {"max_tokens": 400}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as reply:
            lines = reply.iter_lines()
            first = next(lines)
            server.signal(signal.SIGTERM)
            text = "\n".join([first, *lines])
        assert text.rstrip().endswith("data: [DONE]")


def test_loading_answers_503(demo_model: Path) -> None:
    server = launch("--port", "0", "-m", str(demo_model))
    try:
        url = server.wait_for(r"listening on (\S+)")[1]
        answer = httpx.get(f"{url}/health")
        loading = {"code": 503, "message": "Loading model", "type": "unavailable_error", "param": None}
        assert (answer.status_code, answer.json()) in ((503, {"error": loading}), (200, {"status": "ok"}))
        server.signal(signal.SIGINT)  # also while it loads: a clean end
        assert server.wait() == 0, server.log
        assert "Traceback" not in server.log
    finally:
        server.end()


def test_environment_variables(tiny_model: Path) -> None:
    env = environment(LLAMA_ARG_MODEL=str(tiny_model), LLAMA_ARG_N_PARALLEL="3", LLAMA_ARG_CTX_SIZE="768")
    with serving(env=env) as (server, url):
        assert httpx.get(f"{url}/props").json()["total_slots"] == 3
        assert any("3 slots of 256 tokens" in line for line in server.lines)
