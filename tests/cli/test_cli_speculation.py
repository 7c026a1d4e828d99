"""From the command line to how drafts are made."""

import shlex
from pathlib import Path

import pytest

from cli.build import build_settings
from cli.errors import UsageError
from cli.parse import read_arguments
from engine.text.speculation.options import SpeculationOptions


def options(directory: Path, line: str) -> SpeculationOptions:
    for name in ("model", "draft", "grams"):
        (directory / name).write_bytes(b"x")
    arguments = shlex.split(f"-m {directory}/model {line.format(d=directory)}")
    return build_settings(read_arguments(arguments)).engine.speculation


def test_nothing_is_drafted_unless_asked_for(tmp_path: Path) -> None:
    assert not options(tmp_path, "").enabled
    assert not options(tmp_path, "--lookup-ngram-min 2 --draft-max 0").enabled


def test_lookup(tmp_path: Path) -> None:
    found = options(tmp_path, "--lookup-ngram-min 3 --draft 9 --draft-min 4 -lcs {d}/grams -lcd {d}/new")
    assert found.enabled
    assert (found.lookup_ngram_min, found.longest, found.least) == (3, 9, 4)
    assert (found.lookup_static, found.lookup_dynamic) == (f"{tmp_path}/grams", f"{tmp_path}/new")


def test_a_draft_model(tmp_path: Path) -> None:
    found = options(tmp_path, "-md {d}/draft -ngld 3 -devd none -otd a=CPU -cmoed --draft-p-min 0.5")
    assert found.enabled
    assert found.least_probability == 0.5
    assert (found.model.path, found.model.n_gpu_layers, found.model.devices) == (f"{tmp_path}/draft", 3, ())
    assert [pattern for pattern, _ in found.model.tensor_overrides] == ["a", r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"]
    assert len(options(tmp_path, "-md {d}/draft -ncmoed 2").model.tensor_overrides) == 1


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    found = options(tmp_path, "-md {d}/draft")
    assert (found.longest, found.least, found.least_probability, found.lookup_ngram_min) == (16, 5, 0.9, 0)


@pytest.mark.parametrize("flag", ["--draft-p-min 0.5", "-devd none", "-ngld 1", "-otd a=CPU", "-cmoed", "-ncmoed 1"])
def test_options_of_a_draft_model_need_one(flag: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{flag.split()[0]}: needs --model-draft$"):
        options(tmp_path, f"--lookup-ngram-min 2 {flag}")


def test_a_dynamic_cache_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--lookup-cache-dynamic: .* is no directory"):
        options(tmp_path, "--lookup-ngram-min 2 -lcd {d}/absent/file")
