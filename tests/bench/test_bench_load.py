"""What the client makes of chunks, and what the harness reads out of /proc and /metrics."""

import json

import pytest
import trio
import trio.testing

from tools.bench.load import Address, LoadError, Recording, apply_event, chat_body, encode_request
from tools.bench.scenarios import decode_throughput, longest_gap, span, throughput
from tools.bench.servers import Common, cpu_ticks, our_spec, rss, their_spec
from tools.bench.soak import leftovers, samples

METRICS = """# HELP llamabox:kv_cache_tokens cells
llamabox:kv_cache_tokens 12
llamabox:requests_processing{model="a"} 1
llamabox:requests_processing{model="b"} 2.0
llamabox:requests_deferred 0
llamabox:kv_cache_tokens_total 99
"""


def chunk(**delta: str | None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta}]}


async def test_only_text_counts_as_an_arrival(autojump_clock: trio.testing.MockClock) -> None:
    recording = Recording(sent=trio.current_time())
    apply_event(chunk(role="assistant", content=None), recording)
    await trio.sleep(2)
    apply_event(chunk(reasoning_content="a"), recording)
    await trio.sleep(1)
    apply_event(chunk(content="b"), recording)
    apply_event(chunk(content=""), recording)
    assert recording.text == "ab"
    assert recording.time_to_first == pytest.approx(2)
    assert len(recording.arrivals) == 2


def test_counts_are_the_servers_own() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    recording = Recording(arrivals=[1.0, 3.0])
    apply_event({"choices": [], "usage": usage}, recording)
    assert (recording.prompt_tokens, recording.completion_tokens, recording.cached_tokens) == (9, 5, 4)
    assert recording.decode_rate == 2.0  # four tokens after the first one, in two seconds


@pytest.mark.parametrize("event", [{"error": {"message": "no"}}, {"message": "no"}])
def test_an_error_event_is_an_error(event: dict[str, object]) -> None:
    with pytest.raises(LoadError, match="no"):
        apply_event(event, Recording())


async def test_reached_returns_with_the_event_and_fails_with_the_end(autojump_clock: trio.testing.MockClock) -> None:
    recording, reached = Recording(), trio.Event()

    async def wait() -> None:
        await recording.reached(2)
        reached.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        recording.note("a")
        await trio.testing.wait_all_tasks_blocked()
        assert not reached.is_set()
        recording.note("b")
    assert reached.is_set()
    recording.end()
    with pytest.raises(LoadError, match="ended after 2"):
        await recording.reached(3)


def test_a_request_is_framed_by_its_length() -> None:
    head, _, body = encode_request("POST", "/x", Address("h", 1), {"a": "é"}).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\nHost: h:1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"a": "é"}


def test_only_a_stream_asks_for_usage() -> None:
    assert chat_body([], 5)["stream_options"] == {"include_usage": True}
    assert "stream" not in chat_body([], 5, stream=False)


def test_the_gap_that_was_open_at_the_beginning_counts_and_earlier_ones_do_not() -> None:
    streams = [Recording(arrivals=[0.0, 9.0, 10.0, 14.0, 15.0]), Recording(arrivals=[0.0, 1.0])]
    assert longest_gap(streams, 12.0) == 4.0
    assert longest_gap(streams, 14.5) == 1.0
    assert longest_gap(streams, 99.0) == 0.0


def test_throughput_counts_all_streams_over_the_whole_time() -> None:
    streams = [
        Recording(sent=1.0, arrivals=[2.0, 5.0], completion_tokens=10),
        Recording(sent=0.0, arrivals=[3.0], completion_tokens=5),
    ]
    assert span(streams) == 5.0
    assert throughput(streams) == 3.0


def test_memory_and_processor_time_are_read_from_proc() -> None:
    status = "Name:\tx\nVmRSS:\t 70 kB\nRssAnon:\t 10 kB\nRssFile:\t 50 kB\nRssShmem:\t 10 kB\n"
    assert rss(status) == {"RssAnon": 10, "RssFile": 50, "RssShmem": 10}
    assert cpu_ticks("7 (a) b) S 1 1 1 0 -1 4 5 6 7 8 30 12 0 0 20 0 1") == 42


def test_both_servers_get_the_same_flags(tmp_path_factory: pytest.TempPathFactory) -> None:
    common = Common(model="m.gguf", threads=3, extra=("-fa", "on"))
    ours = our_spec(common, "python -m x", ("--mine",)).command
    theirs = their_spec(common, tmp_path_factory.getbasetemp() / "peer", ("--yours",), repack=False).command
    assert ours == ("python", "-m", "x", *common.flags(), "--mine")
    assert theirs[1:] == (*common.flags(), "--no-webui", "--no-repack", "--yours")
    assert "--no-repack" not in their_spec(common, tmp_path_factory.getbasetemp(), repack=True).command


def test_metrics_are_found_by_name_whatever_prefix_and_labels() -> None:
    assert samples(METRICS, "requests_processing") == [1.0, 2.0]
    assert samples(METRICS, "kv_cache_tokens") == [12.0]
    assert leftovers(METRICS) == ["requests_processing is 3", "kv_cache_tokens is 12"]
    assert leftovers("llamacpp:requests_processing 0\n") == []


def test_decoding_counts_from_the_last_begin_to_the_first_end() -> None:
    streams = [Recording(arrivals=[1.0, 2.0, 3.0, 4.0, 5.0]), Recording(arrivals=[3.0, 3.5, 4.0, 6.0])]
    assert decode_throughput(streams) == pytest.approx((2 + 2) / 2)


def test_streams_that_never_ran_together_have_no_rate() -> None:
    with pytest.raises(LoadError, match="before all had begun"):
        decode_throughput([Recording(arrivals=[1.0, 2.0]), Recording(arrivals=[2.0, 3.0])])
