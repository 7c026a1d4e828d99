"""What the page makes of replies that no tiny model gives: reasoning, calls, markup, failures."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.page.tab import answer_with, chunk, events, send, tab, usage

MARKUP = """\
<img src=x onerror="window.hit = 1"><script>window.hit = 2</script> &amp; <b>no</b>

[link](javascript:window.hit=3) [page](https://example.org/a_(b)) ![picture](https://example.org/x.png)

```html
<script>window.hit = 4</script>
```
"""
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


@pytest.fixture
def other(browser: Browser, server: str) -> Iterator[Page]:
    """A tab in which requests may fail."""
    with tab(browser, server, expected="Failed to load resource") as page:
        expect(page.locator("#model")).not_to_be_empty()
        yield page


def test_text_of_a_model_never_becomes_markup(page: Page) -> None:
    name = "<img src=x onerror='window.hit = 5'>"
    call = {"index": 0, "id": "1", "function": {"name": name, "arguments": '{"a": "<b>"}'}}
    answer_with(
        page,
        events(chunk(reasoning_content=MARKUP), chunk(content=MARKUP), chunk(tool_calls=[call]), chunk("tool_calls")),
    )
    send(page, MARKUP)
    expect(page.locator(".foot")).to_be_visible()
    log = page.locator("#log")
    assert log.locator("img, script, b, iframe, style").count() == 0
    assert page.evaluate("window.hit") is None
    assert [link.get_attribute("href") for link in log.locator(".reasoning + .markdown a").all()] == [
        "https://example.org/a_(b)",
        "https://example.org/x.png",
    ]
    for link in log.locator("a").all():
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert log.locator(".user").inner_text() == MARKUP.rstrip()
    expect(log.locator(".call code").first).to_have_text(name)
    expect(log.locator(".markdown").last).to_contain_text('<img src=x onerror="window.hit = 1">')


def test_reasoning_is_folded_when_the_answer_begins_and_can_be_opened(page: Page) -> None:
    bodies = answer_with(
        page,
        events(chunk(reasoning_content="Let me "), chunk(reasoning_content="see."), chunk(content="**Yes.**"), usage()),
        events(chunk(content="ok"), chunk("stop"), usage()),
    )
    send(page, "Is it?")
    expect(page.locator(".assistant strong")).to_have_text("Yes.")
    reasoning = page.locator(".reasoning")
    expect(reasoning.locator(".markdown")).to_be_hidden()
    reasoning.get_by_text("Reasoning").click()
    expect(reasoning.locator(".markdown")).to_have_text("Let me see.")
    expect(page.locator(".foot")).to_contain_text(
        "12 tokens · 34.6 tokens/s · first after 120 ms · prompt 30, 20 cached"
    )
    send(page, "Sure?")
    expect(page.locator(".assistant")).to_have_count(2)
    expect(page.locator(".foot").nth(1)).to_be_visible()
    assert bodies[1]["messages"] == [
        {"role": "user", "content": "Is it?"},
        {"role": "assistant", "content": "**Yes.**", "reasoning_content": "Let me see."},
        {"role": "user", "content": "Sure?"},
    ]
    assert bodies[1]["stream_options"] == {"include_usage": True}


def test_calls_get_results(page: Page) -> None:
    def part(index: int, arguments: str, **more: str) -> dict[str, object]:
        return chunk(tool_calls=[{"index": index, "function": {"arguments": arguments, **more}, "id": f"call-{index}"}])

    calls = [part(0, "", name="get_weather"), part(0, '{"city": '), part(0, '"Bern"}'), part(1, "{}", name="get_time")]
    bodies = answer_with(
        page,
        events(*calls, chunk("tool_calls"), usage()),
        events(chunk(content="Sunny."), chunk("stop"), usage()),
    )
    page.get_by_role("button", name="Settings").click()
    tools = page.get_by_label("Tools (JSON list)")
    for wrong in ("{", "{}"):
        tools.fill(wrong)
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#settings-error")).to_contain_text("Tools:")
    tools.fill(json.dumps([TOOL]))
    page.get_by_role("button", name="Save").click()
    send(page, "Weather?")
    expect(page.locator(".call pre").first).to_have_text('{\n  "city": "Bern"\n}')
    page.get_by_label("Result of get_weather").fill("sun")
    page.get_by_label("Result of get_time").fill("noon")
    page.get_by_role("button", name="Give results").click()
    expect(page.locator(".assistant .markdown").last).to_have_text("Sunny.")
    expect(page.locator(".message.tool pre")).to_have_text(["sun", "noon"])
    assert bodies[0]["tools"] == [TOOL]
    assert bodies[1]["messages"][1]["tool_calls"] == [
        {"id": "call-0", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'}},
        {"id": "call-1", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
    ]
    assert bodies[1]["messages"][2:] == [
        {"role": "tool", "tool_call_id": "call-0", "content": "sun"},
        {"role": "tool", "tool_call_id": "call-1", "content": "noon"},
    ]


def test_calls_that_get_no_result_are_answered_all_the_same(page: Page) -> None:
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
    bodies = answer_with(page, events(chunk(tool_calls=[call])), events(chunk(content="ok")))
    send(page, "one")
    expect(page.get_by_label("Result of f")).to_be_visible()
    send(page, "two")
    expect(page.locator(".assistant")).to_have_count(2)
    assert [message["role"] for message in bodies[1]["messages"]] == ["user", "assistant", "tool", "user"]
    expect(page.locator(".results")).to_have_count(0)


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (
            'error: {"code": 500}\ndata: {"error": {"code": 500, "message": "The engine broke"}}\n\n',
            "The engine broke",
        ),
        ("", "The connection ended before the answer did."),
    ],
)
def test_a_stream_that_fails_says_so_and_can_be_tried_again(page: Page, stream: str, told: str) -> None:
    bodies = answer_with(
        page, events(chunk(content="Half"), done=False) + stream, events(chunk(content="Whole"), chunk("stop"))
    )
    send(page, "Hello")
    expect(page.get_by_role("alert")).to_contain_text(told)
    expect(page.locator(".assistant .markdown").last).to_have_text("Half")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".assistant .markdown").last).to_have_text("Whole")
    expect(page.locator(".assistant")).to_have_count(1)
    expect(page.locator(".failure")).to_have_count(0)
    assert bodies[0]["messages"] == bodies[1]["messages"] == [{"role": "user", "content": "Hello"}]


def test_a_refusal_is_shown_with_its_reason(other: Page, server: str) -> None:
    other.get_by_role("button", name="Settings").click()
    other.get_by_label("Tools (JSON list)").fill('[{"type": "nonsense"}]')
    other.get_by_role("button", name="Save").click()
    send(other, "Hello")
    expect(other.locator(".failure")).to_contain_text("tools")
    expect(other.locator(".assistant")).to_have_count(0)


def test_another_answer_takes_the_place_of_the_last(page: Page) -> None:
    bodies = answer_with(page, events(chunk(content="One")), events(chunk(content="Two")))
    send(page, "Hello")
    expect(page.locator(".assistant .markdown").last).to_have_text("One")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".assistant .markdown").last).to_have_text("Two")
    assert bodies[0] == bodies[1]


def test_settings_reach_the_request_and_are_kept(page: Page) -> None:
    bodies = answer_with(page, *[events(chunk(content="ok"))] * 2)
    page.get_by_role("button", name="Settings").click()
    values = {"System prompt": "Be brief.", "Temperature": "0.5", "Top p": "0.75", "Most tokens": "9", "Seed": "3"}
    for label, value in values.items():
        page.get_by_role("dialog").get_by_label(label).fill(value)
    page.get_by_role("dialog").get_by_label("Reasoning").select_option("off")
    page.get_by_role("button", name="Save").click()
    page.reload()
    expect(page.locator("#model")).not_to_be_empty()
    send(page, "Hello")
    expect(page.locator(".foot")).to_be_visible()
    body = bodies[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed")} == {
        "temperature": 0.5,
        "top_p": 0.75,
        "max_tokens": 9,
        "seed": 3,
    }
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("dialog").get_by_label("Seed").fill("4")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".foot")).to_be_visible()
    assert bodies[1]["seed"] == 3


def test_copying(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answer_with(page, events(chunk(content="See:\n\n```js\nlet a = 1;\n```\n")))
    send(page, "Hello")
    page.get_by_role("button", name="Copy this code").click()
    expect(page.locator("#announce")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "let a = 1;"
    page.get_by_role("button", name="Copy this answer").click()
    expect(page.get_by_role("button", name="Copy this answer")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "See:\n\n```js\nlet a = 1;\n```\n"


def test_the_page_waits_for_a_model_that_loads(browser: Browser, server: str) -> None:
    with tab(browser, "about:blank", expected="503") as page:
        answers = iter([True, False])

        def loading(route: Route) -> None:
            if next(answers, False):
                body = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
                route.fulfill(status=503, json=body)
            else:
                route.continue_()

        page.route("**/ui/server.json", loading)
        page.clock.install()
        page.goto(server)
        expect(page.locator("#notice")).to_have_text("Loading model…")
        page.clock.run_for(2000)
        expect(page.locator("#model")).to_have_text("tiny, tiny-sd")
        expect(page.locator("#notice")).to_be_hidden()


def test_a_server_that_only_makes_images_shows_them_first(browser: Browser, server: str) -> None:
    with tab(browser, "about:blank") as page:

        def images_only(route: Route) -> None:
            about = route.fetch().json()
            about["features"]["chat"] = "The loaded model generates no text"
            route.fulfill(json=about)

        def models(route: Route) -> None:
            known = route.fetch().json()
            known["data"] = [entry for entry in known["data"] if entry["id"] == "tiny-sd"]
            route.fulfill(json=known)

        page.route("**/ui/server.json", images_only)
        page.route("**/v1/models", models)
        page.goto(server)
        expect(page.get_by_role("region", name="Images")).to_be_visible()
        page.get_by_role("link", name="Chat").click()
        expect(page.locator("#empty")).to_have_text("The loaded model generates no text")
        expect(page.get_by_label("Message")).to_be_disabled()
        page.get_by_role("link", name="Server").click()
        expect(page.locator("#figures .tile")).to_have_count(2)
