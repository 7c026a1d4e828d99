"""The page on the real server: tiny models for text, images in prompts and images."""

import re
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.live.process import serving
from tests.models.pictures import png
from tests.page.tab import endless, limit, send, tab, view

PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
NOTHING_CACHED = re.compile(r"\b0 cached")  # a string would be found in "30 cached" too
VIEWS = ("Chat", "Images", "Server")


def test_a_conversation(page: Page) -> None:
    limit(page, 20)
    send(page, "Hello")
    expect(page.locator(".foot")).to_contain_text("20 tokens")
    expect(page.locator(".foot")).to_contain_text(NOTHING_CACHED)
    send(page, "Go on")
    expect(page.locator(".assistant")).to_have_count(2)
    expect(page.locator(".foot").nth(1)).to_contain_text("20 tokens")
    expect(page.locator(".foot").nth(1)).not_to_contain_text(NOTHING_CACHED)  # the first turn was there already
    said = page.locator(".message").all_inner_texts()
    page.reload()
    expect(page.locator(".user")).to_have_text(["Hello", "Go on"])
    assert page.locator(".message").all_inner_texts() == said
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".message")).to_have_count(0)


def test_an_answer_streams_until_it_is_stopped(page: Page, server: str) -> None:
    endless(page)
    send(page, "Talk for ever")
    text = page.locator(".assistant .markdown").last
    expect(text).not_to_be_empty()
    early = text.inner_text()
    expect(text).not_to_have_text(early)  # it grows
    assert [slot["is_processing"] for slot in httpx.get(f"{server}/slots").json()].count(True) == 1
    expect(page.get_by_role("button", name="Send")).to_be_hidden()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".foot")).to_contain_text("stopped")
    view(page, "Server")
    expect(page.locator("#slots tbody tr")).to_have_count(3)  # two of text, one of images
    expect(page.locator("#slots tr.busy")).to_have_count(0)


def test_by_keyboard_alone(page: Page) -> None:
    limit(page, 5)
    field = page.get_by_label("Message")
    field.focus()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(page.locator(".user .plain")).to_have_text("one\ntwo")
    expect(page.locator(".foot")).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    send(page, "for ever")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.closest('#log') !== null")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.ariaLabel"))
    assert reached == ["Message", "Attach images", "Settings", "New chat", "Send"]


def test_images_go_with_a_message(page: Page, tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(png(1))
    (tmp_path / "two.png").write_bytes(png(2))
    (tmp_path / "three.txt").write_text("no image")
    limit(page, 5)
    page.locator("#files").set_input_files([tmp_path / "one.png", tmp_path / "two.png", tmp_path / "three.txt"])
    expect(page.locator("#attachments img")).to_have_count(2)
    page.get_by_role("button", name="Remove two.png").click()
    expect(page.locator("#attachments img")).to_have_count(1)
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "What is it?")
    (message,) = sent.value.post_data_json["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text"]
    assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    expect(page.locator(".user img")).to_have_count(1)
    expect(page.locator("#attachments img")).to_have_count(0)
    expect(page.locator(".foot")).to_contain_text("5 tokens")


WATCH = """\
window.seen = [];
new MutationObserver((records) => {
  for (const record of records)
    for (const node of record.addedNodes)
      if (node.tagName === "IMG" && node.closest("#gallery")) window.seen.push(node.alt);
}).observe(document, {childList: true, subtree: true});
"""


