"""The shell tools against a server that is scripted."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.conftest import TOOLS, Run, environment, needs, on_terminal
from tests.tools.fake_openai import FakeOpenAI, Reply, refusal, scripted, streamed, whole

pytestmark = needs("bash", "curl", "jq")

AWKWARD = """it's "$(touch /nowhere)" `x` \\n * 日本語 😀\n\ttwo lines"""


def test_one_question(run: Run) -> None:
    with scripted(streamed({"content": "It is "}, {"content": "Paris ✓\n"}, {"content": "."})).running() as server:
        done = run("chat.sh", AWKWARD, url=server.url)
    assert (done.returncode, done.stdout) == (0, "It is Paris ✓\n.\n")
    (asked,) = server.asked
    assert asked.body == {
        "messages": [{"role": "user", "content": AWKWARD}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert asked.headers["content-type"] == "application/json"
    assert "authorization" not in asked.headers
    assert "x-request-tokens-per-second" not in asked.headers
    assert done.stderr == ("7 prompt tokens (3 from the cache), 567.8/s, first token after 12.3 ms; 5 tokens, 40/s\n")


def test_text_is_shown_as_it_comes(tmp_path: Path) -> None:
    seen = threading.Event()

    def lines() -> Iterator[str]:
        first, *rest = [*streamed({"content": "first"}, {"content": " last"}).lines][1:]
        yield first
        if seen.wait(30):
            yield from rest

    with scripted(Reply(content_type="text/event-stream", lines=lines())).running() as server:
        with subprocess.Popen(
            [TOOLS / "chat.sh", "?"], env=environment(server.url, tmp_path), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as tool:  # fmt: skip
            assert tool.stdout is not None
            assert tool.stdout.read(5) == b"first"
            seen.set()
            assert tool.stdout.read() == b" last\n"
        assert tool.returncode == 0


def test_settings(run: Run) -> None:
    settings = {
        "FREQUENCY_PENALTY": "0.5",
        "LOGPROBS": "true",
        "TOP_LOGPROBS": "2",
        "MAX_TOKENS": "9",
        "PRESENCE_PENALTY": "-0.5",
        "RESPONSE_FORMAT": "json_object",
        "SEED": "7",
        "STOP": '["a", "\\n"]',
        "TEMP": "0",
        "TOP_P": "0.9",
        "TOOLS_WITH": "false",
        "MAX_TOKENS_PER_SECOND": "12.5",
        "API_KEY": "secret",
    }
    with scripted(streamed({"content": "x"})).running() as server:
        assert run("chat.sh", "?", url=server.url + "/", **settings).returncode == 0
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["x-request-tokens-per-second"] == "12.5"
    fields = {k: v for k, v in asked.body.items() if k not in ("messages", "stream", "stream_options")}
    assert fields == {
        "frequency_penalty": 0.5,
        "logprobs": True,
        "top_logprobs": 2,
        "max_tokens": 9,
        "presence_penalty": -0.5,
        "response_format": {"type": "json_object"},
        "seed": 7,
        "stop": ["a", "\n"],
        "temperature": 0,
        "top_p": 0.9,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("TEMP", "hot"), ("LOGPROBS", "maybe"), ("STOP", "[1"), ("RESPONSE_FORMAT", "{x"), ("API_KEY", "a\nb")],
)
def test_a_setting_that_is_wrong_is_named(run: Run, name: str, value: str) -> None:
    done = run("chat.sh", "?", **{name: value})
    assert done.returncode == 2
    assert done.stdout == ""
    assert name in done.stderr
    assert "jq" not in done.stderr


def test_a_file_with_messages(run: Run, tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": AWKWARD}]
    (tmp_path / "messages.json").write_text(json.dumps(messages), encoding="utf-8")
    with scripted(streamed({"content": "x"})).running() as server:
        assert run("chat.sh", "@messages.json", url=server.url, TEMP="0.5").stdout == "x\n"
    assert server.asked[0].body["messages"] == messages
    assert server.asked[0].body["temperature"] == 0.5


def test_a_file_with_a_request_wins_over_the_settings(run: Run, tmp_path: Path) -> None:
    request = {"messages": [{"role": "user", "content": "hi"}], "temperature": 1, "model": "m", "stream": False}
    (tmp_path / "request.json").write_text(json.dumps(request), encoding="utf-8")
    with scripted(streamed({"content": "x"})).running() as server:
        assert run("chat.sh", "@request.json", url=server.url, TEMP="0.5", SEED="3").returncode == 0
    body = server.asked[0].body
    assert (body["temperature"], body["seed"], body["model"], body["stream"]) == (1, 3, "m", True)


@pytest.mark.parametrize("text", ["", "{", "3", '{"messages": 1}', "[] []"])
def test_a_file_that_is_no_request(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text, encoding="utf-8")
    done = run("chat.sh", "@bad.json")
    assert done.returncode == 2
    assert "bad.json" in done.stderr


def test_a_file_that_is_not_there(run: Run) -> None:
    done = run("chat.sh", "@none.json")
    assert (done.returncode, "none.json" in done.stderr) == (2, True)


def call_deltas(index: int, call_id: str, name: str, *pieces: str) -> list[dict]:
    first = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": index, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [delta]} for delta in (first, *rest)]


def test_tools_are_run(run: Run) -> None:
    def script(asked) -> Reply:
        results = {m["tool_call_id"]: m["content"] for m in asked.body["messages"] if m["role"] == "tool"}
        if not results:
            return streamed(
                {"content": "Let me see."},
                *call_deltas(0, "call_a", "square", '{"num', 'ber": 1', "2}"),
                *call_deltas(1, "call_b", "get_weather", '{"city": "S', '\\u00e3o \\"Paulo\\""}'),
                finish="tool_calls",
            )
        square, weather = json.loads(results["call_a"])["square"], json.loads(results["call_b"])
        return streamed({"content": f"{square}, and {weather['sky']} in {weather['city']}"})

    with FakeOpenAI(script).running() as server:
        done = run("chat.sh", "What is 12²?", url=server.url, TOOLS_WITH="true")
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first == "Let me see."
    assert re.fullmatch(r'144, and (clear|cloudy|overcast|rain) in São "Paulo"', last)
    assert "[square: " in done.stderr
    one, two = server.asked
    offered = {tool["function"]["name"] for tool in one.body["tools"]}
    assert offered == {"get_current_date", "get_current_time", "square", "get_weather"}
    assert two.body["tools"] == one.body["tools"]
    assistant = two.body["messages"][1]
    assert assistant["content"] == "Let me see."
    assert assistant["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "square", "arguments": '{"number": 12}'}},
        {
            "id": "call_b",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "S\\u00e3o \\"Paulo\\""}'},
        },
    ]
    assert [(m["role"], m["tool_call_id"], m["name"]) for m in two.body["messages"][2:]] == [
        ("tool", "call_a", "square"),
        ("tool", "call_b", "get_weather"),
    ]
    assert done.stderr.count("prompt tokens") == 2


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [("square", '{"number": "x"}', "number must be"), ("square", "{", ""), ("rm", "{}", "no such function")],
)
def test_a_tool_that_fails_tells_the_model(run: Run, name: str, arguments: str, complaint: str) -> None:
    calls = streamed(*call_deltas(0, "call_a", name, arguments), finish="tool_calls")
    with scripted(calls, streamed({"content": "Sorry."})).running() as server:
        done = run("chat.sh", "?", url=server.url, TOOLS_WITH="true")
    assert (done.returncode, done.stdout) == (0, "Sorry.\n")
    result = json.loads(server.asked[1].body["messages"][2]["content"])
    assert complaint in result["error"]
    assert result["error"]


def test_a_model_that_calls_without_end_is_stopped(run: Run) -> None:
    with FakeOpenAI(lambda _: streamed(*call_deltas(0, "c", "square", '{"number": 1}'))).running() as server:
        done = run("chat.sh", "?", url=server.url, TOOLS_WITH="true")
    assert done.returncode == 1
    assert len(server.asked) == 8
    assert "still calls" in done.stderr


def test_calls_of_the_requests_own_functions_are_printed(run: Run, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    (tmp_path / "r.json").write_text(json.dumps({"messages": [], "tools": tools}), encoding="utf-8")
    with scripted(streamed(*call_deltas(0, "c", "f", "{}"), finish="tool_calls")).running() as server:
        done = run("chat.sh", "@r.json", url=server.url)
    assert done.returncode == 0
    assert server.asked[0].body["tools"] == tools
    assert json.loads(done.stdout) == {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_reasoning_is_not_part_of_the_output(run: Run) -> None:
    with scripted(streamed({"reasoning_content": "hmm"}, {"content": "yes"})).running() as server:
        assert run("chat.sh", "?", url=server.url).stdout == "yes\n"


def test_reasoning_is_dim_on_a_terminal(tmp_path: Path) -> None:
    reply = streamed({"reasoning_content": "h\x1b]0;m"}, {"reasoning_content": "m"}, {"content": "y\x1b[31mes\x9b"})
    with scripted(reply).running() as server:
        shown = on_terminal("stdout", "chat.sh", server.url, tmp_path)
    assert shown.replace("\r\n", "\n") == "\x1b[2mh]0;mm\x1b[0m\n\ny[31mes\n"


@pytest.mark.parametrize("name", ["chat.sh", "batch_chat.sh"])
def test_the_servers_refusal_is_shown(run: Run, name: str) -> None:
    with FakeOpenAI(lambda _: refusal(400, "temperature must be at most 2")).running() as server:
        done = run(name, "?", url=server.url)
    assert done.returncode == 1
    assert f"{name}: temperature must be at most 2\n" in done.stderr


def test_an_error_in_the_stream(run: Run) -> None:
    failure = 'error: {"message": "no memory"}\ndata: {"error": {"code": 500, "message": "no memory"}}\n\n'
    with scripted(streamed({"content": "It"}, tail=[failure])).running() as server:
        done = run("chat.sh", "?", url=server.url)
    assert (done.returncode, done.stdout) == (1, "It\n")
    assert done.stderr == "chat.sh: no memory\n"


def test_a_stream_that_breaks_off(run: Run) -> None:
    with scripted(streamed({"content": "It"}, tail=[])).running() as server:
        done = run("chat.sh", "?", url=server.url)
    assert done.returncode == 1
    assert "broke off" in done.stderr


@pytest.mark.parametrize("name", ["chat.sh", "batch_chat.sh"])
def test_no_server(run: Run, name: str) -> None:
    done = run(name, "?")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr


def test_a_conversation(run: Run) -> None:
    replies = [streamed({"content": f"answer {n}"}) for n in (1, 2)]
    with scripted(replies[0], refusal(503, "busy"), replies[1]).running() as server:
        done = run("chat.sh", url=server.url, stdin="first\n\nlost\nlast without a newline", SEED="1")
    assert done.stdout == "answer 1\nanswer 2\n"
    assert done.returncode == 1, "one of the turns failed"
    assert "chat.sh: busy" in done.stderr
    assert [m["content"] for m in server.asked[2].body["messages"]] == ["first", "answer 1", "last without a newline"]
    assert all(asked.body["seed"] == 1 for asked in server.asked)


def test_a_conversation_that_is_empty(run: Run) -> None:
    assert run("chat.sh", stdin="").returncode == 0


def test_too_many_arguments(run: Run) -> None:
    assert run("chat.sh", "two", "questions").returncode == 2


@pytest.mark.parametrize("name", ["chat.sh", "batch_chat.sh"])
def test_help(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert "@FILE.json" in done.stdout


def test_batch(run: Run) -> None:
    with FakeOpenAI(lambda _: whole("x")).running() as server:
        done = run("batch_chat.sh", AWKWARD, "1", "3", url=server.url, API_KEY="secret")
    assert done.returncode == 0, done.stderr
    head, *rows = [line.split() for line in done.stdout.splitlines()]
    assert head == ["requests", "failed", "tokens", "seconds", "tokens/s", "each", "tokens/s", "first", "token", "ms"]
    assert [row[:3] for row in rows] == [["1", "0", "5"], ["3", "0", "15"]]
    for row in rows:
        seconds, rate, each, first_token = map(float, row[3:])
        assert rate > 0
        assert seconds > 0
        assert (each, first_token) == (40.0, 12.0)
    assert len(server.asked) == 4
    for asked in server.asked:
        assert asked.body == {"messages": [{"role": "user", "content": AWKWARD}], "max_tokens": 128}
        assert asked.headers["authorization"] == "Bearer secret"


def test_batch_counts_what_fails(run: Run) -> None:
    replies = iter([whole("x"), refusal(503, "busy")])
    with FakeOpenAI(lambda _: next(replies)).running() as server:
        done = run("batch_chat.sh", "?", "2", url=server.url)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split()[:3] == ["2", "1", "5"]
    assert "busy" in done.stderr


@pytest.mark.parametrize("count", ["0", "-1", "x", "1;2", "1000000"])
def test_a_wave_is_a_number(run: Run, count: str) -> None:
    done = run("batch_chat.sh", "?", count)
    assert done.returncode == 2
    assert count in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("square", '{"number": -1.5}', {"square": 2.25}),
        ("get_current_date", "{}", {"date": r"\d{4}-\d\d-\d\d", "weekday": r"\w+day"}),
        ("get_current_time", '{"utc": true}', {"time": r"\d\d:\d\d:\d\d", "utc_offset": r"\+0000"}),
        ("get_weather", '{"city": "Oslo"}', {"city": "Oslo", "temperature": 20, "unit": "celsius", "sky": "cloudy"}),
    ],
)
def test_tool_scripts(run: Run, name: str, arguments: str, result: dict) -> None:
    script = f"chat_tool_{name}.sh"
    schema = json.loads(run(script, "schema").stdout)
    assert schema["function"]["name"] == name
    assert schema["function"]["parameters"]["type"] == "object"
    told = json.loads(run(script, "call", stdin=arguments).stdout)
    assert set(told) == set(result)
    for key, value in result.items():
        assert told[key] == value or re.fullmatch(str(value), str(told[key]))
    assert run(script, "other").returncode == 2


def test_shellcheck() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    scripts = sorted(f"tools/{path.name}" for path in TOOLS.glob("*.sh"))
    done = subprocess.run([shellcheck, "-x", *scripts], cwd=TOOLS.parent, capture_output=True, text=True, check=False)
    assert done.stdout == ""
