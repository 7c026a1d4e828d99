from typing import Any

import pytest

from llamabox.chat.budget import Budget, Limits, copy_plain
from llamabox.chat.errors import TemplateError, TemplateLimitError, TemplateSyntaxInvalidError
from llamabox.chat.template import MAX_SOURCE, ChatTemplate

SMALL = Limits(steps=20_000, chars=1_000_000, output=100_000)


def render(source: str, limits: Limits = SMALL, **variables: Any) -> str:
    return ChatTemplate(source).render(variables, limits)


BOMBS = {
    "power": "{{ 10**(10**8) }}",
    "power in a set": "{% set x = 10**(10**8) %}",
    "powers of powers": "{{ ((((((9**99)**99)**99)**99)**99)**99) }}",
    "repeated text": "{{ 'A'*10**9 }}",
    "repeated text, other order": "{% set x = 1000000000 * 'A' %}",
    "repeated list": "{% set x = [0] * 1000000000 %}",
    "product": "{% set ns = namespace(x=3) %}{% for i in range(100) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "wide format": "{{ '{:>1000000000}'.format(1) }}",
    "wide format, nested width": "{{ '{:>{w}}'.format(1, w=1000000000) }}",
    "wide format_map": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "wide percent": "{{ '%1000000000d' % 1 }}",
    "wide percent, starred": "{{ '%*d' % (1000000000, 1) }}",
    "wide format filter": "{{ '%1000000000d'|format(1) }}",
    "precise percent": "{{ '%.1000000000f' % 1.5 }}",
    "center": "{{ 'a'|center(1000000000) }}",
    "center method": "{{ 'a'.center(1000000000) }}",
    "many centers": "{{ range(1000)|map('center', 900000)|list|length }}",
    "mapped method": "{% for i in range(1000) %}{% set x = 'a'.ljust(999999) %}{% endfor %}",
    "indent": "{{ 'a\nb'|indent(1000000000) }}",
    "indent of many lines": "{{ ('a\n' * 10000)|indent(1000) }}",
    "round": "{{ 1.5|round(1000000000, 'ceil') }}",
    "tojson indent": "{{ [1]|tojson(indent=1000000000) }}",
    "bytes of an int": "{{ (1).to_bytes(1000000000) }}",
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loops that skip": "{% for a in range(9999) %}{% for b in range(9999) if false %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for a in [1] recursive %}{% if loop.depth < 30 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
    "loop that joins": "{{ range(99999)|join('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') }}",
    "branching macro": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "doubling by ~": "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubling by +": "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubling a list": "{% set n = namespace(s=[1]) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "extending by itself": "{% set x = [1] %}{% for i in range(60) %}{% set _ = x.extend(x) %}{% endfor %}",
    "squaring by replace": (
        "{% set ns = namespace(s='aaaa') %}{% for i in range(9) %}{% set ns.s = ns.s|replace('a', ns.s) %}{% endfor %}"
    ),
    "squaring by the method": (
        "{% set ns = namespace(s='aaaa') %}{% for i in range(9) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}"
    ),
    "joining long": "{{ ('a' * 1000).join(['b'] * 10000) }}",
    "billion laughs": (
        "{% set ns = namespace(x=['ha']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}"
    ),
    "billion laughs as JSON": (
        "{% set ns = namespace(x=['ha']) %}"
        "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}"
    ),
    "adding up lists": "{{ [[1]]|sum(start=[]) }}",
    "literal text in a loop": "{% for i in range(9999) %}" + "text " * 1000 + "{% endfor %}",
    "literal text in a macro": (
        "{% macro f() %}" + "text " * 1000 + "{% endmacro %}{% for i in range(999) %}{% set x = f() %}{% endfor %}"
    ),
    "date": "{{ strftime_now('%1000000000Y') }}",
}


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused(source: str) -> None:
    with pytest.raises(TemplateLimitError):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{% include 'other' %}",
        "{{ [1]|tojson(default=1) }}",
        "{{ undefined.attribute }}",
        "{{ 'x'|int + none }}",
        "{{ lipsum() }}",
    ],
)
def test_what_a_template_cannot_do_is_a_template_error(source: str) -> None:
    try:
        text = render(source, messages=[])
    except TemplateError as error:
        assert not isinstance(error, TemplateLimitError)  # noqa: PT017 (some write nothing instead of raising)
    else:
        assert text == ""


