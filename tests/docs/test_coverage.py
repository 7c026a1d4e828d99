"""The page of what is done says the truth as far as that can be checked: names exist, and nothing is left out."""

import ast
import functools
import re
from pathlib import Path

import attrs
import pytest

from api.images.fields import EditFields
from api.routes.table import ROUTES
from api.shapes import ChatFields, CompletionFields, NativeFields
from cli.options import OPTIONS
from llamabox.metrics import PREFIX, Metrics
from tools.docs import coverage
from tools.docs.coverage import Row

TESTS = Path(__file__).parents[1]
PARTS = dict(coverage.coverage())
ROWS = [row for rows in PARTS.values() for row in rows]
COMMON = "Generation fields, all text routes"


def names(heading: str) -> set[str]:
    return {row.name for row in PARTS[heading]}


@functools.cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("test", sorted({test for row in ROWS for test in row.tests}))
def test_every_test_that_is_named_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert name.startswith("test_")
    assert name in functions(TESTS / path)


def test_nothing_is_done_or_refused_without_a_test() -> None:
    assert [row for row in ROWS if row.state != "open" and not row.tests and row.name != "`HF_TOKEN`"] == []


def test_every_option_and_variable_has_a_row() -> None:
    written = " ".join(row.name for heading, rows in PARTS.items() if heading.startswith("Options") for row in rows)
    found = re.findall(r"`([^`]+)`", written)
    assert sorted(found) == sorted(name for o in OPTIONS for name in (*o.flags, *o.off, *o.env))


def test_tests_are_added_to_options_that_exist() -> None:
    source = coverage.tomllib.loads(coverage.SOURCE.read_text(encoding="utf-8"))
    assert set(source[coverage.OPTION_TESTS]) <= {option.name for option in OPTIONS}


def test_every_route_has_a_row() -> None:
    assert {f"{route.method} {path}" for route in ROUTES for path in route.paths} <= names("HTTP: routes")


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("POST /v1/chat/completions", ChatFields),
        ("POST /v1/completions", CompletionFields),
        ("POST /completion", NativeFields),
        ("POST /v1/images/generations, /v1/images/edits", EditFields),
    ],
)
def test_every_field_has_a_row(heading: str, shape: type) -> None:
    assert {field.name for field in attrs.fields(shape)} <= names(heading) | names(COMMON)


def test_every_metric_has_a_row() -> None:
    text = Metrics().expose().decode()
    exposed = set(re.findall(rf"^# TYPE {PREFIX}(\w+)", text, re.MULTILINE))
    assert exposed == names("Metrics")


@pytest.mark.parametrize("shown", [{}, {"refused": "why"}, {"open": 1}, 5])
def test_a_row_that_says_nothing_is_an_error(shown: object) -> None:
    with pytest.raises(ValueError, match="row"):
        coverage._row("row", shown)


def test_states() -> None:
    assert coverage._row("a", "x::t") == Row("a", "done", "", ("x::t",))
    assert coverage._row("a", {"refused": "no", "test": ["x::t"]}) == Row("a", "refused", "no", ("x::t",))
    assert coverage._row("a", {"open": "later"}) == Row("a", "open", "later")