def test_an_image_comes_into_being(page: Page) -> None:
    page.evaluate(WATCH)
    view(page, "Images")
    page.get_by_label("Prompt", exact=True).fill("a cat")
    page.get_by_text("Options").click()
    for label, value in (("Width", 256), ("Height", 256), ("Steps", 3), ("Seed", 7), ("Images", 2)):
        page.locator("#image-form").get_by_label(label, exact=True).fill(str(value))
    page.get_by_role("button", name="Make image").click()
    expect(page.locator("#gallery a.button")).to_have_count(2)
    seen = page.evaluate("window.seen")
    assert seen.count("a cat") == 2
    assert seen.count("Preview of: a cat") >= 2
    for image in page.locator("#gallery img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    with page.expect_download() as download:
        page.locator("#gallery a.button").last.click()
    assert download.value.suggested_filename == "image-8.png"
    assert b"Seed: 8" in Path(download.value.path()).read_bytes()


def test_an_image_is_stopped(page: Page) -> None:
    view(page, "Images")
    page.get_by_label("Prompt", exact=True).fill("a dog")
    page.get_by_text("Options").click()
    page.get_by_label("Steps").fill("1000")
    page.get_by_role("button", name="Make image").click()
    expect(page.locator("#gallery img")).to_be_visible()  # a preview
    view(page, "Server")
    expect(page.locator("#slots tr.busy")).to_contain_text("makes image 1 of 1")
    view(page, "Images")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#gallery")).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Make image")).to_be_focused()


def test_a_refusal_of_an_image_is_shown(browser: Browser, server: str) -> None:
    with tab(browser, f"{server}/#images", expected="400") as page:
        expect(page.locator("#model")).not_to_be_empty()
        page.get_by_label("Prompt", exact=True).fill("(a:.)")
        page.get_by_role("button", name="Make image").click()
        expect(page.locator("#gallery .error")).to_contain_text("weight")


def test_the_servers_figures(page: Page, server: str) -> None:
    httpx.post(f"{server}/v1/completions", json={"prompt": "a", "max_tokens": 3, "model": "tiny"}).raise_for_status()
    view(page, "Server")
    tiles = page.locator("#figures .tile")
    expect(tiles).to_have_count(7)
    expect(tiles.filter(has_text="Cache hits")).to_contain_text("prompt tokens")
    expect(tiles.filter(has_text="Generated")).not_to_contain_text(re.compile(r"\b0 in all"))
    expect(page.locator("#models h3")).to_have_text(["tiny", "tiny-sd"])
    expect(page.locator("#features li").filter(has_text="Chat")).to_contain_text("on")
    expect(page.locator("#features li").filter(has_text="Rerank")).to_contain_text("--rerank")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(page: Page, scheme: str) -> None:
    limit(page, 5)
    send(page, "Hello")
    expect(page.locator(".foot")).to_be_visible()
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for name in VIEWS:
        view(page, name)
        if name == "Images":
            page.get_by_text("Options").click()
        if name == "Server":
            expect(page.locator("#slots table")).to_be_visible()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    for opener, dialog in (("API key", "API key"), ("Settings", "Settings")):
        if opener == "Settings":
            view(page, "Chat")
        page.get_by_role("button", name=opener).click()
        expect(page.get_by_role("dialog", name=dialog)).to_be_visible()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog", name=dialog)).to_be_hidden()


def test_on_a_phone(browser: Browser, server: str) -> None:
    with tab(browser, server, **PHONE) as page:
        expect(page.locator("#model")).to_have_text("tiny, tiny-sd")
        limit(page, 60)
        field = page.get_by_label("Message")
        field.fill("Hello")
        field.press("Enter")
        expect(field).to_have_value("Hello\n")  # a phone's keyboard has no other way to a new line
        page.get_by_role("button", name="Send").tap()
        expect(page.locator(".foot")).to_be_visible()
        for name in VIEWS:
            view(page, name)
            if name == "Server":
                expect(page.locator("#slots table")).to_be_visible()
            assert page.evaluate("document.scrollingElement.scrollWidth") == 360, name
            page.mouse.wheel(500, 0)
            assert page.evaluate("[scrollX, scrollY]") == [0, 0], name


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Browser, tiny_model: Path) -> None:
    with (
        serving("-m", str(tiny_model), "--alias", "tiny", "--api-key", "secret", "-c", "256") as (_, url),
        tab(browser, url, expected="401") as page,
    ):
        dialog = page.get_by_role("dialog", name="API key")
        expect(dialog).to_be_visible()
        for key in ("wrong", "secret"):
            page.get_by_label("Key", exact=True).fill(key)
            page.get_by_role("button", name="Use key").click()
            if key == "wrong":
                expect(page.get_by_label("Key", exact=True)).to_have_value("")
                expect(dialog).to_be_visible()
        expect(page.locator("#model")).to_have_text("tiny")
        expect(dialog).to_be_hidden()
        limit(page, 5)
        send(page, "Hello")
        expect(page.locator(".foot")).to_contain_text("5 tokens")
        page.reload()
        expect(page.locator("#model")).to_have_text("tiny")
        assert page.evaluate("localStorage.getItem('llama-box.key')") is None
        view(page, "Images")
        expect(page.locator("#images-off")).to_contain_text("--image-model")
        view(page, "Server")
        expect(page.locator("#figures")).to_contain_text("--metrics")
