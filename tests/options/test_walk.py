"""A walk over the option table: each option reaches the settings and is seen by something."""

import ast
from pathlib import Path

import pytest

from cli.build import build_settings
from cli.errors import UsageError
from cli.option import Option
from cli.options import OPTIONS
from cli.parse import read_arguments, read_environment
from llamabox.settings import Settings
from tests.options.probes import PROBES
from tests.options.probing import Shown
from tests.options.samples import at, beside, command_lines, files, variable_text, whole

ROOT = Path(__file__).parents[2]
SET = [option for option in OPTIONS if option.setting is not None]


def name(value: object) -> str | None:
    return value.name if isinstance(value, Option) else None


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, str]:
    return files(tmp_path_factory.mktemp("files"), tiny_model)


def build(model: Path, *arguments: str) -> Settings:
    return build_settings(read_arguments(whole(model, *arguments)))


@pytest.mark.parametrize("option", SET, ids=name)
def test_an_option_reaches_its_setting_in_every_spelling(
    option: Option, tiny_model: Path, paths: dict[str, str]
) -> None:
    default = at(build(tiny_model), option.setting)
    found = [at(build(tiny_model, *line), option.setting) for line in command_lines(option, paths)]
    assert found
    assert default not in found
    assert all(value == found[0] for value in found)


@pytest.mark.parametrize(
    ("option", "variable"), [(option, variable) for option in OPTIONS for variable in option.env], ids=name
)
def test_a_variable_gives_the_same(option: Option, variable: str, tiny_model: Path, paths: dict[str, str]) -> None:
    line = next(iter(command_lines(option, paths)))
    read = read_environment({variable: variable_text(option, paths)})
    assert read[option.key].value == read_arguments(line)[option.key].value
    if option.setting is None:
        return
    rest = read_arguments(whole(tiny_model, *line))
    del rest[option.key]
    given = build_settings(read | rest)
    assert at(given, option.setting) == at(build(tiny_model, *line), option.setting)


@pytest.mark.parametrize("option", OPTIONS, ids=name)
def test_an_option_has_an_effect(option: Option, tiny_model: Path, paths: dict[str, str]) -> None:
    probe = PROBES.get(option.name)
    assert probe is not None, f"tests/options/probes.py: nothing shows what {option.name} does"
    if isinstance(probe, Shown):
        assert exists(probe.test), probe.test
        return
    try:
        without = probe(build(tiny_model, *beside(option, paths)))
    except UsageError:  # they need the option
        without = probe(build(tiny_model))
    for line in command_lines(option, paths):
        assert probe(build(tiny_model, *line)) != without, line


def exists(test: str) -> bool:
    """Whether ``path::name`` is a test."""
    path, _, function = test.partition("::")
    return function in functions(ROOT / path)


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_nothing_shows_what_does_not_exist() -> None:
    assert set(PROBES) <= {option.name for option in OPTIONS}


@pytest.mark.parametrize("spelling", ["--defrag-thold", "--image-free-compute-memory-immediately"])
def test_an_option_without_effect_says_so(spelling: str) -> None:
    (option,) = [option for option in OPTIONS if option.name == spelling]
    assert option.setting is None
    assert "no effect" in option.help
