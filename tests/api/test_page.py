"""The page at / and its files, without a browser."""

import logging
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from api.page.files import FILES, FOLDER, INDEX, PUBLIC
from llamabox.services import Phase
from tests.api.conftest import Client, make_services
from tests.api.images import serving as images

SERVER = f"{FOLDER}server.json"
NAMES = sorted(FILES)
SCRIPTS = [name for name in NAMES if name.endswith(".js")]
# What would make markup or code of text.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|createContextualFragment|srcdoc|\beval\b"
    r"|\bFunction\(|javascript:"
)
IMPORT = re.compile(r'^(?:import|export)[^"]*"([^"]+)";', re.MULTILINE)


def path(name: str) -> str:
    return "/" if name == INDEX else FOLDER + name


def text(name: str) -> str:
    return FILES[name].body.decode()


class Elements(HTMLParser):
    """All elements of the index: (tag, attributes)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text(INDEX))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_is_served_with_its_type_and_headers(client: Client, name: str) -> None:
    reply = await client.get(path(name))
    assert (reply.status, reply.body) == (200, FILES[name].body)
    media = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert reply.headers["Content-Type"].split(";")[0] == media[name.rpartition(".")[2]]
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_the_policy_allows_nothing_but_the_pages_own_files_and_this_server(client: Client) -> None:
    policy = (await client.get("/")).headers["Content-Security-Policy"]
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


async def test_what_a_browser_has_already_is_not_sent_again(client: Client) -> None:
    etags = set()
    for name in NAMES:
        etag = (await client.get(path(name))).headers["ETag"]
        again = await client.send("GET", path(name), headers={"If-None-Match": etag})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
        other = await client.send("GET", path(name), headers={"If-None-Match": '"another"'})
        assert (other.status, other.body) == (200, FILES[name].body)
        etags.add(etag)
    assert len(etags) == len(NAMES)


async def test_methods(client: Client) -> None:
    for name in (INDEX, "main.js"):
        assert (await client.send("HEAD", path(name))).status == 200
        reply = await client.post(path(name), {})
        assert reply.error["type"] == "invalid_request_error"
        assert reply.status == 405
        assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "name", ["index.html", "nothing.js", "", "../files.py", "..%2ffiles.py", "%2e%2e/files.py", "MAIN.JS"]
)
async def test_there_are_no_other_files(client: Client, name: str) -> None:
    reply = await client.get(FOLDER + name)
    assert (reply.status, reply.error["type"]) == (404, "not_found_error")


async def test_with_keys_the_page_is_public_and_the_server_is_not() -> None:
    client = Client(make_services(api_keys=("one",)))
    for name in NAMES:
        assert (await client.get(path(name))).status == 200
    for closed in (SERVER, "/v1/models", "/props", f"{FOLDER}nothing.js", "/index.html"):
        reply = await client.get(closed)
        assert reply.status == 401, closed
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert (await client.get(SERVER, Authorization="Bearer one")).status == 200


async def test_the_page_is_there_while_the_model_loads_and_after_it_is_gone() -> None:
    services = make_services(ready=False)
    client = Client(services)
    for phase in (None, Phase.FAILED, Phase.STOPPING):
        if phase is not None:
            services.enter(phase)
        assert all([(await client.get(path(name))).status == 200 for name in NAMES])
        assert (await client.get(SERVER)).status == 503


async def test_without_the_page_nothing_of_it_is_there() -> None:
    client = Client(make_services(ui=False))
    for name in [*PUBLIC, SERVER]:
        assert (await client.get(name)).error["type"] == "not_found_error"
    keyed = Client(make_services(ui=False, api_keys=("one",)))
    assert (await keyed.get("/")).status == 401
    assert (await keyed.get("/", Authorization="Bearer one")).status == 404


async def features(client: Client) -> dict[str, Any]:
    return (await client.get(SERVER)).json["features"]


async def test_the_server_tells_what_is_on_and_why_the_rest_is_off() -> None:
    off = await features(Client(make_services()))
    assert off.pop("chat") is None
    assert {name: bool(re.search(f"--{name}", reason)) for name, reason in off.items()} == dict.fromkeys(
        ("images", "embeddings", "rerank", "infill", "slots", "metrics"), True
    )
    on = await features(Client(make_services(slots=True, metrics=True, infill=True)))
    assert (on["slots"], on["metrics"], on["embeddings"]) == (None, None, off["embeddings"])
    assert "infill" in on["infill"]  # of the model: it has no tokens for it
    assert (await Client(make_services()).get(SERVER)).json["version"] == "0.1.0"


async def test_an_image_model_is_told() -> None:
    async with images.serving() as client:
        assert (await features(client))["images"] is None


async def test_only_the_page_itself_is_worth_a_line_of_the_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "api.access")
    for name in ("/", path("main.js"), SERVER, "/slots", "/metrics", f"{FOLDER}nothing.js"):
        await client.get(name)
    levels = [record.levelno for record in caplog.records if record.name == "api.access"]
    assert levels == [logging.INFO, *[logging.DEBUG] * 4, logging.INFO]


def test_the_index_names_only_files_of_the_page_and_has_no_inline_code() -> None:
    elements = Elements().found
    for tag, attributes in elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)
        assert tag not in {"style", "iframe", "object", "base"}
        assert tag != "script" or attributes.get("src")
        for address in (attributes.get("src"), attributes.get("href")):
            if address is not None and not address.startswith("#"):
                assert f"/{address}" in PUBLIC, address  # relative: a proxy may serve it below a prefix
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_no_markup_of_text_and_loads_nothing_from_elsewhere(name: str) -> None:
    code = re.sub(r"^\s*(?://|\*|/\*\*).*$", "", text(name), flags=re.MULTILINE)  # comments name their sources
    assert SINKS.findall(code) == []
    assert re.findall(r"https?://\w", code) == []
    for address in IMPORT.findall(text(name)):
        assert address.removeprefix("./") in FILES


def test_all_files_belong_to_the_page() -> None:
    reached, waiting = {INDEX}, re.findall(rf'"{FOLDER[1:]}([^"]+)"', text(INDEX))
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [address.removeprefix("./") for address in IMPORT.findall(text(name))]
    assert reached == set(FILES)


def test_the_style_loads_nothing() -> None:
    assert "url(" not in text("style.css")
    assert "@import" not in text("style.css")


def test_elements_that_the_scripts_look_for_exist() -> None:
    ids = {attributes["id"] for _, attributes in Elements().found if "id" in attributes}
    for name in SCRIPTS:
        assert set(re.findall(r'byId\("([^"]+)"\)', text(name))) <= ids, name
