"""What the tests of the page have in common: a tab that fails the test when something goes wrong in it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, Route, expect

PATIENCE = 60_000  # milliseconds; a hung page must fail the test, not hang the run
CHAT = "**/v1/chat/completions"
USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 20},
    "tokens_per_second": 34.56,
    "time_to_first_token_ms": 120.4,
}


@contextmanager
def tab(browser: Browser, url: str, *, expected: str | None = None, **options: Any) -> Iterator[Page]:
    """A page of its own at ``url``, nothing of another's stored in it.

    Errors on its console, uncaught exceptions and breaches of the policy fail the test, except those with the text
    ``expected`` (a browser logs each response that is no success as an error).
    """
    troubles: list[str] = []
    with browser.new_context(**options) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(url)
        yield page
    assert [text for text in troubles if expected is None or expected not in text] == []


def events(*bodies: Any, done: bool = True) -> str:
    """A stream with these events."""
    texts = [f"data: {json.dumps(body)}\n\n" for body in bodies]
    return "".join(texts) + ("data: [DONE]\n\n" if done else "")


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage() -> dict[str, Any]:
    return {"choices": [], "usage": USAGE}


def answer_with(page: Page, *streams: str) -> list[dict[str, Any]]:
    """Answer the chat's requests with these streams, in order. The bodies of the requests, as they come."""
    bodies: list[dict[str, Any]] = []
    waiting = iter(streams)

    def fulfil(route: Route) -> None:
        bodies.append(route.request.post_data_json)
        route.fulfill(status=200, content_type="text/event-stream", body=next(waiting))

    page.route(CHAT, fulfil)
    return bodies


def send(page: Page, text: str) -> None:
    """Say it in the chat."""
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def limit(page: Page, tokens: int) -> None:
    """Let answers have so many tokens."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_role("button", name="Save").click()


def view(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.get_by_role("region", name=name, exact=True)).to_be_visible()


def endless(page: Page) -> None:
    """Have the model's end token no say in the chat's answers: they last until they are stopped."""

    def ask(route: Route) -> None:
        route.continue_(post_data={**route.request.post_data_json, "ignore_eos": True})

    page.route(CHAT, ask)
