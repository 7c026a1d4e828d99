"""Where the model comes from, as the command line says it."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.build import build_settings, with_files
from cli.errors import UsageError
from cli.parse import read_arguments, read_environment
from llamabox.models import demo
from llamabox.models.errors import ModelFileError
from llamabox.models.source import ModelFiles
from llamabox.settings import ModelSource, Settings

URL = "https://a.example/x/Model-Q4_K_M.gguf"


def build(arguments: str, **environment: str) -> Settings:
    return build_settings(read_environment(environment) | read_arguments(arguments.split()))


@pytest.mark.parametrize(
    ("arguments", "source", "alias"),
    [
        ("-hfr user/Model-GGUF", ModelSource(hf_repo="user/Model-GGUF"), "user/Model-GGUF"),
        ("--hf-repo user/M:q8_0", ModelSource(hf_repo="user/M:q8_0"), "user/M:q8_0"),
        ("-hfr u/M -hff a/m.gguf", ModelSource(hf_repo="u/M", hf_file="a/m.gguf"), "u/M"),
        ("-hfr u/M -hft hf_x", ModelSource(hf_repo="u/M", hf_token="hf_x"), "u/M"),
        (f"-mu {URL}", ModelSource(url=URL), "Model-Q4_K_M"),
        (f"--model-url {URL}#sha256={'a' * 64}", ModelSource(url=f"{URL}#sha256={'a' * 64}"), "Model-Q4_K_M"),
        ("-mu http://a/m-00001-of-00002.gguf", ModelSource(url="http://a/m-00001-of-00002.gguf"), "m"),
    ],
)
def test_sources_and_their_names(arguments: str, source: ModelSource, alias: str):
    settings = build(arguments)
    assert settings.source == source
    assert settings.server.aliases == (alias,)
    assert settings.engine.model.path == ""
    assert build(f"{arguments} -a mine").server.aliases == ("mine",)


def test_variables_name_sources_too():
    assert build("", LLAMA_ARG_MODEL_URL=URL).source.url == URL
    source = build("", LLAMA_ARG_HF_REPO="u/m", LLAMA_ARG_HF_FILE="f.gguf", HF_TOKEN="hf_x").source
    assert source == ModelSource(hf_repo="u/m", hf_file="f.gguf", hf_token="hf_x")


@pytest.mark.parametrize("token", ["hf_secret", " ", "ütf"])
def test_a_foreign_token_stops_no_start(token: str, tmp_path: Path):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    assert build(f"-m {model}", HF_TOKEN=token).engine.model.path == str(model)


def test_secrets_are_not_shown():
    shown = repr(build("-hfr u/m -hft hf_secret")) + repr(build("-mu https://u:secret@a/m.gguf"))
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-hfr user", "-hfr: 'user' is not accepted; expected USER/MODEL or USER/MODEL:QUANT"),
        ("-hfr a/b/c", "-hfr: 'a/b/c' is not accepted; expected USER/MODEL or USER/MODEL:QUANT"),
        ("-hfr a/b:", "-hfr: 'a/b:' is not accepted; expected USER/MODEL or USER/MODEL:QUANT"),
        ("-mu ftp://a/m", "-mu: 'ftp://a/m' is not accepted; expected an http or https URL, "),
        ("-mu http://a/m#md5=1", "-mu: 'http://a/m#md5=1' is not accepted; expected an http or https URL, "),
        ("-hfr a/b -mu http://a/m", "-hfr: not together with -mu"),
        ("-m x.gguf -mu http://a/m", "-mu: not together with -m"),
        ("-hff m.gguf", "-hff: needs --hf-repo too"),
        ("-hft hf_x -mu http://a/m", "-hft: needs --hf-repo too"),
        (
            "-mu http://a/m-00002-of-00003.gguf",
            "-mu: part 2 of 3: give the first, m-00001-of-00003.gguf",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments: str, message: str):
    with pytest.raises(UsageError) as caught:
        build(arguments)
    assert str(caught.value).startswith(message)


def test_parts_on_this_machine_are_looked_for(tmp_path: Path):
    first = tmp_path / "m-00001-of-00002.gguf"
    first.write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"^--model: .* part 1 of 2, and m-00002-of-00002\.gguf missing beside it$"):
        build(f"-m {first}")


def test_without_a_model_the_demo_serves_under_its_name(monkeypatch):
    monkeypatch.setattr(demo, "check", lambda: None)
    monkeypatch.setattr(demo, "prepare", lambda: pytest.fail("prepared before the socket is open"))
    settings = build("")
    assert (settings.engine.model.path, settings.source) == ("", ModelSource())
    assert settings.server.aliases == (demo.ALIAS,)
    assert build("-a mine").server.aliases == ("mine",)


def test_no_model_at_all_is_a_usage_error(monkeypatch):
    def absent() -> None:
        raise ModelFileError("no model: give one")

    monkeypatch.setattr(demo, "check", absent)
    with pytest.raises(UsageError, match=r"^no model: give one$"):
        build("")


def test_fetched_files_are_what_is_loaded(tmp_path: Path):
    settings = build("-hfr u/m -c 128")
    changed = with_files(settings, ModelFiles(model=tmp_path / "m.gguf"))
    assert changed.engine.model.path == str(tmp_path / "m.gguf")
    assert changed.engine.context == settings.engine.context


def test_a_model_that_is_here_does_not_pay_for_the_hub():
    code = "import sys, cli.serve; print({'huggingface_hub', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