def test_output_is_capped() -> None:
    with pytest.raises(TemplateLimitError, match="more than 10 characters"):
        render("{{ x }}{{ x }}", Limits(output=10), x="123456")
    assert render("{{ x }}", Limits(output=10), x="1234567890") == "1234567890"


def test_time_is_capped() -> None:
    now = iter(range(100))
    budget = Budget(Limits(seconds=2.5), clock=lambda: next(now))
    for _ in range(3 * 256 - 1):
        budget.step()
    with pytest.raises(TemplateLimitError, match="longer than"):
        budget.step()
    assert next(now) == 4  # started at 0; looked at 1, 2 and 3


def test_each_rendering_has_its_own_budget() -> None:
    template = ChatTemplate("{% for i in range(9000) %}{% endfor %}done")
    assert [template.render({}, Limits(steps=10_000)) for _ in range(3)] == ["done"] * 3


@pytest.mark.parametrize("source", ["a\n{% for %}", "a\n{{ 1 +", "a\n{% generation %}", "a\n{{ x|unheard_of }}"])
def test_syntax_errors_name_the_line(source: str) -> None:
    with pytest.raises(TemplateSyntaxInvalidError, match=r"^line 2: "):
        ChatTemplate(source)


def test_deep_nesting_does_not_compile() -> None:
    with pytest.raises(TemplateSyntaxInvalidError):
        ChatTemplate("{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}")


def test_long_sources_are_refused() -> None:
    with pytest.raises(TemplateLimitError):
        ChatTemplate("x" * (MAX_SOURCE + 1))


def test_the_input_stays_as_it_is() -> None:
    items = [{"a": [1]}]
    assert render("{% set _ = items[0].a.append(2) %}{% set _ = items.append(3) %}{{ items }}", items=items) == (
        "[{'a': [1, 2]}, 3]"
    )
    assert items == [{"a": [1]}]


def test_only_plain_data_goes_in() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    for value in (object(), {1: 2}, deep, b"x"):
        with pytest.raises(TemplateError):
            copy_plain(value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ {'b': '<é\"&>', 'a': [1, none, true]}|tojson }}", '{"b": "<é\\"&>", "a": [1, null, true]}'),
        ("{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{{ [1]|tojson(indent=2) }}", "[\n  1\n]"),
        ("{{ range(3)|map('string')|tojson }}", '["0", "1", "2"]'),
        ("{{ ('{\"a\": [1]}'|from_json).a[0] }}", "1"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in range(5) if i % 2 %}{{ i }}{{ ',' if not loop.last }}{% endfor %}", "1,3"),
        ("{% generation %}{{ 'a' ~ 1 ~ none }}{% endgeneration %}", "a1None"),
        ("{{ '%s-%03d' % ('a', 7) }}{{ '{:>4}|{x}'.format(1, x='y') }}", "a-007   1|y"),
        ("{{ 2**10 }} {{ 7 % 4 }} {{ 'ab' * 2 }} {{ [1] + [2] }}", "1024 3 abab [1, 2]"),
        ("{{ 'a\nb'|indent(2) }}{{ 1.25|round(1) }}{{ '<x>' }}", "a\n  b1.2<x>"),
        ("  {% if true %}\nx\n  {% endif %}\n", "x\n"),
        ("{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(b=3, a=4) }}", "1243"),
        ("{% macro f(a) %}{{ a }}{{ caller() }}{% endmacro %}{% call f(3) %}!{% endcall %}", "3!"),
    ],
)
def test_ordinary_templates_work(source: str, text: str) -> None:
    assert render(source) == text
