"""The page's modules by themselves: events from pieces, figures from metrics, elements from Markdown."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.page.tab import tab

READ = """\
async (pieces) => {
  const { EventReader } = await import("/ui/sse.js");
  const reader = new EventReader();
  return pieces.map((all) => all.flatMap((piece) => reader.feed(piece)));
}
"""
SHOW = """\
async (text) => {
  const { markdown } = await import("/ui/markdown.js");
  const element = markdown(text);
  for (const head of element.querySelectorAll(".code-head button")) head.remove();
  return element.innerHTML.replaceAll(' tabindex="0"', "");
}
"""
GROW = """\
async (text) => {
  const { MarkdownView, markdown } = await import("/ui/markdown.js");
  const view = new MarkdownView(document.createElement("div"));
  const wrong = [];
  for (let length = 0; length <= text.length; length += 1) {
    view.update(text.slice(0, length));
    if (view.element.innerHTML !== markdown(text.slice(0, length)).innerHTML) wrong.push(length);
  }
  const first = view.element.firstChild;
  view.update(text + " more");
  return { wrong, kept: view.element.firstChild === first };
}
"""
PARSE = """\
async (text) => {
  const { parse } = await import("/ui/prometheus.js");
  return Object.fromEntries(parse(text));
}
"""
STREAM = ": ping\n\ndata: one\n\ndata:two\ndata: three\n\nevent: x\r\ndata: f\u00fcnf\r\n\r\nerror: no\n\ndata: rest\n"
LINK = 'target="_blank" rel="noopener noreferrer nofollow"'
CODE = '<div class="code-block"><div class="code-head"><span>{}</span></div><pre><code>{}</code></pre></div>'
TABLE = (
    '<div class="scroll"><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>'
    "<strong>2</strong></td></tr><tr><td>3</td></tr></tbody></table></div>"
)
ALL = """\
# Title

Some *text* with `code` and **bold _inner_**.

- one
  - two
- three

1. a
2. b

> quote
> > deep

| a | b |
|---|---|
| 1 | 2 |

```py
x = "**"
```
---
End
"""


@pytest.fixture(scope="module")
def modules(browser: Browser, server: str) -> Iterator[Page]:
    """One tab for all: nothing here leaves a trace in it."""
    with tab(browser, server) as page:
        yield page


def test_events_come_out_whatever_pieces_they_come_in(modules: Page) -> None:
    pieces = [[STREAM[:cut], STREAM[cut:]] for cut in range(len(STREAM) + 1)]
    ending = [["\n"]] * len(pieces)
    order = [part for pair in zip(pieces, ending, strict=True) for part in pair]
    found = modules.evaluate(READ, order)
    assert found[0::2] == [["one", "two\nthree", "f\u00fcnf"]] * len(pieces)
    assert found[1::2] == [["rest"]] * len(pieces)
    assert modules.evaluate(READ, [list(STREAM)]) == [["one", "two\nthree", "f\u00fcnf"]]


def test_metrics_are_read(modules: Page) -> None:
    text = '# HELP a b\n# TYPE a counter\nllamabox:a_total 1.5\nllamabox:b{le="1"} 2\nc 1e+3\n\n'
    assert modules.evaluate(PARSE, text) == {"llamabox:a_total": 1.5, "c": 1000}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "<p>plain</p>"),
        ("two\nlines", "<p>two<br>lines</p>"),
        ("two\n\nparts", "<p>two</p><p>parts</p>"),
        ("a **bold** and *thin* and ***both***", None),
        ("**bold**, __bold__", "<p><strong>bold</strong>, <strong>bold</strong></p>"),
        ("*thin*, _thin_", "<p><em>thin</em>, <em>thin</em></p>"),
        ("~~gone~~", "<p><s>gone</s></p>"),
        ("snake_case_name 2*3*4 ** a", "<p>snake_case_name 2*3*4 ** a</p>"),
        ("`a **b** <i>`", "<p><code>a **b** &lt;i&gt;</code></p>"),
        ("``a`b``", "<p><code>a`b</code></p>"),
        (r"\*no\* \`no\`", "<p>*no* `no`</p>"),
        ("[a **b**](https://x.y/z)", f'<p><a href="https://x.y/z" {LINK}>a <strong>b</strong></a></p>'),
        ("see https://x.y/z?a=1.", f'<p>see <a href="https://x.y/z?a=1" {LINK}>https://x.y/z?a=1</a>.</p>'),
        ("[a](javascript:b)", "<p>[a](javascript:b)</p>"),
        ("[a](data:text/html,b)", "<p>[a](data:text/html,b)</p>"),
        ("# One\ntext", "<h3>One</h3><p>text</p>"),
        ("###### Six #", "<h6>Six</h6>"),
        ("#no", "<p>#no</p>"),
        ("a\n***\nb", "<p>a</p><hr><p>b</p>"),
        ("```js\nlet a;\n\n# b\n```\nc", CODE.format("js", "let a;\n\n# b") + "<p>c</p>"),
        ("~~~\na\n```\n~~~", CODE.format("", "a\n```")),
        ("```\nopen", CODE.format("", "open")),
        ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
        ("* a\n\n* b", "<ul><li>a</li><li>b</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("- a\n  - b\n    c\n- d", "<ul><li>a<ul><li>b<br>c</li></ul></li><li>d</li></ul>"),
        ("1. a\n\n   ```\n   x\n   ```\n2. b", f"<ol><li>a{CODE.format('', 'x')}</li><li>b</li></ol>"),
        ("- a\n1. b", "<ul><li>a</li></ul><ol><li>b</li></ol>"),
        ("- a\n\nb", "<ul><li>a</li></ul><p>b</p>"),
        ("> a\n> b\n\nc", "<blockquote><p>a<br>b</p></blockquote><p>c</p>"),
        (
            "|a|b|\n|-|-|\n|1|**2**|\n|3|",
            TABLE,
        ),
        ("a | b\nc", "<p>a | b<br>c</p>"),
        ("<b>&amp;</b>", "<p>&lt;b&gt;&amp;amp;&lt;/b&gt;</p>"),
        ("", ""),
    ],
)
def test_markdown(modules: Page, text: str, shown: str | None) -> None:
    found = modules.evaluate(SHOW, text)
    if shown is not None:
        assert found == shown
    else:
        assert "<strong>bold</strong> and <em>thin</em>" in found


@pytest.mark.parametrize("text", [ALL, "```\n" * 5, "- a\n" * 3 + "x", "> " * 30 + "deep", "* " * 30 + "deep"])
def test_a_text_that_grows_looks_as_if_it_had_come_at_once(modules: Page, text: str) -> None:
    grown = modules.evaluate(GROW, text)
    assert grown["wrong"] == []


def test_what_does_not_change_stays(modules: Page) -> None:
    assert modules.evaluate(GROW, ALL) == {"wrong": [], "kept": True}


@pytest.mark.parametrize(
    "piece",
    ["**a ", "*", "_a_", "`", "``a", "[a](https://a(", "> ", "- ", "| a ", "~~a", "\\", "1. a\n", "# ", "```\n"],
)
def test_no_text_is_slow(modules: Page, piece: str) -> None:
    """Twenty times the text may take twenty times as long and more, but not four hundred times: it would hang here."""
    assert isinstance(modules.evaluate(SHOW, piece * 20_000), str)
